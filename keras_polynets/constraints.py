"""Projection of weights onto balls of operator norms."""

import functools

import keras
import numpy as np
from keras import ops

from keras_polynets import _spectral
from keras_polynets._backend import is_traced
from keras_polynets._backend import number_of_replicas
from keras_polynets._l1_ball import l1_thresholds
from keras_polynets._l1_ball import soft_threshold


def check_bound(max_value):
    """Returns a bound as a float or a tuple of floats, or raises.

    Args:
        max_value: Number above 0, or a sequence of such numbers.

    Raises:
        ValueError: If a bound is not a finite number above 0.
    """
    values = np.atleast_1d(np.asarray(max_value, dtype="float64"))
    if values.ndim != 1 or not values.size or not np.all(values > 0):
        raise ValueError(
            "A bound of the operator norm must be a number above 0, or a "
            f"sequence of such numbers. Received: max_value={max_value}"
        )
    if np.ndim(max_value) == 0:
        return float(values[0])
    return tuple(values.tolist())


def bounds_of_units(max_value, units):
    """Spreads a bound, or one bound a block of units, over all units.

    Args:
        max_value: Float or tuple of floats.
        units: Integer, the number of units (the last axis of the kernel).

    Returns:
        Float, or NumPy array of shape `(units,)`.

    Raises:
        ValueError: If the units cannot be divided into that many blocks.
    """
    if isinstance(max_value, float):
        return max_value
    if units % len(max_value):
        raise ValueError(
            f"Received {len(max_value)} bounds for a kernel of {units} units, "
            "which do not divide into that many equal blocks. Give one number, "
            "or as many as there are orders."
        )
    return np.repeat(max_value, units // len(max_value))


def project(kernel, max_value, bias=None):
    """Projects a kernel onto a ball of the ∞-operator norm.

    Every output unit's weights, which are the row of the operator's matrix,
    are projected onto the ℓ1 ball: the nearest kernel whose ∞-operator norm is
    at most `max_value`. Units that satisfy the bound are not changed.

    Args:
        kernel: Float tensor of shape `(..., units)`: a dense kernel, or a
            convolution's of shape `(*window, channels, units)`.
        max_value: Float above 0, or a tuple of floats, one for each of as many
            equal blocks of units.
        bias: Optional float tensor of shape `(units,)` that counts as one more
            weight of each unit.

    Returns:
        The projected kernel, or the pair of the projected kernel and bias.
        Units with a weight that is not finite become NaN.

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Algorithm 1 and Theorem 5.
    """
    kernel = _tensor(kernel)
    bias = None if bias is None else _tensor(bias)
    projected = _implementation()(kernel, max_value, bias)
    return projected[0] if bias is None else projected


def _tensor(weights):
    if isinstance(weights, keras.Variable):
        weights = weights.value
    return ops.convert_to_tensor(weights)


def _implementation():
    """Returns the projection, on TensorFlow with one replica compiled by XLA.

    One fused loop over the kernel instead of several passes an iteration, also
    where the training step around it runs without XLA. On several logical CPU
    devices at once XLA mixes up the kernels.
    """
    if keras.backend.backend() != "tensorflow" or number_of_replicas() > 1:
        return _project
    return _compiled_projection()


@functools.cache
def _compiled_projection():
    import tensorflow as tf

    return tf.function(_project, jit_compile=True, autograph=False)


def _matrix(kernel, bias):
    """Returns the columns of all units, the bias as one more row."""
    dtype = keras.backend.standardize_dtype(kernel.dtype)
    if dtype in ("float16", "bfloat16"):
        # Half-precision sums of thousands of weights would be too coarse.
        dtype = "float32"
    matrix = ops.reshape(ops.cast(kernel, dtype), (-1, kernel.shape[-1]))
    if bias is None:
        return matrix
    row = ops.cast(ops.expand_dims(bias, 0), dtype)
    return ops.concatenate([matrix, row], axis=0)


def project_spectral(kernel, max_value, bias=None):
    """Projects a kernel onto a ball of the spectral norm.

    The kernel is seen as the matrix of its shape `(-1, units)`, whose singular
    values above `max_value` become `max_value`: the nearest such matrix whose
    spectral norm is at most that. For dense kernels this is the 2-operator
    norm of the layer; for convolutions it is the norm of the reshaped kernel,
    as in the paper, which is not that of the operator.

    Args:
        kernel: Float tensor of shape `(..., units)`.
        max_value: Float above 0, or a tuple of floats, one for each of as many
            equal blocks of units, each of which is a matrix of its own.
        bias: Optional float tensor of shape `(units,)` that counts as one more
            weight of each unit.

    Returns:
        The projected kernel, or the pair of the projected kernel and bias.
        Blocks with a weight that is not finite become NaN.

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorem 7.
    """
    kernel = _tensor(kernel)
    bias = None if bias is None else _tensor(bias)
    values = max_value if isinstance(max_value, tuple) else (max_value,)
    bounds_of_units(values, kernel.shape[-1])
    matrix = _spectral.project_blocks(_matrix(kernel, bias), values)
    rows = matrix if bias is None else matrix[:-1]
    projected = ops.cast(ops.reshape(rows, kernel.shape), kernel.dtype)
    if bias is None:
        return projected
    return projected, ops.cast(matrix[-1], bias.dtype)


def _project(kernel, max_value, bias):
    radius = bounds_of_units(max_value, kernel.shape[-1])
    matrix = _matrix(kernel, bias)
    thresholds = ops.cast(l1_thresholds(matrix, radius), kernel.dtype)
    if bias is None:
        return (soft_threshold(kernel, thresholds),)
    return soft_threshold(kernel, thresholds), soft_threshold(bias, thresholds)


def check_finite(variable):
    """Raises a `ValueError` that names a variable with a non-finite value.

    Args:
        variable: A Keras variable or a tensor with a value.
    """
    values = ops.convert_to_numpy(variable)
    count = int(np.size(values) - np.isfinite(values).sum())
    if count:
        name = getattr(variable, "path", "the weights")
        raise ValueError(
            f"Cannot project {name!r}: {count} of its {values.size} values "
            "are NaN or infinite. Lower the learning rate or the bound, or "
            "go back to an earlier checkpoint."
        )


@keras.saving.register_keras_serializable(package="keras_polynets")
class LInfOperatorNorm(keras.constraints.Constraint):
    """Keeps the ∞-operator norm of a kernel at or below a bound.

    After every update each output unit's weights are projected onto the ℓ1
    ball of radius `max_value`. For dense kernels and for convolutions with odd
    windows that fit in the input, the largest ℓ1 norm of a unit's weights is
    the ∞-operator norm of the layer.

    Use `keras_polynets.callbacks.PeriodicProjection` to project every few
    steps, from a given epoch, or jointly with the biases. Use it with an
    optimizer that averages weights (`use_ema=True`) too: Keras averages them
    before it applies constraints, so that the averages exceed the bound.

    Args:
        max_value: Float above 0, the bound. Or a sequence of such floats: the
            units are divided into as many equal blocks, one bound a block, in
            the order of the last axis (the kernel of all orders of a
            polynomial layer has one block an order).

    Raises:
        ValueError: If a bound is not above 0, or, outside compiled functions,
            if a weight is NaN or infinite.

    Example:

    >>> layer = keras_polynets.layers.CCP(
    ...     units=10, rank=16, order=4,
    ...     factor_constraint=LInfOperatorNorm([2.0, 1.0, 1.0, 1.0]),
    ...     kernel_constraint=LInfOperatorNorm(1.0),
    ... )

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Section 3.
    """

    projection = staticmethod(project)

    def __init__(self, max_value):
        self.max_value = check_bound(max_value)

    def __call__(self, w):
        if not is_traced(w):
            check_finite(w)
        return self.projection(w, self.max_value)

    def get_config(self):
        return {"max_value": self.max_value}


@keras.saving.register_keras_serializable(package="keras_polynets")
class SpectralNorm(LInfOperatorNorm):
    """Keeps the spectral norm of a kernel at or below a bound.

    After every update the singular values of the kernel, seen as a matrix of
    shape `(-1, units)`, are clipped to `max_value`. That is the projection,
    unlike `keras.layers.SpectralNormalization`, which divides by the norm.
    Use `keras_polynets.callbacks.PeriodicProjection` with `norm="spectral"` to
    project every few steps, and with an optimizer that averages weights
    (`use_ema=True`), where constraints leave the averages unbounded.

    Args:
        max_value: Float above 0, the bound. Or a sequence of such floats: the
            units are divided into as many equal blocks, each a matrix with a
            bound of its own (the kernel of all orders of a polynomial layer
            has one block an order).

    Raises:
        ValueError: If a bound is not above 0, or, outside compiled functions,
            if a weight is NaN or infinite.

    Example:

    >>> layer = keras.layers.Dense(16, kernel_constraint=SpectralNorm(1.0))

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Theorem 7.
    """

    projection = staticmethod(project_spectral)


def linear_maps(model):
    """Returns the dense and convolution layers of a model, in order.

    Args:
        model: A `keras.Model` or a layer. Layers inside layers are found.

    Returns:
        List of `keras.layers.Dense`, `Conv1D`, `Conv2D` and `Conv3D` layers;
        a layer that is used twice stands once.
    """
    return [layer for layer in model._flatten_layers() if is_linear_map(layer)]


def is_linear_map(layer):
    """Says whether a layer's units are the columns of its one kernel.

    Args:
        layer: A `keras.layers.Layer`.

    Returns:
        Boolean, true for dense layers and plain convolutions.
    """
    kinds = (
        keras.layers.Dense,
        keras.layers.Conv1D,
        keras.layers.Conv2D,
        keras.layers.Conv3D,
    )
    return isinstance(layer, kinds)


def row_norms(kernel, bias=None):
    """Returns the ℓ1 norm of every output unit's weights.

    Args:
        kernel: Variable, tensor or array of shape `(..., units)`.
        bias: Optional, of shape `(units,)`; counts as one more weight of each
            unit.

    Returns:
        NumPy float64 array of shape `(units,)`.
    """
    values = np.asarray(ops.convert_to_numpy(kernel), dtype="float64")
    norms = np.abs(values).reshape(-1, values.shape[-1]).sum(axis=0)
    if bias is not None:
        norms += np.abs(np.asarray(ops.convert_to_numpy(bias), dtype="float64"))
    return norms
