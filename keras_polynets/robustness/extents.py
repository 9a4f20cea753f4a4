"""Interval arithmetic on norms: how large a map gets, and how steep."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Extent:
    """Upper bounds for a map `g` on the set of inputs that is looked at.

    Extents add and multiply as the maps do, where the product is the Hadamard
    product. So the recursion of a polynomial network, run on the extents of
    its factors, yields the extent of the network:

        sum:      ||g + h|| <= ||g|| + ||h||, the same for the constants
        product:  ||g * h||_p <= min(||g||_p ||h||_inf, ||g||_inf ||h||_p)
                  Lip(g * h) <= ||g||_inf Lip(h) + ||h||_inf Lip(g)

    Args:
        radius: Bound of `||g(z)||_p`.
        peak: Bound of `||g(z)||_inf`. At most `radius`, and the same number
            for `p = inf`.
        lipschitz: Bound of the Lipschitz constant of `g` in the `p`-norm.
    """

    radius: float
    peak: float
    lipschitz: float

    def __add__(self, other):
        return Extent(
            self.radius + other.radius,
            self.peak + other.peak,
            self.lipschitz + other.lipschitz,
        )

    def __mul__(self, other):
        return Extent(
            min(self.radius * other.peak, self.peak * other.radius),
            self.peak * other.peak,
            self.peak * other.lipschitz + other.peak * self.lipschitz,
        )

    def meet(self, other):
        """Returns the smaller of each pair of bounds.

        A bound that overflowed, to NaN too, bounds nothing.
        """
        pairs = np.array(
            [dataclasses.astuple(self), dataclasses.astuple(other)]
        )
        smaller = np.fmin(*pairs)
        return Extent(*np.where(np.isnan(smaller), np.inf, smaller).tolist())

    def averaged(self, norm):
        """Returns the extent behind an averaging map of operator norm `norm`.

        An average is at most the largest of its terms, so that the peak does
        not grow.
        """
        radius = self.radius * norm
        return Extent(radius, min(self.peak, radius), self.lipschitz * norm)

    def repeated(self, times, p):
        """Returns the extent of `times` such maps side by side.

        Each map sees its own part of the input, so that the Lipschitz constant
        stays as it is.

        Args:
            times: Integer, how many.
            p: The order of the norm.
        """
        return dataclasses.replace(
            self, radius=self.radius * float(times) ** (1 / p)
        )

    def affine(self, affine, p):
        """Returns the extent of `A g(z) + b`.

        Args:
            affine: The `affine_maps.AffineMap` of `A` and `b`.
            p: The order of the norm.
        """
        matrix, norm = affine.matrix, affine.norm(p)
        dual = {1: np.inf, 2: 2, np.inf: 1}[p]
        # Hölder's inequality, row by row, in either norm of g.
        rows = np.minimum(
            np.linalg.norm(matrix, dual, axis=1) * self.radius,
            np.linalg.norm(matrix, 1, axis=1) * self.peak,
        )
        peak = float(np.max(rows + np.abs(affine.bias)))
        radius = norm * self.radius + affine.repeated(affine.bias, p)
        return Extent(
            peak if p == np.inf else radius,
            min(peak, radius),
            norm * self.lipschitz,
        )


def constant(vector, p):
    """Returns the extent of a map with one value, a vector."""
    return Extent(
        float(np.linalg.norm(vector, p)),
        float(np.linalg.norm(vector, np.inf)),
        0.0,
    )
