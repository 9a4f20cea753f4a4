"""Proposition 1: a network of quadratic neurons that is a given spline."""

import keras
import numpy as np

from keras_polynets.analysis.precision import check_float64
from keras_polynets.layers import QuadraticDense

# Jumps of at most this, relative to the largest value at a breakpoint, are
# rounding.
TOLERANCE = 1e-12


def from_spline(spline):
    """Builds the quadratic network that equals a spline in one variable.

    The network is a chain of `keras_polynets.layers.QuadraticDense` layers
    with ReLU activations, in float64, and one more layer that adds up. As in
    the proof of the proposition, the spline is written as a sum of one
    polynomial a piece, whose argument a ReLU keeps at 0 left of the piece, and
    which is 0 there. Here a second ReLU also stops the argument at the end of
    the piece, so that no large numbers cancel:

        f(x) = f(x_0) + sum_i q_i(clip(x - x_i, 0, x_{i+1} - x_i)),
        q_i(u) = p_i(x_i + u) - p_i(x_i).

    Outside the breakpoints the first and the last piece go on, as in `scipy`
    by default. The first layer has the ReLUs, the next ones the powers of all
    arguments as products of smaller powers, twice the degree a layer. None of
    these numbers is negative, so that the ReLUs of those layers change
    nothing.

    Args:
        spline: A continuous `scipy.interpolate.PPoly` in one variable with
            real values, of any degree, such as a
            `scipy.interpolate.CubicSpline`. A `BSpline` becomes one by
            `scipy.interpolate.PPoly.from_spline`.

    Returns:
        A `keras.Sequential` that takes a tensor of shape `(batch_size, 1)` and
        returns one of the same shape, equal to the spline to about 1e-10.

    Raises:
        ValueError: If the argument is not a `PPoly`, is complex, has several
            values at a point or is periodic, if its breakpoints do not
            increase, if it jumps, as a quadratic network is continuous, or
            where the backend has no float64 (PyTorch, and JAX without
            `jax_enable_x64`).

    Example:

    >>> x = np.linspace(0, 2 * np.pi, 9)
    >>> spline = scipy.interpolate.CubicSpline(x, np.sin(x))
    >>> model = keras_polynets.convert.from_spline(spline)
    >>> float(model(np.array([[1.0]]))[0, 0] - spline(1.0))
    0.0

    Reference:
        - Fan et al., "Expressivity and Trainability of Quadratic Networks",
          IEEE TNNLS 2023, Proposition 1 and equations 11 to 16.
    """
    polynomials, x = _checked(spline)
    check_float64()
    start = polynomials[0, 0]
    polynomials, matrix = _arguments(polynomials[1:], x)
    model = keras.Sequential([keras.Input((1,), dtype="float64", name="x")])
    slopes = np.ones(len(x))
    slopes[0] = -1
    kinks = np.concatenate([x[:1], x[:-1]])
    _add(model, "kinks", (slopes[None], -slopes * kinks))
    degree = 1
    while degree < len(polynomials):
        new = min(2 * degree, len(polynomials))
        _add(model, f"powers_to_{new}", *_products(matrix, degree, new))
        degree, matrix = new, np.eye(new * len(x))
    summed = matrix @ polynomials.reshape(-1, 1)
    _add(model, "sum", (summed, [start]), activation=None)
    return model


def _checked(spline):
    """Returns the coefficients, by rising powers, and the breakpoints."""
    c, x = (np.asarray(getattr(spline, name, ())) for name in "cx")
    if c.ndim < 2 or x.ndim != 1 or c.shape[1] != len(x) - 1:
        raise ValueError(
            "Expected a `scipy.interpolate.PPoly`. Received: "
            f"{type(spline).__name__}. A `BSpline` becomes one by "
            "`scipy.interpolate.PPoly.from_spline(spline)`."
        )
    if c.ndim > 2 or np.iscomplexobj(c):
        raise ValueError(
            "Expected a spline with one real value at a point. Received: "
            f"coefficients of shape {c.shape} and dtype {c.dtype}. Convert "
            "the values one by one."
        )
    if getattr(spline, "extrapolate", True) == "periodic":
        raise ValueError(
            "A network is not periodic. Received a spline with "
            "extrapolate='periodic'. Set `spline.extrapolate = True`, and "
            "take the remainder of the inputs."
        )
    # `PPoly.from_spline` leaves pieces of no width at repeated knots.
    c = c[:, np.diff(x) != 0]
    x = x[np.append(np.diff(x) != 0, True)]
    if not (len(x) > 1 and np.all(np.diff(x) > 0) and np.isfinite(c).all()):
        raise ValueError(
            "Expected breakpoints that increase and finite coefficients. "
            f"Received: x={x} and c={c}"
        )
    c = c[::-1].astype("float64")
    # The degree that is there; at least a row of zeros for constants.
    degree = max([1, *np.nonzero(c.any(axis=1))[0]])
    c = np.pad(c, [(0, max(0, 2 - len(c))), (0, 0)])[: degree + 1]
    _check_jumps(c, x)
    return c, x.astype("float64")


def _check_jumps(c, x):
    ends = np.polynomial.polynomial.polyval(np.diff(x), c, tensor=False)
    jumps = c[0, 1:] - ends[:-1]
    allowed = TOLERANCE * max(1e-300, np.abs([c[0], ends]).max())
    worst = np.argmax(np.abs(jumps)) if len(jumps) else 0
    if len(jumps) and abs(jumps[worst]) > allowed:
        raise ValueError(
            "A quadratic network is continuous, and this spline is not: it "
            f"jumps by {jumps[worst]:.3g} at x = {x[worst + 1]:.6g}. Expected "
            f"at most {allowed:.3g}, which would be rounding."
        )


def _arguments(c, x):
    """Returns the polynomials of scaled arguments, and these as a matrix.

    Column 0 of both belongs to what is left of the first breakpoint, where the
    first piece goes on, column i + 1 to piece i. Arguments are in units of the
    width of their piece, so that their powers are near 1.

    Args:
        c: Array of shape `(degree, pieces)`, the coefficients but for the
            constant ones.
        x: The breakpoints.

    Returns:
        Coefficients of shape `(degree, 1 + pieces)` and the matrix of shape
        `(1 + pieces, 1 + pieces)` from the kinks to the arguments.
    """
    widths = np.diff(x)
    powers = np.arange(1, len(c) + 1)[:, None]
    c = c * widths**powers
    left = c[:, :1] * (-1.0) ** powers
    # Minus the next kink, which stops the argument at the end of its piece.
    matrix = np.eye(len(x)) - np.diag([0.0] + [1.0] * (len(x) - 2), -1)
    matrix = matrix / np.concatenate([widths[:1], widths])
    return np.concatenate([left, c], axis=1), matrix


def _products(matrix, degree, new):
    """Returns the two factors of the powers 1 to `new`, from 1 to `degree`.

    Args:
        matrix: Array from the inputs of the layer to the powers up to
            `degree` of all arguments, power by power.
        degree: The largest power that the inputs hold.
        new: The largest power wanted.
    """
    columns = np.split(matrix, degree, axis=1)
    count = columns[0].shape[1]
    first = [columns[min(k, degree) - 1] for k in range(1, new + 1)]
    second = [np.zeros_like(columns[0])] * degree
    second += [columns[k - degree - 1] for k in range(degree + 1, new + 1)]
    # A power that is there already is multiplied by 1.
    ones = np.repeat([1.0] * degree + [0.0] * (new - degree), count)
    zeros = np.zeros(new * count)
    return (np.hstack(first), zeros), (np.hstack(second), ones)


def _add(model, name, linear, gate=None, activation="relu"):
    """Adds a layer, `(h @ W_r + b_r) * (h @ W_g + b_g)`."""
    layer = QuadraticDense(
        len(linear[1]), activation=activation, dtype="float64", name=name
    )
    model.add(layer)
    layer.linear.set_weights([np.asarray(values) for values in linear])
    if gate is not None:
        layer.gate.set_weights(list(gate))
