"""The norms of the lifted matrices, against the matrices themselves."""

import functools

import keras
import numpy as np
import pytest

from keras_polynets import layers
from keras_polynets import zoo
from keras_polynets.robustness import lifted_norms
from tests.unit.robustness.bound_examples import h1_layer
from tests.unit.robustness.bound_examples import random_layer
from tests.unit.robustness.bound_examples import w


def face_splitting(left, right):
    return np.stack([np.kron(a, b) for a, b in zip(left, right, strict=True)])


def padded(matrix, column):
    e = np.zeros((1, matrix.shape[1] + 1))
    e[0, -1] = 1
    return np.vstack([e, np.hstack([matrix, np.reshape(column, (-1, 1))])])


def norm(matrix):
    return np.abs(matrix).sum(axis=1).max()


@pytest.mark.parametrize("constant", [True, False])
def test_face_splitting_product_of_h1(constant):
    u = [w(n, 3, 4).T for n in (1, 2, 3)]
    if constant:
        u = [padded(m, np.full(4, n > 0)) for n, m in enumerate(u)]
    found = lifted_norms(h1_layer(layers.CCP), constant)
    exact = norm(functools.reduce(face_splitting, u))
    assert found.theoretical == pytest.approx(exact, rel=1e-12)
    product = np.prod([norm(m) for m in u])
    assert found.algorithmic == pytest.approx(product, rel=1e-12)
    assert found.ratio == pytest.approx(exact / product)


@pytest.mark.parametrize("constant", [True, False])
def test_matrix_of_ncp_of_h1(constant):
    # Phi = (A_k • S_k) prod I kron (A_{k-i} • S_{k-i}), Theorem 3.
    a = [w(n, 3, 4).T for n in (1, 2, 3)]
    b = [w(40 + n, 2, 4).T @ w(50 + n, 2, 1)[:, 0] for n in (1, 2, 3)]
    s = [b[0][:, None], w(32, 4, 4).T, w(33, 4, 4).T]
    if constant:
        a = [padded(m, np.zeros(4)) for m in a]
        s = [np.vstack([[1.0], s[0]])] + [
            np.block([[np.eye(1, 5)], [c[:, None], m]])
            for c, m in zip(b[1:], s[1:], strict=True)
        ]
    d = a[0].shape[1]
    phi = face_splitting(a[2], s[2])
    phi = phi @ np.kron(np.eye(d), face_splitting(a[1], s[1]))
    phi = phi @ np.kron(np.eye(d**2), face_splitting(a[0], s[0]))
    found = lifted_norms(h1_layer(layers.NCP), constant)
    assert found.theoretical == pytest.approx(norm(phi), rel=1e-12)
    # S_1 is a vector, which acts as a diagonal matrix.
    product = np.prod([norm(m) for m in (*a, *s)])
    assert found.algorithmic == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize("kind", [layers.CCP, layers.NCP])
def test_algorithm_bounds_the_theorem(kind):
    for seed in range(12):
        for constant in (True, False):
            found = lifted_norms(random_layer(kind, seed), constant)
            assert 0 < found.theoretical <= found.algorithmic * (1 + 1e-12)


def test_ncp_of_images_is_refused_with_its_size():
    model = zoo.load("ncp4", weights=None)
    with pytest.raises(ValueError, match="has 379,733,250,625 columns"):
        lifted_norms(model.get_layer("polynomial"))


def test_other_layers_are_refused():
    with pytest.raises(NotImplementedError, match="an NCPSkip"):
        lifted_norms(h1_layer(layers.NCPSkip))
    with pytest.raises(NotImplementedError, match="of `CCP` or `NCP`"):
        lifted_norms(keras.layers.Dense(2))
