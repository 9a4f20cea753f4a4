"""What the tests of the zoo share."""

import numpy as np


def same_weights(a, b):
    """Says whether two models have the same weights."""
    return all(
        np.array_equal(x, y)
        for x, y in zip(a.get_weights(), b.get_weights(), strict=True)
    )
