"""Filters of images, beside those of tensorflow-addons and of SciPy."""

import ast
import pathlib

import numpy as np
import pytest
from keras import ops

from keras_polynets import layers
from keras_polynets.layers.filters import PADDINGS
from keras_polynets.layers.filters import gaussian_window

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "filters.npz"
# What SciPy calls the same continuations.
MODES = {"reflect": "mirror", "symmetric": "reflect", "constant": "constant"}


def apply(layer, images):
    return ops.convert_to_numpy(layer(ops.convert_to_tensor(images)))


def addons():
    """Returns the outputs of tensorflow-addons 0.23.0, by name."""
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return dict(arrays)


def test_agree_with_tensorflow_addons():
    stored = addons()
    images = stored.pop("images")
    assert len(stored) == 48
    for name, expected in stored.items():
        kind, size, padding, *sigma = name.split("-")
        size = tuple(map(int, size.split("x")))
        if kind == "median":
            layer = layers.MedianFilter2D(size, padding)
        else:
            sigma = ast.literal_eval(sigma[0])
            layer = layers.GaussianFilter2D(size, sigma, padding)
        np.testing.assert_allclose(
            apply(layer, images), expected, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [3, (5, 3)])
def test_agree_with_scipy(size, padding):
    ndimage = pytest.importorskip("scipy.ndimage")
    images = np.random.default_rng(1).normal(size=(2, 7, 6, 2))
    images = images.astype("float32")
    height, width = np.broadcast_to(size, 2)
    expected = ndimage.median_filter(
        images, (1, height, width, 1), mode=MODES[padding]
    )
    median = layers.MedianFilter2D(size, padding)
    np.testing.assert_array_equal(apply(median, images), expected)
    window = np.outer(gaussian_window(height, 0.8), gaussian_window(width, 0.8))
    expected = ndimage.convolve(
        images, window[None, :, :, None], mode=MODES[padding]
    )
    gaussian = layers.GaussianFilter2D(size, 0.8, padding)
    np.testing.assert_allclose(apply(gaussian, images), expected, atol=1e-6)


def test_images_must_have_the_pixels_that_they_go_on_with():
    images = np.zeros((1, 2, 5, 1), "float32")
    assert apply(layers.MedianFilter2D(3), images).shape == images.shape
    with pytest.raises(ValueError, match=r"at least \(3, 3\) pixels.*2, 5"):
        layers.MedianFilter2D(5)(images)


def test_a_window_of_one_pixel_changes_nothing():
    images = np.random.default_rng(2).normal(size=(2, 5, 5, 1))
    for layer in (layers.MedianFilter2D(1), layers.GaussianFilter2D(1)):
        np.testing.assert_array_equal(
            apply(layer, images.astype("float32")), images.astype("float32")
        )


def test_degrees():
    assert layers.GaussianFilter2D().polynomial_degree([3]) == 3
    assert layers.MedianFilter2D().polynomial_degree([3]) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.MedianFilter2D(0), "integer of at least 1"),
        (lambda: layers.MedianFilter2D((3, 3, 3)), "a pair of them"),
        (lambda: layers.GaussianFilter2D(3, sigma=0), "above 0 or a pair"),
        (
            lambda: layers.GaussianFilter2D(3, padding="reflct"),
            "Did you mean 'reflect'",
        ),
    ],
)
def test_mistakes_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()
