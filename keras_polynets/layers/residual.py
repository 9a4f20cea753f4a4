"""What residual blocks need and Keras lacks: a gate and a free shortcut."""

import keras
from keras import initializers
from keras import ops

from keras_polynets._errors import check_positive_integer


@keras.saving.register_keras_serializable(package="keras_polynets")
class ScalarGate(keras.layers.Layer):
    """Multiplies its input by one trained number, 0 at the start.

    Behind a residual branch it is ReZero; behind the second-order term of a
    block it is the gate of the released product-of-polynomials networks.

    Args:
        initializer: Initializer of the number.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`.

    Input shape:
        Tensor of any shape.

    Output shape:
        The shape of the input.

    Example:

    >>> float(ScalarGate()(np.array(3.0)))
    0.0

    Reference:
        - Bachlechner et al., "ReZero is All You Need: Fast Convergence at
          Large Depth", UAI 2021, equation 1.
    """

    def __init__(self, initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.initializer = initializers.get(initializer)

    def build(self, input_shape):
        self.alpha = self.add_weight(
            shape=(), initializer=self.initializer, name="alpha"
        )

    def call(self, inputs):
        return self.alpha * inputs

    def compute_output_shape(self, input_shape):
        return input_shape

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs."""
        return degrees[0]

    def get_config(self):
        return {
            **super().get_config(),
            "initializer": initializers.serialize(self.initializer),
        }


@keras.saving.register_keras_serializable(package="keras_polynets")
class PadShortcut(keras.layers.Layer):
    """Shortcut without parameters: subsamples, and pads channels with zeros.

    It is option A of the residual networks for CIFAR: every `strides`-th row
    and column is kept, and half of the missing channels are put before and
    half behind those that there are.

    Args:
        filters: Positive integer, the channels of the output.
        strides: Positive integer.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`.

    Input shape:
        Tensor of shape `(batch_size, height, width, channels)` with at most
        `filters` channels.

    Output shape:
        Tensor of shape `(batch_size, ⌈height / strides⌉, ⌈width / strides⌉,
        filters)`.

    Raises:
        ValueError: If `filters` or `strides` is not an integer of at least 1,
            or the input has more than `filters` channels.

    Example:

    >>> PadShortcut(32, strides=2)(np.ones((1, 8, 8, 16))).shape
    (1, 4, 4, 32)

    Reference:
        - He et al., "Deep Residual Learning for Image Recognition", CVPR
          2016, Section 3.3, option A.
    """

    def __init__(self, filters, strides=1, **kwargs):
        super().__init__(**kwargs)
        check_positive_integer("filters", filters)
        check_positive_integer("strides", strides)
        self.filters = filters
        self.strides = strides

    def build(self, input_shape):
        self._check_channels(input_shape)

    def call(self, inputs):
        missing = self.filters - inputs.shape[-1]
        before = missing // 2
        outputs = inputs[:, :: self.strides, :: self.strides, :]
        padding = [[0, 0], [0, 0], [0, 0], [before, missing - before]]
        return ops.pad(outputs, padding)

    def compute_output_shape(self, input_shape):
        self._check_channels(input_shape)
        batch, *sizes, _ = input_shape
        sizes = [n if n is None else -(-n // self.strides) for n in sizes]
        return (batch, *sizes, self.filters)

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs."""
        return degrees[0]

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
        }

    def _check_channels(self, input_shape):
        if input_shape[-1] > self.filters:
            raise ValueError(
                f"A shortcut padded to {self.filters} channels takes at most "
                f"as many. Received an input with {input_shape[-1]}: widen "
                "the later stages, or use a projection."
            )
