"""No slope passes a bound, of layers and of models."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import Extent
from keras_polynets.robustness import lipschitz_bound
from keras_polynets.robustness import operator_norm
from keras_polynets.robustness import propagate
from tests.unit.robustness.bound_examples import FORMS
from tests.unit.robustness.bound_examples import INF
from tests.unit.robustness.bound_examples import P
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import conv_model
from tests.unit.robustness.bound_examples import h1_layer
from tests.unit.robustness.bound_examples import jacobian
from tests.unit.robustness.bound_examples import largest_slope
from tests.unit.robustness.bound_examples import norm
from tests.unit.robustness.bound_examples import points_of_ball
from tests.unit.robustness.bound_examples import random_layer
from tests.unit.robustness.bound_examples import randomize


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("kind", [layers.CCP, layers.NCP, layers.NCPSkip])
def test_no_sampled_slope_passes_the_bound(kind, p):
    for seed in range(12):
        layer = random_layer(kind, seed)
        radius = [1.0, 0.3, 2.5][seed % 3]
        z = points_of_ball(p, 4, radius, np.random.default_rng(seed))
        slope = largest_slope(layer, z, p)
        for form in ("theorem", "recursion"):
            bound = lipschitz_bound(layer, p=p, radius=radius, form=form)
            assert slope <= bound * (1 + 1e-6), (seed, form)


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("kind", [layers.CCP, layers.NCP, layers.NCPSkip])
def test_outputs_stay_within_the_radius_that_feeds_the_next_layer(kind, p):
    for seed in range(12):
        layer = random_layer(kind, seed)
        z = points_of_ball(p, 4, 1.3, np.random.default_rng(seed))
        outputs = apply(layer, z)
        for form in ("theorem", "recursion"):
            extent = propagate(layer, Extent(1.3, 1.3, 1.0), p, form)
            norms = np.linalg.norm(outputs, p, axis=1)
            assert norms.max() <= extent.radius * (1 + 1e-12)
            assert np.abs(outputs).max() <= extent.peak * (1 + 1e-12)


@pytest.mark.parametrize("p", P)
def test_products_of_polynomials(p):
    for seed in range(6):
        parts = [
            layers.CCP(3, 5, 2, use_factor_bias=True, dtype="float64"),
            layers.NCPSkip(3, 5, 2, skip="learned", dtype="float64"),
        ]
        model = keras.Sequential(
            [keras.Input((4,)), layers.ProdPoly(parts, dtype="float64")]
        )
        randomize(model, np.random.default_rng(seed), scale=0.4)
        z = points_of_ball(p, 4, 1.0, np.random.default_rng(seed))
        slope = largest_slope(model, z, p)
        for form in FORMS:
            bound = lipschitz_bound(model, p=p, form=form)
            assert slope <= bound * (1 + 1e-6)
        smaller = [lipschitz_bound(model, p=p, form=f) for f in FORMS]
        assert smaller[0] <= min(smaller[1:]) * (1 + 1e-12)


def climb(model, z, steps=20, rate=0.05):
    """The ℓ∞ norms of the Jacobian at points found by gradient ascent."""
    import tensorflow as tf

    @tf.function
    def step(z):
        with tf.GradientTape() as outer:
            outer.watch(z)
            with tf.GradientTape() as inner:
                inner.watch(z)
                outputs = model(z, training=False)
            matrices = inner.batch_jacobian(outputs, z)
            norms = tf.reduce_max(tf.reduce_sum(abs(matrices), -1), -1)
        z = z + rate * tf.sign(outer.gradient(norms, z))
        return tf.clip_by_value(z, -1.0, 1.0), norms

    z = tf.constant(z)
    for _ in range(steps):
        z, norms = step(z)
    return norms.numpy()


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="uses GradientTape"
)
@pytest.mark.parametrize("kind", [layers.CCP, layers.NCP, layers.NCPSkip])
def test_gradient_ascent_does_not_pass_the_bound(kind):
    for seed in range(3):
        layer = random_layer(kind, seed, order=3)
        start = np.random.default_rng(seed).uniform(-1, 1, size=(20, 4))
        norms = climb(layer, start)
        assert norms.max() <= lipschitz_bound(layer) * (1 + 1e-9)


def test_convolutional_model_by_hand():
    model = conv_model(0)
    stem, polynomial, _, head = model.layers
    kernel, bias = stem.get_weights()
    rows = np.abs(kernel).sum(axis=(0, 1, 2))
    size, slope = np.max(rows + np.abs(bias)), rows.max()
    kernels = np.split(polynomial.get_weights()[0], 3, axis=-1)
    biases = np.split(polynomial.get_weights()[1], 3)
    m, steep = None, None
    for kernel, bias in zip(kernels, biases, strict=True):
        rows = np.abs(kernel).sum(axis=(0, 1, 2))
        peak, u = np.max(rows * size + np.abs(bias)), rows.max() * slope
        if m is None:
            m, steep = peak, u
        else:
            m, steep = (peak + 1) * m, u * m + (peak + 1) * steep
    expected = operator_norm(head) * steep
    bound = lipschitz_bound(model, form="recursion")
    assert bound == pytest.approx(expected, rel=1e-12)


def test_convolutional_model_is_never_passed():
    for seed in range(2):
        model = conv_model(seed)
        rng = np.random.default_rng(seed)
        z = rng.choice([-1.0, 1.0, 0.5], size=(6, 8, 8, 1))
        matrices = jacobian(model, z)
        for p in P:
            radius = np.linalg.norm(z.reshape(6, -1), p, axis=1).max()
            slope = max(norm(matrix, p) for matrix in matrices)
            for form in FORMS:
                bound = lipschitz_bound(model, p, radius, form=form)
                assert slope <= bound * (1 + 1e-6)


@pytest.mark.parametrize("p", P)
def test_maps_of_convolutional_models_stay_within_the_radius(p):
    for seed in range(2):
        model = conv_model(seed)
        z = np.random.default_rng(seed).uniform(-1, 1, size=(20, 8, 8, 1))
        radius = np.linalg.norm(z.reshape(20, -1), p, axis=1).max()
        outputs, extent = z, Extent(radius, min(radius, 1.0), 1.0)
        for layer in model.layers:
            outputs = apply(layer, outputs)
            flat = outputs.reshape(20, -1)
            for form in ("theorem", "recursion"):
                found = propagate(layer, extent, p, form)
                largest = np.linalg.norm(flat, p, axis=1).max()
                assert largest <= found.radius * (1 + 1e-12)
                assert np.abs(flat).max() <= found.peak * (1 + 1e-12)
            extent = found


@pytest.mark.parametrize("p", P)
def test_dense_chain_with_positions(p):
    # Layers on the last axis act at 5 positions, biases included.
    rng = np.random.default_rng(3)
    model = keras.Sequential(
        [
            keras.Input((5, 2)),
            keras.layers.Dense(3, dtype="float64"),
            layers.CCP(2, 3, 2, use_factor_bias=True, dtype="float64"),
            layers.NCP(2, 3, 2, use_factor_bias=True, dtype="float64"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, dtype="float64"),
        ]
    )
    randomize(model, rng, scale=0.5)
    z = points_of_ball(p, 10, 1.0, rng, count=60)[:120].reshape(-1, 5, 2)
    slope = largest_slope(model, z, p)
    for form in FORMS:
        assert slope <= lipschitz_bound(model, p=p, form=form) * (1 + 1e-6)


@pytest.mark.parametrize("p", P)
def test_biases_count_at_every_position(p):
    layer = keras.layers.Dense(2, dtype="float64")
    layer.build((None, 5, 3))
    layer.set_weights([np.zeros((3, 2)), np.array([3.0, 4.0])])
    extent = propagate(layer, Extent(1.0, 1.0, 1.0), p, "auto")
    outputs = apply(layer, np.zeros((1, 5, 3))).ravel()
    assert extent.radius == pytest.approx(norm(outputs, p), rel=1e-12)
    assert extent.peak == 4.0


def test_linear_model_is_exact():
    model = keras.Sequential(
        [
            keras.Input((3, 2)),
            keras.layers.Rescaling(2.0, offset=-1.0),
            keras.layers.Reshape((6,)),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(4),
        ]
    )
    expected = 2 * operator_norm(model.layers[-1])
    assert lipschitz_bound(model) == pytest.approx(expected, rel=1e-12)


def test_linear_convolutional_model_is_exact():
    # Pooled without overlap, and strided: exact for 1 and infinity.
    layer = keras.layers.Conv2D(3, 3, strides=2, dtype="float64")
    model = keras.Sequential([keras.Input((7, 7, 2)), layer])
    randomize(model, np.random.default_rng(0))
    z = np.zeros((1, 7, 7, 2))
    matrix = jacobian(model, z)[0]
    for p in (1, INF):
        bound = lipschitz_bound(model, p)
        assert bound == pytest.approx(norm(matrix, p), rel=1e-5)
    assert norm(matrix, 2) <= lipschitz_bound(model, 2) * (1 + 1e-6)


def test_nested_models_are_walked():
    inner = keras.Sequential([keras.Input((3,)), h1_layer(layers.CCP)])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(keras.layers.Rescaling(0.5)(inputs)))
    expected = 0.5 * lipschitz_bound(inner, radius=0.5)
    assert lipschitz_bound(model) == pytest.approx(expected, rel=1e-12)


# The region ----------------------------------------------------------------


class WithRange(keras.Sequential):
    input_range = (-1.0, 0.5)


def test_default_region_is_the_valid_range():
    rng = np.random.default_rng(0)
    layer = random_layer(layers.CCP, 1)
    model = WithRange([keras.Input((4,)), layer])
    assert lipschitz_bound(model) == lipschitz_bound(layer, radius=1.0)
    for p, radius in ((1, 4.0), (2, 2.0)):
        by_theorem = lipschitz_bound(model, p=p, form="theorem")
        assert by_theorem == pytest.approx(
            lipschitz_bound(layer, p=p, radius=radius, form="theorem"),
            rel=1e-12,
        )
        # The box is smaller than the ball around it.
        bound = lipschitz_bound(model, p=p)
        assert bound <= lipschitz_bound(layer, p=p, radius=radius)
        z = rng.choice([-1.0, 0.5, 0.0], size=(40, 4))
        assert largest_slope(model, z, p) <= bound


def test_bound_grows_with_the_radius():
    layer = random_layer(layers.CCP, 1, order=3)
    bounds = [lipschitz_bound(layer, radius=r) for r in (0.5, 1, 2)]
    assert bounds == sorted(bounds) and bounds[0] < bounds[-1]


def test_overflow_is_infinity():
    layer = random_layer(layers.CCP, 1, order=5)
    layer.factors.kernel.assign(layer.factors.kernel * 1e80)
    assert lipschitz_bound(layer) == INF
