"""Convolutions of quadratic neurons."""

import keras

from keras_polynets.layers.quadratic import QuadraticLayer


class QuadraticConv(QuadraticLayer):
    """What the quadratic convolutions of every dimension share.

    Args: see `QuadraticConv2D`.
    """

    _geometry = (
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "data_format",
        "dilation_rate",
        "groups",
    )

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        data_format=None,
        dilation_rate=1,
        groups=1,
        *,
        neuron="full",
        **kwargs,
    ):
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            neuron=neuron,
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_polynets")
class QuadraticConv1D(QuadraticConv):
    """Convolution over time with quadratic neurons.

    Stands wherever a `keras.layers.Conv1D` does. The neuron `"full"` computes

        activation((W_r z + b_r) * (W_g z + b_g) + W_b (z * z) + c)

    with convolutions `W_r`, `W_g` and `W_b`, and starts as the conventional
    `activation(W_r z + b_r)`.

    Args:
        filters: Positive integer, the channels of the output.
        kernel_size: Integer or tuple of one integer, the window.
        strides: Integer or tuple of one integer.
        padding: `"valid"`, `"same"` or `"causal"`.
        data_format: `"channels_last"` or `"channels_first"`; by default that
            of Keras.
        dilation_rate: Integer or tuple of one integer.
        groups: Positive integer, the number of groups of channels that are
            convolved separately.
        neuron: String, the quadratic neuron: `"full"`, `"compact"`,
            `"parabolic"`, `"poly"`, `"qres"`, `"quadralib"`, `"goyal"`,
            `"type2"`, `"type3"`, `"type4"` or `"type2_4"`. See
            `keras_polynets.layers.neurons.NEURONS` and docs/neurons.md.
        **kwargs: `activation`, `use_bias`, initializers, regularizers and
            constraints as in `keras_polynets.layers.QuadraticLayer`, and
            `name`, `dtype`, `trainable`.

    Input shape:
        Tensor of shape `(batch_size, steps, channels)`, or with the
        channels second where `data_format` says so.

    Output shape:
        Tensor of shape `(batch_size, new_steps, filters)`, or with
        the filters second.

    Raises:
        ValueError: If there is no neuron of this name, or the sizes are none
            that `keras.layers.Conv1D` takes.

    Example:

    >>> layer = keras_polynets.layers.QuadraticConv1D(16, 3, padding="same")
    >>> layer(np.random.normal(size=(8, 100, 4))).shape
    (8, 100, 16)

    Reference:
        - Fan et al., "On Expressivity and Trainability of Quadratic
          Networks", 2021, Equation (4), Section V-B.
    """

    _map_class = keras.layers.Conv1D


@keras.saving.register_keras_serializable(package="keras_polynets")
class QuadraticConv2D(QuadraticConv):
    """Convolution over images with quadratic neurons.

    Stands wherever a `keras.layers.Conv2D` does. The neuron `"full"` computes

        activation((W_r z + b_r) * (W_g z + b_g) + W_b (z * z) + c)

    with convolutions `W_r`, `W_g` and `W_b`, and starts as the conventional
    `activation(W_r z + b_r)`.

    Args:
        filters: Positive integer, the channels of the output.
        kernel_size: Integer or tuple of 2 integers, the window.
        strides: Integer or tuple of 2 integers.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`; by default that
            of Keras.
        dilation_rate: Integer or tuple of 2 integers.
        groups: Positive integer, the number of groups of channels that are
            convolved separately.
        neuron: String, the quadratic neuron: `"full"`, `"compact"`,
            `"parabolic"`, `"poly"`, `"qres"`, `"quadralib"`, `"goyal"`,
            `"type2"`, `"type3"`, `"type4"` or `"type2_4"`. See
            `keras_polynets.layers.neurons.NEURONS` and docs/neurons.md.
        **kwargs: `activation`, `use_bias`, initializers, regularizers and
            constraints as in `keras_polynets.layers.QuadraticLayer`, and
            `name`, `dtype`, `trainable`.

    Input shape:
        Tensor of shape `(batch_size, height, width, channels)`, or with the
        channels second where `data_format` says so.

    Output shape:
        Tensor of shape `(batch_size, new_height, new_width, filters)`, or with
        the filters second.

    Raises:
        ValueError: If there is no neuron of this name, or the sizes are none
            that `keras.layers.Conv2D` takes.

    Example:

    >>> layer = keras_polynets.layers.QuadraticConv2D(16, 3, padding="same")
    >>> layer(np.random.normal(size=(8, 32, 32, 3))).shape
    (8, 32, 32, 16)

    Reference:
        - Fan et al., "On Expressivity and Trainability of Quadratic
          Networks", 2021, Equation (4), Section V-B.
    """

    _map_class = keras.layers.Conv2D


@keras.saving.register_keras_serializable(package="keras_polynets")
class QuadraticConv3D(QuadraticConv):
    """Convolution over volumes with quadratic neurons.

    Stands wherever a `keras.layers.Conv3D` does. The neuron `"full"` computes

        activation((W_r z + b_r) * (W_g z + b_g) + W_b (z * z) + c)

    with convolutions `W_r`, `W_g` and `W_b`, and starts as the conventional
    `activation(W_r z + b_r)`.

    Args:
        filters: Positive integer, the channels of the output.
        kernel_size: Integer or tuple of 3 integers, the window.
        strides: Integer or tuple of 3 integers.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`; by default that
            of Keras.
        dilation_rate: Integer or tuple of 3 integers.
        groups: Positive integer, the number of groups of channels that are
            convolved separately.
        neuron: String, the quadratic neuron: `"full"`, `"compact"`,
            `"parabolic"`, `"poly"`, `"qres"`, `"quadralib"`, `"goyal"`,
            `"type2"`, `"type3"`, `"type4"` or `"type2_4"`. See
            `keras_polynets.layers.neurons.NEURONS` and docs/neurons.md.
        **kwargs: `activation`, `use_bias`, initializers, regularizers and
            constraints as in `keras_polynets.layers.QuadraticLayer`, and
            `name`, `dtype`, `trainable`.

    Input shape:
        Tensor of shape `(batch_size, depth, height, width, channels)`, or with
        the channels second where `data_format` says so.

    Output shape:
        Tensor of shape `(batch_size, new_depth, new_height, new_width,
        filters)`, or with the filters second.

    Raises:
        ValueError: If there is no neuron of this name, or the sizes are none
            that `keras.layers.Conv3D` takes.

    Example:

    >>> layer = keras_polynets.layers.QuadraticConv3D(16, 3, padding="same")
    >>> layer(np.random.normal(size=(2, 8, 8, 8, 1))).shape
    (2, 8, 8, 8, 16)

    Reference:
        - Fan et al., "On Expressivity and Trainability of Quadratic
          Networks", 2021, Equation (4), Section V-B.
    """

    _map_class = keras.layers.Conv3D


@keras.saving.register_keras_serializable(package="keras_polynets")
class QuadraticConv2DTranspose(QuadraticLayer):
    """Transposed convolution over images with quadratic neurons.

    Stands wherever a `keras.layers.Conv2DTranspose` does. The neuron `"full"`
    computes

        activation((W_r z + b_r) * (W_g z + b_g) + W_b (z * z) + c)

    with transposed convolutions `W_r`, `W_g` and `W_b`, and starts as the
    conventional `activation(W_r z + b_r)`.

    Args:
        filters: Positive integer, the channels of the output.
        kernel_size: Integer or tuple of 2 integers, the window.
        strides: Integer or tuple of 2 integers.
        padding: `"valid"` or `"same"`.
        output_padding: Integer or tuple of 2 integers, the size added to one
            side of the output; `None` to infer it.
        data_format: `"channels_last"` or `"channels_first"`; by default that
            of Keras.
        dilation_rate: Integer or tuple of 2 integers.
        neuron: String, the quadratic neuron: `"full"`, `"compact"`,
            `"parabolic"`, `"poly"`, `"qres"`, `"quadralib"`, `"goyal"`,
            `"type2"`, `"type3"`, `"type4"` or `"type2_4"`. See
            `keras_polynets.layers.neurons.NEURONS` and docs/neurons.md.
        **kwargs: `activation`, `use_bias`, initializers, regularizers and
            constraints as in `keras_polynets.layers.QuadraticLayer`, and
            `name`, `dtype`, `trainable`.

    Input shape:
        Tensor of shape `(batch_size, height, width, channels)`, or with the
        channels second where `data_format` says so.

    Output shape:
        Tensor of shape `(batch_size, new_height, new_width, filters)`, or with
        the filters second.

    Raises:
        ValueError: If there is no neuron of this name, or the sizes are none
            that `keras.layers.Conv2DTranspose` takes.

    Example:

    >>> layer = keras_polynets.layers.QuadraticConv2DTranspose(
    ...     16, 3, strides=2, padding="same"
    ... )
    >>> layer(np.random.normal(size=(8, 16, 16, 4))).shape
    (8, 32, 32, 16)

    Reference:
        - Fan et al., "On Expressivity and Trainability of Quadratic
          Networks", 2021, Equation (4).
    """

    _map_class = keras.layers.Conv2DTranspose
    _geometry = (
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "output_padding",
        "data_format",
        "dilation_rate",
    )

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="valid",
        output_padding=None,
        data_format=None,
        dilation_rate=1,
        *,
        neuron="full",
        **kwargs,
    ):
        super().__init__(
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            output_padding=output_padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            neuron=neuron,
            **kwargs,
        )
