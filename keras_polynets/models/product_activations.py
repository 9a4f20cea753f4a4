"""The activation of a second-order term, and whether it can begin at zero."""

import numpy as np
from keras import ops

from keras_polynets._errors import activation_of

# A finite step: the slope of a function that is flat at zero is of its size.
STEP = 1e-3
LEAST_SLOPE = 0.01


def check_product_activation(value, from_zero):
    """Raises a `ValueError` unless an activation fits a second-order term.

    Args:
        value: The argument `product_activation`.
        from_zero: Boolean, whether what it acts on is zero before training, as
            behind a map that starts at zero. Then the term must be zero as
            well, and the gradient has to pass.
    """
    activation = activation_of("product_activation", value)
    if not from_zero:
        return
    at = np.array([[-STEP], [0], [STEP]], "float32")
    below, zero, above = ops.convert_to_numpy(
        activation(ops.convert_to_tensor(at))
    ).astype("float64")[:, 0]
    slopes = (zero - below) / STEP, (above - zero) / STEP
    if abs(zero) > 1e-6 or min(map(abs, slopes)) < LEAST_SLOPE:
        raise ValueError(
            "Argument `product_activation` must be 0 at 0 and have a slope on "
            "both sides of it, as 'tanh' has: the map before it starts at "
            "zero, so that the second-order term adds nothing at first and "
            f"can learn. Received: product_activation={value!r}, which is "
            f"{zero:.3g} at 0, with slopes of {slopes[0]:.3g} and "
            f"{slopes[1]:.3g}."
        )
