"""Figures of functions of one variable that are polynomials piece by piece."""

import itertools

import numpy as np

from keras_polynets import _figures


def approximations(x, truth, fits, path=None, *, training=None):
    """Draws a function, what approximates it, and their differences.

    Args:
        x: Array of points, increasing.
        truth: The values of the function there.
        fits: Dictionary from a label to the values of an approximation.
        path: File to write as well, for example a `.png`.
        training: The `(x, y)` that the approximations have seen, or `None`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with _figures.style():
        figure = _figures.figure(8.0, 3.8)
        left, right = figure.subplots(1, 2)
        left.plot(x, truth, color="black", linewidth=1, label="function")
        if training is not None:
            left.plot(*training, "k.", label="training points")
        for color, (label, y) in zip(
            itertools.cycle(_figures.COLORS), fits.items(), strict=False
        ):
            left.plot(x, y, color=color, linewidth=1, label=label)
            error = np.abs(np.asarray(y) - truth)
            right.plot(x, error, color=color, linewidth=1)
        left.set(xlabel="x", ylabel="Value")
        right.set(xlabel="x", ylabel="Absolute error", yscale="log")
        _figures.legend_below(figure, left)
    return _figures.save(figure, path)


def polynomial_pieces(functions, path=None, *, smallest=1e-6):
    """Draws the coefficients of each piece of piecewise polynomials.

    A panel a function: a column is as wide as its piece, a row is a power of
    the variable, and the colour is the magnitude of the coefficient.

    Args:
        functions: Dictionary from a label to a list of pieces, from left to
            right: `(low, high, coefficients)`, the constant first.
        path: File to write as well, for example a `.png`.
        smallest: Float, the magnitude from which on coefficients are coloured.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    with _figures.style():
        from matplotlib import colormaps
        from matplotlib import colors

        columns = min(len(functions), 3)
        rows = -(-len(functions) // columns)
        figure = _figures.figure(2.9 * columns + 0.8, 2.6 * rows)
        grid = figure.subplots(
            rows, columns, squeeze=False, sharex=True, sharey=True
        )
        largest = max(
            np.abs(piece[2]).max()
            for pieces in functions.values()
            for piece in pieces
        )
        norm = colors.LogNorm(smallest, max(largest, 10 * smallest))
        colormap = colormaps["viridis"].with_extremes(under="white")
        for axes, (label, pieces) in zip(
            grid.flat, functions.items(), strict=False
        ):
            edges = [piece[0] for piece in pieces] + [pieces[-1][1]]
            sizes = np.abs([piece[2] for piece in pieces]).T
            mesh = axes.pcolormesh(
                edges,
                np.arange(len(sizes) + 1) - 0.5,
                sizes,
                norm=norm,
                cmap=colormap,
            )
            axes.vlines(
                edges, -0.5, len(sizes) - 0.5, color="black", linewidth=0.3
            )
            axes.set_title(f"{label}\n{len(pieces)} pieces", fontsize=9)
            axes.grid(False)
        for axes in grid.flat[len(functions) :]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("Power of x")
        for column in range(columns):
            shown = [row for row in range(rows) if grid[row, column].axison]
            last = grid[shown[-1], column]
            last.set_xlabel("x")
            last.tick_params(labelbottom=True)
        figure.colorbar(
            mesh,
            ax=grid.ravel().tolist(),
            label="Magnitude of the coefficient",
            extend="min",
        )
    return _figures.save(figure, path)
