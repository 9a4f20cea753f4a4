"""Figures of piecewise polynomials."""

import numpy as np
import pytest

from keras_polynets import polynomial_plots

pytest.importorskip("matplotlib")


def test_approximations_and_their_errors(tmp_path):
    x = np.linspace(-1, 1, 5)
    figure = polynomial_plots.approximations(
        x,
        x**2,
        {"a": x**2 + 0.5, "b": x},
        tmp_path / "fits.png",
        training=([0.0], [0.0]),
    )
    left, right = figure.axes
    labels = [line.get_label() for line in left.lines]
    assert labels == ["function", "training points", "a", "b"]
    np.testing.assert_allclose(right.lines[0].get_ydata(), 0.5)
    np.testing.assert_allclose(right.lines[1].get_ydata(), np.abs(x - x**2))
    assert right.get_yscale() == "log"
    assert (tmp_path / "fits.png").stat().st_size > 1000


def test_pieces_have_their_width_and_their_coefficients(tmp_path):
    pieces = {
        "two": [(-1, 0.5, np.array([1.0, -2.0])), (0.5, 1, np.zeros(2))],
        "one": [(-1, 1, np.array([0.1, 0.0]))],
    }
    figure = polynomial_plots.polynomial_pieces(pieces, tmp_path / "pieces.png")
    first, second, bar = figure.axes
    assert first.get_title() == "two\n2 pieces"
    mesh = first.collections[0]
    np.testing.assert_allclose(
        np.asarray(mesh.get_array()), [[1.0, 0.0], [2.0, 0.0]]
    )
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [-1, 0.5, 1])
    assert mesh.norm.vmax == 2.0
    assert second.collections[0].norm.vmax == 2.0
    assert bar.get_ylabel() == "Magnitude of the coefficient"
    assert (tmp_path / "pieces.png").stat().st_size > 1000
