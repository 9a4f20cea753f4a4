"""What all tables of `training.reproduce` share."""

import importlib.util
import json
import sys


def share_of_epochs(recipe, arguments):
    """Returns the share of a recipe's epochs that the arguments ask for."""
    if arguments.epochs is not None:
        return arguments.epochs / recipe.epochs
    return arguments.scale


def aligned(rows):
    """Returns the lines of a table of words, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def markdown(rows, alignment=None):
    """Returns a table of words as Markdown.

    Args:
        rows: List of lists of words, the head first.
        alignment: String with `"l"` (left) or `"r"` for each column; by
            default the first one is left.
    """
    head, *rest = rows
    sides = alignment or "l" + "r" * (len(head) - 1)
    rule = [{"l": "---", "r": "---:"}[side] for side in sides]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rest))


def known_part(path, name, kind, needed=True):
    """Returns a part of a report from before, an empty one without a path.

    Args:
        path: Path of a `table.json`, or `None`.
        name: The name of the part.
        kind: Its type, `dict` or `list`.
        needed: Whether all reports of such tables have it.

    Raises:
        ValueError: If the report is that of a table of another kind.
    """
    if path is None:
        return kind()
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    part = report.get(name) if isinstance(report, dict) else None
    if part is None and not needed:
        return kind()
    if not isinstance(part, kind):
        raise ValueError(
            f"--known {path} is no report of such a table: its {name!r} are "
            "of another form. Give the table.json of a table of this kind."
        )
    return part


def cell(value, scale=1.0, digits=4):
    """Returns the words of a mean and its deviation."""
    if value is None:
        return "not available"
    text = f"{scale * value['mean']:.{digits}f}"
    if value["deviation"] is None:
        return text
    return f"{text} ± {scale * value['deviation']:.{digits}f}"


def has_matplotlib():
    """Says whether figures can be drawn, and that they are not if so."""
    if importlib.util.find_spec("matplotlib"):
        return True
    print("No figure: matplotlib is not installed.", file=sys.stderr)
    return False
