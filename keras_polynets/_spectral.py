"""Projection of matrices onto balls of the spectral norm."""

import keras
import numpy as np
from keras import ops

# A norm this close above its bound is rounding, not a violation.
_RELATIVE_SLACK = 1e-6


def project_blocks(matrix, max_values):
    """Projects blocks of a matrix's columns onto balls of the spectral norm.

    The nearest matrix whose singular values are at most the bound has the
    same singular vectors and the smaller of both: `U min(S, r) V^T`. With the
    eigenvectors `V` of `M^T M` that is `M V min(1, r / S) V^T`, which needs no
    decomposition of the large matrix. Blocks within their bound are not
    changed.

    Args:
        matrix: Float tensor of shape `(fan_in, units)`.
        max_values: Tuple of floats above 0, one for each of as many equal
            blocks of columns.

    Returns:
        The projected matrix; NaN where a block holds a value that is not
        finite.
    """
    size, units = matrix.shape
    blocks = ops.reshape(matrix, (size, len(max_values), -1))
    blocks = ops.transpose(blocks, (1, 0, 2))
    is_wide = blocks.shape[1] < blocks.shape[2]
    if is_wide:
        blocks = ops.transpose(blocks, (0, 2, 1))
    blocks = _project(blocks, max_values)
    if is_wide:
        blocks = ops.transpose(blocks, (0, 2, 1))
    return ops.reshape(ops.transpose(blocks, (1, 0, 2)), (size, units))


def _project(blocks, max_values):
    finite = ops.all(ops.isfinite(blocks), axis=(1, 2), keepdims=True)
    safe = ops.where(finite, blocks, ops.zeros_like(blocks))
    # The squares of singular values need the digits. JAX has none by default.
    wide = "float32" if keras.backend.backend() == "jax" else "float64"
    matrices = ops.cast(safe, wide)
    gram = ops.matmul(ops.transpose(matrices, (0, 2, 1)), matrices)
    squares, vectors = ops.eigh(gram)
    values = ops.sqrt(ops.maximum(squares, 0.0))
    radius = ops.convert_to_tensor(np.reshape(max_values, (-1, 1)), wide)
    shrinks = values > radius * (1 + _RELATIVE_SLACK)
    ones = ops.ones_like(values)
    factors = ops.where(shrinks, radius / ops.where(shrinks, values, ones), 1.0)
    scaled = vectors * ops.expand_dims(factors - 1.0, 1)
    change = ops.matmul(scaled, ops.transpose(vectors, (0, 2, 1)))
    # Added before the cast, where large numbers cancel.
    projected = ops.cast(matrices + ops.matmul(matrices, change), blocks.dtype)
    return ops.where(finite, projected, ops.full_like(blocks, np.nan))
