"""How layers and models are called and overridden: nothing is overlooked."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.analysis import polynomial_degree
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import certified_accuracy
from keras_polynets.robustness import enclose
from keras_polynets.robustness import fgsm
from keras_polynets.robustness import lipschitz_bound
from tests.unit.robustness.certificate_examples import check_inside
from tests.unit.robustness.certificate_examples import of_input
from tests.unit.robustness.certificate_examples import sequential

L, ops = keras.layers, keras.ops


MASK = np.array([[True, False, False]])


@pytest.mark.parametrize(
    ("shape", "function", "words"),
    [
        ((3, 2), lambda x: L.GlobalAveragePooling1D()(x, mask=MASK), "mask"),
        ((3,), lambda x: L.BatchNormalization()(x, training=True), "training"),
        ((3,), lambda x: L.Dropout(0.5)(x, training=True), "training"),
        ((3,), lambda x: L.Dense(2)(inputs=x), "inputs"),
    ],
)
def test_arguments_of_a_call(shape, function, words):
    model, x = of_input(shape, function), np.ones((2, *shape), "float32")
    words = f"is called with {words}"
    with pytest.raises(NotImplementedError, match=words):
        Certifier(model).bounds(x, 0.1)
    with pytest.raises(NotImplementedError, match=words):
        lipschitz_bound(model)


def test_arguments_of_the_call_of_a_model_inside():
    pooling = sequential((3, 2), L.GlobalAveragePooling1D())
    dropout = sequential((3, 2), L.Dropout(0.5))
    x = np.ones((1, 3, 2), "float32")
    for function in (
        lambda x: pooling(x, mask=MASK),
        lambda x: L.GlobalAveragePooling1D()(x, MASK),
        lambda x: dropout(x, training=True),
        lambda x: pooling(inputs=x),
    ):
        model = of_input((3, 2), function)
        for bound in (lipschitz_bound, lambda m: Certifier(m).bounds(x, 0.1)):
            with pytest.raises(NotImplementedError, match="is called with"):
                bound(model)


class Scaled(L.Layer):
    """A layer of a user, that takes anything."""

    def call(self, inputs, **kwargs):
        return 2.0 * inputs


@enclose.register
def _(layer: Scaled, x, affine):
    return x * 2.0


def test_arguments_that_say_nothing():
    model = of_input((3,), lambda x: Scaled()(x, training=False))
    check_inside(model, np.ones((1, 3), "float32"))


def test_inputs_of_a_model_inside_go_by_their_names():
    a, b = (keras.Input((2,), name=name) for name in "ab")
    inner = keras.Model([b, a], b * b - 3.0 * a)
    model = of_input((2,), lambda x: inner({"a": x, "b": 0.5 * x}))
    check_inside(model, np.array([[1.0, 2.0]], "float32"))
    assert polynomial_degree(model) == 2
    cubes = of_input((2,), lambda x: inner({"a": x * x * x, "b": x}))
    assert polynomial_degree(cubes) == 3
    named = keras.Model({"a": a, "b": b}, a + 2.0 * b)
    more = of_input((2,), lambda x: named({"a": x, "b": x, "c": x}))
    check_inside(more, np.array([[1.0, 2.0]], "float32"))


def test_a_polynomial_beside_the_output():
    inputs = keras.Input((2,))
    inner = keras.Model(inputs, [layers.CCP(2, 2, 2)(inputs), inputs])
    model = of_input((2,), lambda x: inner(x)[1])
    assert "quadratic" not in Certifier(model).methods


def test_noise_that_is_on_by_default():
    model = of_input(
        (4, 4, 1), lambda x: L.Flatten()(L.RandomFlip()(x, training=False))
    )
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 1)).astype("float32")
    check_inside(model, x)
    check_inside(sequential((4, 4, 1), L.RandomFlip(), L.Flatten()), x)


class OwnSequential(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 100 * super().call(inputs)


class OwnModel(keras.Sequential):
    def __call__(self, *args, **kwargs):
        return 2.0 * super().__call__(*args, **kwargs)


class OwnConvolution(L.Conv2D):
    def convolution_op(self, inputs, kernel):
        return 100 * super().convolution_op(inputs, kernel)


class OwnDense(L.Dense):
    def call(self, inputs):
        return super().call(inputs) ** 3


class OwnQuadratic(layers.QuadraticDense):
    _map_class = OwnDense


class OwnSum(L.Add):
    def _merge_function(self, inputs):
        return ops.maximum(*inputs)


class OwnActivation(L.Activation):
    def __call__(self, inputs):
        return 3 * super().__call__(inputs)


@pytest.mark.parametrize(
    "model",
    [
        lambda: OwnSequential([keras.Input((3,)), L.Dense(2)]),
        lambda: OwnModel([keras.Input((3,)), L.Dense(2)]),
        lambda: sequential((3,), OwnModel([keras.Input((3,)), L.Dense(2)])),
        lambda: sequential((3, 3, 1), OwnConvolution(1, 2)),
        lambda: sequential((3,), OwnQuadratic(2)),
    ],
)
def test_methods_that_a_class_overrides(model):
    model = model()
    with pytest.raises((NotImplementedError, ValueError)):
        lipschitz_bound(model)
    with pytest.raises((NotImplementedError, ValueError)):
        x = np.zeros((1, *model.input_shape[1:]), "float32")
        Certifier(model).bounds(x, 0.1)


@pytest.mark.parametrize("layer", [OwnActivation("linear"), OwnSum()])
def test_methods_of_operations_that_a_class_overrides(layer):
    arguments = (
        (lambda x: [x, 2 * x]) if layer.name == "own_sum" else lambda x: x
    )
    model = of_input((3,), lambda x: layer(arguments(x)))
    with pytest.raises(NotImplementedError, match="has a `call` of its own"):
        Certifier(model).bounds(np.zeros((1, 3), "float32"), 0.1)


COLUMN = np.array([[1.0], [-1.0]], "float32")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: ops.concatenate([x, x], axis=0), "axis of the batch"),
        (lambda x: L.Concatenate(axis=0)([x, x]), "axis of the batch"),
        (lambda x: x * COLUMN, "differ from example to example"),
        (lambda x: x - ops.mean(x), "acts on the axis of the batch"),
        (lambda x: L.Add()([x, COLUMN]), "a constant among its inputs"),
    ],
)
def test_examples_that_meet(function, words):
    model = of_input((2,), function)
    with pytest.raises(NotImplementedError, match=words):
        Certifier(model).bounds(np.zeros((2, 2), "float32"), 0.1)


@pytest.mark.parametrize(
    "function", [lambda x: x / 0.0, lambda x: x * float("nan")]
)
def test_constants_that_are_not_finite(function):
    model = of_input((2,), function)
    with pytest.raises(ValueError, match="not finite, or divides by 0"):
        Certifier(model).bounds(np.zeros((1, 2), "float32"), 0.1)


def test_several_inputs_and_outputs():
    inputs = keras.Input((3,))
    steep = L.Rescaling(100.0)(inputs)
    two = keras.Model(inputs, [steep, L.Rescaling(1e-3)(steep)])
    with pytest.raises(ValueError, match="with 2 outputs"):
        lipschitz_bound(two)
    with pytest.raises(ValueError, match="with 1 inputs and 2 outputs"):
        Certifier(two)
    other = keras.Input((3,))
    with pytest.raises(ValueError, match="with 2 inputs and 1 outputs"):
        Certifier(keras.Model([inputs, other], L.Add()([inputs, other])))
    named = keras.Model({"x": inputs}, {"y": steep})
    x = np.ones((1, 3), "float32")
    lower, upper = Certifier(named).bounds(x, 0.0)
    np.testing.assert_allclose(lower, 100.0, rtol=1e-5)
    np.testing.assert_allclose(upper, 100.0, rtol=1e-5)


def test_a_model_that_one_image_built():
    model = keras.Sequential([layers.CCP(3, 2, 2)])
    model(np.ones((1, 4), "float32"))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    check_inside(model, x)
    labels = model.predict(x, verbose=0).argmax(axis=1)
    assert certified_accuracy(model, (x, labels), 0.0, verbose=0) == 1
    adversarial = fgsm(model, x, labels, 0.1, clip=(-9.0, 9.0))
    assert adversarial.shape == x.shape


def test_no_images():
    model = sequential((3,), layers.CCP(2, 3, 2))
    with pytest.raises(ValueError, match="at least one image"):
        Certifier(model).margins(np.zeros((0, 3), "float32"), [], 0.1)


def test_constants_of_many_batches_are_not_kept():
    certifier = Certifier(sequential((3,), layers.CCP(4, 3, 2)))
    for size in (1.0, 2.0, 3.0):
        certifier.margins(np.full((1, 3), size, "float32"), [0], 0.1)
    kept = [
        value
        for value in vars(certifier._pairs).values()
        if isinstance(value, np.ndarray | dict | list)
    ]
    assert len(kept) == 1 and kept[0].shape == (4, 4)
