"""Whether the backend computes in float64."""

import keras
import numpy as np


def check_float64():
    """Raises a `ValueError` where a float64 product is not one.

    JAX takes float32 in silence unless told otherwise, and `keras.ops.matmul`
    on PyTorch always does.
    """
    value = np.array([[1 + 2.0**-40]])
    x = keras.ops.convert_to_tensor(value, dtype="float64")
    product = keras.ops.convert_to_numpy(keras.ops.matmul(x, x))
    if not np.allclose(product, value**2, rtol=1e-15, atol=0):
        raise ValueError(
            "This needs float64, and the backend "
            f"{keras.backend.backend()!r} computes in float32. With JAX, call "
            "`jax.config.update('jax_enable_x64', True)` first; with PyTorch, "
            "take another backend: Keras multiplies in float32 there."
        )
