"""What floats lose: to rounding, where they are flushed to zero, to infinity.

A `unit` is the unit roundoff of an arithmetic, half the distance from 1 to the
next number, which says which arithmetic it is.
"""

import numpy as np

UNIT_ROUNDOFFS = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
}
# What is computed here in float64 has rounding errors of its own, a few for
# each of the network: they are added to its unit roundoff.
_OWN = 2.0**-49
# The largest numbers of the arithmetics of a unit roundoff: float16, bfloat16,
# float32 and float64.
_LARGEST = {
    2.0**-11: 65504.0,
    2.0**-8: (2 - 2.0**-7) * 2.0**127,
    2.0**-24: (2 - 2.0**-23) * 2.0**127,
    2.0**-53: np.finfo("float64").max,
}
# Their smallest normal numbers: smaller ones may be flushed to zero.
_SMALLEST = {
    2.0**-11: 2.0**-14,
    2.0**-8: 2.0**-126,
    2.0**-24: 2.0**-126,
    2.0**-53: np.finfo("float64").tiny,
}


def roundoff_of(dtype, name):
    """Returns the unit roundoff of a dtype.

    Args:
        dtype: String.
        name: String, what computes in it, for the message.

    Raises:
        ValueError: If it is not one of floats.
    """
    if dtype not in UNIT_ROUNDOFFS:
        raise ValueError(
            f"Bounds exist for the dtypes {', '.join(UNIT_ROUNDOFFS)}. "
            f"Received: {name} of dtype {dtype}. Build it with floats, for "
            "example `keras.Input(shape, dtype='float32')`."
        )
    return UNIT_ROUNDOFFS[dtype]


def error_unit(unit):
    """Returns the relative error of one operation, with that of ours."""
    return unit + _OWN


def largest(unit):
    """Returns the largest number, infinity where there is no arithmetic."""
    return _LARGEST.get(unit, np.inf)


def within(rounding, size, unit):
    """Returns a rounding error, infinity where numbers overflow.

    Args:
        rounding: Array, the error without overflow.
        size: Array, a bound of the numbers on the way, with their errors.
        unit: Float, the unit roundoff of the arithmetic.
    """
    return np.where((1 + unit) * size <= largest(unit), rounding, np.inf)


def smallest(unit):
    """Returns what is lost where a number is flushed to zero."""
    return _SMALLEST.get(unit, 0.0)


def flushed(x, y, unit):
    """Returns what a product loses if it, or a factor, is flushed to zero."""
    return smallest(unit) * (1 + x + y)


def flushed_terms(terms, x, unit):
    """Returns what a sum of products loses to flushed weights and terms.

    A weight may be flushed twice: as it is stored, and in an average of such.

    Args:
        terms: Integer, the number of terms.
        x: The `Interval` of what the weights multiply.
        unit: Float, the unit roundoff of the arithmetic.

    Returns:
        Vector, a bound for each example.
    """
    largest = x.magnitude.reshape(len(x.magnitude), -1).max(axis=1)
    return 2 * smallest(unit) * terms * (1 + largest)


def growth(terms, unit):
    """Returns the relative error of a sum of some terms, in any order."""
    error = terms * error_unit(unit)
    return error / (1 - error) if error < 1 else np.inf


def rounding_of_sum(x, y, unit):
    """Returns the rounding error of the sum of two intervals."""
    size = x.magnitude + y.magnitude
    rounding = x.rounding + y.rounding + error_unit(unit) * size
    return within(rounding + 3 * smallest(unit), size, unit)


def rounding_of_product(x, y, unit):
    """Returns the rounding error of the product of two intervals."""
    # |(x + dx)(y + dy) - xy|, with the magnitudes including dx and dy.
    error = x.magnitude * y.rounding + y.magnitude * x.rounding
    size = x.magnitude * y.magnitude
    error = error + flushed(x.magnitude, y.magnitude, unit)
    return within(error + error_unit(unit) * size, size, unit)
