import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers


def pool(x, size=(2, 2)):
    b, h, w, c = x.shape
    rows, columns = size
    x = x[:, : h // rows * rows, : w // columns * columns]
    x = x.reshape(b, h // rows, rows, w // columns, columns, c)
    return x.mean(axis=(2, 4))


def convolve(x, kernel, padding="same"):
    """Correlation, with zero padding or none, written out."""
    sizes = kernel.shape[:2]
    if padding == "same":
        pads = [((size - 1) // 2, size // 2) for size in sizes]
        x = np.pad(x, [(0, 0), *pads, (0, 0)])
    height, width = (x.shape[i + 1] - sizes[i] + 1 for i in (0, 1))
    out = np.zeros((len(x), height, width, kernel.shape[-1]))
    for i, j in np.ndindex(*sizes):
        out += x[:, i : i + height, j : j + width] @ kernel[i, j]
    return out


@pytest.mark.parametrize(
    "shape, settings",
    [
        ((8, 8), {"kernel_size": 5}),
        ((9, 13), {"kernel_size": 5}),
        ((12, 18), {"kernel_size": (4, 3), "pool_size": (2, 3)}),
        ((17, 19), {"kernel_size": (2, 3), "padding": "valid"}),
    ],
)
def test_equals_the_recursion_written_out(shape, settings):
    layer = layers.CCPConv2D(
        3,
        order=4,
        pool_after=(2, 3),
        use_factor_bias=True,
        factor_bias_initializer="random_normal",
        dtype="float64",
        **settings,
    )
    x = np.random.default_rng(0).normal(size=(2, *shape, 2))
    ours = ops.convert_to_numpy(layer(ops.convert_to_tensor(x, "float64")))
    kernel, bias = (
        np.split(ops.convert_to_numpy(w), 4, axis=-1) for w in layer.weights
    )
    t = [
        convolve(x, k, layer.padding) + b
        for k, b in zip(kernel, bias, strict=True)
    ]
    size = layer.pool_size
    o = t[0]
    o = pool(t[1] * o + o, size)
    o = pool(pool(t[2], size) * o + o, size)
    o = pool(pool(t[3], size), size) * o + o
    torch = keras.backend.backend() == "torch"
    np.testing.assert_allclose(ours, o, atol=1e-5 if torch else 1e-12)
    assert layer.compute_output_shape(x.shape) == ours.shape


def test_images_of_any_size():
    layer = layers.CCPConv2D(3, 3, 3, pool_after=(1, 2), dtype="float64")
    inputs = keras.Input((None, None, 2), dtype="float64")
    model = keras.Model(inputs, layer(inputs))
    for size in (8, 9):
        x = ops.ones((1, size, size, 2), "float64")
        x = ops.convert_to_numpy(x) * np.arange(size)[:, None, None]
        np.testing.assert_allclose(
            model.predict(x, verbose=0),
            ops.convert_to_numpy(layer(ops.convert_to_tensor(x))),
            atol=1e-5,
        )


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="differences need float64"
)
def test_degree_by_finite_differences():
    layer = layers.CCPConv2D(3, 3, 3, pool_after=(1,), dtype="float64")
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 2))
    line = ops.convert_to_tensor(
        np.arange(6).reshape(6, 1, 1, 1) * x, "float64"
    )
    values = ops.convert_to_numpy(layer(line))
    assert np.abs(np.diff(values, n=3, axis=0)).max() > 1e-3
    assert np.abs(np.diff(values, n=4, axis=0)).max() < 1e-10


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow",
    reason="TensorFlow's CPU has no convolution with channels first",
)
def test_channels_first():
    last = layers.CCPConv2D(3, 3, 2, pool_after=(1,), name="last")
    first = layers.CCPConv2D(
        3, 3, 2, pool_after=(1,), data_format="channels_first", name="first"
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 4)).astype("float32")
    expected = ops.convert_to_numpy(last(x))
    first.build((None, 4, 6, 8))
    first.set_weights(last.get_weights())
    ours = ops.convert_to_numpy(first(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(ours.transpose(0, 2, 3, 1), expected, atol=1e-5)
    assert first.compute_output_shape((2, 4, 6, 8)) == ours.shape


@pytest.mark.parametrize("orders", [(4,), (0, 1), (2, 2)])
def test_pool_after_must_name_orders(orders):
    with pytest.raises(
        ValueError, match="different integers from 1 to order=3"
    ):
        layers.CCPConv2D(3, 3, 3, pool_after=orders)


def test_images_must_be_large_enough_for_the_poolings():
    layer = layers.CCPConv2D(4, 3, 3, pool_after=(1, 2))
    with pytest.raises(ValueError, match="would be zero or negative"):
        layer(np.ones((1, 3, 8, 2)))


@pytest.mark.parametrize("pool_after", [(), (1,)])
def test_channels_must_be_those_that_it_was_built_for(pool_after):
    layer = layers.CCPConv2D(4, 3, 2, pool_after=pool_after)
    layer.build((None, 8, 8, 2))
    with pytest.raises(ValueError, match="value 2, but received .* 4"):
        layer(np.ones((1, 8, 8, 4)))
    with pytest.raises(ValueError, match="ndim"):
        layer(np.ones((8, 8, 2)))


@pytest.mark.parametrize("name", ["filters", "order"])
def test_sizes_must_be_positive_integers(name):
    sizes = {"filters": 2, "kernel_size": 3, "order": 2, name: 0}
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at"):
        layers.CCPConv2D(**sizes)
