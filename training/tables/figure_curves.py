"""Curves over seeds, and what is measured for them once."""

import json


def spread_of_curves(curves):
    """Returns curves with their mean and deviation at each point.

    Args:
        curves: Sequence of lists of equal lengths, one a seed; `None` stands
            for a value that is missing.

    Returns:
        Dictionary with the lists `values`, `mean` and `deviation`; the last
        two have `None` where a value is missing.
    """
    from keras_polynets.recipes.comparing import spread

    points = [spread(point) or {} for point in zip(*curves, strict=True)]
    return {
        "values": list(curves),
        "mean": [point.get("mean") for point in points],
        "deviation": [point.get("deviation") for point in points],
    }


def point(curves, index):
    """Returns the mean and the deviation at a point, as `cell` takes them.

    Args:
        curves: What `spread_of_curves` returns.
        index: The place in its lists.
    """
    if curves["mean"][index] is None:
        return None
    return {key: curves[key][index] for key in ("mean", "deviation")}


def plot(axes, x, curves, scale=1.0, **line):
    """Draws curves as their mean, within a band of their deviation.

    Args:
        axes: Where to draw.
        x: Sequence of numbers.
        curves: What `spread_of_curves` returns.
        scale: By what the values are multiplied.
        **line: How Matplotlib draws the line.
    """
    from keras_polynets import _figures

    mean, deviation = (
        scale * _numbers(curves[key]) for key in ("mean", "deviation")
    )
    _figures.band(axes, x, mean, deviation, **line)


def _numbers(values):
    import numpy as np

    return np.array(values, dtype="float64")


def remembered(path, facts, measure):
    """Measures what a file does not know yet, and adds it.

    Args:
        path: `pathlib.Path` of the file, a list of records (JSON).
        facts: Dictionary that says what is measured.
        measure: Callable that returns a dictionary of what was found, or
            `None` to measure nothing.

    Returns:
        The record, `facts` and what was found, or `None`.
    """
    from keras_polynets._files import atomic_write

    records = json.loads(path.read_text("utf-8")) if path.exists() else []
    for record in records:
        if facts.items() <= record.items():
            return record
    if measure is None:
        return None
    record = facts | measure()
    with atomic_write(path, "w") as file:
        json.dump([*records, record], file, indent=1)
    return record


def measured_model(directory):
    """Returns the model that a finished run has measured, and its recipe.

    Args:
        directory: The `RunDirectory`.
    """
    from keras_polynets import recipes
    from keras_polynets import zoo
    from keras_polynets.recipes import building
    from keras_polynets.recipes import examples

    recipe = recipes.load(directory.config)
    model = building.network(recipe, examples.examples_of(recipe).dataset)
    weights = directory.read_result()["weights"]
    zoo.weights.load_into(model, getattr(directory, weights))
    return model, recipe
