"""Batch normalisation that trains with TensorFlow's fused kernel."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_polynets")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation, faster to train on TensorFlow.

    Keras composes the normalisation of a batch from eight operations, each a
    pass over the images and most of them kept for the backward pass. For images
    with the channels last this layer runs TensorFlow's one fused kernel
    instead, in training; everything else is Keras's layer: arguments,
    variables, results but for rounding, inference, and the other backends.
    `python -m benchmarks.batch_normalization` measures both.

    Args:
        axis: Integer, the axis of the channels.
        **kwargs: Further arguments of `keras.layers.BatchNormalization`.

    Input shape:
        Tensor of any shape; the axis `axis` holds the channels.

    Output shape:
        That of the input.

    Raises:
        ValueError: As `keras.layers.BatchNormalization` does.

    Example:

    >>> layer = keras_polynets.layers.BatchNormalization(momentum=0.9)
    >>> layer(np.random.normal(size=(8, 32, 32, 16)), training=True).shape
    (8, 32, 32, 16)

    Reference:
        - Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network
          Training by Reducing Internal Covariate Shift", ICML 2015.
    """

    def __init__(self, axis=-1, **kwargs):
        super().__init__(axis=axis, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if training and self.trainable and self._is_fusible(inputs, mask):
            return self._normalize_batch(inputs)
        return super().call(inputs, training=training, mask=mask)

    def polynomial_degree(self, degrees):
        """Returns the degree of the output in inference."""
        return degrees[0]

    def _is_fusible(self, inputs, mask):
        """Whether the kernel does what Keras would do with this batch."""
        wide = ops.dtype(inputs) == "float64"
        # Batch renormalisation came with Keras 3.15.
        special = self.synchronized or getattr(self, "renorm", False)
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and mask is None
            and not special
            and not wide
        )

    def _normalize_batch(self, inputs):
        import tensorflow as tf

        ones, zeros = tf.ones_like, tf.zeros_like
        mean, variance = self.moving_mean.value, self.moving_variance.value
        outputs, batch_mean, batch_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=ops.cast(inputs, "float32"),
            scale=ones(mean) if self.gamma is None else self.gamma.value,
            offset=zeros(mean) if self.beta is None else self.beta.value,
            mean=tf.zeros((0,)),
            variance=tf.zeros((0,)),
            epsilon=self.epsilon,
            is_training=True,
        )
        # The kernel divides by one less than the number of values.
        count = tf.cast(tf.size(inputs) / tf.size(mean), "float32")
        batch_variance *= tf.maximum(count - 1, 1) / count
        fresh = 1 - self.momentum
        self.moving_mean.assign(mean * self.momentum + batch_mean * fresh)
        self.moving_variance.assign(
            variance * self.momentum + batch_variance * fresh
        )
        return ops.cast(outputs, self.compute_dtype)
