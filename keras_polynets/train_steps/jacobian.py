"""The penalty of the Jacobian, on every backend."""

import keras
from keras import ops

from keras_polynets.train_steps.derivatives import vector_jacobian_products


def exact_squares(logits, x, classes):
    """Returns `||J||_F^2` of each example, the Jacobian of logits by input.

    Args:
        logits: A callable `x -> logits` of shape `(batch_size, classes)`.
        x: Float tensor of shape `(batch_size, ...)`.
        classes: Integer, the number of classes: as many backward passes.
    """
    rows = ops.zeros((ops.shape(x)[0], classes), dtype=x.dtype)
    identity = ops.eye(classes, dtype=x.dtype)
    vectors = [rows + identity[n] for n in range(classes)]
    return _sum_of_squares(logits, x, vectors)


def estimated_squares(logits, x, classes, projections, seed):
    """Returns an unbiased estimate of `||J||_F^2` of each example.

    `C / n * sum_i ||v_i^T J||^2` with `C` classes and `n` vectors `v_i`, drawn
    uniformly from the unit sphere for each example.

    Args:
        logits: A callable `x -> logits` of shape `(batch_size, classes)`.
        x: Float tensor of shape `(batch_size, ...)`.
        classes: Integer.
        projections: Integer, the number of vectors: as many backward passes.
        seed: A `keras.random.SeedGenerator`.
    """
    shape = (projections, ops.shape(x)[0], classes)
    vectors = keras.random.normal(shape, dtype=x.dtype, seed=seed)
    norms = ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True))
    vectors = vectors / norms
    vectors = [vectors[n] for n in range(projections)]
    return classes / projections * _sum_of_squares(logits, x, vectors)


def _sum_of_squares(logits, x, vectors):
    _, _, products = vector_jacobian_products(
        lambda x: (logits(x), ()), x, vectors
    )
    axes = tuple(range(1, len(x.shape)))
    return sum(ops.sum(ops.square(p), axis=axes) for p in products)
