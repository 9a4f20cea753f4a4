"""The rules for layers and operations, against what these compute."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_polynets import layers as own
from keras_polynets.analysis import NotPolynomialError
from keras_polynets.analysis import degree_rules
from keras_polynets.analysis import polynomial_degree


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


CONSTANT = np.arange(1.0, 5.0, dtype="float32")
OPERATIONS = {
    "sum": (lambda x, y: x + y * y - 1.0, 2),
    "scaled": (lambda x, y: x * CONSTANT / 3.0, 1),
    "constant": (lambda x, y: ops.ones_like(x) * CONSTANT, 0),
    "product": (lambda x, y: x * y * x, 3),
    "squares": (lambda x, y: ops.square(x) * ops.power(y, 3), 5),
    "power": (lambda x, y: x**4, 4),
    "matmul": (lambda x, y: ops.matmul(x[:, :, None], y[:, None, :]), 2),
    "einsum": (lambda x, y: ops.einsum("bi,bj,bk->bk", x, y, x), 3),
    "shapes": (
        lambda x, y: ops.reshape(ops.transpose(x)[1] * 2.0, (-1, 1)),
        1,
    ),
    "joined": (lambda x, y: ops.concatenate([x, y * y], axis=-1)[:, 2:6], 2),
    "stacked": (lambda x, y: ops.stack([x, y * x * x], axis=1), 3),
    "padded": (lambda x, y: ops.pad(x, [[0, 0], [1, 2]]), 1),
    "mean": (lambda x, y: ops.mean(x * y, axis=-1, keepdims=True), 2),
    "split": (lambda x, y: ops.split(x * x, 2, axis=1)[1], 2),
    "cast": (lambda x, y: ops.cast(x, "float64"), 1),
    "layers": (
        lambda x, y: layers.Multiply()([x, y, layers.Average()([x, y])]),
        3,
    ),
    "dot": (lambda x, y: layers.Dot(1)([x, y]), 2),
    "negative": (lambda x, y: -x, 1),
    "concatenated": (lambda x, y: layers.Concatenate()([x * x, y]), 2),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_degree_of_operations(name):
    """Along a line, the next finite difference is the first to vanish."""
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    function, expected = OPERATIONS[name]
    model = keras.Model([x, y], function(x, y))
    assert polynomial_degree(model) == expected
    rng = np.random.default_rng(0)
    start, direction = rng.integers(-3, 4, (2, 2, 1, 4)).astype("float32")
    # Small whole numbers: the differences are exact.
    values = [
        value(model([a + t * b for a, b in zip(start, direction, strict=True)]))
        for t in range(expected + 2)
    ]
    scale = max(np.abs(v).max() for v in values)
    last = np.diff(values, expected + 1, axis=0)
    assert np.abs(last).max() <= 1e-5 * scale
    if expected:
        assert np.abs(np.diff(values, expected, axis=0)).max() > 1e-3


BREAKERS = {
    "divide": (lambda x, y: x / y, "true_divide", "divides by a tensor"),
    "exponent": (lambda x, y: x**y, "power", "its exponent is a tensor"),
    "root": (lambda x, y: x**0.5, "power", "its exponent is 0.5"),
    "inverse": (lambda x, y: x**-1, "power", "its exponent is -1"),
    "relu": (lambda x, y: ops.relu(x), "relu", "not known as one"),
    "sign": (lambda x, y: ops.cast(x, "int32"), "cast", "rounds to int32"),
    "index": (
        lambda x, y: ops.take(np.ones(9, "float32"), ops.cast(x, "int32")),
        "cast",
        "rounds to int32",
    ),
    "cosine": (
        lambda x, y: layers.Dot(1, normalize=True, name="cosine")([x, y]),
        "cosine",
        "not known as one",
    ),
    "rectified": (
        lambda x, y: layers.Dense(2, "relu", name="rectified")(x),
        "rectified",
        "its activation is 'relu'",
    ),
    "quadratic": (
        lambda x, y: own.QuadraticDense(2, activation="tanh", name="neurons")(
            x
        ),
        "neurons",
        "its activation is 'tanh'",
    ),
    "softmax": (
        lambda x, y: layers.Softmax(name="softmax")(x),
        "softmax",
        "not known",
    ),
    "norm": (
        lambda x, y: layers.LayerNormalization(name="norm")(x),
        "norm",
        "not known as one",
    ),
    "custom": (
        lambda x, y: Unknown(name="mine")(x),
        "mine",
        "a custom class without a method `polynomial_degree",
    ),
    "subclass": (
        lambda x, y: OwnDense(3, name="dense")(x),
        "dense",
        "a custom class without a method `polynomial_degree",
    ),
    "says_no": (lambda x, y: SaysNo(name="no")(x), "no", "returns `None`"),
}


class Unknown(layers.Layer):
    def call(self, x):
        return 2 * x


class OwnDense(layers.Dense):
    """A subclass of a layer of Keras may compute anything."""


class SaysNo(layers.Layer):
    def call(self, x):
        return ops.sin(x)

    def polynomial_degree(self, degrees):
        return None


@pytest.mark.parametrize("name", BREAKERS)
def test_what_breaks_it_is_named(name):
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    function, layer, reason = BREAKERS[name]
    output = function(x, y)
    # What comes after does not matter.
    model = keras.Model([x, y], ops.exp(output * output), name="broken")
    with pytest.raises(NotPolynomialError) as error:
        polynomial_degree(model)
    assert error.value.layer.startswith(layer)
    assert reason in error.value.reason
    assert str(error.value).startswith(
        "Model 'broken' is no polynomial of its input: layer "
        f"{error.value.layer!r} ("
    )


# How to build the layers that need arguments, and their inputs.
ARGUMENTS = {
    "Activation": ("linear",),
    "AdaptiveAveragePooling1D": (2,),
    "AdaptiveAveragePooling2D": (2,),
    "AdaptiveAveragePooling3D": (2,),
    "AveragePooling1D": (2,),
    "AveragePooling2D": (2,),
    "AveragePooling3D": (2,),
    "CenterCrop": (2, 3),
    "Dense": (2,),
    "EinsumDense": ("...i,ij->...j", (4, 4, 2)),
    "Permute": ((2, 1, 3),),
    "RepeatVector": (2,),
    "Rescaling": (0.5, 1.0),
    "Reshape": ((-1,),),
    "Resizing": (3, 5),
    "RandomRotation": (0.5,),
    "RandomTranslation": (0.5, 0.5),
    "RandomZoom": (0.5,),
    "RandomContrast": (0.5,),
    "RandomBrightness": (0.5,),
}
CONVOLUTION = (2, 2)


def example(cls):
    """Returns a layer of a class and the shape of an input."""
    name = cls.__name__
    arguments = ARGUMENTS.get(name, ())
    if "Depthwise" in name:
        arguments = (2,)
    elif "Conv" in name:
        arguments = CONVOLUTION
    elif "Dropout" in name or name == "GaussianNoise":
        arguments = (0.5,)
    rank = next((int(n) for n in "123" if f"{n}D" in name), 2)
    shape = (4,) * rank + (3,)
    return cls(*arguments), (4,) if name == "RepeatVector" else shape


@pytest.mark.parametrize(
    "cls",
    sorted(
        degree_rules.AFFINE | degree_rules.NOISE, key=lambda cls: cls.__name__
    ),
    ids=lambda cls: cls.__name__,
)
def test_the_layers_that_count_as_affine_are(cls):
    """f(x) + f(-x) = 2 f(0), and f(3 x) - f(0) = 3 (f(x) - f(0))."""
    layer, shape = example(cls)
    layer.build((None, *shape))
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        if weight.dtype.startswith("float"):
            weight.assign(rng.uniform(0.5, 1, weight.shape))
    x = rng.normal(size=(2, *shape)).astype("float32")
    f = {t: value(layer(t * x, training=False)) for t in (0.0, 1.0, -1.0, 3.0)}
    np.testing.assert_allclose(f[1.0] + f[-1.0], 2 * f[0.0], atol=1e-4)
    np.testing.assert_allclose(
        f[3.0] - f[0.0], 3 * (f[1.0] - f[0.0]), atol=1e-4
    )
    assert np.abs(f[1.0] - f[0.0]).max() > 1e-3
    inputs = keras.Input(shape)
    assert polynomial_degree(keras.Model(inputs, layer(inputs) * 2.0)) == 1


@pytest.mark.parametrize(
    "wrapper", ["TimeDistributed", "SpectralNormalization"]
)
def test_wrappers(wrapper):
    def degree(activation):
        layer = getattr(layers, wrapper)(
            layers.Dense(2, activation), name="wrapped"
        )
        return polynomial_degree(keras.Sequential([keras.Input((3, 4)), layer]))

    assert degree(None) == 1 and degree(own.square) == 2
    with pytest.raises(NotPolynomialError, match="'wrapped' .*is 'relu'"):
        degree("relu")


def test_a_model_inside_a_wrapper():
    def degree(activation):
        inside = keras.Sequential(
            [layers.Dense(2, own.square), layers.Dense(2, activation, name="d")]
        )
        wrapped = layers.TimeDistributed(inside, name="wrapped")
        inputs = keras.Input((3, 4))
        return polynomial_degree(keras.Model(inputs, wrapped(inputs * inputs)))

    assert degree(None) == 4 and degree(own.square) == 8
    with pytest.raises(
        NotPolynomialError, match="'wrapped' .*'d' inside it: .*is 'relu'"
    ):
        degree("relu")
