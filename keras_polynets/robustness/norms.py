"""What all bounds check of a layer first: its weights, and the norm."""

import keras
import numpy as np

CONVOLUTIONS = keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D
AFFINE = keras.layers.Dense | CONVOLUTIONS
WINDOW_POOLINGS = (
    keras.layers.AveragePooling1D
    | keras.layers.AveragePooling2D
    | keras.layers.AveragePooling3D
)
GLOBAL_POOLINGS = (
    keras.layers.GlobalAveragePooling1D
    | keras.layers.GlobalAveragePooling2D
    | keras.layers.GlobalAveragePooling3D
)
POOLINGS = WINDOW_POOLINGS | GLOBAL_POOLINGS


def check_p(p):
    """Returns `p` as 1, 2 or infinity, or raises a `ValueError`."""
    if p not in (1, 2, np.inf):
        raise ValueError(
            "Argument `p`, the order of the norm, must be 1, 2 or "
            f"`float('inf')`. Received: p={p!r}"
        )
    return p


def values(variable):
    """Returns a variable as a float64 array, after a check that it is finite.

    Args:
        variable: A Keras variable.
    """
    array = keras.ops.convert_to_numpy(variable).astype("float64")
    if not np.isfinite(array).all():
        raise ValueError(
            f"Variable {variable.path!r} holds NaN or infinite values, for "
            "which no norm exists. Load weights from before the training "
            "diverged."
        )
    return array


def check_built(layer):
    """Raises a `ValueError` if a layer has no weights yet, or quantised ones.

    Args:
        layer: A layer of any kind.
    """
    mode = getattr(layer, "quantization_mode", None)
    if mode:
        raise ValueError(
            f"Layer {layer.name!r} is quantised ({mode}): it rounds its inputs "
            "and weights to few values, for which no bound exists here. Bound "
            "the model before `quantize`."
        )
    if not layer.built:
        raise ValueError(
            f"Layer {layer.name!r} has no weights yet. Build it first: call "
            "it once, or `layer.build(input_shape)`."
        )


def rescaling(layer, p):
    """Returns the largest absolute scale and offset of a `Rescaling` layer.

    Args:
        layer: A `keras.layers.Rescaling`.
        p: The order of the norm for which they are meant.
    """
    scale, offset = np.asarray(layer.scale), np.asarray(layer.offset)
    if p != np.inf and offset.any():
        raise ValueError(
            f"Layer {layer.name!r} has an offset, which is bounded for "
            f"p=float('inf'). Received: p={p}. Bound the model behind it, and "
            "multiply by the largest absolute scale."
        )
    return float(np.max(np.abs(scale))), float(np.max(np.abs(offset)))
