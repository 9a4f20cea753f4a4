"""Parallel quadratic networks and the polynomials that they consist of."""

import keras
import numpy as np
import pytest
from numpy.polynomial import polynomial

from keras_polynets.models import quadratic_mlp

WIDTHS = (1, 6, 6, 6, 1)


@pytest.fixture
def float64():
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy("float32")


def outputs(model, x):
    """Returns what each network gives at points x: `(points, networks)`."""
    networks = model.input_shape[1]
    inputs = np.repeat(np.asarray(x)[:, None, None], networks, axis=1)
    return keras.ops.convert_to_numpy(model(inputs))[..., 0]


def make(seeds, **kwargs):
    model = quadratic_mlp.quadratic_mlp(WIDTHS, networks=len(seeds), **kwargs)
    quadratic_mlp.initialize(model, seeds, quadratic_terms=True)
    return model


def test_networks_do_not_depend_on_their_company(float64):
    x = np.linspace(-1, 1, 7)
    together = outputs(make([3, 4, 5]), x)
    for network, seed in enumerate([3, 4, 5]):
        alone = outputs(make([seed]), x)[:, 0]
        np.testing.assert_allclose(together[:, network], alone, rtol=1e-12)
    assert np.abs(together[:, 0] - together[:, 1]).max() > 1e-3


def test_network_is_the_formula_written_down(float64):
    model = make([0, 1])
    x = np.array([[0.3], [-0.8]])
    hidden = x
    for number, layer in enumerate(model.layers):
        r, br, g, bg, b, c = (
            keras.ops.convert_to_numpy(v)[1]
            for branch in (layer.linear, layer.gate, layer.power)
            for v in (branch.kernel, branch.bias)
        )
        hidden = (hidden @ r + br) * (hidden @ g + bg) + hidden**2 @ b + c
        if number < len(model.layers) - 1:
            hidden = np.maximum(hidden, 0)
    received = outputs(model, x[:, 0])[:, 1]
    np.testing.assert_allclose(received, hidden[:, 0], rtol=1e-12)


def test_without_quadratic_terms_networks_start_as_conventional_ones():
    model = quadratic_mlp.quadratic_mlp(WIDTHS, networks=2)
    quadratic_mlp.initialize(model, [0, 1])
    layer = model.layers[1]
    assert np.ptp(keras.ops.convert_to_numpy(layer.linear.kernel)) > 0.1
    assert not keras.ops.convert_to_numpy(layer.gate.kernel).any()
    assert (keras.ops.convert_to_numpy(layer.gate.bias) == 1).all()
    for piece in quadratic_mlp.polynomial_pieces(model):
        assert not piece.coefficients[:, 2:].any()


@pytest.mark.parametrize("activation", ["relu", None])
def test_pieces_are_the_network(float64, activation):
    model = make([7, 8], activation=activation)
    pieces = quadratic_mlp.polynomial_pieces(model, network=1)
    assert pieces[0].low == -1 and pieces[-1].high == 1
    for left, right in zip(pieces, pieces[1:], strict=False):
        assert left.high == right.low > left.low
    if activation is None:
        assert len(pieces) == 1
        # Four quadratic layers: degree 16 and not less.
        assert pieces[0].coefficients.shape == (1, 17)
        assert pieces[0].coefficients[0, -1] != 0
    else:
        assert len(pieces) > 3
    for piece in pieces:
        x = np.linspace(piece.low, piece.high, 9)
        expected = outputs(model, x)[:, 1]
        received = polynomial.polyval(x, piece.coefficients[0])
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-9)


def test_pieces_end_where_a_unit_changes_sign(float64):
    # relu(x² - 1/4) + relu(x): cut at -1/2, 0 and 1/2.
    model = quadratic_mlp.quadratic_mlp((1, 2, 1))
    first, second = model.layers
    first.linear.kernel.assign([[[0.0, 1.0]]])
    first.linear.bias.assign([[0.0, 0.0]])
    first.power.kernel.assign([[[1.0, 0.0]]])
    first.power.bias.assign([[-0.25, 0.0]])
    second.linear.kernel.assign([[[1.0], [1.0]]])
    second.linear.bias.assign([[0.0]])
    pieces = quadratic_mlp.polynomial_pieces(model)
    np.testing.assert_allclose(
        [p.low for p in pieces], [-1, -0.5, 0, 0.5], atol=1e-12
    )
    received = np.array([p.coefficients[0, :3] for p in pieces])
    expected = [[-0.25, 0, 1], [0, 0, 0], [0, 1, 0], [-0.25, 1, 1]]
    np.testing.assert_allclose(received, expected, atol=1e-12)


def test_dead_layers_are_one_piece():
    model = quadratic_mlp.quadratic_mlp((1, 2, 2, 1))
    for layer in model.layers:
        layer.linear.kernel.assign(np.zeros(layer.linear.kernel.shape))
        layer.linear.bias.assign(np.zeros(layer.linear.bias.shape))
    (piece,) = quadratic_mlp.polynomial_pieces(model)
    assert not piece.coefficients.any()
