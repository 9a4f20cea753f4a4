"""Files of weights: hashes, URLs, architectures."""

import contextlib
import re
import shutil

import keras
import numpy as np
import pytest

from keras_polynets import _files
from keras_polynets import zoo
from tests.unit.zoo.zoo_examples import same_weights


def test_another_hash_is_refused(own_zoo):
    folder, _ = own_zoo
    path = folder / "toy.weights.h5"
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="Expected sha256 .* received"):
        zoo.load("pn4")


def test_a_missing_file_is_said(own_zoo):
    folder, _ = own_zoo
    (folder / "toy.weights.h5").unlink()
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        zoo.load("pn4")


def test_files_and_folders(own_zoo, tmp_path):
    folder, trained = own_zoo
    arguments = {"rank": 3, "input_shape": (6, 5, 1), "classes": 4}
    shutil.copy(folder / "toy.weights.h5", tmp_path / "mine.weights.h5")
    for source in (tmp_path / "mine.weights.h5", tmp_path, str(tmp_path)):
        model = zoo.load("pn4", weights=source, **arguments)
        assert same_weights(model, trained)
    shutil.copy(folder / "toy.weights.h5", tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match="mine.weights.h5, other.weights.h5"):
        zoo.load("pn4", weights=tmp_path, **arguments)
    with pytest.raises(FileNotFoundError, match="no file of weights"):
        zoo.load("pn4", weights=tmp_path / "no.weights.h5", **arguments)


def test_urls(own_zoo, tmp_path, monkeypatch):
    folder, trained = own_zoo
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    arguments = {"rank": 3, "input_shape": (6, 5, 1), "classes": 4}
    path = folder / "toy.weights.h5"
    url = path.as_uri()
    digest = _files.sha256(path)
    for _ in range(2):
        model = zoo.load("pn4", weights=f"{url}#sha256={digest}", **arguments)
        assert same_weights(model, trained)
        path.unlink(missing_ok=True)  # The second time it is in the cache.
    with pytest.raises(ValueError, match="must end in #sha256="):
        zoo.load("pn4", weights=url, **arguments)


def test_a_damaged_download_is_dropped(own_zoo, tmp_path, monkeypatch):
    folder, _ = own_zoo
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    url = (folder / "toy.weights.h5").as_uri()
    with pytest.raises(ValueError, match="dropped. Expected sha256 0000"):
        zoo.load("pn4", weights=f"{url}#sha256={'0' * 64}")
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]


def test_an_unreachable_url_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    url = (tmp_path / "none.weights.h5").as_uri()
    with pytest.raises(OSError, match="Could not fetch .*pass its path"):
        zoo.load("pn4", weights=f"{url}#sha256={'0' * 64}")


SMALL = {"width": 4, "blocks": (1, 1)}


@pytest.mark.parametrize(
    "source, target, expected",
    [
        (
            {"name": "pn4"},
            {"name": "pn10"},
            [
                r"polynomial/factors: \(784, 64\) in the weights, "
                r"\(784, 160\) in the model"
            ],
        ),
        (
            # Keras would compare kernels of other layers.
            {"name": "resnet18", **SMALL},
            {"name": "prodpoly_resnet18", **SMALL},
            [
                r"block1_operand: nothing in the weights, \(1, 1, 4, 4\) in",
                "stage1_block1_product2_conv: nothing",
            ],
        ),
        (
            # Keras would take the first layers in silence.
            {"name": "resnet20", "blocks": (2,)},
            {"name": "resnet20", "blocks": (1,)},
            [r"stage1_block2_conv1: \(3, 3, 16, 16\) in the weights, nothing"],
        ),
        (
            {"name": "resnet18", "width": 4},
            {"name": "resnet18", "width": 8},
            [r"\n  and \d+ more\nLoad them with the name and the arguments"],
        ),
    ],
)
def test_weights_of_another_architecture(
    tmp_path, recwarn, source, target, expected
):
    path = tmp_path / "other.weights.h5"
    zoo.weights.save(zoo.load(**source, weights=None), path)
    with pytest.raises(ValueError, match="do not fit the model") as error:
        zoo.load(**target, weights=path)
    for text in (re.escape(path.name), *expected):
        assert re.search(text, str(error.value)), text
    assert len(str(error.value).splitlines()) < 12
    assert not [w for w in recwarn if w.category is UserWarning]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: b"no weights", "no file of Keras weights, or damaged"),
        (lambda data: data[:-1000], "damaged"),
    ],
)
def test_load_into_leaves_the_model_as_it_was(tmp_path, damage, message):
    path = tmp_path / "broken.weights.h5"
    model = zoo.load("pn4", weights=None)
    zoo.weights.save(model, path)
    path.write_bytes(damage(path.read_bytes()))
    model = zoo.load("pn4", weights=None)
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        zoo.weights.load_into(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_names_that_keras_makes_need_not_agree(tmp_path):
    """Such as those of the layers of a model of the user's."""
    models = [
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        for _ in range(2)
    ]
    models[0].compile("adam", "mse")
    models[0].fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
    zoo.weights.save(models[0], tmp_path / "own.weights.h5")
    zoo.weights.load_into(models[1], tmp_path / "own.weights.h5")
    assert same_weights(*models)


@pytest.mark.parametrize(
    "arguments, outputs",
    [
        ({"classes": 7}, 7),
        ({"classes": 4}, 4),
        ({}, 4),
        ({"include_top": False, "pooling": "avg"}, 4 * 2),
    ],
)
def test_classes_of_files(tmp_path, arguments, outputs):
    path = tmp_path / "four.weights.h5"
    trained = zoo.load("resnet18", weights=None, classes=4, **SMALL)
    zoo.weights.save(trained, path)
    fresh = arguments.get("classes") == 7
    with (
        pytest.warns(UserWarning, match="four.weights.h5' .* 4 classes.*head/")
        if fresh
        else contextlib.nullcontext()
    ):
        model = zoo.load("resnet18", weights=path, **SMALL, **arguments)
    assert model.output_shape == (None, outputs)
    body = len(trained.weights) - 2
    for old, new in zip(
        trained.weights, model.weights[: body if fresh else None], strict=False
    ):
        np.testing.assert_array_equal(old, new)


def test_weights_files_have_one_ending(tmp_path):
    with pytest.raises(ValueError, match=r"named \*.weights.h5"):
        zoo.weights.save(zoo.load("pn4", weights=None), tmp_path / "a.keras")
