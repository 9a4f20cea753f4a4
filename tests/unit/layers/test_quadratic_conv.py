"""Quadratic convolutions, against convolutions written out in NumPy."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers
from keras_polynets import robustness
from keras_polynets.layers.neurons import NEURONS

BACKEND = keras.backend.backend()
CLASSES = {
    1: layers.QuadraticConv1D,
    2: layers.QuadraticConv2D,
    3: layers.QuadraticConv3D,
}


def array(x):
    return ops.convert_to_numpy(x)


def tensor(x):
    return ops.convert_to_tensor(x, "float64")


def correlate(x, kernel, strides, padding, dilation, groups):
    """A convolution with the channels last, offset by offset."""
    rank = kernel.ndim - 2
    if padding == "same":
        pads = []
        for size, k, s in zip(x.shape[1:], kernel.shape, strides, strict=False):
            span = dilation * (k - 1) + 1
            total = max((-(-size // s) - 1) * s + span - size, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [(0, 0), *pads[:rank], (0, 0)])
    sizes = [
        (n - dilation * (k - 1) - 1) // s + 1
        for n, k, s in zip(x.shape[1:], kernel.shape, strides, strict=False)
    ][:rank]
    out = np.zeros((len(x), *sizes, kernel.shape[-1]))
    for offset in itertools.product(*map(range, kernel.shape[:rank])):
        window = x[
            (slice(None),)
            + tuple(
                slice(dilation * o, dilation * o + s * (n - 1) + 1, s)
                for o, n, s in zip(offset, sizes, strides, strict=True)
            )
        ]
        parts = zip(
            np.split(window, groups, axis=-1),
            np.split(kernel[offset], groups, axis=-1),
            strict=True,
        )
        out += np.concatenate([w @ k for w, k in parts], axis=-1)
    return out


def transposed(x, kernel, stride):
    """A transposed convolution with padding `"valid"`, offset by offset."""
    (b, h, w, _), (kh, kw, filters, _) = x.shape, kernel.shape
    height, width = (h - 1) * stride + kh, (w - 1) * stride + kw
    out = np.zeros((b, height, width, filters))
    for i, j in itertools.product(range(kh), range(kw)):
        rows = slice(i, i + (h - 1) * stride + 1, stride)
        columns = slice(j, j + (w - 1) * stride + 1, stride)
        out[:, rows, columns] += x @ kernel[i, j].T
    return out


def built(cls, shape, **arguments):
    """Returns a layer whose weights are drawn, none of them zero."""
    layer = cls(filters=4, kernel_size=3, dtype="float64", **arguments)
    layer.build((None, *shape))
    rng = np.random.default_rng(0)
    layer.set_weights(
        [rng.normal(size=w.shape, scale=0.3) for w in layer.get_weights()]
    )
    return layer


def expected(layer, x, convolve):
    maps = {
        role: convolve(x**2 if role == "power" else x, array(branch.kernel))
        + array(branch.bias)
        for role, branch in layer.branches().items()
    }
    return maps["linear"] * maps["gate"] + maps["power"]


GEOMETRIES = [
    (1, (9,), {"strides": 2, "padding": "same"}),
    (1, (9,), {"dilation_rate": 3, "groups": 2}),
    (2, (7, 8), {}),
    (2, (7, 8), {"strides": (2, 1), "padding": "same"}),
    (2, (7, 8), {"dilation_rate": 2, "padding": "same"}),
    (2, (7, 8), {"strides": 2, "groups": 2}),
    (3, (4, 5, 6), {"strides": (1, 2, 1), "padding": "same"}),
]


@pytest.mark.parametrize("rank, shape, arguments", GEOMETRIES)
def test_equals_the_formula(rank, shape, arguments):
    x = np.random.default_rng(1).normal(size=(2, *shape, 2))
    layer = built(CLASSES[rank], x.shape[1:], **arguments)

    def convolve(x, kernel):
        return correlate(
            x,
            kernel,
            layer.strides,
            layer.padding,
            layer.dilation_rate[0],
            layer.groups,
        )

    ours = array(layer(tensor(x)))
    np.testing.assert_allclose(
        ours,
        expected(layer, x, convolve),
        atol=1e-4 if BACKEND == "torch" else 1e-10,
    )
    assert layer.compute_output_shape(x.shape) == ours.shape


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_equals_the_formula(stride):
    x = np.random.default_rng(1).normal(size=(2, 4, 5, 2))
    layer = built(layers.QuadraticConv2DTranspose, x.shape[1:], strides=stride)
    ours = array(layer(tensor(x)))
    np.testing.assert_allclose(
        ours,
        expected(layer, x, lambda x, k: transposed(x, k, stride)),
        atol=1e-4 if BACKEND == "torch" else 1e-10,
    )
    assert layer.compute_output_shape(x.shape) == ours.shape


@pytest.mark.skipif(
    BACKEND == "tensorflow",
    reason="TensorFlow's CPU has no convolution with channels first",
)
@pytest.mark.parametrize(
    "arguments",
    [
        {"neuron": "full"},
        {"neuron": "qres"},
        {"neuron": "quadralib", "branch_normalization": True},
    ],
)
def test_channels_first(arguments):
    last, first = (
        layers.QuadraticConv2D(3, 3, data_format=f, name=f, **arguments)
        for f in ("channels_last", "channels_first")
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 4)).astype("float32")
    last.build(x.shape)
    rng = np.random.default_rng(1)
    last.set_weights([rng.uniform(0.1, 1, w.shape) for w in last.get_weights()])
    first.build((None, 4, 6, 8))
    first.set_weights(last.get_weights())
    ours = array(first(x.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(
        ours.transpose(0, 2, 3, 1), array(last(x)), rtol=1e-4, atol=1e-4
    )
    assert first.compute_output_shape((2, 4, 6, 8)) == ours.shape


PAIRS = {
    "Conv1D": (9, 2),
    "Conv2D": (9, 8, 2),
    "Conv3D": (5, 4, 6, 2),
    "Conv2DTranspose": (5, 4, 2),
}


@pytest.mark.parametrize(
    "neuron", [n for n, found in NEURONS.items() if found.first_order]
)
@pytest.mark.parametrize("base", PAIRS)
def test_starts_as_the_conventional_layer(base, neuron):
    """Bit for bit, eagerly and compiled."""
    if neuron != "full" and base not in ("Conv2D", "Conv2DTranspose"):
        pytest.skip("one neuron is enough there")
    shape = PAIRS[base]
    quadratic = getattr(layers, f"Quadratic{base}")(
        5, 3, 2, "same", neuron=neuron, activation="relu"
    )
    plain = getattr(keras.layers, base)(5, 3, 2, "same", activation="relu")
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
    quadratic.build(x.shape)
    plain.build(x.shape)
    plain.kernel.assign(array(quadratic.linear.kernel))
    if neuron != "poly":
        bias = np.random.default_rng(1).normal(size=5)
        plain.bias.assign(bias)
        own = quadratic.bias if neuron == "qres" else quadratic.linear.bias
        own.assign(bias)
    same = np.testing.assert_array_equal
    if BACKEND != "tensorflow":
        # Compilers there may fuse a product and a sum.
        def same(a, b):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)

    same(array(quadratic(x)), array(plain(x)))
    same(
        *(
            keras.Sequential([la]).predict(x, verbose=0)
            for la in (quadratic, plain)
        )
    )


def test_is_a_drop_in_for_keras_positional_arguments():
    ours = layers.QuadraticConv2D(8, 3, 2, "same", "channels_last", 1, 2)
    theirs = keras.layers.Conv2D(8, 3, 2, "same", "channels_last", 1, 2)
    for name in (
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "data_format",
        "dilation_rate",
        "groups",
    ):
        assert getattr(ours, name) == getattr(theirs, name)
    shape = (4, 9, 9, 4)
    assert ours.compute_output_shape(shape) == theirs.compute_output_shape(
        shape
    )


def test_frozen_layers_have_no_trainable_variables():
    layer = layers.QuadraticConv2D(
        2, 3, neuron="quadralib", branch_normalization=True, trainable=False
    )
    layer.build((None, 5, 5, 1))
    assert layer.trainable_variables == []
    assert not layer.gate_normalization.trainable
    layer.trainable = True
    assert len(layer.trainable_variables) == 12


@pytest.mark.parametrize(
    "layer",
    [
        layers.QuadraticConv2D(2, 3, name="bent"),
        layers.QuadraticDense(2, name="bent"),
    ],
)
def test_what_has_no_bound_for_quadratic_layers_names_them(layer):
    """Not computed as if the maps inside were the layer."""
    model = keras.Sequential([keras.Input((4, 4, 1)), layer])
    with pytest.raises(NotImplementedError, match="'bent'.*Quadratic"):
        robustness.rademacher_bound(model, num_samples=10)
    with pytest.raises(TypeError, match="'bent' of class Quadratic"):
        robustness.operator_norm(layer)
