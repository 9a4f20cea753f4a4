"""No point of a ball leaves its bounds; the bounds are as tight as said."""

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import Certifier
from keras_polynets.robustness import linear_parts
from keras_polynets.robustness import local_lipschitz_bound
from tests.unit.robustness import certificate_examples as examples
from tests.unit.robustness.bound_examples import jacobian
from tests.unit.robustness.bound_examples import randomize

METHODS = ("interval", "affine")
RANGE = (-1.0, 1.0)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="uses GradientTape"
)


@pytest.mark.parametrize("name", examples.MODELS)
def test_no_random_point_leaves_the_bounds(name):
    rng = np.random.default_rng(0)
    model = examples.made(name)
    x = examples.images(model)
    certifier = Certifier(model, RANGE)
    for epsilon in (0.05, 0.4):
        points = [examples.points_of_balls(x, epsilon, rng) for _ in range(40)]
        outputs = examples.outputs(model, np.concatenate(points))
        outputs = outputs.reshape(40, 6, 3)
        for method in METHODS:
            lower, upper = certifier.bounds(x, epsilon, method)
            assert lower.shape == (6, 3)
            assert (lower <= outputs).all() and (outputs <= upper).all()


@on_tensorflow
@pytest.mark.parametrize("name", ["ccp", "ncp skip", "convolutional"])
def test_no_gradient_leaves_the_bounds(name):
    for seed, epsilon in enumerate((0.02, 0.3)):
        model = examples.made(name, seed)
        x = examples.images(model)
        lower, upper = Certifier(model, RANGE).bounds(x, epsilon)
        for output in range(3):
            for sign in (1.0, -1.0):
                points = examples.worst_points(
                    model,
                    x,
                    epsilon,
                    lambda y: sign * y[:, output],  # noqa: B023
                )
                outputs = examples.outputs(model, points)
                assert (lower <= outputs).all() and (outputs <= upper).all()


@on_tensorflow
@pytest.mark.parametrize(
    "name", ["ccp", "ncp", "prodpoly", "convolutional", "nested"]
)
def test_no_attack_breaks_a_margin(name):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    model = examples.made(name)
    x = examples.images(model, count=12)
    labels = np.argmax(examples.outputs(model, x), axis=1)
    hot = tf.one_hot(labels, 3)

    def loss(y):
        others = tf.reduce_max(y - 1e9 * hot, axis=1)
        return others - tf.reduce_sum(hot * y, axis=1)

    certifier = Certifier(model, RANGE)
    for epsilon in (0.01, 0.1):
        found = [examples.worst_points(model, x, epsilon, loss)]
        found += [examples.points_of_balls(x, epsilon, rng) for _ in range(20)]
        y = examples.outputs(model, np.concatenate(found)).reshape(-1, 12, 3)
        own = y[:, np.arange(12), labels]
        y[:, np.arange(12), labels] = -np.inf
        worst = (own - y.max(axis=2)).min(axis=0)
        best = certifier.margins(x, labels, epsilon)
        for method in certifier.methods:
            margins = certifier.margins(x, labels, epsilon, method)
            assert (worst >= margins).all()
            # What a method certifies the best one certifies.
            assert (best > 0)[margins > 0].all()
            if method != "quadratic":
                assert (margins <= best).all()


@pytest.fixture
def float64():
    # Models, inputs too, whose slopes finite differences can measure.
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize("name", ["ccp", "ncp learned skip", "square"])
def test_no_slope_passes_the_local_lipschitz_bound(name, float64):
    rng = np.random.default_rng(0)
    model = examples.made(name)
    x = examples.images(model)
    for epsilon in (0.0, 0.05, 0.3):
        bound = local_lipschitz_bound(model, x, epsilon, clip=RANGE)
        for _ in range(3):
            points = examples.points_of_balls(x, epsilon, rng)
            matrices = jacobian(model, points.astype("float64"))
            slopes = np.abs(matrices).sum(axis=2).max(axis=1)
            assert (slopes <= bound * (1 + 1e-6)).all()
            if epsilon == 0:
                np.testing.assert_allclose(slopes, bound, rtol=1e-5)


def tight_power(order):
    layer = layers.NCP(1, rank=1, order=order, dtype="float64")
    layer.build((None, 1))
    for variable in layer.weights:
        zero = variable.shape == (1,)
        variable.assign(np.zeros(variable.shape) + (not zero))
    return layer


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_power_at_zero_and_away_from_it(order):
    # f = z^k: its extremes on [c - r, c + r] are known.
    model = keras.Sequential([keras.Input((1,)), tight_power(order)])
    certifier = Certifier(model)
    c, r = np.array([[0.75]], "float32"), 0.125
    lower, upper = certifier.bounds(c, r)
    ends = sorted([0.625**order, 0.875**order])
    # Interval arithmetic is exact on a monotone product.
    np.testing.assert_allclose([lower[0, 0], upper[0, 0]], ends, rtol=1e-6)
    slope = certifier.slopes(c, r)[1][0]
    assert order * 0.875 ** (order - 1) <= slope * (1 + 1e-9)
    assert slope <= order * 0.875 ** (order - 1) * (1 + 1e-6)


def test_square_of_one_form_is_not_negative():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Activation(layers.square)]
    )
    x = np.array([[0.0, 0.5]], "float32")
    for method in METHODS:
        lower, upper = Certifier(model).bounds(x, 0.25, method)
        np.testing.assert_allclose(lower, [[0.0, 0.0625]], atol=1e-6)
        np.testing.assert_allclose(upper, [[0.0625, 0.5625]], atol=1e-6)


def test_affine_models_are_enclosed_exactly():
    model = examples.sequential(
        (3, 2), keras.layers.Dense(4), keras.layers.Flatten()
    )
    model.add(keras.layers.Dense(3))
    randomize(model, np.random.default_rng(0))
    x = examples.images(model, count=2) * 0.5
    first, second = (layer.get_weights()[0] for layer in model.layers[::2])
    matrix = np.kron(np.eye(3), first.T)
    matrix = second.T @ matrix
    reach = 0.1 * np.abs(matrix).sum(axis=1)
    lower, upper = Certifier(model).bounds(x, 0.1)
    centre = examples.outputs(model, x)
    np.testing.assert_allclose(upper - centre, [reach] * 2, rtol=1e-3)
    np.testing.assert_allclose(centre - lower, [reach] * 2, rtol=1e-3)
    # Interval arithmetic layer by layer knows no cancellation.
    wide = Certifier(model).bounds(x, 0.1, "interval")
    assert (wide[1] - wide[0] > 1.2 * (upper - lower)).all()


def test_bounds_grow_with_epsilon_and_affine_is_inside_interval():
    for name in ("ccp", "ncp", "convolutional", "residual"):
        model = examples.made(name)
        x = examples.images(model)
        certifier = Certifier(model, RANGE)
        widths = []
        for epsilon in (0.0, 0.01, 0.03, 0.1):
            lower, upper = certifier.bounds(x, epsilon)
            widths.append(upper - lower)
            low, high = certifier.bounds(x, epsilon, "interval")
            slack = 1e-9 * (1 + np.abs(low))
            assert (low <= lower + slack).all() and (
                upper <= high + slack
            ).all()
        assert (np.diff(widths, axis=0) > 0).all()


def test_remainder_shrinks_with_the_square_of_epsilon():
    model = examples.made("ccp")
    x = examples.images(model) * 0.5
    certifier = Certifier(model, RANGE)
    slopes = [certifier.slopes(x, e)[1] for e in (0.0, 1e-3, 2e-3)]
    np.testing.assert_allclose(
        slopes[2] - slopes[0], 2 * (slopes[1] - slopes[0]), rtol=0.02
    )


def test_the_ball_ends_at_the_valid_range():
    model = examples.made("ccp")
    x = np.full((1, 5), -1.0, "float32")
    lower, upper = Certifier(model, RANGE).bounds(x, 0.2)
    low, high = Certifier(model).bounds(x, 0.2)
    assert (upper - lower < high - low).all()


def test_product_plus_operand_is_tighter_than_their_sum():
    # x_n = (t + 1) x, with t near -1: the sum of both would be wide.
    layer = layers.CCP(1, 1, 2, use_factor_bias=True, use_bias=False)
    model = examples.sequential((1,), layer)
    layer.factors.kernel.assign([[1.0, 1.0]])
    layer.factors.bias.assign([0.0, -1.0])
    layer.output_map.kernel.assign([[1.0]])
    lower, upper = Certifier(model).bounds(
        np.array([[0.0]], "float32"), 0.1, "interval"
    )
    # x (x - 1 + 1) = x² by independent factors: within ±0.01.
    np.testing.assert_allclose([lower, upper], [[[-0.01]], [[0.01]]], rtol=1e-4)


def test_linear_parts_too_large_to_keep_are_bounded(monkeypatch):
    models = [examples.made(name) for name in ("ccp", "ncp", "convolutional")]
    kept = [Certifier(m, RANGE).bounds(examples.images(m), 0.1) for m in models]
    limits = linear_parts
    monkeypatch.setattr(limits, "IMAGE_LIMIT", 0)
    rng = np.random.default_rng(0)
    for shared in (limits.SHARED_LIMIT, 0):
        monkeypatch.setattr(limits, "SHARED_LIMIT", shared)
        for model, (low, high) in zip(models, kept, strict=True):
            x = examples.images(model)
            lower, upper = Certifier(model, RANGE).bounds(x, 0.1)
            assert (upper - lower >= (high - low) * (1 - 1e-9)).all()
            for _ in range(10):
                points = examples.points_of_balls(x, 0.1, rng)
                outputs = examples.outputs(model, points)
                assert (lower <= outputs).all() and (outputs <= upper).all()


def test_batches_do_not_change_a_bound():
    model = examples.made("convolutional")
    x = examples.images(model, count=7)
    whole = local_lipschitz_bound(model, x, 0.1, batch_size=7, clip=RANGE)
    parts = local_lipschitz_bound(model, x, 0.1, batch_size=3, clip=RANGE)
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    assert local_lipschitz_bound(model, x[:0], 0.1).shape == (0,)


def test_rounding_covers_the_float32_model():
    # A ball of one point: what is left between the bounds is rounding.
    for name in ("ccp", "ncp", "convolutional", "operations", "residual"):
        model = examples.made(name, scale=2.0)
        x = examples.images(model, count=20)
        lower, upper = Certifier(model, RANGE).bounds(x, 0.0)
        outputs = examples.outputs(model, x)
        assert (lower <= outputs).all() and (outputs <= upper).all()
        assert (upper - lower < 1e-3 * (1 + np.abs(outputs).max())).all()
