"""What the layers of a model cost, and the degree that they reach."""

import dataclasses
import decimal
import json

from keras import tree

from keras_polynets.analysis import degree as degrees
from keras_polynets.analysis import graphs
from keras_polynets.analysis import work
from keras_polynets.analysis.activations import activation_bytes

RULES = {
    "multiply_adds": (
        "count, for one example, the products inside linear maps, one "
        "multiply-add each, and Hadamard products and squares, one an element, "
        "also those of a polynomial activation; not biases, normalisation, "
        "scaling by constants, other activation functions or pooling"
    ),
    "activation_bytes": (
        "count, for one example, the outputs of all layers, and inside the "
        "layers of keras_polynets those of their linear maps, each in its "
        "dtype: what training keeps where nothing is computed again"
    ),
    "degree": (
        "is that of what the layer yields, as a polynomial of the input of the "
        "model, layers as in inference, weights in general position"
    ),
}
_HEADINGS = (
    "layer",
    "class",
    "output",
    "parameters",
    "multiply-adds",
    "activation bytes",
    "degree",
)
_NUMBERS = _HEADINGS[3:]
_LABELS = {
    "multiply_adds": "multiply-adds",
    "activation_bytes": "activation bytes",
    "degree": "degree",
}


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """A row of a `ModelSummary`.

    Args:
        name: String, the path of the layer: the names of the nested models
            around it and its own, joined by `/`.
        layer: String, its class.
        outputs: List of the shapes that it yields, without the batch; those of
            the first call of a shared layer.
        parameters: Integer.
        multiply_adds: Integer, over all its calls, or `None` where it is not
            known: a size is open, or the layer multiplies and has no rule.
        activation_bytes: Integer, over all its calls, or `None` where a size
            is open.
        degree: Integer, or `None` where what it yields is no polynomial of the
            input of the model. Of a shared layer the largest one.
    """

    name: str
    layer: str
    outputs: list
    parameters: int
    multiply_adds: int | None
    activation_bytes: int | None
    degree: int | None


@dataclasses.dataclass(frozen=True)
class ModelSummary:
    """What the layers of a model cost, and the degree that they reach.

    `print(summary)` shows it as a table.

    Args:
        name: String, the name of the model.
        layers: List of `LayerSummary`, in the order of the graph, plain
            operations among them; a shared layer once.
        parameters: Integer, those of the model.
        trainable_parameters: Integer.
        multiply_adds: Integer, as far as they are known.
        activation_bytes: Integer, as far as they are known.
        degree: Integer, the largest one of the outputs, or `None` where they
            are no polynomial of the input.
        obstacle: String, the first layer that is no polynomial and why, or
            `None`.
        rules: Dictionary of strings, what the columns count.
    """

    name: str
    layers: list
    parameters: int
    trainable_parameters: int
    multiply_adds: int
    activation_bytes: int
    degree: int | None
    obstacle: str | None
    rules: dict

    def to_text(self):
        """Returns the summary as text, a row a layer."""
        rows = [_HEADINGS, *map(_cells, self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
                for name, cell, width in zip(
                    _HEADINGS, row, widths, strict=True
                )
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        lines = [self.name, rule, lines[0], rule, *lines[1:], rule]
        return "\n".join(lines + self._totals() + self._notes())

    def to_markdown(self):
        """Returns the summary as a table in Markdown."""
        align = ["---:" if name in _NUMBERS else "---" for name in _HEADINGS]
        rows = [_HEADINGS, align, *map(_cells, self.layers)]
        table = ["| " + " | ".join(row) + " |" for row in rows]
        items = [f"- {line}" for line in self._totals() + self._notes()]
        return "\n".join([f"## {self.name}", "", *table, "", *items, ""])

    def to_json(self, indent=None):
        """Returns the summary as JSON.

        Args:
            indent: As in `json.dumps`.
        """
        return json.dumps(dataclasses.asdict(self), indent=indent)

    def __str__(self):
        return self.to_text()

    def _totals(self):
        fixed = self.parameters - self.trainable_parameters
        return [
            f"parameters: {self.parameters:,}, {fixed:,} of them not trainable",
            f"multiply-adds: {self.multiply_adds:,}",
            f"activation bytes: {self.activation_bytes:,}",
            f"degree: {_number(self.degree)}"
            + (f" ({self.obstacle})" if self.degree is None else ""),
        ]

    def _notes(self):
        notes = [f"{_LABELS[key]} {self.rules[key]}" for key in self.rules]
        for key in ("multiply_adds", "activation_bytes"):
            unknown = [x.name for x in self.layers if getattr(x, key) is None]
            if unknown:
                notes.append(
                    f"{_LABELS[key]} not known, not in the sum: "
                    f"{', '.join(unknown)}"
                )
        return notes


def summary(model, input_shapes=None):
    """Says what each layer of a model costs, and the degree that it reaches.

    Parameters; multiply-adds, those of Hadamard products among them; the
    memory of activations; and the degree of what the layer yields as a
    polynomial of the input. The rules of each are in the attribute `rules`
    and below the table.

    Args:
        model: A functional or sequential `keras.Model` that is built, with
            models nested in it or not.
        input_shapes: Optional structure of the model's input shapes, with the
            batch, where the model leaves some sizes open.

    Returns:
        A `ModelSummary`: `print` shows the table, the methods `to_text`,
        `to_markdown` and `to_json` return it.

    Raises:
        ValueError: If the model is subclassed or not built, or a shape is not
            one of its input.

    Example:

    >>> model = keras_polynets.zoo.load("pn4", weights=None)
    >>> summary = keras_polynets.analysis.summary(model)
    >>> summary.parameters, summary.multiply_adds, summary.degree
    (50346, 50384, 4)
    """
    calls = graphs.calls(model, input_shapes)
    outputs, steps = degrees.steps(model)
    groups = {}
    for call, step in zip(calls, steps, strict=True):
        groups.setdefault(id(call.operation), []).append((call, step))
    rows = [_row(group) for group in groups.values()]
    values = [x.value for x in tree.flatten(outputs)]
    first = next((step for step in steps if step.obstacle), None)
    return ModelSummary(
        name=model.name,
        layers=rows,
        parameters=model.count_params(),
        trainable_parameters=work.trainable_parameters(model),
        multiply_adds=sum(row.multiply_adds or 0 for row in rows),
        activation_bytes=sum(row.activation_bytes or 0 for row in rows),
        degree=None if None in values else max(values),
        obstacle=first and f"{first.path}: {first.obstacle}",
        rules=dict(RULES),
    )


def _row(group):
    """Returns the row of a layer, given its calls and their degrees."""
    calls, steps = zip(*group, strict=True)
    first = calls[0]
    count = getattr(first.operation, "count_params", lambda: 0)
    reached = [step.degree for step in steps]
    return LayerSummary(
        name=first.path,
        layer=type(first.operation).__name__,
        outputs=[list(shape) for shape in first.outputs],
        parameters=count(),
        multiply_adds=_sum(
            work.multiply_adds(c.operation, c.inputs, c.outputs) for c in calls
        ),
        activation_bytes=_sum(map(activation_bytes, calls)),
        degree=None if None in reached else max(reached),
    )


def _sum(values):
    values = list(values)
    return None if None in values else sum(values)


def _cells(row):
    return (
        row.name,
        row.layer,
        ", ".join(str(tuple(shape)) for shape in row.outputs),
        *map(
            _number,
            (
                row.parameters,
                row.multiply_adds,
                row.activation_bytes,
                row.degree,
            ),
        ),
    )


def _number(value):
    if value is None:
        return "-"
    # Degrees grow beyond what a float can hold.
    return f"{value:,}" if value < 10**15 else f"{decimal.Decimal(value):.3e}"
