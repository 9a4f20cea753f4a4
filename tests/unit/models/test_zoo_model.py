import re

import keras
import numpy as np
import pytest

from keras_polynets import models
from keras_polynets import zoo


def test_stored_images_are_refused():
    model = models.PolynomialNet(name="net")
    images = np.zeros((2, 28, 28, 1), "uint8")
    with pytest.raises(
        ValueError,
        match=r"'net' expected floats in \(-1.0, 1.0\); call "
        "model.preprocessor first. .* uint8",
    ):
        model(images)
    assert model(model.preprocessor(images)).shape == (2, 10)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_preprocessor_takes_stored_data_to_the_input_range(dtype):
    model = models.PolynomialNet()
    ours = model.preprocessor(np.array([[0, 51, 255]], dtype))
    np.testing.assert_allclose(ours, [[-1, -0.6, 1]], atol=1e-6)


def test_a_range_for_each_channel():
    model = models.ConvPolynomialNet(
        (8, 8, 2), input_range=([-1, -2], [1, 3]), data_range=(0, 10)
    )
    pixel = np.zeros((1, 8, 8, 2)) + [10, 5]
    np.testing.assert_allclose(
        model.preprocessor(pixel)[0, 0, 0], [1, 0.5], atol=1e-6
    )
    with pytest.raises(ValueError, match="`input_range` must be a pair"):
        models.PolynomialNet(input_range=(1, -1))


@pytest.mark.parametrize(
    "model",
    [
        models.PolynomialNet(rank=2, order=3, class_names=list("abcdefghij")),
        models.PolynomialNet(decomposition="ncp_skip", input_range=(0, 1)),
        models.ConvPolynomialNet(
            filters=2, kernel_size=3, dtype="mixed_float16"
        ),
        models.ConvPolynomialNet(filters=2, include_top=False, pooling="avg"),
    ],
    ids=lambda model: type(model).__name__,
)
def test_keras_file_brings_it_back_as_itself(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert loaded.input_range == model.input_range
    assert loaded.class_names == model.class_names
    x = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1))
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_logits_are_float32_in_mixed_precision():
    model = models.PolynomialNet(dtype="mixed_bfloat16")
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"


def test_softmax_on_request():
    model = models.PolynomialNet(classifier_activation="softmax")
    outputs = model.predict(np.zeros((2, 28, 28, 1)), verbose=0)
    np.testing.assert_allclose(outputs.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        models.ConvPolynomialNet,
        models.DenoisingAutoencoder,
        models.GuidedDenoiser,
        models.PolynomialNet,
        models.ResNet,
        models.VGG,
        lambda **kwargs: models.PolynomialNetStack(2, **kwargs),
        lambda **kwargs: zoo.load("resnet50", weights=None, **kwargs),
    ],
)
def test_bad_arguments(network):
    for shape in (32, "32", (32, 32, 0), (32, 32.0, 3), (-4, 4, 1)):
        with pytest.raises(
            ValueError,
            match="`input_shape` must be a tuple of integers of at least 1 or "
            "None, such as .* Received: input_shape=" + re.escape(repr(shape)),
        ):
            network(input_shape=shape)
    with pytest.raises(ValueError, match="'class_nams'.*'class_names'"):
        network(class_nams=["a"])


def test_other_decompositions_by_name():
    with pytest.raises(ValueError, match="Unknown decomposition 'cp'"):
        models.PolynomialNet(decomposition="cp")


def test_the_initial_weights_follow_the_released_code():
    model = models.PolynomialNet(order=4)
    kernel = np.asarray(model.get_layer("polynomial").factors.kernel)
    assert 0.98 / 28 < np.abs(kernel).max() <= 1 / 28
    conv = models.ConvPolynomialNet()
    for name in ("stem", "polynomial"):
        layer = conv.get_layer(name)
        kernel = np.asarray(getattr(layer, "factors", layer).kernel)
        assert abs(kernel.std() - 0.02) < 0.004
