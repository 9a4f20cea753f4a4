"""The bounds are those of the theorems, on layers with known weights."""

import itertools

import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets.robustness import lipschitz_bound
from tests.unit.robustness.bound_examples import FORMS
from tests.unit.robustness.bound_examples import P
from tests.unit.robustness.bound_examples import apply
from tests.unit.robustness.bound_examples import h1_layer
from tests.unit.robustness.bound_examples import norm
from tests.unit.robustness.bound_examples import w


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
