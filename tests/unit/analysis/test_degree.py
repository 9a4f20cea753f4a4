"""The degree of networks, against finite differences along a line."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_polynets import layers as own
from keras_polynets import models
from keras_polynets import zoo
from keras_polynets.analysis import NotPolynomialError
from keras_polynets.analysis import polynomial_degree
from keras_polynets.layers.neurons import NEURONS
from keras_polynets.layers.preprocessing import CaffePreprocessing

exact = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="Keras normalises in single precision on other backends",
)


def value(tensor):
    return keras.ops.convert_to_numpy(tensor)


def perturb(model, scale=0.3):
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.normal(size=weight.shape, scale=scale)
        noise = abs(noise) if "variance" in weight.path else noise
        weight.assign(value(weight) + noise)


def measured_degree(model, most=33):
    """Returns the degree along a random line, by finite differences."""
    rng = np.random.default_rng(2)
    start, direction = rng.normal(size=(2, *model.input_shape[1:]))
    for order in range(most):
        steps = np.linspace(-1, 1, order + 2)
        steps = steps.reshape(-1, *[1] * start.ndim)
        values = value(model(start + steps * direction, training=False))
        scale = np.abs(values).max() * 2 ** (order + 1)
        if np.abs(np.diff(values, order + 1, axis=0)).max() < 1e-13 * scale:
            return order
    raise AssertionError(f"no polynomial of a degree below {most}")


TINY = {"input_shape": (4, 4, 2), "classes": 3, "width": 4}
NETWORKS = {
    "ccp": lambda: models.PolynomialNet((3, 2, 1), 2, rank=4, order=4),
    "ncp": lambda: zoo.load(
        "ncp4", weights=None, input_shape=(3, 2, 1), order=3, dtype="float64"
    ),
    "conv_ccp": lambda: zoo.load(
        "pn_conv", weights=None, input_shape=(4, 4, 1), dtype="float64"
    ),
    "affine": lambda: models.ResNet(
        **TINY, blocks=(1, 1), activation=None, dtype="float64"
    ),
    "order_2": lambda: models.ResNet(
        **TINY, blocks=(1, 1), activation=None, order=2, dtype="float64"
    ),
    "order_3": lambda: models.ResNet(
        **TINY,
        blocks=(1, 1),
        activation=None,
        order=3,
        operand_map="factorized",
        product_map="all",
        gate=True,
        dtype="float64",
    ),
    "product_only": lambda: models.ResNet(
        **TINY,
        blocks=(1, 1),
        activation=None,
        branch="single",
        order=2,
        add_residual=False,
        product_normalization="batch",
        dtype="float64",
    ),
    "quadratic": lambda: models.ResNet(
        **TINY,
        blocks=(1,),
        activation=None,
        neuron="full",
        shortcut="pad",
        dtype="float64",
    ),
}


@exact
@pytest.mark.parametrize("name", NETWORKS)
def test_degree_of_networks(name):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float64")
    try:
        model = NETWORKS[name]()
    finally:
        keras.config.set_dtype_policy("float32")
    perturb(model)
    assert polynomial_degree(model) == measured_degree(model)


def sequential(shape, *stack):
    return keras.Sequential([keras.Input(shape, dtype="float64"), *stack])


def float64(cls, *args, **kwargs):
    return cls(*args, dtype="float64", **kwargs)


@exact
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("activation", [None, own.square, ops.square])
def test_degree_of_quadratic_layers(neuron, activation):
    model = sequential(
        (3,),
        float64(own.QuadraticDense, 4, neuron=neuron, activation=activation),
        float64(layers.Dense, 2),
    )
    perturb(model)
    expected = 2 if activation is None else 4
    assert polynomial_degree(model) == expected == measured_degree(model)


@exact
@pytest.mark.parametrize(
    "layer, expected",
    [
        (lambda: float64(own.CCP, 2, 3, 4), 4),
        (lambda: float64(own.NCP, 2, 3, 3), 3),
        (lambda: float64(own.NCPSkip, 2, 3, 3, skip="learned"), 3),
        (
            lambda: float64(
                own.ProdPoly,
                [float64(own.CCP, 3, 3, 2), float64(own.NCP, 2, 3, 3)],
            ),
            6,
        ),
        (lambda: float64(layers.Dense, 2, activation=own.square), 2),
        (lambda: float64(layers.Activation, own.square), 2),
        (lambda: float64(layers.Activation, "linear"), 1),
    ],
)
def test_degree_behind_a_square(layer, expected):
    """The degree of a layer multiplies that of its input."""
    for before in (1, 2):
        square = float64(layers.Activation, own.square)
        model = sequential(
            (3,),
            float64(layers.Dense, 3),
            *([square] if before == 2 else []),
            layer(),
        )
        perturb(model)
        degree = polynomial_degree(model)
        assert degree == before * expected == measured_degree(model)


@pytest.mark.parametrize(
    "layer",
    [own.RandomPadCrop(1), CaffePreprocessing()],
    ids=lambda x: type(x).__name__,
)
def test_preprocessing_is_affine(layer):
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    assert polynomial_degree(model) == 1


def test_the_path_of_what_breaks_nested_models():
    inner = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3), layers.ReLU(name="relu")],
        name="inner",
    )
    middle = keras.Input((3,))
    middle = keras.Model(middle, middle + inner(middle * middle), name="block")
    model = keras.Sequential([keras.Input((3,)), middle, layers.Dense(2)])
    with pytest.raises(NotPolynomialError, match="'block/inner/relu' .ReLU."):
        polynomial_degree(model)


def test_layers_act_as_in_inference():
    """There Keras overrides what the graph says of training."""
    inputs = keras.Input((3,))
    x = layers.BatchNormalization()(inputs, training=True)
    x = layers.Dropout(0.5)(x, training=True)
    model = keras.Model(inputs, x)
    x = np.random.default_rng(0).normal(size=(8, 3))
    f = [value(model(t * x, training=False)) for t in (-1, 0, 1)]
    np.testing.assert_allclose(f[0] + f[2], 2 * f[1], atol=1e-6)
    assert polynomial_degree(model) == 1


def test_nested_and_shared_models():
    inputs = keras.Input((3,))
    square = keras.Model(inputs, layers.Dense(3)(inputs * inputs), name="sq")
    x = keras.Input((3,))
    model = keras.Model(x, square(square(square(x))) + x)
    assert polynomial_degree(model) == 8
    model = keras.Sequential([keras.Input((3,)), square, layers.Dense(2)])
    assert polynomial_degree(model) == 2


def test_several_outputs():
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    model = keras.Model({"x": x, "y": y}, {"a": x * y, "b": [x, y**3 * x]})
    assert polynomial_degree(model) == {"a": 2, "b": [1, 4]}


class Says(layers.Layer):
    def __init__(self, degree, **kwargs):
        super().__init__(**kwargs)
        self.degree = degree

    def call(self, x):
        return x**3

    def polynomial_degree(self, degrees):
        return self.degree


def test_every_public_layer_has_one():
    classes = [getattr(own, name) for name in own.__all__]
    classes = [
        cls
        for cls in classes
        if isinstance(cls, type) and issubclass(cls, layers.Layer)
    ]
    missing = [c for c in classes if not hasattr(c, "polynomial_degree")]
    assert len(classes) >= 12 and missing == []


def test_layers_say_their_degree():
    x = keras.Input((4,), name="x")
    model = keras.Model(x, Says(3)(x) * x)
    assert polynomial_degree(model) == 4
    with pytest.raises(ValueError, match="must return an integer of at least"):
        polynomial_degree(keras.Model(x, Says(0.5, name="half")(x)))

    def cube(x):
        return x**3

    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, cube)])
    with pytest.raises(NotPolynomialError, match="its activation is 'cube'"):
        polynomial_degree(model)
    cube.polynomial_degree = lambda degrees: 3 * degrees[0]
    assert polynomial_degree(model) == 3


def test_a_tensor_that_does_not_depend_on_the_input_breaks_nothing():
    x = keras.Input((4,), name="x")
    ones = ops.exp(ops.ones_like(x))
    assert polynomial_degree(keras.Model(x, x / ones)) == 1


def test_large_degrees_are_exact():
    model = zoo.load(
        "resnet110",
        weights=None,
        width=1,
        activation=None,
        order=3,
        classes=2,
        input_shape=(4, 4, 1),
    )
    assert polynomial_degree(model) == 3**54


def test_models_without_a_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="is a subclassed model"):
        polynomial_degree(Own(name="own"))
    with pytest.raises(ValueError, match="Build it first"):
        polynomial_degree(keras.Sequential([layers.Dense(2)]))
