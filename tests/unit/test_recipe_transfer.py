"""Weight transfer: a recipe that starts from another network's training."""

import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import recipes
from keras_polynets import zoo
from keras_polynets.recipes import building
from keras_polynets.recipes import examples
from keras_polynets.recipes import transferring
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.running import Job

CONVENTIONAL = """
model = "resnet20"
epochs = 4
batch_size = 4
seed = 9
overrides = {width = 2, blocks = [1, 1]}
[data]
name = "nowhere/set.tar.gz"
[optimizer]
learning_rate = 0.05
momentum = 0.9
[schedule]
name = "step"
epochs = [1, 3]
"""

QUADRATIC = """
model = "qresnet20"
epochs = 2
batch_size = 4
seed = 3
overrides = {width = 2, blocks = [1, 1]}
[data]
name = "noise"
[optimizer]
learning_rate = 0.01
[optimizer.relinear]
gate_factor = 0.0
power_factor = 0.0
[transfer]
recipe = "SOURCE"
epochs = 2
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Returns a recipe for 12 training and 4 test images of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 8, 8, 3), "uint8")
    labels = np.arange(16, dtype="int32") % 2
    noise = data.ArrayDataset(
        name="noise",
        x_train=images[:12],
        y_train=labels[:12],
        x_test=images[12:],
        y_test=labels[12:],
        class_names=("ant", "bee"),
        source="drawn at random.",
    )
    monkeypatch.setattr(data, "load", {"noise": noise}.get)
    source = tmp_path / "conventional.toml"
    source.write_text(CONVENTIONAL)
    path = tmp_path / "quadratic.toml"
    path.write_text(QUADRATIC.replace("SOURCE", str(source)))
    return recipes.load(path)


def network_from(recipe, weights, dataset):
    model = building.network(recipe, dataset)
    zoo.weights.load_into(model, weights)
    return model


def test_the_source_has_the_data_and_the_seed_of_the_run(recipe):
    recipe = recipe.replace(
        {
            "transfer.changes": {"overrides": {"width": 3}, "batch_size": 5},
            "backup_steps": 7,
            "data.validation": 2,
        }
    )
    source = transferring.source_recipe(recipe)
    assert (source.model, source.epochs, source.seed) == ("resnet20", 2, 3)
    assert source.data == recipe.data
    assert source.overrides == {"width": 3, "blocks": [1, 1]}
    assert (source.batch_size, source.backup_steps) == (5, 7)
    # The rest is its own.
    assert source.optimizer.learning_rate == 0.05
    assert source.optimizer.relinear is None
    assert source.schedule.epochs == (1, 3)
    whole = transferring.source_recipe(recipe.replace({"transfer.epochs": 0}))
    assert whole.epochs == 4


def test_a_run_starts_from_the_weights_of_the_source(recipe, tmp_path):
    result = recipes.run(recipe, tmp_path / "run", verbose=0)
    folder = RunDirectory(tmp_path / "run")
    source = RunDirectory(folder.source)
    assert source.read_result()["epochs"] == 2
    assert result["transfer"]["training_seconds"] > 0
    assert result["transfer"]["recipe"]["model"] == "resnet20"
    rows = source.history.read_text().splitlines()
    rates = [float(row.split(",")[-1]) for row in rows[1:]]
    np.testing.assert_allclose(rates, [0.05, 0.005], rtol=1e-5)

    fresh = RunDirectory(tmp_path / "fresh")
    shutil.copytree(source.path, fresh.source)
    job = Job(recipe, fresh, verbose=0)
    images = job.splits.test[0]
    conventional = network_from(
        transferring.source_recipe(recipe), source.last, job.splits.dataset
    )
    expected = conventional(conventional.preprocessor(images))
    received = job.model(job.model.preprocessor(images))
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    # What the run trained is neither the source nor a fresh network.
    trained = network_from(recipe, folder.last, job.splits.dataset)
    kernel, start = (
        keras.ops.convert_to_numpy(model.get_layer("stem_conv").kernel)
        for model in (trained, job.model)
    )
    assert 0 < np.linalg.norm(kernel - start) < 0.2 * np.linalg.norm(start)


def test_a_run_that_goes_on_needs_no_source(recipe, tmp_path):
    folder = RunDirectory(tmp_path / "run")
    first = recipes.run(recipe, folder.path, verbose=0)
    folder.result.unlink()
    shutil.rmtree(folder.source)
    second = recipes.run(recipe, folder.path, verbose=0)
    assert not folder.source.exists()
    assert second["test"] == first["test"]
    assert second["transfer"]["training_seconds"] is None


def test_a_file_of_weights_takes_the_place_of_the_training(recipe, tmp_path):
    source = transferring.source_recipe(recipe)
    splits = examples.examples_of(source)
    keras.utils.set_random_seed(1)
    conventional = building.network(source, splits.dataset)
    path = tmp_path / "some.weights.h5"
    zoo.weights.save(conventional, path)
    changed = recipe.replace(
        {"transfer.weights": str(path), "transfer.epochs": None}
    )
    directory = RunDirectory(tmp_path / "run")
    transferring.prepare(changed, directory, None, 0)
    assert not directory.source.exists()
    job = Job(changed, directory, verbose=0)
    images = splits.test[0]
    np.testing.assert_allclose(
        job.model(job.model.preprocessor(images)),
        conventional(conventional.preprocessor(images)),
        rtol=1e-5,
        atol=1e-6,
    )
    reported = transferring.report(changed, directory)["transfer"]
    assert reported["weights"] == str(path)
    missing = changed.replace({"transfer.weights": "none.weights.h5"})
    with pytest.raises(FileNotFoundError, match="no file of weights 'none.w"):
        recipes.run(missing, tmp_path / "missing", verbose=0)


def test_networks_that_do_not_match_are_found_before_training(recipe, tmp_path):
    wider = recipe.replace({"overrides.width": 3})
    with pytest.raises(
        ValueError, match=r"fit 'qresnet20'[^$]*'stem_conv' \(Conv2D"
    ):
        recipes.run(wider, tmp_path / "run", verbose=0)
    assert not (tmp_path / "run" / "source").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer.recipe": "resnet20.cifr10"}, "recipe 'resnet20.cifr10'. D"),
        ({"transfer.changes": {"epoch": 1}}, "recipe key 'epoch'. Did you"),
    ],
)
def test_bad_sources_are_explained(recipe, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        recipes.run(recipe.replace(changes), tmp_path / "run", verbose=0)


def test_a_source_has_no_source(recipe, tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(recipe.to_toml())
    chained = recipe.replace({"transfer.recipe": str(path)})
    with pytest.raises(ValueError, match=r"must be a recipe without \[transfe"):
        transferring.source_recipe(chained)


def test_transfer_round_trips_and_is_checked(recipe, tmp_path):
    changed = recipe.replace(
        {"transfer.changes": {"overrides": {"width": 3, "blocks": [1]}}}
    )
    copy = tmp_path / "copy.toml"
    copy.write_text(changed.to_toml(defaults=False))
    assert "[transfer.changes.overrides]" in copy.read_text()
    assert recipes.load(copy) == changed
    assert recipe.replace({"transfer": None}).transfer is None
    for changes, message in (
        ({"transfer.epochs": -1}, "'transfer.epochs' must be at least 0"),
        ({"transfer.recipe": None}, "must be the name of a recipe"),
        ({"transfer.weights": "a.weights.h5"}, "0 where transfer.weights nam"),
        ({"initial_weights": "a.weights.h5"}, r"absent beside \[transfer\]"),
    ):
        with pytest.raises(ValueError, match=message):
            recipe.replace(changes)


MIRRORED = """
import sys
import numpy as np
from keras_polynets import data, recipes, zoo
from keras_polynets.recipes import building, transferring
from keras_polynets.recipes.directory import RunDirectory
from keras_polynets.recipes.running import Job
path, folder = sys.argv[1:]
images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), "uint8")
labels = np.arange(16, dtype="int32") % 2
noise = data.ArrayDataset(
    "noise", images, labels, images, labels, ("ant", "bee"), "drawn at random."
)
data.load = {"noise": noise}.get
recipe = recipes.load(path, ["strategy=mirrored", "devices=2"])
directory = RunDirectory(folder)
transferring.prepare(recipe, directory, recipes.run, 0)
model = Job(recipe, directory, 0).model
source = building.network(transferring.source_recipe(recipe), noise)
zoo.weights.load_into(source, RunDirectory(directory.source).last)
np.testing.assert_allclose(
    model(model.preprocessor(images)),
    source(source.preprocessor(images)),
    rtol=1e-5,
    atol=1e-6,
)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's ability"
)
def test_two_replicas_start_from_the_source(recipe, tmp_path):
    """Runs in a process of its own: logical devices are set up once."""
    command = [sys.executable, "-c", MIRRORED]
    paths = [str(tmp_path / "quadratic.toml"), str(tmp_path / "run")]
    subprocess.run([*command, *paths], check=True)
