"""Bounds are those of what a model computes, not of something like it."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets import robustness
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import operator_norm
from keras_polynets.robustness.bounds import propagate
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import jacobian

L = keras.layers
INFINITY = float("inf")


def sequential(shape, *parts, **kwargs):
    return keras.Sequential([keras.Input(shape, **kwargs), *parts])


def draw(model, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    model.set_weights(
        [rng.normal(size=w.shape) * scale for w in model.get_weights()]
    )
    return rng


def test_an_adapted_normalization():
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, size=(50, 4)).astype("float32")
    layer = L.Normalization()
    layer.adapt(x)
    model = sequential((4,), layer, L.Dense(3))
    lower, upper = Certifier(model).bounds(x, 0.0)
    outputs = apply(model, x)
    assert (lower <= outputs).all() and (outputs <= upper).all()
    assert (upper - lower).max() < 1e-3


@pytest.mark.parametrize("dtype", ["float16", "mixed_float16", "bfloat16"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda dtype: layers.CCP(3, 3, 3, dtype=dtype), (8,)),
        (lambda dtype: layers.NCP(3, 3, 3, dtype=dtype), (8,)),
        (lambda dtype: layers.NCPSkip(3, 3, 3, dtype=dtype), (8,)),
        (lambda dtype: layers.CCPConv2D(3, 1, 2, dtype=dtype), (2, 2, 2)),
    ],
    ids=["CCP", "NCP", "NCPSkip", "CCPConv2D"],
)
def test_polynomials_round_their_outputs(make, shape, dtype):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make(dtype)(inputs))
    for seed in range(12):
        rng = draw(model, seed, 10.0 ** (seed % 6 - 4))
        x = rng.normal(size=(2, *shape)).astype("float32")
        lower, upper = Certifier(model).bounds(x, 0.0)
        outputs = apply(model, x).astype("float64")
        assert ((lower <= outputs) & (outputs <= upper)).all()


def test_logits_that_half_precision_makes_equal_are_not_certified():
    model = sequential((2,), layers.CCP(2, 2, 2, dtype="float16"))
    *weights, bias = model.get_weights()
    x, labels = np.zeros((1, 2), "float32"), np.array([1])
    for values in ([1.0, 1.0003], [7e4, 9e4]):
        zeros = [np.zeros_like(w) for w in weights]
        model.set_weights([*zeros, np.array(values)])
        certifier = Certifier(model)
        for method in certifier.methods:
            assert not certifier.margins(x, labels, 0.0, method)[0] > 0


@pytest.mark.parametrize("p", [1, 2, INFINITY])
def test_the_norm_of_a_convolution_on_several_sizes(p):
    layer = L.Conv2D(1, 7, padding="same", kernel_initializer="ones")
    layer.build((None, 1, 1, 1))
    assert operator_norm(layer, p) == pytest.approx(1)
    sequential((8, 8, 1), layer)
    # As large as on images without an end.
    assert operator_norm(layer, p) == pytest.approx(49)


@pytest.mark.parametrize(
    "layer",
    [
        L.Conv2D(2, 3, padding="same"),
        layers.CCPConv2D(2, 3, order=2),
        layers.ProdPoly([layers.CCPConv2D(2, 3, order=2)]),
        layers.QuadraticConv2D(2, 3, padding="same"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_images_larger_than_a_layer_was_built_for(layer):
    layer = type(layer).from_config(layer.get_config())
    layer.build((None, 1, 1, 2))
    model = sequential((4, 4, 2), layer, L.Flatten(), L.Dense(2))
    x, labels = np.zeros((1, 4, 4, 2), "float32"), np.zeros(1, "int32")
    for bound in (
        lambda: robustness.lipschitz_bound(model),
        lambda: robustness.lipschitz_bound(model, 1, 1.0),
        lambda: Certifier(model).margins(x, labels, 0.1, "global"),
    ):
        with pytest.raises(NotImplementedError, match="clone_model"):
            bound()
    # Around an image its own size counts.
    assert "global" not in Certifier(model).methods
    assert np.isfinite(Certifier(model).margins(x, labels, 0.1)).all()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert robustness.lipschitz_bound(clone) > 0


class Steep(L.Dense):
    def call(self, inputs):
        return 100 * super().call(inputs)


class OtherRecursion(layers.CCP):
    def combine(self, factors):
        return 100 * super().combine(factors)


@pytest.mark.parametrize("layer", [Steep(3), OtherRecursion(2, 2, 3)])
def test_a_subclass_with_a_formula_of_its_own(layer):
    model = sequential((4,), layer)
    x, labels = np.zeros((1, 4), "float32"), np.zeros(1, "int32")
    for bound in (
        lambda: robustness.lipschitz_bound(model),
        lambda: robustness.lipschitz_bound(layer),
        lambda: robustness.rademacher_bound(model, num_samples=10),
        lambda: robustness.certified_accuracy(model, (x, labels), 0.1),
        lambda: Certifier(model).margins(x, labels, 0.1, "global"),
    ):
        with pytest.raises(NotImplementedError, match="of its own|local bound"):
            bound()
    if isinstance(layer, Steep):
        with pytest.raises(TypeError, match="`call` of a class of your own"):
            operator_norm(layer)


def test_a_rule_for_a_subclass():
    class Twice(L.Dense):
        def call(self, inputs):
            return 2 * super().call(inputs)

    @propagate.register
    def _(layer: Twice, extent, p, form):
        outputs = propagate.dispatch(L.Dense)(layer, extent, p, form)
        return outputs + outputs

    model = sequential((4,), Twice(3))
    once = operator_norm(sequential((4,), L.Dense(3)).layers[0])
    assert once > 0
    kernel = model.layers[0].kernel
    expected = 2 * np.abs(keras.ops.convert_to_numpy(kernel)).sum(0).max()
    assert robustness.lipschitz_bound(model) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", ["int32", "float16", "bfloat16"])
def test_a_cast_by_an_operation_is_refused(dtype):
    inputs = keras.Input((2,))
    x = keras.ops.convert_to_tensor(inputs, dtype=dtype)
    model = keras.Model(inputs, L.Dense(2)(x))
    with pytest.raises(NotImplementedError, match=f"makes {dtype} of float32"):
        Certifier(model).bounds(np.full((1, 2), 0.6, "float32"), 0.0)


def test_norms_at_the_edges_of_float64():
    layer = L.Conv2D(2, 3, dtype="float64", kernel_initializer="ones")
    layer.build((None, None, None, 1))
    for scale in (1e-170, 1e160):
        kernel = np.full(layer.kernel.shape, scale)
        layer.set_weights([kernel, np.zeros(2)])
        found = operator_norm(layer, 2) / scale
        assert 9 <= found <= 9 * np.sqrt(2) * (1 + 1e-6)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has float32 by default"
)
def test_images_of_a_float64_model_stay_as_they_are():
    x = np.array([[0.1]])
    dense = L.Dense(2, dtype="float64")
    model = sequential((1,), dense, dtype="float64")
    # The classes change between the image and what float32 makes of it.
    between = (x[0, 0] + np.float64(np.float32(x[0, 0]))) / 2
    model.set_weights([np.array([[1.0, -1.0]]), between * np.array([-1.0, 1])])
    label = int(apply(model, x).argmax())
    certifier = Certifier(model)
    assert certifier.margins(x, np.array([label]), 0.0, "affine")[0] > 0
    assert not certifier.margins(x, np.array([1 - label]), 0.0)[0] > 0
    wide = abs(x[0, 0] - between) * 2
    assert not certifier.margins(x, np.array([label]), wide)[0] > 0


@pytest.mark.parametrize("p", [1, 2, INFINITY])
@pytest.mark.parametrize(
    "layer",
    [
        L.BatchNormalization(),
        L.Conv2DTranspose(2, 3, strides=2),
        L.DepthwiseConv2D(2),
        L.ZeroPadding2D(1),
        L.UpSampling2D(2),
        L.AveragePooling2D(2, 1),
        layers.GaussianFilter2D(3),
        L.GaussianNoise(0.1),
        layers.QuadraticDense(3),
        layers.QuadraticDense(3, neuron="compact", activation=layers.square),
        layers.QuadraticConv2D(2, 2, branch_normalization=True),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_lipschitz_bounds_of_further_layers(layer, p):
    layer = type(layer).from_config({**layer.get_config(), "dtype": "float64"})
    flat, last = L.Flatten(dtype="float64"), L.Dense(2, dtype="float64")
    model = sequential((4, 4, 2), layer, flat, last, dtype="float64")
    rng = draw(model)
    # Variances are positive.
    model.set_weights([np.abs(w) + 0.1 for w in model.get_weights()])
    bound = robustness.lipschitz_bound(model, p, radius=1.0)
    z = rng.normal(size=(30, 32))
    z[::2] = np.abs(z[::2])
    z = np.sign(z) if p == INFINITY else z
    z /= np.linalg.norm(z, p, axis=1, keepdims=True)
    slopes = [
        np.linalg.norm(j, p) for j in jacobian(model, z.reshape(30, 4, 4, 2))
    ]
    assert 0 < max(slopes) <= bound * (1 + 1e-5)
    assert bound < 1000 * max(slopes)


def test_operations_that_are_no_polynomials():
    inputs = keras.Input((3,))
    x = np.zeros((1, 3), "float32")
    for outputs in (2.0**inputs, keras.ops.relu(inputs), inputs**2.5):
        model = keras.Model(inputs, L.Dense(2)(outputs))
        with pytest.raises(NotImplementedError, match="If it is no polynomial"):
            Certifier(model).bounds(x, 0.1)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has float32 by default"
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_sums_and_means_by_operations(dtype):
    ops = keras.ops
    inputs = keras.Input((4, 3), dtype=dtype)
    outputs = ops.mean(ops.pad(inputs, ((0, 0), (1, 0), (0, 0))), axis=1)
    outputs = outputs * ops.sum(inputs * inputs, axis=1)
    model = keras.Model(inputs, outputs)
    x = np.random.default_rng(0).normal(size=(20, 4, 3)).astype("float32")
    for epsilon, points in ((0.0, x), (0.1, x + 0.1), (0.1, x - 0.07)):
        found = apply(model, points.astype(dtype)).astype("float64")
        for method in ("interval", "affine"):
            lower, upper = Certifier(model).bounds(x, epsilon, method)
            assert ((lower <= found) & (found <= upper)).all()
    whole = keras.Model(inputs, ops.reshape(ops.mean(inputs, axis=0), (1, -1)))
    with pytest.raises(NotImplementedError):
        Certifier(whole).bounds(x, 0.0)


@pytest.fixture
def channels_first():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    yield
    keras.config.set_image_data_format(before)


def test_rescaling_of_channels_first(channels_first):
    model = sequential((3, 4, 5), L.Rescaling([1.0, -2.0, 3.0]))
    x = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype("float32")
    lower, upper = Certifier(model).bounds(x, 0.0)
    outputs = apply(model, x)
    assert ((lower <= outputs) & (outputs <= upper)).all()
