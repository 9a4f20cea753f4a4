"""Residual autoencoder for the denoising of images, quadratic or not."""

import keras
from keras import activations

from keras_polynets._errors import check_positive_integer
from keras_polynets.layers import QuadraticConv2D
from keras_polynets.layers import QuadraticConv2DTranspose
from keras_polynets.models.zoo_model import ZooModel


@keras.saving.register_keras_serializable(package="keras_polynets")
class DenoisingAutoencoder(ZooModel):
    """Autoencoder whose output is the image without its noise.

    `depth` convolutions, then as many transposed ones, all of stride 1 and
    padded to keep the size, with an activation behind each. Residual
    connections lead from the input and from every second convolution to the
    transposed convolution opposite, before its activation, so that the last
    one yields what is to be added to the noisy image:

        y = noisy + T_depth(...),  and opposite to convolution c: act(T(x) + c)

    Args:
        input_shape: Tuple of 3 integers, the shape of an image. Height and
            width may be `None`.
        neuron: The quadratic neuron of all convolutions, a name of
            `keras_polynets.layers.QuadraticConv2D`; `None` for first order.
        filters: Integer, the filters of every convolution but the last.
        kernel_size: Integer, the window of every convolution.
        depth: Integer, the number of convolutions and of transposed ones.
        activation: The activation function, `None` for none.
        **kwargs: `input_range`, `data_range`, `name`, `dtype` and `trainable`
            of `keras_polynets.models.ZooModel`.

    Input shape:
        Float tensor of shape `(batch_size, *input_shape)`: noisy images around
        `input_range`, (0, 1) by default.

    Output shape:
        Float tensor of the same shape.

    Raises:
        ValueError: For an unknown neuron or a number that is not a positive
            integer.

    Example:

    >>> DenoisingAutoencoder().count_params()
    137658

    Reference:
        - Fan et al., "Quadratic Autoencoder (Q-AE) for Low-Dose CT
          Denoising", IEEE Transactions on Medical Imaging 2020.
    """

    def __init__(
        self,
        input_shape=(28, 28, 1),
        neuron="full",
        filters=15,
        kernel_size=5,
        depth=5,
        activation="relu",
        dtype=None,
        **kwargs,
    ):
        for name, value in (("filters", filters), ("depth", depth)):
            check_positive_integer(name, value)
        policy = keras.dtype_policies.get(dtype)
        activation = activations.get(activation)

        def convolve(x, filters, transposed, name):
            return _convolution(neuron, transposed)(
                filters,
                kernel_size,
                padding="same",
                kernel_initializer=keras.initializers.HeNormal(),
                dtype=policy,
                name=name,
            )(x)

        def activate(x, name):
            return keras.layers.Activation(activation, dtype=policy, name=name)(
                x
            )

        inputs = keras.Input(
            tuple(input_shape), dtype=policy.variable_dtype, name="images"
        )
        x, maps = inputs, [inputs]
        for i in range(1, depth + 1):
            x = convolve(x, filters, False, f"conv{i}")
            x = activate(x, f"encoder{i}")
            maps.append(x)
        for i in range(1, depth + 1):
            last = i == depth
            width = input_shape[-1] if last else filters
            x = convolve(x, width, True, f"transposed{i}")
            if (depth - i) % 2 == 0:
                x = keras.layers.Add(
                    dtype="float32" if last else policy,
                    name="denoised" if last else f"residual{i}",
                )([x, maps[depth - i]])
            if not last:
                x = activate(x, f"decoder{i}")
        super().__init__(
            inputs,
            x,
            config={
                "input_shape": tuple(input_shape),
                "neuron": neuron,
                "filters": filters,
                "kernel_size": kernel_size,
                "depth": depth,
                "activation": activations.serialize(activation),
            },
            dtype=policy,
            **{"input_range": (0.0, 1.0)} | kwargs,
        )


def _convolution(neuron, transposed):
    """Returns the function that makes a convolution layer."""
    if neuron is None:
        if transposed:
            return keras.layers.Conv2DTranspose
        return keras.layers.Conv2D
    cls = QuadraticConv2DTranspose if transposed else QuadraticConv2D
    return lambda *args, **kwargs: cls(*args, neuron=neuron, **kwargs)
