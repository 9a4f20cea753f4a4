"""Each map is that of its layer; transpose and absolute value are its own."""

import keras
import numpy as np
import pytest

from keras_polynets.layers.residual import PadShortcut
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.robustness import layer_maps

L = keras.layers

needs_float64 = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="needs JAX_ENABLE_X64"
)

CASES = {
    "dense": (L.Dense(3), (4,)),
    "dense at positions": (L.Dense(3), (2, 5, 4)),
    "conv1d causal": (
        L.Conv1D(3, 3, padding="causal", dilation_rate=2),
        (7, 2),
    ),
    "conv1d strided": (L.Conv1D(3, 4, strides=3), (11, 2)),
    "conv2d same, stride 2": (
        L.Conv2D(3, 3, strides=2, padding="same"),
        (6, 7, 2),
    ),
    "conv2d larger than the image": (L.Conv2D(2, 7, padding="same"), (3, 4, 2)),
    "conv2d even window": (L.Conv2D(2, (2, 4), padding="same"), (5, 5, 1)),
    "conv2d groups": (L.Conv2D(4, 3, groups=2), (5, 5, 4)),
    "conv2d dilated": (L.Conv2D(2, 3, dilation_rate=(1, 2)), (5, 7, 1)),
    "conv3d": (L.Conv3D(2, 2, padding="same", strides=2), (3, 4, 5, 1)),
    "transposed 2d same": (
        L.Conv2DTranspose(3, 4, strides=2, padding="same"),
        (3, 4, 2),
    ),
    "transposed 2d valid": (L.Conv2DTranspose(2, 3, strides=2), (3, 3, 2)),
    "transposed 1d": (L.Conv1DTranspose(2, 2, strides=3), (4, 2)),
    "pooling": (L.AveragePooling2D(2), (5, 4, 3)),
    "pooling same, overlapping": (
        L.AveragePooling2D(3, strides=2, padding="same"),
        (5, 6, 2),
    ),
    "pooling 1d": (L.AveragePooling1D(2), (7, 2)),
    "global pooling": (L.GlobalAveragePooling2D(), (3, 4, 2)),
    "batch normalization": (L.BatchNormalization(), (3, 2)),
    "batch normalization, axis 1": (L.BatchNormalization(axis=1), (3, 2)),
    "rescaling": (L.Rescaling([2.0, -3.0], offset=0.5), (3, 2)),
    "gate": (ScalarGate(initializer="random_normal"), (3,)),
    "shortcut": (PadShortcut(5, strides=2), (3, 4, 2)),
    "flatten": (L.Flatten(), (3, 4)),
    "permute": (L.Permute((2, 1)), (3, 4)),
    "zero padding": (L.ZeroPadding2D((1, 2)), (3, 4, 2)),
    "cropping": (L.Cropping2D(1), (4, 5, 2)),
    "upsampling": (L.UpSampling2D(2), (2, 3, 2)),
    "repeat": (L.RepeatVector(3), (4,)),
}
# Their matrices are made by running the layer in float64.
BY_COLUMNS = {
    "depthwise": (L.DepthwiseConv2D(3), (5, 5, 2)),
    "bilinear": (L.UpSampling2D(2, interpolation="bilinear"), (3, 3, 1)),
    "einsum": (L.EinsumDense("abc,cd->abd", (3, 4), bias_axes="d"), (3, 2)),
    "output padding": (
        L.Conv2DTranspose(2, 3, strides=2, output_padding=1),
        (3, 3, 1),
    ),
}


def built(layer, shape, seed=0):
    """The layer with random weights; variances stay positive."""
    layer.build((None, *shape))
    rng = np.random.default_rng(seed)
    layer.set_weights(
        [np.abs(rng.normal(size=w.shape)) + 0.1 if "variance" in v.name
         else rng.normal(size=w.shape)
         for v, w in zip(layer.weights, layer.get_weights(), strict=True)]
    )  # fmt: skip
    return layer


def check(layer, shape):
    rng = np.random.default_rng(1)
    built(layer, shape)
    affine = layer_maps.affine(layer, shape)
    linear = affine.linear
    x = rng.normal(size=(2, *shape))
    expected = keras.ops.convert_to_numpy(
        layer(x.astype("float32"), training=False)
    )
    assert linear.output_shape == expected.shape[1:]
    np.testing.assert_allclose(
        linear.apply(x) + affine.bias, expected, rtol=2e-5, atol=2e-5
    )
    # The transpose, by its definition, and the absolute values.
    y = rng.normal(size=(2, *linear.output_shape))
    np.testing.assert_allclose(
        np.sum(linear.apply(x) * y), np.sum(x * linear.adjoint(y)), rtol=1e-10
    )
    size = int(np.prod(shape))
    np.testing.assert_allclose(
        linear.absolute().matrix(), np.abs(linear.matrix()), atol=1e-12
    )
    assert linear.matrix().shape == (y[0].size, size)
    # No sum has more terms than are counted for the rounding.
    assert (linear.matrix() != 0).sum(axis=1).max() <= linear.terms


@pytest.mark.parametrize("name", CASES)
def test_map_is_that_of_the_layer(name):
    check(*CASES[name])


@needs_float64
@pytest.mark.parametrize("name", BY_COLUMNS)
def test_map_by_columns_is_that_of_the_layer(name):
    check(*BY_COLUMNS[name])


@pytest.mark.parametrize("rank", [1, 2])
def test_channels_first_is_the_same_map_moved(rank):
    # The layer itself does not run on a CPU with channels first.
    kind = (L.Conv1D, L.Conv2D)[rank - 1]
    sizes = (5, 6)[:rank]
    arguments = {"padding": "same", "strides": 2}
    last = built(kind(4, 3, **arguments), (*sizes, 2))
    first = kind(4, 3, data_format="channels_first", **arguments)
    first.build((None, 2, *sizes))
    first.set_weights(last.get_weights())
    x = np.random.default_rng(0).normal(size=(2, *sizes, 2))
    a = layer_maps.affine(last, (*sizes, 2))
    b = layer_maps.affine(first, (2, *sizes))
    expected = np.moveaxis(a.linear.apply(x) + a.bias, -1, 1)
    moved = np.moveaxis(x, -1, 1)
    np.testing.assert_allclose(b.linear.apply(moved) + b.bias, expected)
    y = np.random.default_rng(1).normal(size=expected.shape)
    np.testing.assert_allclose(
        np.sum(b.linear.apply(moved) * y), np.sum(moved * b.linear.adjoint(y))
    )


def test_layer_without_a_map_is_named():
    layer = L.LayerNormalization(name="odd")
    layer.build((None, 3))
    with pytest.raises(NotImplementedError, match="linear map of 'odd', a Lay"):
        layer_maps.affine(layer, (3,))
    layer = L.SeparableConv2D(3, 3, name="both")
    layer.build((None, 5, 5, 2))
    with pytest.raises(NotImplementedError, match="'both', a SeparableConv2D"):
        layer_maps.affine(layer, (5, 5, 2))


def test_cancelled_terms_of_a_batch_normalisation_are_counted():
    layer = built(L.BatchNormalization(epsilon=0.0), (2,))
    layer.set_weights([np.full(2, v) for v in (2.0, 30.0, 10.0, 0.25)])
    affine = layer_maps.affine(layer, (2,))
    # 30 - 10 * 2 / 0.5: of size 10, made of terms of size 70.
    np.testing.assert_allclose(affine.bias, [-10.0, -10.0])
    np.testing.assert_allclose(affine.bias_terms, [70.0, 70.0])


def test_matrix_that_is_too_large_is_refused():
    layer = L.UpSampling2D(interpolation="bilinear", name="large")
    layer.build((None, 100, 100, 2))
    with pytest.raises(NotImplementedError, match="'large'.*too large"):
        layer_maps.affine(layer, (100, 100, 2))
