"""Recipes that train against attacks: sections, models and resuming."""

import json

import keras
import numpy as np
import pytest

from keras_polynets import callbacks
from keras_polynets import recipes
from keras_polynets import trainers
from keras_polynets.recipes import building
from keras_polynets.recipes import running
from keras_polynets.recipes.directory import RunDirectory
from tests import weight_files

TEXT = """
model = "pn4"
epochs = 2
batch_size = 50
deterministic = true
backup_steps = 2
overrides = {rank = 2}

[data]
name = "fashion_mnist_sample"
validation = 7500

[optimizer]
learning_rate = 0.001

[projection]
start_epoch = 1
norm = "spectral"
layers = {factors = [2.0, 1.5, 1, 1.0], output_map = 0.5}

[adversarial]
attack = "pgd:0.1,2,0.06,random_start=true"
warmup_epochs = 1

[jacobian]
weight = 0.1
"""


@pytest.fixture(autouse=True)
def determinism_ends():
    """Gives the tests after these their operations back."""
    yield
    if keras.backend.backend() == "tensorflow":
        from tensorflow.python.framework import config

        config.disable_op_determinism()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(TEXT)
    return path


def test_sections_are_read_and_written(path, tmp_path):
    recipe = recipes.load(path)
    assert recipe.adversarial.attack.startswith("pgd:0.1,2")
    assert recipe.jacobian.projections == 1
    assert recipe.projection.norm == "spectral"
    assert recipe.settled_epoch == 1
    assert recipe.replace({"adversarial.warmup_epochs": 3}).settled_epoch == 3
    assert recipe.replace({"projection": None}).settled_epoch == 1
    plain = recipe.replace({"projection": None, "adversarial": None})
    assert plain.settled_epoch == 0
    for defaults in (True, False):
        copy = tmp_path / "copy.toml"
        copy.write_text(recipe.to_toml(defaults))
        assert recipes.load(copy) == recipe
    assert json.loads(json.dumps(recipe.to_dict())) == recipe.to_dict()
    assert "adversarial" not in recipes.Recipe("pn4").to_toml(defaults=False)


@pytest.mark.parametrize(
    "override, error, message",
    [
        ("adversarial.attack=fgms:1", ValueError, "Did you mean 'fgsm'"),
        ("adversarial.warmup_epochs=-1", ValueError, "must be at least 0"),
        ("jacobian.weight=-1", ValueError, "jacobian.weight' must be at least"),
        ("jacobian.projections=0.5", TypeError, "must be an integer"),
        ("projection.norm=l2", ValueError, "Unknown norm of a projection 'l2'"),
        (
            "projection.layers.factors=[1, 0]",
            ValueError,
            "projection.layers.factors' must be a number above 0 or an array",
        ),
        ("projection.layers=3", TypeError, "must be a table"),
        ("adversarial.steps=3", ValueError, "Unknown recipe key 'adversarial"),
    ],
)
def test_bad_sections_are_explained(path, override, error, message):
    with pytest.raises(error, match=message):
        recipes.load(path, [override])


@pytest.mark.parametrize(
    "changes, kind",
    [
        ({}, trainers.AdversarialTraining),
        ({"adversarial": None}, trainers.JacobianTraining),
        ({"adversarial": None, "jacobian": None}, building.TrainingModel),
        (
            {"adversarial": None, "jacobian.projections": 0},
            trainers.JacobianTraining,
        ),
    ],
)
def test_the_model_that_is_trained(path, tmp_path, changes, kind):
    recipe = recipes.load(path).replace(changes)
    job = running.Job(recipe, RunDirectory(tmp_path / "run"), verbose=0)
    assert type(job.training_model) is kind
    if changes.get("jacobian.projections") == 0:
        assert job.training_model.jacobian.projections is None
    images = job.splits.x[:4]
    np.testing.assert_allclose(
        job.training_model.predict(images, verbose=0),
        job.model.predict(
            keras.ops.convert_to_numpy(job.model.preprocessor(images)),
            verbose=0,
        ),
        atol=1e-5,
    )


def test_a_sweep_refuses_bounds_of_layers(path, tmp_path):
    with pytest.raises(ValueError, match="one bound for all layers. Remove"):
        recipes.sweep(recipes.load(path), run_directory=tmp_path / "s")


class Killed(Exception):
    pass


def test_a_killed_run_ends_like_one_that_was_not(path, tmp_path, monkeypatch):
    recipe = recipes.load(path)
    recipes.run(recipe, tmp_path / "whole", verbose=0, test=False)
    on_train_batch_end = callbacks.Backup.on_train_batch_end

    for fatal in (17, 61):

        def dying(self, batch, logs=None, fatal=fatal):
            on_train_batch_end(self, batch, logs)
            if self._position.global_step >= fatal:
                raise Killed

        monkeypatch.setattr(callbacks.Backup, "on_train_batch_end", dying)
        with pytest.raises(Killed):
            recipes.run(recipe, tmp_path / "killed", verbose=0, test=False)
    monkeypatch.setattr(
        callbacks.Backup, "on_train_batch_end", on_train_batch_end
    )
    recipes.run(recipe, tmp_path / "killed", verbose=0, test=False)
    ours, theirs = (
        weight_files.read(tmp_path / name / "last.weights.h5")
        for name in ("killed", "whole")
    )
    assert ours.keys() == theirs.keys() and ours
    for key in theirs:
        np.testing.assert_array_equal(ours[key], theirs[key])
    histories = [
        (tmp_path / name / "history.csv").read_text()
        for name in ("killed", "whole")
    ]
    assert histories[0] == histories[1]
    factors = next(v for k, v in theirs.items() if v.shape[0] == 784)
    norms = [np.linalg.norm(m, 2) for m in np.split(factors, 4, axis=1)]
    assert (np.array(norms) <= np.array([2, 1.5, 1, 1]) + 1e-5).all()
