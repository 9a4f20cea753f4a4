"""The words of errors that several modules raise."""

import difflib

# Names that an error lists of many.
MOST_LISTED = 8
MOST_KNOWN = 50


def listed(names, most=MOST_LISTED, separator=", "):
    """Returns names for an error: the first ones, and how many more.

    Args:
        names: Iterable of strings.
        most: How many are written out.
        separator: What stands between them.
    """
    names = list(names)
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more:,} more" * (more > 0))


def unknown_name(kind, name, known):
    """Returns the `ValueError` for a name that is not among those known.

    Args:
        kind: What the name stands for, for example `"model"`.
        name: The name received.
        known: The names that exist.
    """
    known = sorted(map(str, known))
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = (
        f"Did you mean {' or '.join(map(repr, nearest))}?"
        if nearest
        else f"Known: {listed(map(repr, known), MOST_KNOWN) or 'none'}."
    )
    return ValueError(f"Unknown {kind} {name!r}. {hint}")


def check_positive_integer(name, value):
    """Raises a `ValueError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1. "
            f"Received: {name}={value!r}"
        )
