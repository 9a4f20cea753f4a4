"""The polynomial layers against published vectors and explicit expansions."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets import layers
from keras_polynets.layers import recursions

D, RANK, UNITS, ORDER = 3, 4, 2, 3
# On PyTorch Keras multiplies float64 matrices in float32.
TORCH = keras.backend.backend() == "torch"
CLOSE = {"rtol": 0, "atol": 1e-6 if TORCH else 1e-14}
Z = np.array([0.5, -0.25, 0.75])
BETA = np.array([0.1, -0.2])


def waves(n, rows, columns):
    """The deterministic matrices W(n) of the published test vectors."""
    i, j = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return 0.5 * np.sin(1 + 3 * i + 7 * j + 11 * n)


C = waves(20, UNITS, RANK)
U = {n: waves(n, D, RANK) for n in (1, 2, 3)}
S = {n: waves(30 + n, RANK, RANK) for n in (2, 3)}
B = {n: waves(40 + n, 2, RANK).T @ waves(50 + n, 2, 1)[:, 0] for n in (1, 2, 3)}
V = {n: waves(60 + n, RANK, RANK) for n in (2, 3)}

KINDS = {
    "ccp": (layers.CCP, {}),
    "ncp": (layers.NCP, {}),
    "ncp_skip_identity": (layers.NCPSkip, {"skip": "identity"}),
    "ncp_skip_learned": (layers.NCPSkip, {"skip": "learned"}),
}


def published(kind, **kwargs):
    """Returns a layer that holds the weights of the published vectors."""
    cls, arguments = KINDS[kind]
    arguments = {"dtype": "float64", **arguments, **kwargs}
    layer = cls(UNITS, RANK, ORDER, **arguments)
    layer.build((None, D))
    layer.factors.kernel.assign(np.concatenate([U[1], U[2], U[3]], axis=1))
    layer.output_map.kernel.assign(C.T)
    layer.output_map.bias.assign(BETA)
    if kind == "ccp":
        return layer
    layer.state_maps[0].kernel.assign(B[1][None])
    for n in (2, 3):
        layer.state_maps[n - 1].kernel.assign(S[n])
        layer.state_maps[n - 1].bias.assign(B[n])
    if kind == "ncp_skip_learned":
        for n in (2, 3):
            layer.skip_maps[n - 2].kernel.assign(V[n].T)
    return layer


def evaluate(layer, z):
    z = ops.convert_to_tensor(np.atleast_2d(z), "float64")
    return ops.convert_to_numpy(layer(z))


@pytest.mark.parametrize(
    "kind, expected, parameters",
    [
        ("ccp", [-0.0245817378, -0.1056920382], 46),
        ("ncp", [0.0611619628, -0.1467199526], 90),
        ("ncp_skip_identity", [0.4088846204, -0.5110155715], 90),
        ("ncp_skip_learned", [0.0508045671, -0.1436104432], 122),
    ],
)
def test_published_vectors(kind, expected, parameters):
    layer = published(kind)
    np.testing.assert_allclose(
        evaluate(layer, Z)[0], expected, atol=max(1e-10, CLOSE["atol"])
    )
    assert layer.count_params() == parameters


def khatri_rao(*matrices):
    """Column-wise Kronecker product."""
    result = matrices[0]
    for matrix in matrices[1:]:
        result = np.einsum("ir,jr->ijr", result, matrix)
        result = result.reshape(-1, matrix.shape[1])
    return result


def kron(*vectors):
    result = np.ones(1)
    for vector in vectors:
        result = np.kron(result, vector)
    return result


def test_ccp_equals_its_khatri_rao_expansion():
    first = C @ U[1].T @ Z
    second = C @ (khatri_rao(U[3], U[1]) + khatri_rao(U[2], U[1])).T
    third = C @ khatri_rao(U[3], U[2], U[1]).T
    expected = first + second @ kron(Z, Z) + third @ kron(Z, Z, Z) + BETA
    np.testing.assert_allclose(
        evaluate(published("ccp"), Z)[0], expected, **CLOSE
    )


def test_ccp_equals_its_product_form():
    product = (U[1].T @ Z) * (1 + U[2].T @ Z) * (1 + U[3].T @ Z)
    expected = C @ product + BETA
    np.testing.assert_allclose(
        evaluate(published("ccp"), Z)[0], expected, **CLOSE
    )


def test_ncp_equals_its_khatri_rao_expansion():
    # B_n is a column of the identity here, so that B_n' b_n is b_n itself.
    b = {n: B[n][None] for n in B}
    one = np.ones(1)
    first = C @ khatri_rao(U[3], b[3]).T @ kron(Z, one)
    inner = khatri_rao(U[2], b[2]) @ S[3]
    second = C @ khatri_rao(U[3], inner).T @ kron(Z, Z, one)
    innermost = khatri_rao(U[1], b[1]) @ S[2]
    inner = khatri_rao(U[2], innermost) @ S[3]
    third = C @ khatri_rao(U[3], inner).T @ kron(Z, Z, Z, one)
    expected = first + second + third + BETA
    np.testing.assert_allclose(
        evaluate(published("ncp"), Z)[0], expected, **CLOSE
    )


@pytest.mark.skipif(TORCH, reason="differences need float64")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("use_factor_bias", [False, True])
def test_degree_by_finite_differences(kind, order, use_factor_bias):
    cls, arguments = KINDS[kind]
    layer = cls(
        UNITS,
        RANK,
        order,
        use_factor_bias=use_factor_bias,
        factor_bias_initializer="random_normal",
        factor_initializer=keras.initializers.RandomNormal(seed=3),
        dtype="float64",
        **arguments,
    )
    t = np.arange(order + 3)[:, None]
    values = evaluate(layer, t * Z)
    scale = np.abs(values).max()
    for differences in (order, order + 1):
        last = np.diff(values, n=differences, axis=0)
        if differences == order:
            assert np.abs(last).max() > 1e-6 * scale
        else:
            assert np.abs(last).max() < 1e-11 * scale * 2**order


def test_factor_biases_enter_every_factor():
    layer = published("ccp", use_factor_bias=True)
    biases = np.linspace(-1, 1, ORDER * RANK)
    layer.factors.bias.assign(biases)
    b = dict(zip((1, 2, 3), np.split(biases, ORDER), strict=True))
    u = {n: U[n].T @ Z + b[n] for n in b}
    expected = C @ (u[1] * (1 + u[2]) * (1 + u[3])) + BETA
    np.testing.assert_allclose(evaluate(layer, Z)[0], expected, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_axis_is_the_feature_axis(kind):
    layer = published(kind)
    x = np.random.default_rng(0).normal(size=(2, 5, 4, D))
    whole = evaluate(layer, x)
    assert whole.shape == (2, 5, 4, UNITS)
    assert layer.compute_output_shape((None, 5, 4, D)) == (None, 5, 4, UNITS)
    np.testing.assert_allclose(
        whole.reshape(-1, UNITS), evaluate(layer, x.reshape(-1, D)), **CLOSE
    )


def test_the_maps_of_the_input_are_one_kernel():
    layer = layers.CCP(10, rank=16, order=4)
    layer.build((None, 784))
    assert layer.factors.kernel.shape == (784, 64)


def test_the_factors_are_drawn_one_by_one():
    layer = layers.CCP(2, 50, 3, factor_initializer="glorot_uniform")
    layer.build((None, 100))
    blocks = np.split(ops.convert_to_numpy(layer.factors.kernel), 3, axis=1)
    limit = np.sqrt(6 / (100 + 50))
    for block in blocks:
        assert 0.95 * limit < np.abs(block).max() <= limit
    assert not np.allclose(blocks[0], blocks[1])


def test_the_state_maps_are_drawn_one_by_one():
    layer = layers.NCP(2, 8, 3)
    layer.build((None, 100))
    second, third = (m.kernel for m in layer.state_maps[1:])
    assert not np.allclose(
        ops.convert_to_numpy(second), ops.convert_to_numpy(third)
    )


def test_seeded_initializers_repeat():
    def kernel():
        initializer = keras.initializers.GlorotUniform(seed=7)
        layer = layers.CCP(2, 5, 3, factor_initializer=initializer)
        layer.build((None, 10))
        return ops.convert_to_numpy(layer.factors.kernel)

    np.testing.assert_array_equal(kernel(), kernel())


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_products_do_not_overflow(kind):
    cls, arguments = KINDS[kind]
    if kind != "ccp":
        arguments = {"state_initializer": "ones", **arguments}
    layer = cls(
        1,
        1,
        4,
        dtype="mixed_float16",
        factor_initializer="ones",
        kernel_initializer=keras.initializers.Constant(1e-7),
        **arguments,
    )
    # 300 ** 4 is above the largest float16, 65504.
    outputs = ops.convert_to_numpy(layer(np.full((1, 1), 300.0)))
    assert outputs.dtype == "float16"
    assert np.isfinite(outputs).all() and (outputs > 700).all()


def test_constraints_and_regularizers_reach_their_weights():
    layer = layers.NCPSkip(
        2,
        4,
        2,
        skip="learned",
        factor_regularizer=keras.regularizers.L2(1.0),
        state_constraint="non_neg",
        skip_constraint="non_neg",
        kernel_constraint="non_neg",
    )
    layer.build((None, 3))
    assert len(layer.losses) == 1
    constrained = {w.path.split("/")[-2] for w in layer.weights if w.constraint}
    assert constrained == {"first_state", "state_2", "skip_2", "output_map"}


@pytest.mark.parametrize("name", ["units", "rank", "order"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, None])
def test_sizes_must_be_positive_integers(name, value):
    sizes = {"units": 2, "rank": 2, "order": 2, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at"):
        layers.CCP(**sizes)


def test_unknown_skip():
    with pytest.raises(ValueError, match="Unknown skip 'learn'.*'learned'"):
        layers.NCPSkip(2, 2, 2, skip="learn")


def test_input_of_rank_one_is_refused():
    with pytest.raises(ValueError, match="expected min_ndim=2"):
        layers.CCP(2, 2, 2)(np.ones(3))


def test_recursion_takes_any_map():
    def block(x):
        return keras.ops.tanh(x)

    z = ops.convert_to_tensor(Z)
    x = recursions.ncp([z, z + 1], 2.0, [block], [block])
    expected = (Z + 1) * np.tanh(2 * Z) + np.tanh(2 * Z)
    np.testing.assert_allclose(ops.convert_to_numpy(x), expected, rtol=1e-6)
