"""Lipschitz constants of the differences of two logits, over a whole set."""

import functools
import math

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets.robustness import affine_maps
from keras_polynets.robustness import bounds
from keras_polynets.robustness import chains
from keras_polynets.robustness import enclosures
from keras_polynets.robustness import theorems
from keras_polynets.robustness.extents import Extent


class PairwiseLipschitz:
    """Lipschitz constants of logit differences in the ℓ∞ norm.

    Where the logits are `C x + beta` the difference of two of them moves by at
    most `||C_i - C_j||_1` times what `x` moves by, which is less than twice
    the bound of the logits.

    Args:
        model: A built model or layer.
    """

    def __init__(self, model):
        self._model = model
        self._radius = self._found = None

    def within(self, radius):
        """Returns the constants on `||z||_inf <= radius`.

        Args:
            radius: Non-negative float.

        Returns:
            Array `(classes, classes)`.

        Raises:
            ValueError, NotImplementedError: As in `lipschitz_bound`.
        """
        # Without a valid range every batch has a radius of its own.
        if radius != self._radius:
            self._found = self._constants(radius)
            self._radius = radius
        return self._found

    @functools.cached_property
    def exists(self):
        """Whether there is a bound of the model."""
        try:
            self.within(1.0)
        except (NotImplementedError, ValueError):
            return False
        return True

    def _constants(self, radius):
        *before, last = _without_idle_ends(
            chains.leaves(self._model, bounds.propagate)
        )
        extent = Extent(radius, radius, 1.0)
        for layer in before:
            extent = bounds.propagate(layer, extent, np.inf, "auto")
        count = _size(self._model)
        slope, rows = _hidden(last, extent) or (0.0, ())
        if len(rows) != count:
            # No matrix is known, or that of one position of several.
            outputs = bounds.propagate(last, extent, np.inf, "auto")
            slope, rows = outputs.lipschitz, np.eye(count)
        distances = np.abs(rows[:, None] - rows).sum(axis=-1)
        # Rounded outwards. Equal rows never differ, not even by infinity.
        with np.errstate(invalid="ignore"):
            constants = slope * distances * (1 + 1e-9)
        return np.where(distances == 0, 0.0, constants)


def _without_idle_ends(leaves):
    """Returns layers up to the last one that changes or moves a logit."""
    found = list(leaves)
    while len(found) > 1 and (
        enclosures.keeps_order(found[-1])
        or type(found[-1]) is keras.layers.Activation
    ):
        bounds.propagate(found.pop(), Extent(1.0, 1.0, 1.0), np.inf, "auto")
    return found


def _size(model):
    """Returns the number of outputs of a model or layer."""
    if isinstance(model, keras.Model):
        shape = model.output_shape
    else:
        inputs = model.get_build_config()["input_shape"]
        shape = model.compute_output_shape(inputs)
    if None in shape[1:]:
        raise ValueError(
            "The differences of logits are bounded for a fixed number of "
            f"them. Received: {model.name!r} with outputs of shape "
            f"{tuple(shape)}. Build it with a fixed input shape."
        )
    return math.prod(shape[1:])


def _hidden(layer, extent):
    """Returns the Lipschitz constant before the last matrix, and the matrix.

    The matrix is that of one position of the axes before the last one; `None`
    where none is known.
    """
    if isinstance(layer, keras.layers.Dense):
        bounds.check_no_activation(layer)
        return extent.lipschitz, affine_maps.affine_map(layer).matrix
    if isinstance(layer, layers.CCP | layers.NCP):
        form = theorems.product_form(layer, extent.radius, np.inf)
        slope = theorems.hidden_slope(form, extent, np.inf)
        hidden = bounds.recursion_extent(layer, extent, np.inf)
        return min(slope, hidden.lipschitz), theorems.output_map(layer).matrix
    return None
