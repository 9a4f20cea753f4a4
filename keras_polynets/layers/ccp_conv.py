"""The coupled CP decomposition over convolutions."""

import itertools
import math

import keras
from keras import constraints
from keras import initializers
from keras import ops
from keras import regularizers

from keras_polynets._errors import check_positive_integer
from keras_polynets.initializers import Blockwise
from keras_polynets.layers import recursions
from keras_polynets.layers.dense_polynomial import hadamard_policy


@keras.saving.register_keras_serializable(package="keras_polynets")
class CCPConv2D(keras.layers.Layer):
    """Polynomial of a feature map by CCP, with convolutions as its maps.

    With the input map `z`, the layer computes

        x_1 = U_1 z
        x_n = (U_n z) * x_{n-1} + x_{n-1},    n = 2, ..., order

    where every `U_n` is a convolution and `*` the Hadamard product, and
    returns `x_order`. After the orders in `pool_after` the hidden map is
    average-pooled, and so is every later `U_n z`, as often. Pooling is linear,
    so that the output is a polynomial of degree `order` in `z`. The `order`
    convolutions are one kernel, `factors.kernel`, side by side along its last
    axis.

    A convolution and the pooling behind it are computed as one convolution,
    with the strides of the pooling and the averaged kernel. For a window of 7
    and a pooling by 2 that is a third of the work.

    Args:
        filters: Positive integer, the channels of every `x_n`.
        kernel_size: Integer or tuple of 2 integers, the window of every `U_n`.
        order: Positive integer, the degree of the polynomial.
        pool_after: Tuple of different integers from 1 to `order`: after these
            orders the map is pooled.
        pool_size: Integer or tuple of 2 integers, the window and stride of a
            pooling.
        padding: `"same"` or `"valid"`, of the convolutions.
        data_format: `"channels_last"` or `"channels_first"`; by default that
            of Keras.
        use_factor_bias: Boolean, whether the convolutions have a bias.
        factor_initializer: Initializer of the kernel of each `U_n`.
        factor_bias_initializer: Initializer of the biases.
        factor_regularizer: Regularizer of the kernel of all `U_n`.
        bias_regularizer: Regularizer of the biases.
        factor_constraint: Constraint of the kernel of all `U_n`.
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype`,
            `trainable`. With the policies `"float16"` and `"mixed_float16"`
            the Hadamard products are computed in float32.

    Input shape:
        Tensor of shape `(batch_size, height, width, channels)`, or with the
        channels second where `data_format` says so.

    Output shape:
        Tensor of shape `(batch_size, new_height, new_width, filters)`; height
        and width are divided by the pool size once a pooling.

    Raises:
        ValueError: If `filters` or `order` is not an integer of at least 1,
            `pool_after` holds a number twice or outside 1 to `order`, or an
            input is too small for the poolings.

    Example:

    >>> layer = CCPConv2D(16, kernel_size=7, order=4, pool_after=(2, 3))
    >>> layer(np.random.normal(size=(8, 28, 28, 16))).shape
    (8, 7, 7, 16)

    Reference:
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Section 4.1, PN-Conv.
    """

    _objects = {
        "factor_initializer": initializers,
        "factor_bias_initializer": initializers,
        "factor_regularizer": regularizers,
        "bias_regularizer": regularizers,
        "factor_constraint": constraints,
    }

    def __init__(
        self,
        filters,
        kernel_size,
        order,
        *,
        pool_after=(),
        pool_size=2,
        padding="same",
        data_format=None,
        use_factor_bias=False,
        factor_initializer="glorot_uniform",
        factor_bias_initializer="zeros",
        factor_regularizer=None,
        bias_regularizer=None,
        factor_constraint=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integer("filters", filters)
        check_positive_integer("order", order)
        outside = [n for n in pool_after if n not in range(1, order + 1)]
        if outside or len(set(pool_after)) < len(pool_after):
            raise ValueError(
                f"Argument `pool_after` must hold different integers from 1 to "
                f"order={order}. Received: pool_after={tuple(pool_after)}"
            )
        self.filters = filters
        self.order = order
        self.pool_after = tuple(pool_after)
        self.use_factor_bias = use_factor_bias
        self.factor_initializer = initializers.get(factor_initializer)
        self.factor_bias_initializer = initializers.get(factor_bias_initializer)
        self.factor_regularizer = regularizers.get(factor_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.factor_constraint = constraints.get(factor_constraint)
        self.factors = keras.layers.Conv2D(
            order * filters,
            kernel_size,
            padding=padding,
            data_format=data_format,
            use_bias=use_factor_bias,
            kernel_initializer=Blockwise(self.factor_initializer, order),
            bias_initializer=self.factor_bias_initializer,
            kernel_regularizer=self.factor_regularizer,
            bias_regularizer=self.bias_regularizer,
            kernel_constraint=self.factor_constraint,
            dtype=self.dtype_policy,
            name="factors",
        )
        self.kernel_size = self.factors.kernel_size
        self.padding = self.factors.padding
        self.data_format = self.factors.data_format
        self.pooling = keras.layers.AveragePooling2D(
            pool_size,
            data_format=self.data_format,
            dtype=hadamard_policy(self.dtype_policy),
            name="pooling",
        )
        self.pool_size = self.pooling.pool_size

    @property
    def rank(self):
        """The rank of the decomposition, which is the number of filters."""
        return self.filters

    def build(self, input_shape):
        self.factors.build(input_shape)
        self.input_spec = self.factors.input_spec
        # An error where images are too small for the poolings.
        self.compute_output_shape(input_shape)

    def call(self, inputs):
        dtype = hadamard_policy(self.dtype_policy).compute_dtype
        factors = [ops.cast(x, dtype) for x in self._factors(inputs)]
        outputs = recursions.ccp(
            factors,
            between=lambda n, x: self.pooling(x) if n in self.pool_after else x,
        )
        return ops.cast(outputs, self.compute_dtype)

    def _factors(self, inputs):
        """Returns `U_1 z, ..., U_N z`, each pooled as often as it has to be."""
        if not self.poolings(self.order):
            maps = self.factors(inputs)
            return ops.split(maps, self.order, axis=self._channels)
        factors = []
        # The orders between two poolings are one convolution.
        orders = range(1, self.order + 1)
        for _, same in itertools.groupby(orders, self.poolings):
            same = list(same)
            maps = self._pooled_maps(inputs, same[0], same[-1])
            factors += ops.split(maps, len(same), axis=self._channels)
        return factors

    def _pooled_maps(self, inputs, first, last):
        """Returns `U_n z` of the orders from the first to the last, pooled."""
        strides, _ = self.pooled_window(first)
        channels = slice((first - 1) * self.filters, last * self.filters)
        # Averages of half precision are taken in single precision.
        kernel = ops.cast(self.factors.kernel, self.variable_dtype)
        kernel = _averaged(kernel[..., channels], strides)
        where = slice(1, 3) if self._channels == -1 else slice(2, 4)
        sizes, padding = inputs.shape[where], self.padding
        if padding == "same" and not _divides(strides, sizes):
            # Pooling leaves out what is beyond the last whole window.
            inputs = self._padded(inputs, where)
            padding = "valid"
        maps = ops.conv(
            inputs,
            ops.cast(kernel, self.compute_dtype),
            strides,
            padding,
            self.data_format,
        )
        if self.use_factor_bias:
            shape = [1, 1, 1, 1]
            shape[self._channels] = -1
            maps = maps + ops.reshape(self.factors.bias[channels], shape)
        return maps

    def _padded(self, inputs, where):
        """Returns the inputs with the zeros of the padding `"same"`."""
        pads = [(0, 0)] * 4
        pads[where] = [((k - 1) // 2, k // 2) for k in self.kernel_size]
        return ops.pad(inputs, pads)

    @property
    def _channels(self):
        return -1 if self.data_format == "channels_last" else 1

    def poolings(self, order):
        """Returns how often the factor of an order is pooled.

        Args:
            order: Integer from 1 to `order`.
        """
        return sum(n < order for n in self.pool_after)

    def pooled_window(self, order):
        """Returns the strides and the window of a pooled factor.

        Args:
            order: Integer from 1 to `order`.

        Returns:
            Two tuples of two integers.
        """
        times = self.poolings(order)
        strides = tuple(size**times for size in self.pool_size)
        window = tuple(
            k + s - 1 for k, s in zip(self.kernel_size, strides, strict=True)
        )
        return strides, window

    def products_an_output(self, order):
        """Returns how many products an output of a factor is the sum of.

        Args:
            order: Integer from 1 to `order`.
        """
        _, window = self.pooled_window(order)
        return math.prod(window) * self.factors.kernel.shape[-2]

    def compute_output_shape(self, input_shape):
        return self.hidden_shape(input_shape, self.order + 1)

    def hidden_shape(self, input_shape, order):
        """Returns the shape of the maps that are multiplied for an order.

        Args:
            input_shape: Tuple, the shape of the input, with the batch.
            order: Integer.
        """
        shape = list(self.factors.compute_output_shape(input_shape))
        shape[self._channels] = self.filters
        shape = tuple(shape)
        for _ in range(self.poolings(order)):
            shape = self.pooling.compute_output_shape(shape)
        return shape

    def polynomial_degree(self, degrees):
        """Returns the degree of the output, given those of the inputs."""
        return self.order * degrees[0]

    def get_config(self):
        config = {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "order": self.order,
            "pool_after": self.pool_after,
            "pool_size": self.pool_size,
            "padding": self.padding,
            "data_format": self.data_format,
            "use_factor_bias": self.use_factor_bias,
        }
        for name, module in self._objects.items():
            config[name] = module.serialize(getattr(self, name))
        return {**super().get_config(), **config}


def _divides(strides, sizes):
    return None not in sizes and all(
        size % stride == 0 for stride, size in zip(strides, sizes, strict=True)
    )


def _averaged(kernel, strides):
    """Returns the kernel of the convolution and the pooling behind it.

    Its weights are the averages over all positions in a window of the pooling.
    """
    *window, inputs, outputs = kernel.shape
    image = ops.reshape(kernel, (1, *window, inputs * outputs))
    for axis, stride in enumerate(strides):
        if stride > 1:
            pads = [(0, 0)] * 4
            pads[axis + 1] = (stride - 1, stride - 1)
            # JAX takes tuples alone.
            size = (stride, 1) if axis == 0 else (1, stride)
            image = ops.average_pool(
                ops.pad(image, pads), size, 1, "valid", "channels_last"
            )
    return ops.reshape(image, (*image.shape[1:3], inputs, outputs))
