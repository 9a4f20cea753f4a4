"""What attacks raise: one loss an image, of its logits and label."""

import keras
from keras import ops

# Keeps the quotient of tied logits finite, as the authors of the loss do.
_TINY = 1e-12


def cross_entropy(logits, labels):
    """Returns the cross-entropy of each example.

    Args:
        logits: Float tensor of shape `(batch_size, classes)`.
        labels: Integer tensor of shape `(batch_size,)`.
    """
    return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def kl_divergence(clean_logits, logits):
    """Returns `KL(softmax(clean_logits) || softmax(logits))` of each example.

    Args:
        clean_logits: Float tensor of shape `(batch_size, classes)`.
        logits: Float tensor of the same shape.
    """
    clean = ops.log_softmax(clean_logits, axis=-1)
    difference = clean - ops.log_softmax(logits, axis=-1)
    return ops.sum(ops.exp(clean) * difference, axis=-1)


def margin(logits, labels):
    """Returns `z_y - max_{i != y} z_i`: above 0 where an image is right.

    Args:
        logits: Float tensor of shape `(batch_size, classes)`.
        labels: Integer tensor of shape `(batch_size,)`.
    """
    is_label = _one_hot(logits, labels) > 0
    lowest = ops.full_like(logits, -float("inf"))
    others = ops.max(ops.where(is_label, lowest, logits), axis=-1)
    return _chosen(logits, labels) - others


def dlr(logits, labels):
    """Returns the difference of logits ratio of each example.

    `-(z_y - max_{i != y} z_i) / (z_(1) - z_(3))`, with `z_(i)` the `i`-th
    largest logit: above 0 where the image is classified wrongly, and the same
    for logits times any factor, so that it does not saturate.

    Args:
        logits: Float tensor of shape `(batch_size, classes)`, 3 classes or
            more.
        labels: Integer tensor of shape `(batch_size,)`.

    Reference:
        - Croce, Hein, "Reliable evaluation of adversarial robustness with an
          ensemble of diverse parameter-free attacks", ICML 2020, equation 6.
    """
    largest = ops.top_k(logits, 3)[0]
    spread = largest[:, 0] - largest[:, 2]
    return -margin(logits, labels) / (spread + _TINY)


def targeted_dlr(logits, labels, targets):
    """Returns the targeted difference of logits ratio of each example.

    `-(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)`, with `z_(i)` the `i`-th
    largest logit.

    Args:
        logits: Float tensor of shape `(batch_size, classes)`, 4 classes or
            more.
        labels: Integer tensor of shape `(batch_size,)`, the true classes.
        targets: Integer tensor of shape `(batch_size,)`, other classes.

    Reference:
        - Croce, Hein, "Reliable evaluation of adversarial robustness with an
          ensemble of diverse parameter-free attacks", ICML 2020, equation 7.
    """
    largest = ops.top_k(logits, 4)[0]
    spread = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    difference = _chosen(logits, labels) - _chosen(logits, targets)
    return -difference / (spread + _TINY)


def is_wrong(logits, labels):
    """Returns whether each example is classified wrongly.

    Args:
        logits: Float tensor of shape `(batch_size, classes)`.
        labels: Integer tensor of shape `(batch_size,)`.
    """
    predictions = ops.argmax(logits, axis=-1)
    return ops.not_equal(predictions, ops.cast(labels, predictions.dtype))


def _chosen(logits, labels):
    return ops.sum(_one_hot(logits, labels) * logits, axis=-1)


def _one_hot(logits, labels):
    dtype = keras.backend.standardize_dtype(logits.dtype)
    return ops.one_hot(labels, logits.shape[-1], dtype=dtype)
