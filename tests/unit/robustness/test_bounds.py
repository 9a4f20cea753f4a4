import itertools

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import Extent
from keras_polynets.robustness import lipschitz_bound
from keras_polynets.robustness import operator_norm
from keras_polynets.robustness import propagate

INF = float("inf")
P = [1, 2, INF]
FORMS = ["auto", "theorem", "recursion"]


def w(n, rows, columns):
    """H1's deterministic weights."""
    i, j = np.mgrid[:rows, :columns]
    return 0.5 * np.sin(1 + 3 * i + 7 * j + 11 * n)


def h1_layer(kind, biases=True, **kwargs):
    """The layers of H1 in float64: d=3, k=4, o=2, N=3."""
    layer = kind(2, 4, 3, dtype="float64", **kwargs)
    layer.build((None, 3))
    layer.factors.kernel.assign(np.hstack([w(n, 3, 4) for n in (1, 2, 3)]))
    layer.output_map.kernel.assign(w(20, 2, 4).T)
    layer.output_map.bias.assign([0.1, -0.2] if biases else [0.0, 0.0])
    if isinstance(layer, layers.NCP):
        b = [w(40 + n, 2, 4).T @ w(50 + n, 2, 1)[:, 0] for n in (1, 2, 3)]
        layer.state_maps[0].kernel.assign(b[0][None])
        for n in (2, 3):
            # S_n and V_n act on the state from the left.
            layer.state_maps[n - 1].kernel.assign(w(30 + n, 4, 4))
            layer.state_maps[n - 1].bias.assign(b[n - 1] * biases)
    return layer


def random_layer(kind, seed, p=INF, order=None, inputs=4, scale=0.7):
    """A layer with random weights everywhere, biases included."""
    rng = np.random.default_rng([seed, 7])
    order = order or int(rng.integers(1, 6))
    skip = {}
    if kind is layers.NCPSkip:
        skip = {"skip": ["identity", "learned"][seed % 2]}
    layer = kind(
        3,
        5,
        order,
        use_factor_bias=bool(seed % 3),
        use_bias=bool(seed % 4),
        dtype="float64",
        **skip,
    )
    layer.build((None, inputs))
    randomize(layer, rng, scale)
    return layer


def randomize(layer, rng, scale=0.7):
    layer.set_weights(
        [rng.normal(size=v.shape, scale=scale) for v in layer.get_weights()]
    )


def apply(model, z):
    return keras.ops.convert_to_numpy(model(z, training=False))


def jacobian(model, z):
    """Jacobians of shape (points, outputs, inputs), by finite differences
    that are exact enough in float64 and need no backend."""
    step = 1e-6
    shape = z.shape[1:]
    size = int(np.prod(shape))
    eye = np.eye(size).reshape(size, *shape) * step
    columns = [
        (apply(model, z + e) - apply(model, z - e)).reshape(len(z), -1)
        / (2 * step)
        for e in eye
    ]
    return np.stack(columns, axis=-1)


def points_of_ball(p, inputs, radius, rng, count=100):
    z = rng.normal(size=(count, inputs))
    z /= np.linalg.norm(z, p, axis=1, keepdims=True)
    z[: count // 2] *= rng.uniform(size=(count // 2, 1))
    if p == INF:
        z = np.vstack([z, list(itertools.product([-1.0, 1.0], repeat=inputs))])
    if p == 1:
        z = np.vstack([z, np.eye(inputs), -np.eye(inputs)])
    return radius * z


def largest_slope(model, z, p):
    """The largest ratio over pairs of points, and the largest norm of the
    Jacobian at the points."""
    y = apply(model, z).reshape(len(z), -1)
    flat = z.reshape(len(z), -1)
    i, j = np.triu_indices(len(z), k=1)
    change = np.linalg.norm(y[i] - y[j], p, axis=1)
    ratios = change / np.maximum(
        np.linalg.norm(flat[i] - flat[j], p, axis=1), 1e-9
    )
    norms = [np.linalg.norm(matrix, p) for matrix in jacobian(model, z)]
    return max(ratios.max(), max(norms))


# The theorems on H1 -------------------------------------------------------


def norm(matrix, p=INF):
    return np.linalg.norm(matrix, p)


def padded(matrix, column):
    """[e; M c], Lemma 11."""
    e = np.zeros((1, matrix.shape[1] + 1))
    e[0, -1] = 1
    return np.vstack([e, np.hstack([matrix, np.reshape(column, (-1, 1))])])


def test_theorem_2_on_h1():
    u = [w(n, 3, 4).T for n in (1, 2, 3)]
    c = np.hstack([[[0.1], [-0.2]], w(20, 2, 4)])
    expected = 3 * norm(c) * norm(padded(u[0], np.zeros(4)))
    expected *= norm(padded(u[1], np.ones(4)))
    expected *= norm(padded(u[2], np.ones(4)))
    bound = lipschitz_bound(h1_layer(layers.CCP), form="theorem")
    assert bound == pytest.approx(expected, rel=1e-12)


def test_theorem_7_on_h1_scales_to_any_radius():
    # For p = 2 and ||z|| <= R the input [z / R; 1] has norm sqrt(2).
    radius = 1.7
    u = [w(n, 3, 4).T * radius for n in (1, 2, 3)]
    c = np.hstack([[[0.1], [-0.2]], w(20, 2, 4)])
    expected = 3 * norm(c, 2) / radius * 2.0
    expected *= norm(padded(u[0], np.zeros(4)), 2)
    expected *= norm(padded(u[1], np.ones(4)), 2)
    expected *= norm(padded(u[2], np.ones(4)), 2)
    bound = lipschitz_bound(
        h1_layer(layers.CCP), p=2, radius=radius, form="theorem"
    )
    assert bound == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_theorem_4_on_h1_without_biases(form):
    a = [norm(w(n, 3, 4).T) for n in (1, 2, 3)]
    b_1 = w(41, 2, 4).T @ w(51, 2, 1)
    s = [norm(b_1), norm(w(32, 4, 4).T), norm(w(33, 4, 4).T)]
    expected = 3 * norm(w(20, 2, 4)) * np.prod(a) * np.prod(s)
    bound = lipschitz_bound(h1_layer(layers.NCP, biases=False), form=form)
    assert bound == pytest.approx(expected, rel=1e-12)


def test_theorem_4_on_h1_with_biases():
    b = [w(40 + n, 2, 4).T @ w(50 + n, 2, 1)[:, 0] for n in (1, 2, 3)]
    a = [norm(padded(w(n, 3, 4).T, np.zeros(4))) for n in (1, 2, 3)]
    s = [
        max(1, np.abs(b[0]).max()),
        norm(padded(w(32, 4, 4).T, b[1])),
        norm(padded(w(33, 4, 4).T, b[2])),
    ]
    c = np.hstack([[[0.1], [-0.2]], w(20, 2, 4)])
    expected = 3 * norm(c) * np.prod(a) * np.prod(s)
    bound = lipschitz_bound(h1_layer(layers.NCP), form="theorem")
    assert bound == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", P)
def test_theorem_9_on_h1_without_biases(p):
    a = [norm(w(n, 3, 4).T, p) for n in (1, 2, 3)]
    b_1 = w(41, 2, 4).T @ w(51, 2, 1)
    s = [np.abs(b_1).max(), norm(w(32, 4, 4).T, p), norm(w(33, 4, 4).T, p)]
    expected = 3 * norm(w(20, 2, 4), p) * np.prod(a) * np.prod(s)
    layer = h1_layer(layers.NCP, biases=False)
    bound = lipschitz_bound(layer, p=p, form="theorem")
    assert bound == pytest.approx(expected, rel=1e-12)
    assert lipschitz_bound(layer, p=p) <= bound


@pytest.mark.parametrize("radius", [0.5, 1.0, 2.0])
def test_recursion_is_the_raw_formula_of_ccp(radius):
    u = [norm(w(n, 3, 4).T) for n in (1, 2, 3)]
    growth = np.prod([1 + radius * x for x in u[1:]])
    terms = 1 + sum(radius * x / (1 + radius * x) for x in u[1:])
    expected = norm(w(20, 2, 4)) * u[0] * growth * terms
    bound = lipschitz_bound(
        h1_layer(layers.CCP), radius=radius, form="recursion"
    )
    assert bound == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("p", P)
def test_theorem_for_ncp_skip_in_closed_form(p):
    # c prod(g_n) sum(a_n s_n / g_n), with g_n = rho a_n s_n + v_n.
    layer = h1_layer(layers.NCPSkip, skip="learned")
    for n in (2, 3):
        layer.skip_maps[n - 2].kernel.assign(w(60 + n, 4, 4).T)
    b = [w(40 + n, 2, 4).T @ w(50 + n, 2, 1)[:, 0] for n in (1, 2, 3)]
    rho = 2 ** (1 / p)
    gains = [norm(padded(w(n, 3, 4).T, np.zeros(4)), p) for n in (1, 2, 3)]
    gains[0] *= max(1, np.abs(b[0]).max())
    gains[1] *= norm(padded(w(32, 4, 4).T, b[1]), p)
    gains[2] *= norm(padded(w(33, 4, 4).T, b[2]), p)
    skips = [0, norm(w(62, 4, 4), p), norm(w(63, 4, 4), p)]
    growth = [rho * g + v for g, v in zip(gains, skips, strict=True)]
    c = norm(np.hstack([[[0.1], [-0.2]], w(20, 2, 4)]), p)
    terms = sum(g / h for g, h in zip(gains, growth, strict=True))
    expected = c * np.prod(growth) * terms
    bound = lipschitz_bound(layer, p=p, form="theorem")
    assert bound == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("skip", ["identity", "learned"])
def test_recursion_of_ncp_skip_by_hand(skip):
    layer = h1_layer(layers.NCPSkip, skip=skip)
    v = [np.eye(4)] * 2
    if skip == "learned":
        v = [w(62, 4, 4), w(63, 4, 4)]
        for matrix, skip_map in zip(v, layer.skip_maps, strict=True):
            skip_map.kernel.assign(matrix.T)
    b = [w(40 + n, 2, 4).T @ w(50 + n, 2, 1)[:, 0] for n in (1, 2, 3)]
    size = slope = norm(w(1, 3, 4).T) * np.abs(b[0]).max()
    for n in (2, 3):
        a, s = norm(w(n, 3, 4).T), w(30 + n, 4, 4).T
        state = np.max(np.abs(s).sum(axis=1) * size + np.abs(b[n - 1]))
        slope = a * state + a * norm(s) * slope + norm(v[n - 2]) * slope
        size = a * state + norm(v[n - 2]) * size
    expected = norm(w(20, 2, 4)) * slope
    bound = lipschitz_bound(layer, form="recursion")
    assert bound == pytest.approx(expected, rel=1e-12)


def test_layers_of_h1_are_those_of_the_vectors():
    # The oracle above is worth something only on the right layers.
    z = np.array([[0.5, -0.25, 0.75]])
    expected = [-0.0245817378, -0.1056920382]
    assert apply(h1_layer(layers.CCP), z)[0] == pytest.approx(
        expected, abs=1e-9
    )


@pytest.mark.parametrize("order", range(1, 7))
def test_power_is_exactly_its_order(order):
    layer = layers.NCP(1, rank=1, order=order, dtype="float64")
    layer.build((None, 1))
    for variable in layer.weights:
        zero = variable.shape == (1,)  # every bias
        variable.assign(np.zeros(variable.shape) + (not zero))
    z = np.array([[0.3], [-0.9]])
    assert apply(layer, z) == pytest.approx(z**order, abs=1e-12)
    for p, form in itertools.product(P, FORMS):
        assert lipschitz_bound(layer, p=p, form=form) == order


# Never passed --------------------------------------------------------------


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


def conv_model(seed, order=3):
    rng = np.random.default_rng(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(2, 3, padding="same", dtype="float64"),
            layers.CCPConv2D(
                2,
                3,
                order,
                pool_after=(2, 3),
                use_factor_bias=True,
                dtype="float64",
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(3, dtype="float64"),
        ]
    )
    randomize(model, rng, scale=0.3)
    return model


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
    for seed in range(3):
        model = conv_model(seed)
        rng = np.random.default_rng(seed)
        z = rng.choice([-1.0, 1.0, 0.5], size=(6, 8, 8, 1))
        slope = largest_slope(model, z, INF)
        for form in FORMS:
            assert slope <= lipschitz_bound(model, form=form)


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


# Errors --------------------------------------------------------------------


def test_layer_without_rule_is_named():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.LayerNormalization(name="odd")]
    )
    with pytest.raises(NotImplementedError, match="'odd', a LayerNormalizat"):
        lipschitz_bound(model)


def test_rule_can_be_registered():
    @keras.saving.register_keras_serializable(package="test")
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    @propagate.register
    def _(layer: Twice, extent, p, form):
        return extent + extent

    model = keras.Sequential([keras.Input((3,)), Twice()])
    assert lipschitz_bound(model) == 2.0


def test_branching_model_is_refused():
    inputs = keras.Input((3,))
    left = keras.layers.Dense(2, name="left")(inputs)
    right = keras.layers.Dense(2, name="right")(inputs)
    model = keras.Model(inputs, keras.layers.Add()([left, right]))
    with pytest.raises(ValueError, match="not a chain of layers: it branches"):
        lipschitz_bound(model)


def test_operation_on_tensors_is_named():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.square(inputs))
    with pytest.raises(NotImplementedError, match="a Square"):
        lipschitz_bound(model)


def test_activation_is_refused():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, "softmax", name="top")]
    )
    with pytest.raises(ValueError, match="'top' has the activation 'softmax'"):
        lipschitz_bound(model)


def test_subclassed_and_unbuilt_models_are_refused():
    class Mine(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="subclassed model"):
        lipschitz_bound(Mine())
    with pytest.raises(ValueError, match="no weights yet. Build it first"):
        lipschitz_bound(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="no weights yet. Build it first"):
        lipschitz_bound(layers.CCP(2, 2, 2))


@pytest.mark.parametrize("radius", [0, -1.0, INF, "1"])
def test_radius_must_be_positive(radius):
    with pytest.raises(ValueError, match="`radius` must be a positive finite"):
        lipschitz_bound(h1_layer(layers.CCP), radius=radius)


def test_unknown_form_and_p():
    layer = h1_layer(layers.CCP)
    with pytest.raises(ValueError, match="Unknown form 'theorm'. Did you mean"):
        lipschitz_bound(layer, form="theorm")
    with pytest.raises(ValueError, match="must be 1, 2 or"):
        lipschitz_bound(layer, p=0)


def test_convolutions_are_bounded_for_infinity_only():
    with pytest.raises(ValueError, match="implemented for p=float"):
        lipschitz_bound(conv_model(0), p=2)


def test_rescaling_with_offset_for_finite_p():
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Rescaling(2.0, offset=1.0)]
    )
    with pytest.raises(ValueError, match="has an offset"):
        lipschitz_bound(model, p=2)


def test_open_input_shape_for_finite_p():
    layer = layers.CCP(2, 2, 2)
    layer.build((None, None, 3))
    assert lipschitz_bound(layer) > 0
    with pytest.raises(ValueError, match="leaves open"):
        lipschitz_bound(layer, p=2)
