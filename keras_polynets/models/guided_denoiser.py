"""U-Net that takes adversarial noise out of images before a classifier."""

import keras
import numpy as np
from keras import activations

from keras_polynets._errors import activation_of
from keras_polynets._errors import check_input_shape
from keras_polynets._errors import check_positive_integer
from keras_polynets.layers import BatchNormalization
from keras_polynets.models.denoiser import Denoiser

# He et al.'s variance, of a standard deviation a hundredth as large.
LAST_SCALE = 2e-4


@keras.saving.register_keras_serializable(package="keras_polynets")
class GuidedDenoiser(Denoiser):
    """U-Net that predicts the negative noise of an image.

    The denoiser of Liao et al., small: each level holds `blocks` convolutions
    of 3 × 3 with a normalisation and an activation; on the way down the first
    one of a level has stride 2, on the way up the maps of the level below are
    enlarged by bilinear interpolation and joined to those of the way down. A
    1 × 1 convolution ends it:

        y = x + net(x)

    The output is not clipped: beyond the ends of the range a clip would have
    no gradient, and attacks through the denoiser would look weaker than they
    are. The network is differentiable wherever its activation is. The last
    kernel is small, so that the network begins nearly as the identity.

    `keras_polynets.trainers.GuidedDenoising` trains it for a classifier, and
    `keras_polynets.robustness.defend` puts it before one.

    Args:
        input_shape: Tuple of 3 integers, the shape of an image. Height and
            width may be `None`. They are multiples of two to the power of the
            levels but one: of 4 for three levels.
        filters: Sequence of integers, the filters of each level.
        blocks: Integer, the convolutions of a level, on each way.
        activation: The activation function inside, `None` for none.
        dtype: The dtype policy. The output has the dtype of its variables.
        **kwargs: `input_range`, `data_range`, `name` and `trainable` of
            `keras_polynets.models.ZooModel`.

    Input shape:
        Float tensor of shape `(batch_size, *input_shape)`: images in
        `input_range`, (-1, 1) by default.

    Output shape:
        Float tensor of the same shape.

    Raises:
        ValueError: If there is no level, a number is not a positive integer,
            or height or width is no multiple of what it has to be.

    Example:

    >>> GuidedDenoiser().output_shape
    (None, 28, 28, 1)

    Reference:
        - Liao et al., "Defense against Adversarial Attacks Using High-Level
          Representation Guided Denoiser", CVPR 2018: the additive U-Net
          (DUNET).
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Appendix H.9.
    """

    def __init__(
        self,
        input_shape=(28, 28, 1),
        filters=(12, 24, 48),
        blocks=2,
        activation="relu",
        dtype=None,
        **kwargs,
    ):
        input_shape = check_input_shape(input_shape)
        filters = tuple(np.ravel(filters).tolist())
        check_positive_integer("blocks", blocks)
        for count in filters:
            check_positive_integer("filters", count)
        _check_size(input_shape, filters)
        policy = keras.dtype_policies.get(dtype)
        activation = activation_of("activation", activation)

        def level(x, filters, name, stride=1):
            for i in range(1, blocks + 1):
                x = keras.layers.Conv2D(
                    filters,
                    3,
                    strides=stride if i == 1 else 1,
                    padding="same",
                    use_bias=False,
                    kernel_initializer="he_normal",
                    dtype=policy,
                    name=f"{name}_conv{i}",
                )(x)
                x = BatchNormalization(
                    momentum=0.9, dtype=policy, name=f"{name}_norm{i}"
                )(x)
                x = keras.layers.Activation(
                    activation, dtype=policy, name=f"{name}_act{i}"
                )(x)
            return x

        inputs = keras.Input(
            input_shape, dtype=policy.variable_dtype, name="images"
        )
        x, maps = inputs, []
        for n, count in enumerate(filters, start=1):
            x = level(x, count, f"down{n}", 1 if n == 1 else 2)
            maps.append(x)
        for n in range(len(filters) - 1, 0, -1):
            x = keras.layers.UpSampling2D(
                interpolation="bilinear", dtype=policy, name=f"enlarge{n}"
            )(x)
            x = keras.layers.Concatenate(dtype=policy, name=f"join{n}")(
                [x, maps[n - 1]]
            )
            x = level(x, filters[n - 1], f"up{n}")
        x = keras.layers.Conv2D(
            input_shape[-1],
            1,
            kernel_initializer=keras.initializers.VarianceScaling(
                LAST_SCALE, "fan_in", "truncated_normal"
            ),
            dtype=policy,
            name="negative_noise",
        )(x)
        # The sum with the image keeps the precision of the image.
        x = keras.layers.Add(dtype=policy.variable_dtype, name="denoised")(
            [x, inputs]
        )
        super().__init__(
            inputs,
            x,
            config={
                "input_shape": input_shape,
                "filters": filters,
                "blocks": blocks,
                "activation": activations.serialize(activation),
            },
            dtype=policy,
            **kwargs,
        )


def _check_size(input_shape, filters):
    """Raises unless the maps can be halved once a level and joined again."""
    if not filters:
        raise ValueError(
            "Argument `filters` must hold a number for each level, at least "
            "one. Received: filters=()"
        )
    factor = 2 ** (len(filters) - 1)
    if any(size is not None and size % factor for size in input_shape[:2]):
        raise ValueError(
            f"Height and width must be multiples of {factor}, as a U-Net of "
            f"{len(filters)} levels halves them {len(filters) - 1} times. "
            f"Received: input_shape={input_shape}. Pad the images, or give "
            "fewer `filters`."
        )
