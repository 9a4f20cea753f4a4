"""Residual autoencoder for the denoising of images, quadratic or not."""

import keras
from keras import activations

from keras_polynets._errors import activation_of
from keras_polynets._errors import check_input_shape
from keras_polynets._errors import check_positive_integer
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers import QuadraticConv2DTranspose
from keras_polynets.models.denoiser import Denoiser

# He et al.'s variance, of a standard deviation a hundredth as large.
LAST_SCALE = 2e-4


@keras.saving.register_keras_serializable(package="keras_polynets")
class DenoisingAutoencoder(Denoiser):
    """Autoencoder whose output is the image without its noise.

    `depth` convolutions, then as many transposed ones, all of stride 1 and
    with an activation behind each. Zeros are padded to keep the size, but for
    the last convolution and the first transposed one: between them lies the
    bottleneck, smaller by `kernel_size - 1`. Residual connections lead from
    the input and from every second convolution `c` to the transposed
    convolution opposite, before its activation, so that the last one yields
    what is to be added to the noisy image:

        y = relu(noisy + T_depth(...)),  and inside  act(T(x) + c)

    Kernels start as He et al.'s, the last one a hundredth of that, so that the
    network begins as the identity: with a last kernel of full size the first
    epoch goes into unlearning it. The loss is the mean squared error, and the
    metric the peak signal-to-noise ratio.

    Args:
        input_shape: Tuple of 3 integers, the shape of an image. Height and
            width may be `None`; they are at least `kernel_size`.
        neuron: The quadratic neuron of all convolutions, a name of
            `keras_polynets.layers.QuadraticConv2D`; `None` for first order.
        filters: Integer, the filters of every convolution but the last.
        kernel_size: Integer, the window of every convolution.
        depth: Integer, the number of convolutions and of transposed ones.
        activation: The activation function inside, `None` for none.
        output_activation: That of the output. `"relu"` is the paper's; after
            too large a step it can leave an output of zeros that no gradient
            mends, which `None` cannot.
        dtype: The dtype policy. The output has the dtype of its variables.
        **kwargs: `input_range`, `data_range`, `name` and `trainable` of
            `keras_polynets.models.ZooModel`.

    Input shape:
        Float tensor of shape `(batch_size, *input_shape)`: noisy images around
        `input_range`, (0, 1) by default.

    Output shape:
        Float tensor of the same shape.

    Raises:
        ValueError: For an unknown neuron, a number that is not a positive
            integer, or images smaller than the window.

    Example:

    >>> DenoisingAutoencoder().count_params()
    137658

    Reference:
        - Fan et al., "Quadratic Autoencoder (Q-AE) for Low-Dose CT
          Denoising", IEEE Transactions on Medical Imaging 2020. The released
          program has windows of 3 × 3.
    """

    def __init__(
        self,
        input_shape=(28, 28, 1),
        neuron="full",
        filters=15,
        kernel_size=5,
        depth=5,
        activation="relu",
        output_activation="relu",
        dtype=None,
        **kwargs,
    ):
        for name, value in (
            ("filters", filters),
            ("kernel_size", kernel_size),
            ("depth", depth),
        ):
            check_positive_integer(name, value)
        input_shape = check_input_shape(input_shape)
        _check_size(input_shape, kernel_size)
        policy = keras.dtype_policies.get(dtype)
        activation = activation_of("activation", activation)
        output_activation = activation_of(
            "output_activation", output_activation
        )

        def convolve(x, filters, name, bottleneck, mode="fan_in", scale=2.0):
            return _convolution(neuron, transposed=mode == "fan_out")(
                filters,
                kernel_size,
                padding="valid" if bottleneck else "same",
                kernel_initializer=keras.initializers.VarianceScaling(
                    scale, mode, "truncated_normal"
                ),
                dtype=policy,
                name=name,
            )(x)

        def activate(x, name, activation=activation, dtype=policy):
            return keras.layers.Activation(activation, dtype=dtype, name=name)(
                x
            )

        inputs = keras.Input(
            input_shape, dtype=policy.variable_dtype, name="images"
        )
        x, maps = inputs, [inputs]
        for i in range(1, depth + 1):
            x = convolve(x, filters, f"conv{i}", i == depth)
            x = activate(x, f"encoder{i}")
            maps.append(x)
        # Keras counts the inputs of a transposed kernel as its outputs.
        for i in range(1, depth):
            x = convolve(x, filters, f"transposed{i}", i == 1, "fan_out")
            if (depth - i) % 2 == 0:
                x = keras.layers.Add(dtype=policy, name=f"residual{i}")(
                    [x, maps[depth - i]]
                )
            x = activate(x, f"decoder{i}")
        x = convolve(
            x,
            input_shape[-1],
            f"transposed{depth}",
            depth == 1,
            "fan_out",
            LAST_SCALE,
        )
        # The sum with the image keeps the precision of the image.
        precise = policy.variable_dtype
        x = keras.layers.Add(dtype=precise, name="residual")([x, inputs])
        x = activate(x, "denoised", output_activation, precise)
        super().__init__(
            inputs,
            x,
            config={
                "input_shape": input_shape,
                "neuron": neuron,
                "filters": filters,
                "kernel_size": kernel_size,
                "depth": depth,
                "activation": activations.serialize(activation),
                "output_activation": activations.serialize(output_activation),
            },
            dtype=policy,
            **{"input_range": (0.0, 1.0)} | kwargs,
        )


def _check_size(input_shape, kernel_size):
    """Raises unless the bottleneck has a pixel."""
    if any(size is not None and size < kernel_size for size in input_shape[:2]):
        raise ValueError(
            f"Images must be at least as large as the window, {kernel_size} "
            f"by {kernel_size} pixels. Received: input_shape={input_shape}, "
            f"kernel_size={kernel_size}"
        )


def _convolution(neuron, transposed):
    """Returns the function that makes a convolution layer."""
    if neuron is None:
        if transposed:
            return keras.layers.Conv2DTranspose
        return keras.layers.Conv2D
    cls = QuadraticConv2DTranspose if transposed else QuadraticConv2D
    return lambda *args, **kwargs: cls(*args, neuron=neuron, **kwargs)
