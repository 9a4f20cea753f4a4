import math

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import lipschitz_bound
from keras_polynets.robustness import rademacher_bound

INF = float("inf")


def built(layer, inputs=3, seed=0, scale=0.6):
    if not layer.built:
        layer.build((None, inputs))
    rng = np.random.default_rng(seed)
    layer.set_weights(
        [rng.normal(size=v.shape, scale=scale) for v in layer.get_weights()]
    )
    return layer


def rows(matrix, *columns):
    """The largest ℓ1 norm of a row of the matrix with more columns."""
    return np.abs(np.column_stack([matrix, *columns])).sum(axis=1).max()


def factors(layer):
    return np.split(layer.factors.get_weights()[0].T, layer.order)


def test_theorem_1_with_lemma_1():
    layer = built(layers.CCP(2, rank=4, order=3, dtype="float64"))
    kernel, beta = layer.output_map.get_weights()
    u = factors(layer)
    lifted = max(rows(u[0]), 1) * (rows(u[1]) + 1) * (rows(u[2]) + 1)
    mu = rows(kernel.T, beta)
    expected = 2 * mu * lifted * math.sqrt(2 * 3 * math.log(4) / 50)
    assert rademacher_bound(layer, 50) == pytest.approx(expected, rel=1e-12)


def test_theorem_3_with_lemma_2_without_biases():
    layer = layers.NCP(2, rank=4, order=2, use_bias=False, dtype="float64")
    built(layer)
    layer.state_maps[1].bias.assign(np.zeros(4))
    first = np.abs(layer.state_maps[0].get_weights()[0]).max()
    state = rows(layer.state_maps[1].get_weights()[0].T)
    a = factors(layer)
    lifted = rows(a[0]) * first * rows(a[1]) * state
    mu = rows(layer.output_map.get_weights()[0].T)
    expected = 2 * mu * lifted * math.sqrt(2 * 2 * math.log(3) / 50)
    assert rademacher_bound(layer, 50) == pytest.approx(expected, rel=1e-12)


def test_theorem_8_for_p_2():
    layer = layers.NCP(2, rank=4, order=2, use_bias=False, dtype="float64")
    built(layer)
    layer.state_maps[1].bias.assign(np.zeros(4))
    a = [np.linalg.norm(u, 2) for u in factors(layer)]
    s = np.linalg.norm(layer.state_maps[1].get_weights()[0], 2)
    s *= np.abs(layer.state_maps[0].get_weights()[0]).max()
    mu = np.linalg.norm(layer.output_map.get_weights()[0].T, axis=1).max()
    expected = mu * a[0] * a[1] * s / math.sqrt(50)
    bound = rademacher_bound(layer, 50, p=2)
    assert bound == pytest.approx(expected, rel=1e-12)


def test_skips_are_lifted_by_the_constant_component():
    layer = layers.NCPSkip(2, 4, 2, skip="learned", dtype="float64")
    built(layer, scale=0.1)
    layer.state_maps[1].bias.assign(np.zeros(4))
    layer.output_map.bias.assign(np.zeros(2))
    state = rows(layer.state_maps[1].get_weights()[0].T)
    skip = rows(layer.skip_maps[0].get_weights()[0].T)
    assert all(rows(a) < 1 for a in factors(layer)) and state < 1
    lifted = 1 * (1 + skip)  # Every other norm is that of the component 1.
    mu = rows(layer.output_map.get_weights()[0].T)
    expected = 2 * mu * lifted * math.sqrt(2 * 2 * math.log(4) / 50)
    assert rademacher_bound(layer, 50) == pytest.approx(expected, rel=1e-12)


def test_polynomial_behind_an_affine_layer_keeps_the_constant():
    polynomial = layers.NCP(2, 4, 2, use_bias=False, dtype="float64")
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, dtype="float64"), polynomial]
    )
    built(model, scale=0.3)
    polynomial.state_maps[1].bias.assign(np.zeros(4))
    kernel, bias = model.layers[0].get_weights()
    first = np.abs(polynomial.state_maps[0].get_weights()[0]).max()
    state = rows(polynomial.state_maps[1].get_weights()[0].T)
    norms = [*map(rows, factors(polynomial)), first, state]
    lifted = math.prod(max(norm, 1) for norm in norms)
    lifted *= max(rows(kernel.T, bias), 1) ** 2
    mu = rows(polynomial.output_map.get_weights()[0].T)
    expected = 2 * mu * lifted * math.sqrt(2 * 2 * math.log(4) / 50)
    assert rademacher_bound(model, 50) == pytest.approx(expected, rel=1e-12)


def test_pn_conv_by_hand():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(2, 3, padding="same", dtype="float64"),
            layers.CCPConv2D(2, 3, 3, pool_after=(2,), dtype="float64"),
            keras.layers.Flatten(),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )
    rng = np.random.default_rng(1)
    model.set_weights(
        [rng.normal(size=v.shape, scale=0.4) for v in model.get_weights()]
    )
    stem, polynomial, _, head = model.layers

    def flat(kernel):
        return kernel.reshape(-1, kernel.shape[-1]).T

    kernel, bias = stem.get_weights()
    before = max(rows(flat(kernel), bias), 1)
    u = np.split(flat(polynomial.get_weights()[0]), 3)
    lifted = max(rows(u[0]), 1) * (rows(u[1]) + 1) * (rows(u[2]) + 1)
    kernel, bias = head.get_weights()
    mu = rows(kernel.T, bias)
    expected = 2 * mu * lifted * before**3
    expected *= math.sqrt(2 * 3 * math.log(65) / 1000)
    assert rademacher_bound(model, 1000) == pytest.approx(expected, rel=1e-12)


MODELS = [
    lambda: layers.CCP(1, rank=4, order=3, use_factor_bias=True),
    lambda: layers.NCP(1, rank=4, order=3),
    lambda: layers.NCP(1, rank=4, order=2, use_factor_bias=True),
    lambda: layers.NCPSkip(1, rank=4, order=3),
    lambda: layers.NCPSkip(1, rank=4, order=2, skip="learned"),
    lambda: layers.ProdPoly([layers.CCP(3, 4, 2), layers.NCPSkip(1, 4, 2)]),
]


@pytest.mark.parametrize("p", [2, INF])
@pytest.mark.parametrize("make", MODELS)
def test_complexity_of_members_stays_below(make, p):
    # The supremum over some members is at most that over the class. The bound
    # is proportional to c, so that any net becomes a member by a factor.
    model = built(make(), seed=3)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(10, 3))
    z /= np.linalg.norm(z, p, axis=1, keepdims=True)
    values = []
    for _ in range(40):
        model.set_weights([rng.normal(size=v.shape) for v in model.weights])
        outputs = keras.ops.convert_to_numpy(model(z))[:, 0]
        values.append(outputs / rademacher_bound(model, len(z), p=p))
    values = np.stack(values)
    signs = rng.choice([-1, 1], size=(500, len(z)))
    complexity = (signs @ np.vstack([values, -values]).T / len(z)).max(1).mean()
    assert 0 < complexity <= 1


def test_samples_enter_by_their_square_root():
    layer = built(layers.CCP(2, rank=4, order=3))
    ratio = rademacher_bound(layer, 100) / rademacher_bound(layer, 400)
    assert ratio == pytest.approx(2)


def test_one_input_counts_as_two():
    layer = layers.NCP(1, rank=1, order=2, use_bias=False)
    layer.build((None, 1))
    layer.set_weights(
        [np.ones(v.shape) * (v.ndim > 1) for v in layer.get_weights()]
    )
    expected = 2 * math.sqrt(2 * 2 * math.log(2) / 10)
    assert rademacher_bound(layer, 10) == pytest.approx(expected)


def test_radius_scales_the_factors():
    layer = built(layers.CCP(2, rank=4, order=2))
    scaled = built(layers.CCP(2, rank=4, order=2))
    scaled.factors.kernel.assign(3 * layer.factors.kernel)
    assert rademacher_bound(layer, 10, radius=3) == pytest.approx(
        rademacher_bound(scaled, 10)
    )
    assert lipschitz_bound(layer, radius=3) == pytest.approx(
        lipschitz_bound(scaled) / 3
    )


def test_overflow_is_infinity():
    layer = built(layers.CCP(2, rank=4, order=4))
    layer.factors.kernel.assign(layer.factors.kernel * 1e30)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3), layer, layers.CCP(2, 2, 4)]
    )
    assert rademacher_bound(model, 10) == INF


@pytest.mark.parametrize("num_samples", [0, -1, 2.5, True])
def test_samples_must_be_a_positive_integer(num_samples):
    with pytest.raises(ValueError, match="`num_samples` must be an integer of"):
        rademacher_bound(built(layers.CCP(2, 2, 2)), num_samples)


def test_p_1_is_refused():
    with pytest.raises(ValueError, match="must be 2 or `float.'inf'."):
        rademacher_bound(built(layers.CCP(2, 2, 2)), 10, p=1)


def test_unknown_layers_and_activations_are_named():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.LayerNormalization(name="odd")]
    )
    with pytest.raises(NotImplementedError, match="product form of 'odd'"):
        rademacher_bound(model, 10)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, "relu", name="top")]
    )
    with pytest.raises(ValueError, match="'top' has the activation 'relu'"):
        rademacher_bound(model, 10)


def test_model_without_weights_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="has no layer with weights"):
        rademacher_bound(model, 10)


def test_open_input_shape_and_positions():
    layer = layers.CCP(2, 2, 2)
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match="leaves open"):
        rademacher_bound(layer, 10)
    layer = layers.CCP(2, 2, 2)
    layer.build((None, 4, 3))
    with pytest.raises(ValueError, match="acts at several positions"):
        rademacher_bound(layer, 10, p=2)


def test_convolutions_are_bounded_for_infinity_only():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(2, 3, name="stem"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    assert rademacher_bound(model, 10) > 0
    with pytest.raises(ValueError, match="'stem' acts at several positions"):
        rademacher_bound(model, 10, p=2)
