"""Interval arithmetic on batches: what each component can be, on a ball."""

import dataclasses
import functools
import math

import numpy as np

from keras_polynets.robustness import floats
from keras_polynets.robustness import linear_maps


@dataclasses.dataclass(frozen=True)
class Interval:
    """Bounds of a feature map on the ball around each image of a batch.

    Intervals add and multiply as tensors do, so that the recursions of
    `keras_polynets.layers.recursions` run on them. For a matrix `A`

        A [m - r, m + r] = [A m - |A| r, A m + |A| r]

    and a product lies between the smallest and the largest product of ends. A
    product of a map with itself is a square, and not negative.

    Args:
        centre: Array `(batch, *shape)`, the value at the centre of the ball.
        lower: Array, a lower bound on the ball.
        upper: Array, an upper bound on the ball.
        rounding: Array, a bound of the rounding error with which the network
            computes the map, anywhere in the ball: `k u / (1 - k u)` times
            the sum of the absolute terms, for sums of `k` terms in any order
            in arithmetic of unit roundoff `u`, and what is lost where numbers
            are flushed to zero. Infinity where numbers may exceed the largest
            one of the arithmetic.
        unit: Float, the unit roundoff of the layer that computes the map.
        source: Pair of the enclosure and the `linear_maps.Affine` that it
            comes from, `None` where it is no affine map of another.
    """

    centre: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    rounding: np.ndarray
    unit: float
    source: tuple | None = None

    # Arrays leave products and sums with it to the methods here.
    __array_ufunc__ = None

    @property
    def shape(self):
        """The shape of an example."""
        return self.centre.shape[1:]

    @functools.cached_property
    def magnitude(self):
        """The largest absolute value, rounding included."""
        largest = np.maximum(np.abs(self.lower), np.abs(self.upper))
        return largest + self.rounding

    def through(self, affine, unit):
        """Returns what an affine layer makes of it.

        Args:
            affine: The `linear_maps.Affine` of the layer.
            unit: Float, the unit roundoff of the layer, 0 for one that only
                copies.
        """
        linear, bias = affine.linear, affine.bias
        middle, radius = _middle(self.lower, self.upper)
        centre, middle = linear.apply(np.stack([self.centre, middle]))
        # The weights and the input are rounded too, and the bias is a term.
        growth = floats.growth(linear.terms + 3, unit)
        given = self.cast(unit)
        errors = (
            given.rounding + growth * given.magnitude + floats.smallest(unit)
        )
        radius, rounding = linear.absolute().apply(np.stack([radius, errors]))
        rounding = rounding + growth * affine.bias_terms
        flushed = floats.flushed_terms(linear.terms, given, unit)
        rounding = rounding + flushed.reshape(-1, *[1] * (rounding.ndim - 1))
        unit = unit or self.unit
        # It is at least `growth` times the sum of the absolute terms, which
        # spares float32 the closer look.
        moderate = unit <= 2.0**-24 and not linear.is_huge
        limit = growth * 1e30 / affine.partial
        if not (moderate and (rounding <= limit).all()):
            size = given._terms(affine, growth)
            rounding = floats.within(rounding, size, unit)
        return Interval(
            centre + bias,
            middle + bias - radius,
            middle + bias + radius,
            rounding,
            unit,
            (self, affine),
        )

    def _terms(self, affine, growth):
        """Returns bounds of all weights, terms and partial sums of a map."""
        ones = np.ones_like(self.magnitude)
        sizes = np.stack([ones, self.magnitude])
        weights, terms = affine.linear.absolute().apply(sizes)
        terms = terms + affine.bias_terms
        return np.maximum(weights, (1 + growth) * affine.partial * terms)

    def cast(self, unit):
        """Returns the map as a layer of another dtype takes it.

        Args:
            unit: Float, the unit roundoff of that dtype.
        """
        if unit <= self.unit and floats.largest(unit) >= floats.largest(
            self.unit
        ):
            return self
        rounding = self.rounding + floats.error_unit(unit) * self.magnitude
        rounding = rounding + floats.smallest(unit)
        rounding = floats.within(rounding, self.magnitude, unit)
        return dataclasses.replace(self, rounding=rounding, unit=unit)

    def __add__(self, other):
        if isinstance(other, Product):
            return other + self
        if not isinstance(other, Interval):
            other = np.asarray(other, "float64")
            return self.widened(_example(other, self.shape))._moved(other)
        return self.widened(other.shape)._sum(other.widened(self.shape))

    __radd__ = __add__

    def __mul__(self, other):
        if isinstance(other, Interval | Product):
            return Product(self, other)
        if np.ndim(other) == 0:
            return self._scaled(float(other))
        x = self.widened(_example(other, self.shape))
        scale = linear_maps.Scale(other, x.shape)
        return x.through(linear_maps.Affine(scale), self.unit)

    __rmul__ = __mul__

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + (other * -1.0)

    def widened(self, shape):
        """Returns the map repeated along axes of size 1, as tensors are.

        Args:
            shape: Tuple, that of the example that it meets.
        """
        wide = np.broadcast_shapes(self.shape, shape)
        if wide == self.shape:
            return self
        return self.copied(lambda numbers: np.broadcast_to(numbers, wide))

    def copied(self, function):
        """Returns components of the map in another place or order.

        Args:
            function: Callable that takes the array of the numbers of the
                components, and returns those that are copied; -1 is for zero.
        """
        numbers = np.arange(math.prod(self.shape)).reshape(self.shape)
        gather = linear_maps.Gather(function(numbers), self.shape)
        return self.through(linear_maps.Affine(gather), 0.0)

    def _sum(self, other):
        unit = max(self.unit, other.unit)
        return Interval(
            self.centre + other.centre,
            self.lower + other.lower,
            self.upper + other.upper,
            floats.rounding_of_sum(self, other, unit),
            unit,
        )

    def _moved(self, constant):
        # The constant is rounded to the arithmetic too.
        error = floats.growth(2, self.unit)
        size = self.magnitude + np.abs(constant)
        rounding = self.rounding + error * size + 3 * floats.smallest(self.unit)
        return Interval(
            self.centre + constant,
            self.lower + constant,
            self.upper + constant,
            floats.within(rounding, size, self.unit),
            self.unit,
        )

    def _scaled(self, factor):
        ends = factor * self.lower, factor * self.upper
        # The factor is rounded to the arithmetic too. A sign is exact.
        error = 0.0 if abs(factor) == 1 else floats.growth(2, self.unit)
        size = abs(factor) * self.magnitude
        rounding = abs(factor) * self.rounding + error * size
        rounding += floats.flushed(self.magnitude, abs(factor), self.unit)
        return Interval(
            factor * self.centre,
            np.minimum(*ends),
            np.maximum(*ends),
            floats.within(rounding, np.maximum(size, abs(factor)), self.unit),
            self.unit,
        )

    def product(self, other):
        """Returns the product with another interval, or the square of itself.

        Args:
            other: An `Interval`.
        """
        unit = max(self.unit, other.unit)
        if other is self:
            lower, upper = square(self.lower, self.upper)
        else:
            lower, upper = product(
                self.lower, self.upper, other.lower, other.upper
            )
        return Interval(
            self.centre * other.centre,
            lower,
            upper,
            floats.rounding_of_product(self, other, unit),
            unit,
        )

    def after(self, left, right):
        """Returns the map where a product is computed on the way to it.

        Args:
            left: An `Interval`.
            right: An `Interval`.
        """
        left, right = left.widened(self.shape), right.widened(self.shape)
        size = left.magnitude * right.magnitude
        rounding = floats.within(self.rounding, size, self.unit)
        return dataclasses.replace(self, rounding=rounding)

    def contract(self, rows):
        """Returns bounds of linear functions of the map, on each ball.

        Args:
            rows: Array `(batch or 1, functions, *shape)`.

        Returns:
            Pair of arrays `(batch, functions)`, lower and upper bounds.
        """
        middle, radius = _middle(self.lower, self.upper)
        middle, radius = inner(rows, middle), inner(np.abs(rows), radius)
        return middle - radius, middle + radius


class Product:
    """A product of two enclosures that waits for what is added to it.

    `x * y + y` is `(x + 1) * y`, which is a tighter enclosure than the sum of
    two that are taken as independent. Everything else is that of the product.

    Args:
        left: An `Interval`, or a subclass.
        right: Another, of the same class.
        on_the_way: Tuple of pairs whose products the network computes first,
            and that must not overflow either.
    """

    __array_ufunc__ = None

    def __init__(self, left, right, on_the_way=()):
        self._operands, self._on_the_way = (left, right), on_the_way

    @property
    def shape(self):
        """The shape of an example."""
        return np.broadcast_shapes(*(x.shape for x in self._operands))

    @functools.cached_property
    def value(self):
        """The product itself."""
        left, right = map(evaluated, self._operands)
        if left.shape != right.shape:
            left, right = left.widened(right.shape), right.widened(left.shape)
        value = left.product(right)
        for product in self._on_the_way:
            value = value.after(*map(evaluated, product))
        return value

    def __getattr__(self, name):
        return getattr(self.value, name)

    def cast(self, unit):
        """Returns the product as a layer of another dtype takes it.

        Args:
            unit: As in `Interval.cast`.
        """
        # It stays one, if that is nothing, to take in what is added to it.
        value = self.value.cast(unit)
        return self if value is self.value else value

    def __add__(self, other):
        left, right = self._operands
        before = *self._on_the_way, self._operands
        if left is not right and other is right:
            return Product(left + 1.0, right, before)
        if left is not right and other is left:
            return Product(right + 1.0, left, before)
        return self.value + evaluated(other)

    __radd__ = __add__

    def __mul__(self, other):
        if isinstance(other, Interval | Product):
            return Product(self, other)
        return self.value * other

    __rmul__ = __mul__

    def __neg__(self):
        return self.value * -1.0

    def __sub__(self, other):
        return self + (other * -1.0)


def evaluated(enclosure):
    """Returns an enclosure that waits for nothing."""
    return getattr(enclosure, "value", enclosure)


def product(a, b, c, d):
    """Returns the ends of the products of `[a, b]` and `[c, d]`."""
    ends = a * c, a * d, b * c, b * d
    return (
        functools.reduce(np.minimum, ends),
        functools.reduce(np.maximum, ends),
    )


def square(a, b):
    """Returns the ends of the squares of `[a, b]`."""
    ends = a * a, b * b
    inside = (a <= 0) & (b >= 0)
    return np.where(inside, 0.0, np.minimum(*ends)), np.maximum(*ends)


def inner(rows, features):
    """Returns the inner products over the axes of an example.

    Args:
        rows: Array `(batch or 1, functions, *shape)`.
        features: Array `(batch, *shape)`.

    Returns:
        Array `(batch, functions)`.
    """
    flat = features.reshape(len(features), -1, 1)
    return (rows.reshape(*rows.shape[:2], -1) @ flat)[..., 0]


def _middle(lower, upper):
    return (lower + upper) / 2, (upper - lower) / 2


def _example(constant, shape):
    """Returns the shape of a constant without an axis of the batch."""
    extra = max(np.ndim(constant) - len(shape), 0)
    sizes = np.shape(constant)
    if extra > 1 or sizes[:extra] not in ((), (1,)):
        raise NotImplementedError(
            f"There is no bound for constants of shape {sizes}, which differ "
            f"from example to example, of shape {tuple(shape)}. Leave out the "
            "axis of the batch, or make it 1."
        )
    return sizes[extra:]
