import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_polynets import export
from keras_polynets import models
from keras_polynets import zoo

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="a SavedModel is written on the TensorFlow backend only",
)

# Runs where neither Keras nor this package can be imported.
CLIENT = """
import sys
sys.modules["keras"] = sys.modules["keras_polynets"] = None
import numpy as np
import tensorflow as tf

folder, images, outputs = sys.argv[1:]
images = np.load(images)
served = tf.saved_model.load(folder)
default = served.signatures["serving_default"]
found = {}
for size in (1, 7):
    raw = tf.constant(images[:size])
    for name, result in {
        "serve": served.serve(tf.cast(raw, "float32")),
        "serve_raw": served.serve_raw(raw),
        "default": default(images=tf.cast(raw, "float32")),
    }.items():
        for output, values in result.items():
            found[f"{name}-{output}-{size}"] = values.numpy()
np.savez(outputs, **found)
"""


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return models.PolynomialNet(
        input_shape=(6, 5, 1),
        classes=3,
        rank=4,
        class_names=("shirt", "shoe", "bag"),
        name="small",
    )


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (7, 6, 5, 1), dtype="uint8")


def test_a_process_without_keras_gets_the_numbers(model, images, tmp_path):
    folder = export.saved_model(model, tmp_path / "serving" / "1")
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [
            sys.executable,
            "-c",
            CLIENT,
            str(folder),
            str(tmp_path / "images.npy"),
            str(tmp_path / "outputs.npz"),
        ],
        check=True,
    )
    found = np.load(tmp_path / "outputs.npz")
    logits = np.asarray(model(images.astype("float32") / 127.5 - 1))
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = {
        "logits": logits,
        "probabilities": shifted / shifted.sum(axis=1, keepdims=True),
    }
    assert len(found.files) == 12
    for key in found.files:
        _, output, size = key.split("-")
        np.testing.assert_allclose(
            found[key], expected[output][: int(size)], atol=1e-6
        )


def test_names_of_the_signature(model, tmp_path):
    import tensorflow as tf

    served = tf.saved_model.load(export.saved_model(model, tmp_path / "1"))
    assert set(served.signatures) == {"serve", "serve_raw", "serving_default"}
    for name, dtype in (
        ("serve", tf.float32),
        ("serving_default", tf.float32),
        ("serve_raw", tf.uint8),
    ):
        signature = served.signatures[name]
        (arguments, keywords) = signature.structured_input_signature
        assert arguments == ()
        assert list(keywords) == ["images"]
        assert keywords["images"].dtype == dtype
        assert keywords["images"].shape.as_list() == [None, 6, 5, 1]
        assert set(signature.structured_outputs) == {"logits", "probabilities"}


def test_metadata_lies_beside_the_graph(model, tmp_path):
    folder = export.saved_model(model, tmp_path / "1")
    assert json.loads((folder / export.METADATA_FILE).read_text()) == {
        "name": "small",
        "class_names": ["shirt", "shoe", "bag"],
        "image_shape": [6, 5, 1],
        "input_range_of_the_network": [-1.0, 1.0],
    }


def test_export_of_a_zoo_model_is_saved_model(model, images, tmp_path):
    import tensorflow as tf

    model.export(tmp_path / "1", format="tf_saved_model", verbose=False)
    served = tf.saved_model.load(tmp_path / "1")
    logits = model(model.preprocessor(images))
    np.testing.assert_allclose(
        served.serve_raw(images)["logits"], logits, atol=1e-6
    )


def test_a_plain_model_is_fed_the_images_as_they_come(images, tmp_path):
    import tensorflow as tf

    inputs = keras.Input((6, 5, 1))
    x = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    served = tf.saved_model.load(export.saved_model(model, tmp_path / "1"))
    np.testing.assert_allclose(
        served.serve_raw(images)["logits"],
        model(images.astype("float32")),
        rtol=1e-5,
        atol=1e-5,
    )


def test_low_precision_serves_float32(images, tmp_path):
    import tensorflow as tf

    model = models.PolynomialNet(
        input_shape=(6, 5, 1), classes=3, rank=4, dtype="mixed_bfloat16"
    )
    served = tf.saved_model.load(export.saved_model(model, tmp_path / "1"))
    for output in served.serve_raw(images).values():
        assert output.dtype == tf.float32


def test_an_existing_folder_stays_unless_overwrite(model, tmp_path):
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        export.saved_model(model, folder)
    assert (folder / "mine.txt").read_text() == "mine"
    export.saved_model(model, folder, overwrite=True)
    assert not (folder / "mine.txt").exists()
    assert (folder / "saved_model.pb").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_failure_leaves_nothing_behind(model, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(export, "_write_metadata", fail)
    with pytest.raises(OSError, match="No space left"):
        export.saved_model(model, tmp_path / "1")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"must be a `keras.Model`.*'pn4'"):
        export.saved_model("pn4", tmp_path / "1")
    model = keras.Sequential([keras.layers.Dense(2)], name="open")
    with pytest.raises(ValueError, match="'open' is not built"):
        export.saved_model(model, tmp_path / "1")
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], keras.layers.add([a, b]))
    with pytest.raises(ValueError, match="2 inputs and 1 output"):
        export.saved_model(model, tmp_path / "1")


def test_another_backend_is_told_so(model, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=tensorflow"):
        export.saved_model(model, tmp_path / "1")


def test_a_model_for_speech_serves_waves_of_any_length(tmp_path):
    import tensorflow as tf

    model = zoo.load(
        "resnet34_speech", weights=None, width=2, blocks=(1,), classes=3
    )
    path = model.export(tmp_path / "speech")
    served = tf.saved_model.load(str(path))
    waves = np.random.default_rng(0).integers(-999, 999, (2, 7000), "int16")
    expected = model.predict(model.preprocessor(waves), verbose=0)
    floats = (waves / 32768).astype("float32")
    default = served.signatures["serving_default"]
    for found in (
        served.serve_raw(waves=waves),
        served.serve(waves=floats),
        default(waves=tf.constant(floats)),
    ):
        np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
    assert served.serve_raw(waves=waves[:1, :99])["logits"].shape == (1, 3)
    text = (path / "assets.extra" / "keras_polynets.json").read_text()
    assert json.loads(text)["image_shape"] == [None]
