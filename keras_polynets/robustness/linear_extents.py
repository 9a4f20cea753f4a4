"""How large and how steep linear layers are whose map is known."""

import keras
import numpy as np

from keras_polynets import layers
from keras_polynets.analysis.degree_rules import AFFINE
from keras_polynets.layers.residual import PadShortcut
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.robustness import layer_maps
from keras_polynets.robustness import norms
from keras_polynets.robustness import operator_norms
from keras_polynets.robustness.extents import Extent

# They multiply each component, whatever the size of the image.
_SCALES = (
    keras.layers.BatchNormalization | keras.layers.Normalization | ScalarGate
)
LINEAR = _SCALES | PadShortcut | layers.GaussianFilter2D | layer_maps.TRANSPOSED


_ROUNDED = Extent(1 + 2.0**-20, 1 + 2.0**-20, 0.0)


def is_linear(layer):
    """Returns whether the map of a layer is known, but for its activation.

    Args:
        layer: A built layer.
    """
    return type(layer) in AFFINE or isinstance(layer, LINEAR)


def linear_extent(layer, extent, p):
    """Returns the `Extent` behind a linear layer, without its activation.

    Args:
        layer: A built layer for which `is_linear` holds.
        extent: The `Extent` of its input.
        p: The order of the norm.

    Raises:
        ValueError: If the bound depends on the size of the input, which the
            layer leaves open.
        NotImplementedError: If its matrix is too large.
    """
    shape = norms.example_shape(layer)
    if isinstance(layer, _SCALES) and p == np.inf:
        shape = tuple(1 if size is None else size for size in shape)
    if None in shape:
        raise ValueError(
            f"The bound of {layer.name!r}, a {type(layer).__name__}, depends "
            f"on the size of its input, which is open: {shape}. Build the "
            "model with a fixed input shape."
        )
    for known in layer_maps.stages(layer, shape):
        extent = _through(extent, known, p)
    if isinstance(layer, layer_maps.SINGLE):
        # Their weights are computed, a few roundings from ours.
        return extent * _ROUNDED
    return extent


def _through(extent, known, p):
    linear = known.linear
    bias = np.broadcast_to(np.abs(known.bias), linear.output_shape)
    norm = operator_norms.norm_of_map(linear, p)
    ones = np.full((1, *linear.input_shape), extent.peak)
    peak = float((linear.absolute().apply(ones)[0] + bias).max())
    radius = norm * extent.radius + float(np.linalg.norm(bias.ravel(), p))
    return Extent(
        peak if p == np.inf else radius,
        min(peak, radius),
        norm * extent.lipschitz,
    )
