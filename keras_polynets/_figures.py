"""What all figures share: their style, and how they are made and saved."""

import itertools
import pathlib

from keras_polynets._files import atomic_path

# Okabe and Ito's colours, told apart with every kind of colour vision; grey.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#555555",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}
DPI = 160


def style():
    """Returns the context in which figures are drawn."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "Figures need matplotlib. Install it with "
            "`pip install keras_polynets[plots]`."
        ) from error
    return matplotlib.rc_context(STYLE)


def figure(width, height):
    """Returns an empty figure that no window or global state knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def looks():
    """Yields keyword arguments of lines, no two alike among the first 21."""
    for style in itertools.cycle(({}, {"linestyle": "--"}, {"linestyle": ":"})):
        for color, marker in zip(COLORS, MARKERS, strict=True):
            yield {"color": color, "marker": marker, **style}


def legend_below(canvas, axes):
    """Puts the legend of `axes` below all of the figure."""
    lines, labels = axes.get_legend_handles_labels()
    canvas.legend(
        lines, labels, loc="outside lower center", ncols=min(len(labels), 2)
    )


def save(canvas, path):
    """Writes a figure where a path is given, and returns it."""
    if path is not None:
        with atomic_path(pathlib.Path(path)) as aside:
            canvas.savefig(aside)
    return canvas


def band(axes, x, mean, deviation, **line):
    """Draws a line and, where it has a deviation, the band around it.

    Args:
        axes: Where to draw.
        x: Sequence of numbers.
        mean: Array of the line's values; NaN leaves a gap.
        deviation: Array of half the band's widths.
        **line: How Matplotlib draws the line.
    """
    (drawn,) = axes.plot(x, mean, **line)
    axes.fill_between(
        x,
        mean - deviation,
        mean + deviation,
        color=drawn.get_color(),
        alpha=0.2,
        linewidth=0,
    )


def picture(axes, image, low, high):
    """Shows an image whose values lie between `low` and `high`."""
    scaled = (image - low) / ((high - low) or 1.0)
    axes.imshow(
        scaled.squeeze(-1) if scaled.shape[-1] == 1 else scaled,
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
