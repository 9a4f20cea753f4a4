"""What a conversion did to a model, and what it costs."""

import dataclasses

from keras_polynets.analysis import work


@dataclasses.dataclass(frozen=True)
class Replaced:
    """A layer that has another one in its place.

    Args:
        name: String, the path of the layer: the names of the nested models
            around it and its own, joined by `/`.
        source: String, the class of the layer.
        target: String, the class of the layer in its place.
        parameters: Pair of integers, before and after.
        multiply_adds: Pair of integers for one example, before and after, or
            `None` where the model leaves the size open.
    """

    name: str
    source: str
    target: str
    parameters: tuple
    multiply_adds: tuple


@dataclasses.dataclass(frozen=True)
class LeftAlone:
    """A layer that was copied although it has matrices or unknown code.

    Args:
        name: String, the path of the layer.
        source: String, the class of the layer.
        reason: String, why it was not replaced.
    """

    name: str
    source: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What a conversion replaced, what it left alone and what it costs.

    `print(report)` shows it as a table. The multiply-adds are those of linear
    maps, Hadamard products and squares, for one example.

    Args:
        replaced: List of `Replaced`, in the order of the graph.
        left_alone: List of `LeftAlone`.
        notes: List of strings: what else could not be kept, such as the class
            of the model.
        parameters: Pair of integers, those of the model before and after.
        multiply_adds: Pair of integers, those of the model before and after,
            as far as they are known.
        unknown_work: List of the paths of layers whose multiply-adds are not
            known and are left out of the sum.
    """

    replaced: list
    left_alone: list
    notes: list
    parameters: tuple
    multiply_adds: tuple
    unknown_work: list

    def __str__(self):
        lines = [
            f"{len(self.replaced)} layers replaced, "
            f"{len(self.left_alone)} left alone",
            f"parameters     {_change(self.parameters)}",
            f"multiply-adds  {_change(self.multiply_adds)}",
        ]
        for row in self.replaced:
            lines.append(
                f"  {row.name}: {row.source} -> {row.target}, parameters "
                f"{_change(row.parameters)}, multiply-adds "
                f"{_change(row.multiply_adds)}"
            )
        for row in self.left_alone:
            lines.append(f"  {row.name}: {row.source} left alone: {row.reason}")
        if self.unknown_work:
            lines.append(
                "  multiply-adds not known, not counted: "
                + ", ".join(self.unknown_work)
            )
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def report(model, rewritten, left_alone):
    """Returns the report of a conversion.

    Args:
        model: The source.
        rewritten: The `Rewritten` that came out of it.
        left_alone: Dictionary from the path of a layer to why it was copied.

    Returns:
        A `ConversionReport`.
    """
    before = work.work_by_layer(model)
    after = work.work_by_layer(rewritten.model)
    replaced, copied = [], []
    for pair in rewritten.pairs:
        source, target = type(pair.source).__name__, type(pair.target).__name__
        if pair.replaced:
            pairs = (pair.source, pair.target)
            parameters = tuple(layer.count_params() for layer in pairs)
            costs = tuple(costs.get(pair.path) for costs in (before, after))
            replaced.append(
                Replaced(pair.path, source, target, parameters, costs)
            )
        elif pair.path in left_alone:
            copied.append(LeftAlone(pair.path, source, left_alone[pair.path]))
    return ConversionReport(
        replaced,
        copied,
        list(rewritten.notes),
        (model.count_params(), rewritten.model.count_params()),
        (work.total(before), work.total(after)),
        [path for path, cost in after.items() if cost is None],
    )


def _change(pair):
    before, after = pair
    if before is None or after is None:
        return "not known"
    ratio = f" (x {after / before:.2f})" if before else ""
    return f"{before:,} -> {after:,}{ratio}"
