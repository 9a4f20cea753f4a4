"""The linear part of a feature map at the centre of a ball: its Jacobian.

The Jacobian of a feature map `x` by the `d` components of the network's input
is kept in one of two ways: as an array `(batch or 1, d, *shape)` where that is
small, or as the maps that it is made of, through which rows of an outer
Jacobian are pulled back to the input (reverse accumulation).
"""

import itertools
import math

import numpy as np

# The largest Jacobian of one image, and of what is affine in the input, which
# has one Jacobian for all images, in float64 numbers.
IMAGE_LIMIT = 2**17
SHARED_LIMIT = 3 * 2**24


class Shared:
    """What one model needs for all batches: Jacobians of affine maps.

    The graph of a model is run in the same order for every batch, so that the
    number of a part is the same in each.
    """

    def __init__(self):
        self.kept = {}
        self.restart()

    def restart(self):
        """Begins with another batch."""
        self._numbers = itertools.count()

    def number(self):
        """Returns the number of the next part."""
        return next(self._numbers)


class Part:
    """The Jacobian of a feature map.

    Args:
        shared: The `Shared` of the model.
        shape: Tuple, the shape of the map of one image.
        size: Integer, the dimension `d` of the input.
        parents: List of pairs of a part and the function that takes rows
            `(batch, functions, *shape)` of a Jacobian by this map to those by
            the map of that part. Empty for the input itself.
        is_affine: Whether the map is affine in the input of the network, so
            that its Jacobian is that of all images.
        array: Callable without arguments that computes the array, or `None`
            for one that is too large.
    """

    def __init__(self, shared, shape, size, parents, is_affine, array):
        self.shared, self.shape, self.size = shared, tuple(shape), size
        self.parents, self.is_affine = parents, is_affine
        self.number = shared.number()
        entries = size * math.prod(shape)
        limit = SHARED_LIMIT if is_affine else IMAGE_LIMIT
        self.is_explicit = array is not None and entries <= limit
        self._make, self._array = array, None

    @property
    def array(self):
        """The Jacobian, `(batch or 1, d, *shape)`, if it is explicit."""
        kept = self.shared.kept.get(self.number)
        if kept is not None:
            return kept
        if self._array is None:
            self._array = self._make()
        return self._array

    def keep(self):
        """Keeps the Jacobian of an affine map for the batches to come."""
        if self.is_affine and self.is_explicit:
            self.shared.kept[self.number] = self.array

    def through(self, linear):
        """Returns the part behind a `LinearMap`."""
        return Part(
            self.shared,
            linear.output_shape,
            self.size,
            [(self, linear.adjoint)],
            self.is_affine,
            (lambda: linear.apply(self.array)) if self.is_explicit else None,
        )

    def norms(self, radius):
        """Returns the weighted and the plain ℓ1 norms of the rows.

        Args:
            radius: Array `(batch, d)`, the half-widths of the balls.

        Returns:
            Array `(2, batch, *shape)`: with the radii as weights (how far the
            linear part gets in the ball), and with ones.
        """
        self.keep()
        array = self.array
        flat = np.abs(array.reshape(*array.shape[:2], -1))
        weights = np.stack([radius, np.ones_like(radius)])
        if len(array) == 1:
            norms = weights.reshape(-1, self.size) @ flat[0]
        else:
            norms = np.moveaxis(np.moveaxis(weights, 0, 1) @ flat, 1, 0)
        return norms.reshape(2, len(radius), *self.shape)

    def pull(self, rows):
        """Returns the Jacobian of linear functions of the map by the input.

        Args:
            rows: Array `(batch, functions, *shape)`.

        Returns:
            Array `(batch, functions, d)`.
        """
        total = 0.0
        pending = {self.number: (self, rows)}
        while pending:
            part, rows = pending.pop(max(pending))
            if part.is_explicit or not part.parents:
                total = total + part.contract(rows)
                continue
            for parent, function in part.parents:
                pulled = function(rows)
                if parent.number in pending:
                    pulled = pulled + pending[parent.number][1]
                pending[parent.number] = parent, pulled
        return total

    def contract(self, rows):
        """Returns the rows times the Jacobian itself."""
        flat = rows.reshape(*rows.shape[:2], -1)
        if not self.parents:
            return flat
        self.keep()
        array = self.array.reshape(*self.array.shape[:2], -1)
        if len(array) > 1:
            return flat @ np.swapaxes(array, 1, 2)
        product = flat.reshape(-1, flat.shape[-1]) @ array[0].T
        return product.reshape(*flat.shape[:2], self.size)


def of_input(shared, shape):
    """Returns the part of the input itself: the identity.

    Args:
        shared: The `Shared` of the model.
        shape: Tuple, the shape of an image.
    """
    size = math.prod(shape)
    return Part(
        shared,
        shape,
        size,
        [],
        True,
        lambda: np.eye(size).reshape(1, size, *shape),
    )


def has_spans(first, second):
    """Says whether `spans` of two parts is affordable."""
    if not (first.is_explicit and second.is_explicit):
        return False
    entries = first.size * math.prod(first.shape)
    return (first.is_affine and second.is_affine) or entries <= IMAGE_LIMIT


def spans(first, second, balance, radius):
    """Returns how far the differences and sums of two linear parts get.

    Args:
        first: A part `P` that is explicit.
        second: A part `Q` that is explicit.
        balance: Array `(batch, *shape)`, the positive `t`; the same for all
            images where both parts are those of affine maps.
        radius: Array `(batch, d)`, the half-widths of the balls.

    Returns:
        Pair of arrays `(batch, *shape)`: the largest `|(t P - Q / t) δ|` and
        `|(t P + Q / t) δ|` for `|δ_i| <= radius_i`.
    """
    if not (first.is_affine and second.is_affine):
        arrays = _extremes(first.array, second.array, balance[:, None])
        reaches = (radius[:, None] @ array for array in arrays)
    else:
        kept, key = first.shared.kept, (first.number, second.number)
        if key not in kept:
            kept[key] = _extremes(first.array, second.array, balance[:1, None])
        reaches = (radius @ array[0] for array in kept[key])
    return tuple(reach.reshape(balance.shape) for reach in reaches)


def _extremes(first, second, weights):
    """Returns `|t P - Q / t|` and `|t P + Q / t|`, `(batch or 1, d, -1)`."""
    scaled, other = first * weights, second / weights
    return [
        np.abs(x).reshape(*x.shape[:2], -1)
        for x in (scaled - other, scaled + other)
    ]


def combined(terms):
    """Returns the part of a sum of multiples of feature maps.

    Args:
        terms: List of pairs of a part and an array `(batch, *shape)`, or a
            number, that multiplies it; arrays or numbers in all pairs.
    """
    parts = [part for part, _ in terms]
    numbers = all(np.ndim(factor) == 0 for _, factor in terms)
    first = parts[0]
    if not numbers:
        for part in parts:
            part.keep()
        # By the axis of the functions, or of the input.
        terms = [(part, factor[:, None]) for part, factor in terms]

    def array():
        return sum(part.array * factor for part, factor in terms)

    return Part(
        first.shared,
        first.shape,
        first.size,
        [(part, _times(factor)) for part, factor in terms],
        numbers and all(part.is_affine for part in parts),
        array if all(part.is_explicit for part in parts) else None,
    )


def _times(factor):
    return lambda rows: rows * factor
