"""Figures of training and of robustness, drawn with matplotlib."""

import itertools

import numpy as np

from keras_polynets import _figures


def training_curves(history, path=None):
    """Draws loss and accuracy against the epoch.

    For one run or for several side by side: a run is a colour, its training
    values are a dashed line and its validation values a solid one.

    Args:
        history: What `fit` returned, its `history` dictionary (`"loss"`,
            `"accuracy"`, `"val_loss"`, `"val_accuracy"`: a list with a value
            an epoch, accuracies from 0 to 1), or a dictionary
            `{label: one of those}` for several runs.
        path: File to write as well. The suffix gives the format, for example
            `.png`, `.pdf` or `.svg`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: A run has neither a loss nor an accuracy.
        ImportError: matplotlib is not installed.

    Example:

    ```python
    history = model.fit(x, y, validation_split=0.1, epochs=10)
    keras_polynets.plots.training_curves(history, "curves.png")
    ```
    """
    runs = _runs(history)
    with _figures.style():
        figure = _figures.figure(8.0, 3.4)
        panels = figure.subplots(1, 2)
        for color, (label, values) in zip(
            itertools.cycle(_figures.COLORS), runs.items(), strict=False
        ):
            for axes, key in zip(panels, ("loss", "accuracy"), strict=True):
                scale = 100 if key == "accuracy" else 1
                for name, line, part in (
                    (key, "--", "training"),
                    (f"val_{key}", "-", "validation"),
                ):
                    if name in values:
                        y = scale * np.asarray(values[name], float)
                        axes.plot(
                            np.arange(1, len(y) + 1),
                            y,
                            line,
                            color=color,
                            label=f"{label}, {part}" if label else part,
                        )
        for axes, title in zip(
            panels, ("Cross-entropy (nats)", "Accuracy (%)"), strict=True
        ):
            axes.set(xlabel="Epoch", ylabel=title)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.margins(x=0.02)
        _figures.legend_below(
            figure, panels[0] if panels[0].lines else panels[1]
        )
    return _figures.save(figure, path)


def accuracy_against_epsilon(accuracies, path=None, *, attack="attack"):
    """Draws accuracy against the size of an attack's perturbation.

    Args:
        accuracies: Dictionary `{label: {epsilon: accuracy}}`. Epsilons are
            l-infinity radii in the units of the model's input (0 stands for
            the clean images), accuracies are from 0 to 1.
        path: File to write as well, for example a `.png`.
        attack: Name of the attack, for the label of the axis.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: `accuracies` is empty.
        ImportError: matplotlib is not installed.

    Example:

    ```python
    keras_polynets.plots.accuracy_against_epsilon(
        {"pn4": {0: 0.86, 0.1: 0.21}, "pn4, projected": {0: 0.84, 0.1: 0.62}},
        "epsilon.png",
        attack="FGSM",
    )
    ```
    """
    if not accuracies:
        raise ValueError(
            "Argument `accuracies` must hold at least one "
            "{label: {epsilon: accuracy}}. Received: none"
        )
    with _figures.style():
        figure = _figures.figure(5.2, 3.6)
        axes = figure.subplots()
        for look, (label, points) in zip(
            _figures.looks(), accuracies.items(), strict=False
        ):
            epsilons = sorted(points)
            axes.plot(
                epsilons,
                [100 * points[epsilon] for epsilon in epsilons],
                **look,
                label=label,
                clip_on=False,
                zorder=3,
            )
        axes.set(
            xlabel=rf"$\ell_\infty$ radius ε of the {attack} (input units)",
            ylabel="Accuracy (%)",
            ylim=(0, 100),
        )
        axes.set_xlim(left=0)
        _figures.legend_below(figure, axes)
    return _figures.save(figure, path)


def adversarial_grid(
    images, adversarial, labels, predictions, class_names=None, path=None
):
    """Draws images above their adversarial twins and what changed.

    Three rows: the image with its class, the attacked image with the class
    that the model now gives it (vermilion and a cross where it is wrong, blue
    and a tick where it is right), and the difference of the two on a diverging
    scale, with its bar.

    Args:
        images: Array of shape `(n, height, width, channels)`, with 1 or 3
            channels, in any units. Ten columns at most are legible.
        adversarial: The attacked images, of the same shape and units.
        labels: The `n` true classes, integers.
        predictions: The `n` classes that the model gives to `adversarial`:
            integers, or logits of shape `(n, classes)`.
        class_names: Names of the classes. Their numbers are shown without.
        path: File to write as well, for example a `.png`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: The shapes do not agree.
        ImportError: matplotlib is not installed.

    Example:

    ```python
    twins = keras_polynets.robustness.fgsm(model, x[:8], y[:8], epsilon=0.1)
    keras_polynets.plots.adversarial_grid(
        x[:8], twins, y[:8], model.predict(twins), model.class_names, "grid.png"
    )
    ```
    """
    images, adversarial = (
        np.asarray(images, float),
        np.asarray(adversarial, float),
    )
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if predictions.ndim == 2:
        predictions = predictions.argmax(axis=-1)
    _check_grid(images, adversarial, labels, predictions)
    names = [str(name) for name in class_names] if class_names else None
    name = (lambda i: names[int(i)]) if names else (lambda i: str(int(i)))
    difference = adversarial - images
    largest = np.abs(difference).max() or 1.0
    low, high = (
        min(images.min(), adversarial.min()),
        max(images.max(), adversarial.max()),
    )
    with _figures.style():
        columns = len(images)
        figure = _figures.figure(1.15 * columns + 1.1, 4.3)
        grid = figure.subplots(3, columns, squeeze=False)
        for column in range(columns):
            right = predictions[column] == labels[column]
            top, middle, bottom = grid[:, column]
            _figures.picture(top, images[column], low, high)
            top.set_title(name(labels[column]), fontsize=9)
            _figures.picture(middle, adversarial[column], low, high)
            middle.set_title(
                ("✓ " if right else "✗ ") + name(predictions[column]),
                fontsize=9,
                color=_figures.COLORS[0] if right else _figures.COLORS[1],
            )
            # Three channels change together as their mean.
            mapped = bottom.imshow(
                difference[column].mean(axis=-1),
                cmap="PuOr",
                vmin=-largest,
                vmax=largest,
                interpolation="nearest",
            )
        for axes in grid.flat:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.grid(False)
        for axes, label in zip(
            grid[:, 0], ("Image", "Attacked", "Difference"), strict=True
        ):
            axes.set_ylabel(label)
        bar = figure.colorbar(mapped, ax=grid[2].tolist(), shrink=0.9)
        bar.set_ticks([-largest, 0, largest])
        bar.ax.set_yticklabels([f"−{largest:.3g}", "0", f"+{largest:.3g}"])
        bar.outline.set_visible(False)
    return _figures.save(figure, path)


def _check_grid(images, adversarial, labels, predictions):
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(
            "Argument `images` must be of shape (n, height, width, channels) "
            f"with 1 or 3 channels. Received: shape {images.shape}"
        )
    if adversarial.shape != images.shape:
        raise ValueError(
            "Argument `adversarial` must have the shape of `images`, "
            f"{images.shape}. Received: shape {adversarial.shape}"
        )
    expected = (len(images),)
    if labels.shape != expected or predictions.shape != expected:
        raise ValueError(
            f"Expected a label and a prediction for each of {len(images)} "
            f"images. Received: labels of shape {labels.shape}, predictions "
            f"of shape {predictions.shape}"
        )


def _runs(history):
    """Returns `{label: {metric: values}}`, whatever of the forms was given."""
    history = getattr(history, "history", history)
    runs = (
        {"": history}
        if any(metric in history for metric in ("loss", "accuracy"))
        else {
            label: getattr(run, "history", run)
            for label, run in history.items()
        }
    )
    for label, run in runs.items():
        if "loss" not in run and "accuracy" not in run:
            raise ValueError(
                "A run must have 'loss' or 'accuracy', a list with a value an "
                f"epoch. Received: {label!r} with {sorted(run)}"
            )
    if not runs:
        raise ValueError("Argument `history` must hold at least one run.")
    return runs
