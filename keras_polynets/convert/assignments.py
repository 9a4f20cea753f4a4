"""Which variable of a layer takes which value from another layer."""

import numpy as np
from keras import layers
from keras import ops

from keras_polynets.layers import QuadraticLayer

_LINEAR = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv2DTranspose,
)


class Mismatch(ValueError):
    """A layer cannot take the weights of another one."""


def assignments(source, target):
    """Returns the values that make a layer compute what another one does.

    Between layers of one kind all weights are copied. A quadratic layer takes
    the weights of a linear one into its linear branch, its second-order terms
    become those at which they add nothing.

    Args:
        source: A built layer.
        target: A built layer.

    Returns:
        List of pairs of a variable of `target` and an array.

    Raises:
        Mismatch: If the shapes differ, or if no values do it.
    """
    if isinstance(target, QuadraticLayer) and isinstance(source, _LINEAR):
        pairs = _first_order(source, target)
    else:
        pairs = list(zip(target.weights, source.get_weights(), strict=False))
        shapes = [tuple(w.shape) for w in target.weights]
        received = [tuple(w.shape) for w in source.weights]
        if shapes != received:
            raise Mismatch(f"expected the shapes {shapes}, received {received}")
    return checked(pairs)


def checked(pairs):
    """Returns pairs of a variable and an array whose shapes are the same.

    Args:
        pairs: List of pairs of a variable and an array.

    Raises:
        Mismatch: If a shape differs.
    """
    for variable, value in pairs:
        if tuple(variable.shape) != np.shape(value):
            raise Mismatch(
                f"expected the shape {tuple(variable.shape)} of "
                f"{variable.name!r}, received {np.shape(value)}"
            )
    return pairs


def assign(pairs):
    """Gives variables their values.

    Args:
        pairs: List of pairs of a variable and an array.
    """
    for variable, value in pairs:
        variable.assign(value)


def first_order(layer):
    """Returns the values at which a quadratic layer is its linear branch.

    Args:
        layer: A built `keras_polynets.layers.QuadraticLayer`.

    Returns:
        List of pairs of a variable of its second-order branches and an array.

    Raises:
        Mismatch: If there are no such values.
    """
    if layer.first_order is None:
        raise Mismatch(
            f"a layer of {layer.neuron!r} neurons"
            + ("" if layer.use_bias else " without bias")
            + (
                " with normalised branches"
                if layer.branch_normalization
                else ""
            )
            + " equals a linear one for no values of its second-order terms"
        )
    pairs = []
    for role, values in layer.first_order.items():
        branch = layer.branches()[role]
        for variable, value in zip(
            (branch.kernel, branch.bias), values, strict=True
        ):
            if variable is not None:
                pairs.append((variable, np.full(variable.shape, value)))
    return pairs


def _first_order(source, target):
    second_order = first_order(target)
    linear = target.linear
    bias = linear.bias if target.bias is None else target.bias
    pairs = [(linear.kernel, ops.convert_to_numpy(source.kernel))]
    if bias is not None:
        value = np.zeros(bias.shape)
        if source.bias is not None:
            value = ops.convert_to_numpy(source.bias)
        pairs.append((bias, value))
    elif source.bias is not None:
        raise Mismatch("expected no bias, received one")
    return pairs + second_order
