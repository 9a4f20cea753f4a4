"""Random augmentation that Keras lacks, for inside the compiled step."""

import keras
from keras import ops

from keras_polynets._errors import check_positive_integer


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """A seed generator whose draws differ between the replicas of TensorFlow.

    Keras's own gives every replica of a `tf.distribute.Strategy` the same
    numbers. This one folds the replica's number into the seed where there is
    more than one replica; elsewhere it is `keras.random.SeedGenerator`.

    Args:
        seed: Integer, or `None` for a random one.

    Example:

    >>> seed_generator = ReplicaSeedGenerator(seed=0)
    >>> keras.random.uniform((2,), seed=seed_generator)
    """

    def next(self, ordered=True):
        seed = super().next(ordered)
        if keras.backend.backend() != "tensorflow":
            return seed
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is None or replica.num_replicas_in_sync == 1:
            return seed
        number = ops.cast(replica.replica_id_in_sync_group, seed.dtype)
        # The first half is the user's seed, the second one counts draws: an
        # odd stride spreads the replicas over the first half's whole range.
        return ops.stack([seed[0] + number * 0x1E3779B1, seed[1]])


@keras.saving.register_keras_serializable(package="keras_polynets")
class RandomPadCrop(keras.layers.Layer):
    """Pads images with zeros and crops each one back at a random offset.

    The usual augmentation of CIFAR: every image of the batch is moved by its
    own offset of up to `padding` pixels in each direction, drawn uniformly.
    (`keras.layers.RandomCrop` draws one offset for the whole batch.) Zeros
    are zeros in the units of the input: place the layer before the
    preprocessing, where 0 is black. It acts in training only.

    Args:
        padding: Zeros added on each side, in pixels, integer of at least 1.
        seed: Integer, or `None` for a random one. The state of the generator
            is among `layer.variables`. Under `tf.distribute` every replica
            draws other offsets.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, of any dtype.

    Output shape:
        The input's shape and dtype.

    Raises:
        ValueError: If `padding` is not a positive integer, or the input has
            not four axes.

    Example:

    >>> images = np.ones((8, 32, 32, 3), "uint8")
    >>> RandomPadCrop(4, seed=0)(images, training=True).shape
    (8, 32, 32, 3)

    Reference:

    - He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition"
      (2016), section 4.2.
    """

    def __init__(self, padding=4, seed=None, **kwargs):
        # The input keeps its dtype whatever the policy.
        super().__init__(autocast=False, **kwargs)
        check_positive_integer("padding", padding)
        self.padding = padding
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed)

    def call(self, images, training=False):
        if len(images.shape) != 4:
            raise ValueError(
                "RandomPadCrop expects images of shape (batch, height, "
                f"width, channels). Received: shape {tuple(images.shape)}"
            )
        if not training:
            return images
        batch, height, width, channels = ops.shape(images)
        offsets = keras.random.randint(
            (2, batch, 1, 1), 0, 2 * self.padding + 1, seed=self.seed_generator
        )
        border = (self.padding, self.padding)
        padded = ops.pad(images, ((0, 0), border, border, (0, 0)))
        padded_height, padded_width = ops.shape(padded)[1:3]
        # One gather of pixels: each image's crop within the padded batch.
        image = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1))
        row = ops.reshape(ops.arange(height, dtype="int32"), (-1, 1))
        column = ops.arange(width, dtype="int32")
        first = image * padded_height + offsets[0]
        first = first * padded_width + offsets[1]
        pixels = first + (row * padded_width + column)
        return ops.take(ops.reshape(padded, (-1, channels)), pixels, axis=0)

    def compute_output_shape(self, input_shape):
        return input_shape

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs."""
        return degrees[0]

    def get_config(self):
        return {
            **super().get_config(),
            "padding": self.padding,
            "seed": self.seed,
        }
