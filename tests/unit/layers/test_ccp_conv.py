import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers


def pool(x):
    b, h, w, c = x.shape
    x = x[:, : h // 2 * 2, : w // 2 * 2]
    return x.reshape(b, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def convolve(x, kernel):
    """Correlation with zero padding, written out."""
    size = kernel.shape[0]
    before, after = (size - 1) // 2, size // 2
    padded = np.pad(x, [(0, 0), (before, after), (before, after), (0, 0)])
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            window = padded[:, i : i + x.shape[1], j : j + x.shape[2]]
            out += window @ kernel[i, j]
    return out


@pytest.mark.parametrize("height, width", [(8, 8), (9, 13)])
def test_equals_the_recursion_written_out(height, width):
    layer = layers.CCPConv2D(3, 5, 4, pool_after=(2, 3), dtype="float64")
    x = np.random.default_rng(0).normal(size=(2, height, width, 2))
    ours = ops.convert_to_numpy(layer(ops.convert_to_tensor(x, "float64")))
    kernels = np.split(ops.convert_to_numpy(layer.factors.kernel), 4, axis=-1)
    t = [convolve(x, kernel) for kernel in kernels]
    o = t[0]
    o = pool(t[1] * o + o)
    o = pool(pool(t[2]) * o + o)
    o = pool(pool(t[3])) * o + o
    torch = keras.backend.backend() == "torch"
    np.testing.assert_allclose(ours, o, atol=1e-5 if torch else 1e-12)
    assert layer.compute_output_shape(x.shape) == ours.shape


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


def test_pool_after_must_name_orders():
    with pytest.raises(ValueError, match="integers from 1 to order=3"):
        layers.CCPConv2D(3, 3, 3, pool_after=(4,))


@pytest.mark.parametrize("name", ["filters", "order"])
def test_sizes_must_be_positive_integers(name):
    sizes = {"filters": 2, "kernel_size": 3, "order": 2, name: 0}
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at"):
        layers.CCPConv2D(**sizes)
