"""Figures of the robustness paper."""

import math


def draw(report):
    """Draws the accuracy against the bound, a panel a network.

    Without projection the accuracy is a dashed line.

    Args:
        report: That of `robustness_tables.BoundsFigure`, with a network.
    """
    from keras_polynets import _figures

    networks = list(dict.fromkeys(row["network"] for row in report["rows"]))
    columns = min(len(networks), 3)
    lines = math.ceil(len(networks) / columns)
    canvas = _figures.figure(0.6 + 3.2 * columns, 0.9 + 2.7 * lines)
    panels = canvas.subplots(
        lines, columns, squeeze=False, sharey=True, sharex=True
    ).ravel()
    for axes, network in zip(panels, networks, strict=False):
        rows = [r for r in report["rows"] if r["network"] == network]
        _panel(axes, rows)
        axes.set_title(network, loc="left")
        axes.set(xscale="log", xlabel="bound of the projection")
    for axes in panels[len(networks) :]:
        axes.set_axis_off()
    for axes in panels[::columns]:
        axes.set(ylabel="test accuracy", ylim=(0, 1))
    _figures.legend_below(canvas, panels[0])
    return canvas


def _panel(axes, rows):
    from keras_polynets import _figures

    for color, name in zip(
        _figures.COLORS, rows[0]["accuracies"], strict=False
    ):
        found = [(row["bound"], row["accuracies"][name]) for row in rows]
        found = [(b, f) for b, f in found if f and f["mean"] is not None]
        curve = [(bound, f) for bound, f in found if bound is not None]
        bounds = [bound for bound, _ in curve]
        means = [f["mean"] for _, f in curve]
        axes.errorbar(
            bounds,
            means,
            [f["deviation"] or 0.0 for _, f in curve],
            fmt="o-",
            capsize=2,
            color=color,
            label=name,
        )
        for bound, f in found:
            if bound is None:
                axes.axhline(
                    f["mean"], color=color, linestyle="--", linewidth=0.8
                )
