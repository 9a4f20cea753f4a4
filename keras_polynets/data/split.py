"""Splits that keep the share of every class."""

import numpy as np


def stratified_split(labels, size, seed):
    """Holds out some examples, each class in proportion to its share.

    Used to take a validation set out of a training set. The result depends on
    `labels`, `size` and `seed` alone, not on the process or the machine.

    Args:
        labels: Integer labels, array of shape `(n,)`.
        size: How many examples to hold out, from 1 to `n - 1`. Where the
            classes' shares are not whole numbers the largest remainders are
            rounded up (of equal ones the smallest labels).
        seed: Integer of at least 0.

    Returns:
        A tuple `(kept, held_out)` of int64 index arrays, each in ascending
        order, that together hold every index once.

    Raises:
        ValueError: If `labels` is not a vector of integers or `size` is out
            of range.

    Example:

    >>> kept, held_out = stratified_split(data.y_train, 5000, seed=0)
    >>> x_validation = data.x_train[held_out]
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "Argument `labels` must be a vector of integers. Received: "
            f"dtype {labels.dtype}, shape {labels.shape}"
        )
    if not 1 <= size < len(labels):
        raise ValueError(
            f"Argument `size` must be from 1 to {len(labels) - 1}, one less "
            f"than the {len(labels)} labels. Received: size={size}"
        )
    _, label_of, counts = np.unique(
        labels, return_inverse=True, return_counts=True
    )
    quotas, remainders = np.divmod(counts * size, len(labels))
    largest = np.argsort(-remainders, kind="stable")
    quotas[largest[: size - quotas.sum()]] += 1
    # A stable sort by class of a random order leaves each class shuffled.
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(label_of[order], kind="stable")]
    place_in_class = np.arange(len(labels)) - np.repeat(
        np.cumsum(counts) - counts, counts
    )
    held = place_in_class < np.repeat(quotas, counts)
    return np.sort(order[~held]), np.sort(order[held])
