"""Products of feature maps that are summed along axes which they share."""

import math
import string

import numpy as np

from keras_polynets.robustness import intervals
from keras_polynets.robustness import linear_maps


def einsum(subscripts, x, y):
    """Encloses `numpy.einsum` of two examples, of which one may be constant.

    Args:
        subscripts: String such as `"ij,jk->ik"`, without the batch.
        x: An enclosure, or an array.
        y: An enclosure, or an array.
    """
    inputs, _, outputs = subscripts.partition("->")
    letters = inputs.split(",")
    sizes = {}
    for own, operand in zip(letters, (x, y), strict=True):
        sizes.update(zip(own, operand.shape, strict=True))
    summed = [n for n in sizes if n not in outputs]
    alone = [n for n in summed if not all(n in own for own in letters)]
    if alone:
        raise NotImplementedError(
            f"There is no local bound for einsum {subscripts!r} of examples, "
            f"which sums {alone} of one operand alone. Sum it with "
            "`keras.ops.sum` before."
        )
    axes = [*outputs, *summed]
    first = _spread(x, letters[0], axes, sizes)
    # A product of a map with itself is a square.
    is_square = x is y and letters[0] == letters[1]
    second = first if is_square else _spread(y, letters[1], axes, sizes)
    shape = tuple(sizes[n] for n in outputs)
    count = math.prod(sizes[n] for n in summed)
    products = intervals.evaluated(first * second)
    sums = linear_maps.LastAxis(np.ones((1, count)), shape)
    products = products.copied(lambda n: n.reshape(*shape, count))
    totals = products.through(linear_maps.Affine(sums), products.unit)
    return totals.copied(lambda n: n.reshape(shape))


def _spread(operand, letters, axes, sizes):
    """Returns an operand repeated along the axes that it does not have."""
    kept = [n for n in axes if n in letters]
    order = f"{letters}->{''.join(kept)}"
    shape = [sizes[n] if n in letters else 1 for n in axes]
    wide = [sizes[n] for n in axes]

    def function(numbers):
        numbers = np.einsum(order, numbers).reshape(shape)
        return np.broadcast_to(numbers, wide)

    if isinstance(operand, np.ndarray):
        return function(operand)
    return operand.copied(function)


def matmul(x, y):
    """Encloses the matrix product of two examples, one of them constant or not.

    Args:
        x: An enclosure, or an array.
        y: An enclosure, or an array.
    """
    # A matrix acts on one axis, at every position of the others.
    if isinstance(y, np.ndarray) and y.ndim == 2:
        return _through(x, y.T)
    if isinstance(x, np.ndarray) and x.ndim == 2:
        return _transposed(_through(_transposed(y), x))
    first = "ik" if len(x.shape) > 1 else "k"
    second = "kj" if len(y.shape) > 1 else "k"
    leads = x.shape[: -len(first)], y.shape[: -len(second)]
    lead = np.broadcast_shapes(*leads)
    x, y = _widened(x, lead, len(first)), _widened(y, lead, len(second))
    stack = string.ascii_uppercase[: len(lead)]
    result = f"{first}{second}".replace("k", "")
    return einsum(f"{stack}{first},{stack}{second}->{stack}{result}", x, y)


def _through(x, matrix):
    x = intervals.evaluated(x)
    linear = linear_maps.LastAxis(matrix, x.shape[:-1])
    return x.through(linear_maps.Affine(linear), x.unit)


def _transposed(x):
    return x.copied(lambda numbers: numbers.swapaxes(-1, -2))


def _widened(operand, lead, count):
    shape = (*lead, *operand.shape[-count:])
    if isinstance(operand, np.ndarray):
        return np.broadcast_to(operand, shape)
    return operand.widened(shape)


def dot(x, y, axes):
    """Encloses what the layer `Dot` makes of two tensors.

    Args:
        x: An enclosure.
        y: An enclosure.
        axes: Integer or pair of integers, counted with the batch.
    """
    first = list(string.ascii_lowercase[: len(x.shape)])
    second = list(string.ascii_uppercase[: len(y.shape)])
    for letters, axis in zip(
        (first, second), np.broadcast_to(axes, 2), strict=True
    ):
        letters[axis % (len(letters) + 1) - 1] = "z"
    first, second = "".join(first), "".join(second)
    result = f"{first}{second}".replace("z", "")
    product = einsum(f"{first},{second}->{result}", x, y)
    # Of two vectors it makes a vector.
    return product if result else product.copied(np.atleast_1d)
