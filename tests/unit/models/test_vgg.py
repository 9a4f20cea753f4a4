"""Plain convolutional networks, first-order and quadratic."""

import keras
import numpy as np
import pytest

from keras_polynets.layers import square
from keras_polynets.models import VGG

SMALL = {"input_shape": (8, 8, 3), "classes": 3, "layout": (4, "M", 6, "M")}
IMAGES = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype("float32")


def predict(model):
    return keras.ops.convert_to_numpy(model(IMAGES))


def test_a_quadratic_network_starts_as_its_conventional_twin():
    conventional, quadratic = VGG(**SMALL), VGG(**SMALL, neuron="full")
    for layer in conventional.layers:
        twin = quadratic.get_layer(layer.name)
        linear = getattr(twin, "linear", twin)
        linear.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        predict(quadratic), predict(conventional), atol=1e-6
    )


def test_layers_in_order_with_a_square_as_activation():
    model = VGG(**SMALL, activation=square)
    names = [layer.name for layer in model.layers]
    block = ["conv1", "norm1", "activation1", "pool1"]
    assert names[:5] == ["images", *block]
    assert names[-2:] == ["pooling", "head"]
    x = IMAGES
    for layer in model.layers[1:3]:
        x = layer(x)
    squared = keras.ops.convert_to_numpy(model.get_layer("activation1")(x))
    expected = np.square(keras.ops.convert_to_numpy(x))
    np.testing.assert_allclose(squared, expected, rtol=1e-6)
    copy = VGG.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(predict(copy), predict(model))


def test_without_top():
    assert VGG(**SMALL, include_top=False).output_shape == (None, 2, 2, 6)
    pooled = VGG(**SMALL, include_top=False, pooling="max")
    assert pooled.output_shape == (None, 6) and pooled.head is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input_shape": (3, 8, 3)}, "height and width of at least 4"),
        ({"layout": ("M",)}, "at least one convolution"),
        ({"layout": (4, 0)}, "`layout` must be an integer of at least 1"),
        ({"classes": 0}, "`classes` must be an integer of at least 1"),
        ({"pooling": "avgg"}, "pooling 'avgg'. Did you mean .*'avg'"),
        ({"neuron": "fulll"}, "neuron 'fulll'. Did you mean .*'full'"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        VGG(**SMALL | changes)
