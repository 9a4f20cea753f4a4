"""First-order Taylor forms on batches: linear part and remainder, on a ball."""

import dataclasses
import functools
import math

import numpy as np

from keras_polynets.robustness import intervals
from keras_polynets.robustness import linear_parts
from keras_polynets.robustness.intervals import Interval

# Balances a linear part that is zero with one that is not.
_TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class TaylorForm(Interval):
    """An affine enclosure of a feature map on the ball around each image.

    For every `z = c + δ` with `|δ_i| <= r_i`

        x(z) = x(c) + J δ + shift ± spread,     ||J_x(z) - J||_1 <= bend

    with `J = J_x(c)` the Jacobian at the centre, and the norm that of each
    row. A linear map takes `J`, `shift` and `x(c)` with `A`, `spread` and
    `bend` with `|A|`. With `dx = x(z) - x(c)` a product is

        x y = x(c) y(c) + (x(c) J_y + y(c) J_x) δ
              + x(c) (shift_y ± spread_y) + y(c) (shift_x ± spread_x) + dx dy
        bend = |x(c)| bend_y + |dx| (||J_y||_1 + bend_y)
               + |y(c)| bend_x + |dy| (||J_x||_1 + bend_x)

    and `dx dy` is bounded by the product of intervals, of a map with itself
    by the square, which is not negative. The interval of the map is the
    intersection of the form's with the one of interval arithmetic.

    Args:
        centre: As in `Interval`.
        lower: As in `Interval`.
        upper: As in `Interval`.
        rounding: As in `Interval`.
        unit: As in `Interval`.
        source: As in `Interval`.
        radius: Array `(batch, d)`, the half-widths of the balls.
        part: The `linear_parts.Part` of `J`.
        shift: Array `(batch, *shape)`, or 0.
        spread: Array `(batch, *shape)`, or 0.
        bend: Array `(batch, *shape)`, or 0.
        bound_norms: Array `(2, batch, *shape)`, upper bounds of the norms of
            the rows of `J`, needed where `J` is not explicit.
    """

    radius: np.ndarray = None
    part: linear_parts.Part = None
    shift: np.ndarray | float = 0.0
    spread: np.ndarray | float = 0.0
    bend: np.ndarray | float = 0.0
    bound_norms: np.ndarray | None = None

    @functools.cached_property
    def norms(self):
        """The norms of the rows of `J`: weighted by the radii, and plain."""
        if self.part.is_explicit:
            return self.part.norms(self.radius)
        return self.bound_norms

    @functools.cached_property
    def tight(self):
        """The same form, with the interval cut by that of the form."""
        reach = self.norms[0] + self.spread
        middle = self.centre + self.shift
        return dataclasses.replace(
            self,
            lower=np.maximum(self.lower, middle - reach),
            upper=np.minimum(self.upper, middle + reach),
        )

    @property
    def _is_exact(self):
        return self.part.is_affine

    def through(self, affine, unit):
        form = self if self._is_exact else self.tight
        linear = affine.linear
        part = self.part.through(linear)
        absolute, shape = linear.absolute(), self.centre.shape
        changes = {}
        if not self._is_exact:
            changes["shift"] = linear.apply(np.broadcast_to(self.shift, shape))
            changes["spread"], changes["bend"] = absolute.apply(
                np.stack(
                    [np.broadcast_to(x, shape) for x in self._remainders()]
                )
            )
        if not part.is_explicit:
            changes["bound_norms"] = absolute.apply(self.norms)
        interval = Interval.through(form, affine, unit)
        return self._with(interval, part, **changes)

    def _remainders(self):
        return self.spread, self.bend

    def _with(self, interval, part, **changes):
        return TaylorForm(
            interval.centre,
            interval.lower,
            interval.upper,
            interval.rounding,
            interval.unit,
            interval.source,
            radius=self.radius,
            part=part,
            **changes,
        )

    def _sum(self, other):
        part = linear_parts.combined([(self.part, 1.0), (other.part, 1.0)])
        norms = None
        if not part.is_explicit:
            norms = self.norms + other.norms
        return self._with(
            Interval._sum(self, other),
            part,
            shift=self.shift + other.shift,
            spread=self.spread + other.spread,
            bend=self.bend + other.bend,
            bound_norms=norms,
        )

    def _moved(self, constant):
        return self._with(
            Interval._moved(self, constant),
            self.part,
            shift=self.shift,
            spread=self.spread,
            bend=self.bend,
            bound_norms=self.bound_norms,
        )

    def _scaled(self, factor):
        size = abs(factor)
        part = linear_parts.combined([(self.part, factor)])
        return self._with(
            Interval._scaled(self, factor),
            part,
            shift=factor * self.shift,
            spread=size * self.spread,
            bend=size * self.bend,
            bound_norms=None if part.is_explicit else size * self.norms,
        )

    def product(self, other):
        x, y = self.tight, other.tight
        dx = x.lower - x.centre, x.upper - x.centre
        dy = y.lower - y.centre, y.upper - y.centre
        if other is self:
            y = x
            low, high = intervals.square(*dx)
        else:
            low, high = intervals.product(*dx, *dy)
            if linear_parts.has_spans(x.part, y.part):
                ends = _polarised(x, y)
                low = np.maximum(low, ends[0])
                high = np.minimum(high, ends[1])
        a, b = np.abs(x.centre), np.abs(y.centre)
        reach_x, reach_y = _size(dx), _size(dy)
        part = linear_parts.combined([(x.part, y.centre), (y.part, x.centre)])
        norms = None if part.is_explicit else b * x.norms + a * y.norms
        return self._with(
            Interval.product(x, y),
            part,
            shift=x.centre * y.shift + y.centre * x.shift + (low + high) / 2,
            spread=a * y.spread + b * x.spread + (high - low) / 2,
            bend=a * y.bend
            + reach_x * (y.norms[1] + y.bend)
            + b * x.bend
            + reach_y * (x.norms[1] + x.bend),
            bound_norms=norms,
        )

    def contract(self, rows):
        form = self if self._is_exact else self.tight
        lower, upper = Interval.contract(form, rows)
        jacobian = self._pulled(rows)
        reach = (np.abs(jacobian) @ self.radius[..., None])[..., 0]
        reach = reach + self._inner(np.abs(rows), self.spread)
        middle = self._inner(rows, self.centre + self.shift)
        return (
            np.maximum(lower, middle - reach),
            np.minimum(upper, middle + reach),
        )

    def slopes(self, rows):
        """Returns ℓ1 norms of gradients: at the centre, and anywhere at most.

        Args:
            rows: Array `(batch or 1, functions, *shape)`, the linear functions
                of the map whose gradients by the input are bounded.

        Returns:
            Pair of arrays `(batch, functions)`.
        """
        centre = np.abs(self._pulled(rows)).sum(axis=-1)
        return centre, centre + self._inner(np.abs(rows), self.bend)

    def _pulled(self, rows):
        shape = (len(self.centre), *rows.shape[1:])
        return self.part.pull(np.broadcast_to(rows, shape))

    def _inner(self, rows, values):
        return intervals.inner(rows, np.broadcast_to(values, self.centre.shape))


def _polarised(x, y):
    """Returns bounds of `dx dy` that know how the linear parts correlate.

    For `p = P δ` and `q = Q δ` and any `t > 0`

        p q = ((t P + Q / t) δ)² / 4 - ((t P - Q / t) δ)² / 4

    where both squares are not negative. For parts of equal size that are
    uncorrelated this is half as wide as the product of their intervals.
    """
    p, q = x.norms[0], y.norms[0]
    balance = np.sqrt((y.norms[1] + _TINY) / (x.norms[1] + _TINY))
    minus, plus = linear_parts.spans(x.part, y.part, balance, x.radius)
    rests = [
        (form.shift - form.spread, form.shift + form.spread) for form in (x, y)
    ]
    terms = [
        (-minus * minus / 4, plus * plus / 4),
        intervals.product(-p, p, *rests[1]),
        intervals.product(-q, q, *rests[0]),
        intervals.product(*rests[0], *rests[1]),
    ]
    return sum(low for low, _ in terms), sum(high for _, high in terms)


def _size(ends):
    return np.maximum(np.abs(ends[0]), np.abs(ends[1]))


def of_ball(lower, upper, shared, unit):
    """Returns the form of the input itself on boxes.

    Args:
        lower: Array `(batch, *shape)`, the lower ends.
        upper: Array `(batch, *shape)`, the upper ends.
        shared: The `linear_parts.Shared` of the model.
        unit: Float, the unit roundoff of the input.
    """
    shape = lower.shape[1:]
    radius = (upper - lower) / 2
    return TaylorForm(
        (lower + upper) / 2,
        lower,
        upper,
        np.zeros_like(lower),
        unit,
        radius=radius.reshape(len(lower), math.prod(shape)),
        part=linear_parts.of_input(shared, shape),
        bound_norms=np.stack([radius, np.ones_like(radius)]),
    )
