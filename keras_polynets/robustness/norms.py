"""Operator norms of linear layers, in float64."""

import functools

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
    """Raises a `ValueError` if a layer has no weights yet."""
    if not layer.built:
        raise ValueError(
            f"Layer {layer.name!r} has no weights yet. Build it first: call "
            "it once, or `layer.build(input_shape)`."
        )


@functools.singledispatch
def affine_map(layer, p):
    """Returns the matrix and the bias of an affine layer, both float64.

    The matrix has a row for every output unit. For convolutions the row holds
    the whole kernel of the unit (the reshaped kernel of Theorem 5), which has
    the norm of the operator for `p = inf` only.

    Args:
        layer: A built layer.
        p: The order of the norm for which the matrix is meant.

    Returns:
        Tuple `(matrix, bias)` of shapes `(units, inputs)` and `(units,)`.
    """
    raise TypeError(
        "An operator norm belongs to a linear layer: `Dense`, `Conv1D`, "
        "`Conv2D`, `Conv3D` or an average pooling. Received layer "
        f"{layer.name!r} of class {type(layer).__name__}. For polynomials "
        "and models use `keras_polynets.robustness.lipschitz_bound`."
    )


@affine_map.register
def _(layer: keras.layers.Dense, p):
    return _rows(layer)


@affine_map.register(CONVOLUTIONS)
def _(layer, p):
    if p != np.inf:
        raise ValueError(
            "The operator norm of a convolution is implemented for "
            f"p=float('inf'). Received: p={p} for layer {layer.name!r}. The "
            "norm of its reshaped kernel is no bound for other p."
        )
    return _rows(layer)


def _rows(layer):
    if not layer.built:
        raise ValueError(
            f"Layer {layer.name!r} has no weights yet. Build it first: call "
            "it once, or `layer.build(input_shape)`."
        )
    kernel = values(layer.kernel)
    units = kernel.shape[-1]
    bias = values(layer.bias) if layer.use_bias else np.zeros(units)
    return kernel.reshape(-1, units).T, bias


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


@functools.singledispatch
def _operator_norm(layer, p):
    return float(np.linalg.norm(affine_map(layer, p)[0], p))


@_operator_norm.register(WINDOW_POOLINGS)
def _(layer, p):
    overlapping = any(
        stride < size
        for stride, size in zip(layer.strides, layer.pool_size, strict=True)
    )
    if p != np.inf and (overlapping or layer.padding != "valid"):
        raise ValueError(
            f"Layer {layer.name!r} pools windows that overlap or are padded, "
            "whose operator norm is implemented for p=float('inf'). "
            f"Received: p={p}"
        )
    return float(np.prod(layer.pool_size)) ** (-1 / p)


@_operator_norm.register(GLOBAL_POOLINGS)
def _(layer, p):
    # At most 1 for every p; less for p < inf, by the size of the image.
    return 1.0


def operator_norm(layer, p=np.inf):
    """Operator norm of a linear layer, from the `p`-norm to the `p`-norm.

    The smallest `c` with `||W z||_p <= c ||z||_p` for every `z`, where `W` is
    the linear part of the layer: bias and activation are left out. Computed
    in float64, without iteration, so that it can stand in a certificate.

    For a convolution and `p = inf` it is the largest ℓ1 norm of an output
    unit's kernel, whatever the strides, the dilation and the padding. That is
    exact where some output position sees the whole kernel inside the image,
    and an upper bound otherwise, as for kernels larger than the image.

    Args:
        layer: A built `keras.layers.Dense`, `Conv1D`, `Conv2D` or `Conv3D`,
            or an average pooling.
        p: 1, 2 or `float("inf")`; `float("inf")` for convolutions.

    Returns:
        Float.

    Raises:
        ValueError: If `p` is another number, if the layer is not built or
            holds NaN, or if it is a convolution and `p` is finite.
        TypeError: If the layer is not linear.

    Example:

    >>> layer = keras.layers.Dense(2)
    >>> layer.build((None, 2))
    >>> layer.set_weights([np.array([[1.0, 3.0], [-2.0, 0.0]]), np.zeros(2)])
    >>> keras_polynets.robustness.operator_norm(layer)
    3.0

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorems 5, 10 and 11.
    """
    return _operator_norm(layer, check_p(p))
