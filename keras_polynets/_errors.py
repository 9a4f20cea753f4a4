"""The words of errors that several modules raise."""

import difflib
import math
import numbers

import keras

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
    more = [f"and {len(names) - most:,} more"] if len(names) > most else []
    return separator.join([*names[:most], *more])


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


def activation_of(name, value):
    """Returns the function that an argument stands for.

    Args:
        name: The name of the argument.
        value: What was received for it: a name, a function or `None`.

    Raises:
        ValueError: If there is no such activation.
    """
    try:
        return keras.activations.get(value)
    except (TypeError, ValueError):
        no_names = ("get", "serialize", "deserialize")
        known = set(dir(keras.activations)).difference(no_names)
        known = [n for n in known if not n.startswith("_")]
        raise unknown_name(name, value, known) from None


def positive_integers(name, value, example, optional=()):
    """Returns an argument that holds several numbers as a tuple.

    Args:
        name: The name of the argument.
        value: What was received for it.
        example: What it may be, for the message of the error.
        optional: `(None,)` where numbers may be left open.

    Raises:
        ValueError: If it is no sequence of integers of at least 1.
    """
    try:
        numbers = tuple(value)
        for number in numbers:
            if number not in optional:
                check_positive_integer(name, number)
    except (TypeError, ValueError):
        raise ValueError(
            f"Argument `{name}` must be a tuple of integers of at least 1"
            f"{' or None' if optional else ''}, such as {example}. "
            f"Received: {name}={value!r}"
        ) from None
    return numbers


def check_input_shape(value):
    """Returns an `input_shape` as a tuple, or raises a `ValueError`."""
    return positive_integers("input_shape", value, (32, 32, 3), (None,))


def check_positive_integer(name, value):
    """Raises a `ValueError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(
            f"Argument `{name}` must be an integer of at least 1. "
            f"Received: {name}={value!r}"
        )


def is_finite(value):
    """Says whether something is a finite number, and no boolean."""
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def check_layer(layer):
    """Raises a `TypeError` unless something is a model or a layer.

    Args:
        layer: What a user passed as one.
    """
    if not isinstance(layer, keras.Operation):
        raise TypeError(
            "Expected a Keras model or layer, such as "
            f"`keras_polynets.zoo.load('pn4')`. Received: {layer!r} (of type "
            f"{type(layer).__name__})"
        )


def check_floats(model, inputs):
    """Raises a `ValueError` unless the inputs of a model of the zoo are floats.

    Args:
        model: A model with an `input_range`.
        inputs: Array, tensor, or a plain number.
    """
    dtype = keras.backend.standardize_dtype(getattr(inputs, "dtype", "float32"))
    if "float" not in dtype:
        raise ValueError(
            f"{model.name!r} expected floats in {model.input_range}; call "
            f"model.preprocessor first. Received inputs of dtype {dtype}."
        )
