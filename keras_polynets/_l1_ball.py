"""Projection of the columns of a matrix onto ℓ1 balls."""

import functools

import numpy as np
from keras import ops

# XLA sums that many blocks of rows in one pass, a third faster than row by row.
_ROW_BLOCKS = 8

# A norm this close above its bound is rounding, not a violation: a projected
# row is then left alone by the next projection.
_RELATIVE_SLACK = 1e-6


def l1_thresholds(matrix, radius):
    """Returns the soft thresholds that project columns onto ℓ1 balls.

    The Euclidean projection of a vector `w` onto the ℓ1 ball of radius `r` is
    `sign(w) * max(|w| - t, 0)`, where `t` is 0 inside the ball and otherwise
    solves `sum(max(|w| - t, 0)) = r`. Newton's method from the left on that
    convex, piecewise linear equation never overshoots, drops entries from the
    support and is exact as soon as the support stays the same; no sort is
    needed.

    Args:
        matrix: Float tensor of shape `(fan_in, units)`, a column a unit.
        radius: Float or float tensor of shape `(units,)`, above 0.

    Returns:
        Float tensor of shape `(units,)`, at least 0; NaN for a column that
        holds a value that is not finite.

    Reference:
        - Duchi et al., "Efficient Projections onto the l1-Ball for Learning in
          High Dimensions", 2008, gives the condition that is solved.
        - Michelot, "A Finite Algorithm for Finding the Projection of a Point
          onto the Canonical Simplex of R^n", 1986, gives the iteration.
    """
    radius = ops.convert_to_tensor(radius, dtype=matrix.dtype)
    magnitudes = ops.abs(matrix)
    # Zeros add nothing to a norm and never enter the support.
    padding = -matrix.shape[0] % _ROW_BLOCKS
    magnitudes = ops.pad(magnitudes, [[0, padding], [0, 0]])
    norms = _sum_rows(magnitudes)
    inside = norms <= radius * (1 + _RELATIVE_SLACK)
    thresholds = ops.cond(
        ops.all(inside),
        lambda: ops.zeros_like(norms),
        lambda: _newton_thresholds(magnitudes, norms, radius),
    )
    thresholds = ops.where(inside, ops.zeros_like(norms), thresholds)
    return ops.where(
        ops.isfinite(norms), thresholds, ops.full_like(norms, np.nan)
    )


def _newton_thresholds(magnitudes, norms, radius):
    size = magnitudes.shape[0]
    # The largest entry alone exceeds the threshold by at most the radius.
    start = ops.maximum(
        (norms - radius) / size, ops.max(magnitudes, axis=0) - radius
    )
    start = ops.maximum(start, 0.0)

    def support_shrinks(thresholds, counts, previous_counts):
        return ops.any(counts < previous_counts)

    def newton_step(thresholds, counts, previous_counts):
        excess = ops.relu(magnitudes - thresholds)
        new_counts = _sum_rows(ops.sign(excess))
        step = (_sum_rows(excess) - radius) / ops.maximum(new_counts, 1)
        return thresholds + ops.relu(step), new_counts, counts

    everything = ops.zeros_like(norms) + size + 1
    thresholds, _, _ = ops.while_loop(
        support_shrinks, newton_step, (start, everything, everything + 1)
    )
    return thresholds


def _sum_rows(matrix):
    blocks = ops.split(matrix, _ROW_BLOCKS, axis=0)
    return ops.sum(functools.reduce(ops.add, blocks), axis=0)


def soft_threshold(weights, thresholds):
    """Returns `sign(w) * max(|w| - t, 0)`.

    A threshold of 0 changes nothing, one that is NaN gives NaN.

    Args:
        weights: Float tensor of shape `(..., units)`.
        thresholds: Float tensor of shape `(units,)`, at least 0.
    """
    shrunk = weights - ops.clip(weights, -thresholds, thresholds)
    # Whether bounds that are NaN clip is up to the compiler.
    return ops.where(ops.isnan(thresholds), thresholds, shrunk)
