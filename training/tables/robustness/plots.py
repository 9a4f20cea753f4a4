"""Figures of the robustness paper."""

import math

import numpy as np


def draw_bounds(rows):
    """Draws the test accuracy against the bound, a panel a network.

    Without projection the accuracy is a dashed line.

    Args:
        rows: Those of a report of `accuracies.BoundsFigure`, at least one.
    """
    canvas, panels = _panels(rows)
    for network, axes in panels.items():
        _bounds_panel(axes, [r for r in rows if r["network"] == network])
        axes.set(xscale="log", xlabel="bound of the projection", ylim=(0, 1))
    _label(canvas, panels, "test accuracy")
    return canvas


def draw_trials(report, attack):
    """Draws what each trial reaches with and without an attack.

    Further up and to the right is better. A line joins the values of a method
    in their order. The trials are those of the first seed, on validation
    images; the run that the table has is filled.

    Args:
        report: That of `accuracies.RobustnessTable`, with a network.
        attack: The attack that chooses, `None` for none.
    """
    canvas, panels = _panels(report["rows"])
    for network, axes in panels.items():
        row = next(r for r in report["rows"] if r["network"] == network)
        _trials_panel(axes, _trials(report, network), row["chosen"], attack)
        axes.set(xlabel="accuracy")
    _label(canvas, panels, f"accuracy under {attack or 'no attack'}")
    return canvas


def _panels(rows):
    """Returns a figure and its panels, by the network that they show."""
    from keras_polynets import _figures

    networks = list(dict.fromkeys(row["network"] for row in rows))
    columns = min(len(networks), 3)
    lines = math.ceil(len(networks) / columns)
    size = 1.6 + 3.0 * columns, 1.2 + 2.7 * lines
    canvas = _figures.figure(*size)
    grid = canvas.subplots(lines, columns, squeeze=False, sharey=True)
    panels = dict(zip(networks, grid.ravel(), strict=False))
    for axes in grid.ravel()[len(networks) :]:
        axes.set_axis_off()
    for network, axes in panels.items():
        axes.set_title(network, loc="left")
    return canvas, panels


def _label(canvas, panels, text):
    from keras_polynets import _figures

    first = next(iter(panels.values()))
    first.set_ylabel(text)
    _figures.legend_below(canvas, first)


def _bounds_panel(axes, rows):
    from keras_polynets import _figures

    for look, name in zip(
        _figures.looks(), rows[0]["accuracies"], strict=False
    ):
        found = [(row["bound"], row["accuracies"][name]) for row in rows]
        found = [(b, f) for b, f in found if f and f["mean"] is not None]
        curve = [(bound, f) for bound, f in found if bound is not None]
        axes.errorbar(
            [bound for bound, _ in curve],
            [f["mean"] for _, f in curve],
            [f["deviation"] or 0.0 for _, f in curve],
            fmt="-",
            capsize=2,
            label=name,
            **look,
        )
        for bound, f in found:
            if bound is None:
                axes.axhline(
                    f["mean"],
                    color=look["color"],
                    linestyle="--",
                    linewidth=0.8,
                )


def _trials(report, network):
    """Returns the finished records of the first seed, by their method."""
    records = [r for r in report["records"] if r["network"] == network]
    first = min(record["recipe"]["seed"] for record in records)
    trials = {}
    for record in records:
        is_first = record["recipe"]["seed"] == first
        if is_first and record.get("validation") is not None:
            trials.setdefault(record["method"], []).append(record)
    return trials


def _trials_panel(axes, trials, chosen, attack):
    from keras_polynets import _figures

    # A method has its color in every panel, with or without trials.
    for look, method in zip(_figures.looks(), chosen, strict=False):
        records = trials.get(method, [])
        epochs = [record["epochs"] for record in records]
        # Trials may be shorter than runs.
        tried = [r for r in records if r["epochs"] == min(epochs)]
        tried.sort(key=lambda record: list(record["changes"].values()))
        points = [_point(record, attack) for record in tried]
        axes.plot(
            *np.reshape(points, (-1, 2)).T,
            label=method,
            linewidth=1.0,
            markerfacecolor="white",
            **look,
        )
        for record in records:
            is_run = record["epochs"] == max(epochs)
            if is_run and record["changes"] == chosen[method]:
                axes.plot(*_point(record, attack), **look, markersize=6)


def _point(record, attack):
    validation = record["validation"]
    robust = validation["attacks"][attack] if attack else validation["accuracy"]
    return validation["accuracy"], robust
