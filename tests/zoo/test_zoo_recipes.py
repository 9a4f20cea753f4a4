"""Every recipe of the zoo: what it says, and that it trains."""

import csv
import math
import re

import keras
import numpy as np
import pytest

from keras_polynets import recipes
from keras_polynets import zoo
from keras_polynets.analysis.work import work_by_layer
from keras_polynets.recipes import building
from keras_polynets.recipes import transferring
from keras_polynets.recipes.directory import RunDirectory

NAMES = [
    f"{name}.{tag}"
    for name in zoo.list_models()
    for tag in zoo.info(name)["recipes"]
]
# Examples that train, classes, and what an example is called.
SETS = {
    "cifar10": (50_000, 10, "image"),
    "cifar10_jpeg.tar.gz": (50_000, 10, "image"),
    "cifar100": (50_000, 100, "image"),
    "imagenet2012": (1_281_167, 1000, "image"),
    "mnist": (60_000, 10, "image"),
    "kmnist": (60_000, 10, "image"),
    "fashion_mnist": (60_000, 10, "image"),
    "emnist/letters": (88_800, 37, "image"),
    "emnist/byclass": (697_932, 62, "image"),
    "nsynth": (289_205, 11, "image"),
    "speech_commands35": (84_843, 35, "recording"),
    "fsdd.tar.gz": (2_700, 10, "recording"),
}
ROWS = [n for n in NAMES if recipes.load(n).data.name in SETS]
# A row of a paper that this zoo has no weights for yet.
PAPER_ROWS = [
    n
    for n in ROWS
    if n.partition(".")[2] not in zoo.info(n.partition(".")[0])["tags"]
]

# Of each kind of network and of recipe one.
TRAINED = {
    "qresnet20.cifar10_transfer",
    "prodpoly_resnet18_linear.cifar10_order3",
    "prodpoly_resnet34_speech.speech_commands",
    "prodpoly_resnet50.imagenet_cvpr",
    "quadratic_vgg7.cifar10",
    "resnet34_speech.fsdd_w16_index",
    "pn4.nsynth_projected",
    "pn10.emnist_letters_at_projected",
    "pn10.mnist_at_l2",
    "pn_conv.cifar10_jpeg_jacobian",
}
COUNTED = {
    "prodpoly_resnet34_speech.fsdd_w16_index",
    "qresnet20.cifar10_compact",
    "resnet20.cifar10",
    "pn4.nsynth",
    "pn10.emnist_byclass",
    "pn_conv.cifar10_l2",
    "pn4.fashion_mnist",
    "prodpoly_resnet34_speech.fsdd_w16_speaker",
}


def slow_but(fast, rows):
    """Returns the rows; all but `fast` run in `make test-all`."""
    assert fast <= set(rows)
    return [
        pytest.param(n, marks=[] if n in fast else [pytest.mark.slow])
        for n in rows
    ]


def head(name):
    """Returns the lines of the comment that begins a recipe."""
    path = zoo.data_directory().joinpath(*name.split("."))
    lines = path.with_suffix(".toml").read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("# ") for line in lines[:end]]


@pytest.mark.parametrize("name", NAMES)
def test_what_it_says(name, tmp_path):
    recipe = recipes.load(name)
    assert recipe.name == name and recipe.model == name.partition(".")[0]
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml(defaults=False), encoding="utf-8")
    assert recipes.load(copy) == recipe
    table = building.optimizer_table(recipe, steps_per_epoch=391)
    optimizer = zoo.compilation.make_optimizer(table)
    first = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    warmup = max(1, round(recipe.schedule.warmup_epochs * 391))
    assert first == pytest.approx(recipe.learning_rate / warmup)
    if recipe.schedule.epochs:
        assert recipe.schedule.epochs[-1] < recipe.epochs
    if recipe.transfer is not None:
        source = transferring.source_recipe(recipe)
        assert source.epochs == recipe.transfer.epochs > 0
        assert source.data == recipe.data


@pytest.mark.parametrize("name", ROWS)
def test_head(name):
    lines = head(name)
    assert re.match(
        rf"python -m training\.train {re.escape(name)}( |$)", lines[0]
    )
    text = " ".join(lines)
    for expected in ("Paper: ", "Parameters: ", " Work: ", "Time: "):
        assert expected in text, expected
    assert "Not run" in text or "Time: not measured" not in text


@pytest.mark.parametrize("name", slow_but(COUNTED, ROWS))
def test_numbers_of_the_head(name):
    text = " ".join(head(name))
    recipe = recipes.load(name)
    examples, classes, noun = SETS[recipe.data.name]
    arguments = {"classes": classes, **recipe.overrides}
    if recipe.model == "pn_conv" and "cifar10" in recipe.data.name:
        arguments["input_shape"] = (32, 32, 3)
    model = zoo.load(recipe.model, weights=None, **arguments)
    size = sum(math.prod(w.shape) for w in model.trainable_variables)
    assert f"Parameters: {size:,}. " in text
    work = sum(work_by_layer(model).values())
    examples -= recipe.data.validation
    if recipe.data.split.startswith("speaker:"):
        examples = 2_500
    article = "an" if noun == "image" else "a"
    assert f"the {work:,} of {article} {noun} for {examples:,} {noun}s." in text
    written = float(re.search(r"Work: (\S+) multiply-adds an epoch", text)[1])
    assert written == pytest.approx(3 * work * examples, rel=5e-3)


NARROW = dict.fromkeys(("pn4", "pn10", "ncp4"), {"overrides.rank": 2})
NARROW["pn_conv"] = {"overrides.filters": 2}


def small(recipe, folder):
    """Returns a recipe for two steps of a narrow network."""
    if "vgg" in recipe.model:
        overrides = {"overrides.layout": [4, "M", 8, "M"]}
    elif recipe.model in NARROW:
        overrides = NARROW[recipe.model]
    else:
        overrides = {"overrides.width": 4, "overrides.blocks": [1, 1]}
    changes = {"epochs": 1, "batch_size": 8, **overrides}
    if recipe.transfer is not None:
        changes["transfer.epochs"] = 1
        changes["transfer.changes"] = {"batch_size": 8, **overrides}
    if recipe.data.name.endswith(".tar.gz"):
        changes |= {"data.name": str(folder), "data.validation": 0}
    if recipe.data.validation:
        changes["data.validation"] = 0
    if recipe.projection is not None:
        changes["projection.start_epoch"] = 0
    if recipe.adversarial is not None:
        changes["adversarial.warmup_epochs"] = 0
    if recipe.stream is not None:
        changes |= {"stream.size": 32, "stream.resize": 36}
    return recipe.replace(changes)


def write_recordings(folder):
    """Writes spoken digits, of which ten train: two steps of eight."""
    wavfile = pytest.importorskip("scipy.io.wavfile")
    rng = np.random.default_rng(0)
    for speaker, indices in (("jackson", 8), ("theo", 6), ("george", 6)):
        for digit in "01":
            for index in range(indices):
                wave = rng.integers(-999, 999, 4000, "int16")
                path = folder / f"{digit}_{speaker}_{index}.wav"
                path.parent.mkdir(exist_ok=True)
                wavfile.write(path, 8000, wave)
    return folder


def write_images(folder):
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        for name in ("ant", "bee"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), "uint8")
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.mark.parametrize("name", slow_but(TRAINED, PAPER_ROWS))
def test_two_steps(name, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    recipe = recipes.load(name)
    write = write_recordings if "fsdd" in name else write_images
    recipe = small(recipe, write(tmp_path / "set"))
    with tfds.testing.mock_data(num_examples=16):
        result = recipes.run(recipe, tmp_path / "run", verbose=0)
    assert result["steps_per_epoch"] == 2 and result["epochs"] == 1
    assert 0 <= result["test"]["accuracy"] <= 1
    for k in recipe.evaluation.top_k:
        top = result["test"][f"top_{k}_accuracy"]
        assert result["test"]["accuracy"] <= top <= 1
    directory = RunDirectory(tmp_path / "run")
    with open(directory.history, newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["loss"]) < math.inf
    assert directory.source.exists() == (recipe.transfer is not None)
