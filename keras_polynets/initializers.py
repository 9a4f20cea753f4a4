"""Initializers that Keras lacks."""

import keras
import numpy as np
from keras import ops

from keras_polynets._errors import check_positive_integer


def reseed(initializer, index):
    """Returns an initializer like the one given, with a seed of its own.

    A seeded Keras initializer repeats its values when it is called again, and
    so does an unseeded one: several maps that are drawn with one instance
    would all start equal.

    Args:
        initializer: A `keras.initializers.Initializer`.
        index: Integer, which copy is wanted. Copy 0 is the one given.

    Returns:
        An initializer; the same one where it has no integer seed.
    """
    seed = getattr(initializer, "seed", None)
    if index == 0 or not isinstance(seed, int):
        return initializer
    seed = int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
    return type(initializer).from_config(
        {**initializer.get_config(), "seed": seed}
    )


@keras.saving.register_keras_serializable(package="keras_polynets")
class Blockwise(keras.initializers.Initializer):
    """Draws the blocks of a kernel one by one, as kernels of their own.

    Several maps of one input are kept in one kernel, side by side along the
    last axis, because one matrix product is faster than many. Each block must
    be drawn with its own fans, as if it were alone.

    Args:
        initializer: The initializer of a block: a name, a configuration or a
            `keras.initializers.Initializer`.
        blocks: Integer, the number of blocks along the last axis.

    Raises:
        ValueError: If the last axis of the kernel is not a multiple of
            `blocks`.

    Example:

    >>> kernel = Blockwise("glorot_uniform", blocks=4)((784, 64))

    The kernel holds four blocks of shape `(784, 16)`.
    """

    def __init__(self, initializer, blocks):
        check_positive_integer("blocks", blocks)
        self.initializer = keras.initializers.get(initializer)
        self.blocks = blocks

    def __call__(self, shape, dtype=None, **kwargs):
        if shape[-1] % self.blocks:
            raise ValueError(
                f"The last axis must be a multiple of blocks={self.blocks}. "
                f"Received: shape={tuple(shape)}"
            )
        block_shape = (*shape[:-1], shape[-1] // self.blocks)
        blocks = [
            reseed(self.initializer, block)(block_shape, dtype=dtype, **kwargs)
            for block in range(self.blocks)
        ]
        return ops.concatenate(blocks, axis=-1)

    def get_config(self):
        return {
            "initializer": keras.initializers.serialize(self.initializer),
            "blocks": self.blocks,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["initializer"] = keras.initializers.get(config["initializer"])
        return cls(**config)
