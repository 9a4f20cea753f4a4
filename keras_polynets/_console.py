"""What the command line prints, and how."""

import math

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def table(*columns):
    """Returns an empty table; a column is a name or `(name, justify)`."""
    empty = Table()
    for column in columns:
        name, justify = (
            column if isinstance(column, tuple) else (column, "left")
        )
        empty.add_column(name, justify=justify)
    return empty


def print_table(table, title=None):
    """Prints a table on the standard output, below a title."""
    output = Console(highlight=False)
    if title:
        output.print(escape(title))
    output.print(table)


def say(label, message):
    """Prints a line on the standard error, which no JSON is mixed with."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"[bold]{escape(label)}:[/bold] {escape(message)}"
    )


def show_warning(message, *_):
    """Takes the place of `warnings.showwarning`."""
    say("warning", str(message))


def percentage(accuracy, form="{}"):
    """Returns an accuracy as a percentage within `form`, or nothing."""
    return "" if accuracy is None else form.format(f"{100 * accuracy:.2f} %")


def number(value):
    """Returns a bound with six digits."""
    return "not defined" if value is None else f"{value:.6g}"


def plain(value):
    """Returns the value for JSON, which has neither infinity nor NaN."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
