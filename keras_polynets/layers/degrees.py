"""The degree of what layers compute, as a polynomial of their input."""

from keras import activations
from keras import ops

from keras_polynets.layers.neurons import square

_DEGREES = {activations.linear: 1, ops.square: 2, square: 2}


def after_activation(activation, degree):
    """Returns the degree of `activation(x)` where `x` has one.

    Args:
        activation: A function, or `None` for none. One that is not known here
            says its degree as layers do, by an attribute
            `polynomial_degree(degrees)`.
        degree: Integer, the degree of `x`.

    Returns:
        Integer, or `None` where the activation is not known as a polynomial.
    """
    if activation is None:
        return degree
    own = getattr(activation, "polynomial_degree", None)
    if own is not None:
        return own([degree])
    try:
        factor = _DEGREES.get(activation)
    except TypeError:  # An object that cannot be hashed.
        return None
    return None if factor is None else factor * degree
