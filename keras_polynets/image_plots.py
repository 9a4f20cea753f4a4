"""Figures of images side by side."""

import numpy as np

from keras_polynets import _figures


def image_grid(rows, path=None, *, captions=None):
    """Draws images in a grid, each row with its label and each column too.

    Args:
        rows: Dictionary from the label of a row to a dictionary from the label
            of a column to an image: an array of shape
            `(height, width, channels)` in (0, 1), with 1 or 3 channels. Every
            row has the same columns.
        path: File to write as well, for example a `.png`.
        captions: Optional dictionary from the label of a row to a dictionary
            from the label of a column to the text below the image.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: There is no image, or the rows differ in their columns.
        ImportError: matplotlib is not installed.
    """
    columns = list(next(iter(rows.values()), {}))
    if not columns or any(list(row) != columns for row in rows.values()):
        raise ValueError(
            "Argument `rows` must hold at least one row of images, and all "
            "rows the same columns. Received columns: "
            f"{ {label: list(row) for label, row in rows.items()} }"
        )
    with _figures.style():
        figure = _figures.figure(
            1.5 * len(columns) + 0.3, 1.75 * len(rows) + 0.3
        )
        grid = figure.subplots(len(rows), len(columns), squeeze=False)
        for line, (row, images) in zip(grid, rows.items(), strict=True):
            for axes, (column, image) in zip(line, images.items(), strict=True):
                _figures.picture(
                    axes, np.clip(np.asarray(image, float), 0, 1), 0, 1
                )
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
                axes.grid(False)
                if captions:
                    axes.set_xlabel(captions[row].get(column, ""), fontsize=8)
            line[0].set_ylabel(row, fontsize=8)
        for axes, column in zip(grid[0], columns, strict=True):
            axes.set_title(column, fontsize=9)
    return _figures.save(figure, path)
