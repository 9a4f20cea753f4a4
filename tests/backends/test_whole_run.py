"""From a recipe to a saved model on every backend, without TensorFlow."""

import importlib.util
import json
import sys

import keras
import numpy as np
import pytest

import keras_polynets
from keras_polynets import cli
from keras_polynets import recipes
from keras_polynets import zoo

RECIPE = """
model = "pn4"
epochs = 2
batch_size = 200
[data]
name = "fashion_mnist_sample"
validation = 500
[optimizer]
name = "sgd"
learning_rate = 0.002
momentum = 0.9
[projection]
max_value = 2.0
every = 10
start_epoch = 1
[augmentation]
flip = true
"""


def test_a_recipe_trains(tmp_path, capsys):
    (tmp_path / "short.toml").write_text(RECIPE)
    code = cli.main(
        [
            "train",
            str(tmp_path / "short.toml"),
            "--run-directory",
            str(tmp_path / "run"),
            "--json",
        ]
    )
    captured = capsys.readouterr()
    assert code == 0, captured.err
    result = json.loads(captured.out)
    assert result["test"]["accuracy"] > 0.6
    assert result["lipschitz_bound"] < 400


SPEECH = """
model = "prodpoly_resnet34_speech"
batch_size = 8
[overrides]
width = 2
blocks = [1, 1]
[data]
split = "speaker:bob"
[augmentation]
gain = [0.5, 2.0]
speed = 0.2
shift = 500
noise = 0.3
[evaluation]
top_k = [2]
"""


def test_a_recipe_trains_on_recordings(tmp_path):
    wavfile = pytest.importorskip("scipy.io.wavfile")
    rng = np.random.default_rng(0)
    for speaker, count in (("ann", 4), ("bob", 1)):
        for digit in "01":
            for i in range(count):
                wave = rng.integers(-9000, 9000, 5000, "int16")
                path = tmp_path / "set" / f"{digit}_{speaker}_{i}.wav"
                path.parent.mkdir(exist_ok=True)
                wavfile.write(path, 8000, wave)
    (tmp_path / "speech.toml").write_text(SPEECH)
    recipe = recipes.load(
        tmp_path / "speech.toml", {"data.name": str(tmp_path / "set")}
    )
    result = recipes.run(recipe, tmp_path / "run", verbose=0)
    assert result["test"]["top_2_accuracy"] == 1.0


SMALL = [n for n in zoo.list_models() if zoo.info(n)["parameters"] < 250_000]


@pytest.mark.parametrize("name", SMALL)
def test_models_come_back_from_keras_files(name, tmp_path):
    model = zoo.load(name, weights=None)
    shape = (2, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(-1, 1, shape)
    expected = model.predict(images.astype("float32"), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    found = loaded.predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None,
    reason="TensorFlow is installed",
)
def test_without_tensorflow_errors_say_what_is_missing(tmp_path):
    assert "tensorflow" not in sys.modules
    model = zoo.load("pn4", weights=None)
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        keras_polynets.export.saved_model(model, tmp_path / "1")
    with pytest.raises(RuntimeError, match="keras.distribution.DataParallel"):
        keras_polynets.distribute.strategy()
