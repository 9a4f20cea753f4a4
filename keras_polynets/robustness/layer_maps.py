"""The linear map and the bias of each affine layer, in NumPy float64."""

import dataclasses
import functools
import math
import typing

import keras
import numpy as np

from keras_polynets.analysis.degree_rules import AFFINE
from keras_polynets.layers.filters import GaussianFilter2D
from keras_polynets.layers.filters import gaussian_window
from keras_polynets.layers.residual import PadShortcut
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.robustness import floats
from keras_polynets.robustness import linear_maps
from keras_polynets.robustness import norms
from keras_polynets.robustness import probed_maps
from keras_polynets.robustness import window_maps
from keras_polynets.robustness.linear_maps import Affine

CONVOLUTIONS = norms.CONVOLUTIONS
TRANSPOSED = (
    keras.layers.Conv1DTranspose
    | keras.layers.Conv2DTranspose
    | keras.layers.Conv3DTranspose
)
DEPTHWISE = keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D
SEPARABLE = keras.layers.SeparableConv1D | keras.layers.SeparableConv2D
# TensorFlow computes them in single precision at best.
SINGLE = (
    keras.layers.CenterCrop
    | keras.layers.Rescaling
    | keras.layers.Resizing
    | keras.layers.UpSampling2D
)
# Layers of Keras that are one map; only these classes themselves.
KNOWN = AFFINE - set(typing.get_args(SEPARABLE))
# They copy components, or leave zeros.
COPYING = (
    keras.layers.Flatten
    | keras.layers.Reshape
    | keras.layers.Permute
    | keras.layers.RepeatVector
    | keras.layers.Cropping1D
    | keras.layers.Cropping2D
    | keras.layers.Cropping3D
    | keras.layers.ZeroPadding1D
    | keras.layers.ZeroPadding2D
    | keras.layers.ZeroPadding3D
    | keras.layers.UpSampling1D
    | keras.layers.UpSampling3D
    | PadShortcut
)


def stages(layer, shape):
    """Returns the `Affine`s of a layer, one behind the other.

    Most have one. Rounding between two is not seen in the matrix of both.

    Args:
        layer: See `affine`.
        shape: See `affine`.

    Raises:
        NotImplementedError: As `affine`.
    """
    if type(layer) in typing.get_args(SEPARABLE):
        return _separable(layer, shape)
    return [affine(layer, shape)]


@functools.singledispatch
def affine(layer, shape):
    """Returns the `Affine` of a layer in inference, without its activation.

    Args:
        layer: A built layer.
        shape: Tuple of integers, the shape of an example.

    Raises:
        NotImplementedError: If the layer is not known as affine, or if its
            matrix, which is made column by column, would be too large.
    """
    if type(layer) not in KNOWN:
        raise NotImplementedError(
            f"There is no linear map of {layer.name!r}, a "
            f"{type(layer).__name__}."
        )
    return probed_maps.of_layer(layer, shape)


@affine.register(keras.layers.Dense | CONVOLUTIONS)
def _(layer, shape):
    return parts(layer, shape, 1)[0]


def parts(layer, shape, count):
    """Returns the `Affine`s that lie side by side in a layer.

    Args:
        layer: A built `Dense` or convolution.
        shape: Tuple of integers, the shape of an example.
        count: Integer, how many equal parts its units form.
    """
    norms.check_built(layer)
    make = _dense if isinstance(layer, keras.layers.Dense) else convolution
    kernels = np.split(norms.values(layer.kernel), count, axis=-1)
    biases = [0.0] * count
    if layer.use_bias:
        biases = np.split(norms.values(layer.bias), count)
    return [
        make(layer, kernel, bias, shape)
        for kernel, bias in zip(kernels, biases, strict=True)
    ]


def _dense(layer, kernel, bias, shape):
    return Affine(linear_maps.LastAxis(kernel.T, shape[:-1]), bias)


def convolution(layer, kernel, bias, shape):
    """Returns the `Affine` of a convolution with another kernel.

    Args:
        layer: The convolutional layer that gives strides, padding and so on.
        kernel: Array, the kernel, with any number of filters.
        bias: Array of shape `(filters,)`, or 0.
        shape: Tuple of integers, the shape of an example.
    """
    sizes, channels = _sizes(layer, shape)
    linear = window_maps.Convolution(
        kernel, _windows(layer, sizes), channels, layer.groups
    )
    return _with_channels(layer, linear, bias)


@affine.register(DEPTHWISE)
def _(layer, shape):
    norms.check_built(layer)
    linear = _depthwise(layer, layer.kernel, shape)
    return _with_channels(layer, linear, _bias(layer))


def _depthwise(layer, kernel, shape):
    kernel = norms.values(kernel)
    *window, channels, multiplier = kernel.shape
    kernel = kernel.reshape(*window, 1, channels * multiplier)
    windows = _windows(layer, _sizes(layer, shape)[0])
    return window_maps.Convolution(kernel, windows, channels, channels)


def _separable(layer, shape):
    norms.check_built(layer)
    depthwise = _depthwise(layer, layer.depthwise_kernel, shape)
    *_, inputs, filters = layer.pointwise_kernel.shape
    matrix = norms.values(layer.pointwise_kernel).reshape(inputs, filters)
    pointwise = linear_maps.LastAxis(matrix.T, depthwise.output_shape[:-1])
    return [
        _with_channels(layer, depthwise),
        _with_channels(layer, pointwise, _bias(layer)),
    ]


def _sizes(layer, shape):
    """Returns the spatial sizes of an example, and its channels."""
    first = layer.data_format == "channels_first"
    return (shape[1:], shape[0]) if first else (shape[:-1], shape[-1])


def _windows(layer, sizes):
    return window_maps.Windows(
        sizes,
        layer.kernel_size,
        layer.strides,
        layer.dilation_rate,
        layer.padding,
    )


def _with_channels(layer, linear, bias=0.0, partial=1.0):
    if layer.data_format == "channels_last":
        return Affine(linear, bias, partial=partial)
    linear = linear_maps.MovedChannels(linear)
    if np.ndim(bias):
        rank = len(linear.output_shape) - 1
        bias = np.reshape(bias, (-1, *[1] * rank))
        outputs = None, *linear.output_shape
        norms.check_addition(layer, outputs, (1, *bias.shape))
    return Affine(linear, bias, partial=partial)


@affine.register(TRANSPOSED)
def _(layer, shape):
    norms.check_built(layer)
    if layer.output_padding is not None:
        return probed_maps.of_layer(layer, shape)
    outputs = layer.compute_output_shape((None, *shape))[1:]
    sizes, channels = _sizes(layer, outputs)
    kernel = norms.values(layer.kernel)
    windows = _windows(layer, sizes)
    forward = window_maps.Convolution(kernel, windows, channels)
    places, filters = _sizes(layer, shape)
    inputs = (*places, filters)
    if forward.output_shape != inputs:
        return probed_maps.of_layer(layer, shape)
    terms = math.prod(layer.kernel_size) * inputs[-1]
    linear = linear_maps.Transposed(forward, terms)
    return _with_channels(layer, linear, _bias(layer))


@affine.register(norms.WINDOW_POOLINGS)
def _(layer, shape):
    if layer.padding == "same" and keras.backend.backend() == "torch":
        # There Keras does not leave padded places out of an average.
        return probed_maps.of_layer(layer, shape)
    sizes, channels = _sizes(layer, shape)
    rank = len(sizes)
    windows = window_maps.Windows(
        sizes,
        np.broadcast_to(layer.pool_size, rank).tolist(),
        np.broadcast_to(layer.strides, rank).tolist(),
        [1] * rank,
        layer.padding,
    )
    linear = window_maps.Pooling(windows, channels)
    # A sum is computed first.
    return _with_channels(layer, linear, partial=linear.terms)


@affine.register(norms.GLOBAL_POOLINGS)
def _(layer, shape):
    sizes, channels = _sizes(layer, shape)
    windows = window_maps.Windows(
        sizes, sizes, sizes, [1] * len(sizes), "valid"
    )
    pooling = window_maps.Pooling(windows, channels)
    mean = _with_channels(layer, pooling, partial=pooling.terms)
    outputs = layer.compute_output_shape((None, *shape))[1:]
    reshape = linear_maps.Gather(
        np.arange(channels).reshape(outputs), mean.linear.output_shape
    )
    linear = linear_maps.Chained(mean.linear, reshape)
    return dataclasses.replace(mean, linear=linear)


@affine.register
def _(layer: keras.layers.BatchNormalization, shape):
    norms.check_built(layer)
    variance = norms.values(layer.moving_variance) + layer.epsilon
    # Half precision is normalised in single precision.
    is_double = layer.compute_dtype == "float64"
    dtype = "float64" if is_double else "float32"
    _check_deviation(layer, np.sqrt(variance), dtype)
    scale = 1 / np.sqrt(variance)
    if layer.scale:
        scale = scale * norms.values(layer.gamma)
    bias = moved = -norms.values(layer.moving_mean) * scale
    if layer.center:
        bias = moved + norms.values(layer.beta)
    cancelled = np.abs(moved) + np.abs(bias - moved) - np.abs(bias)
    axis = layer.axis % (len(shape) + 1) - 1
    sizes = [-1 if n == axis else 1 for n in range(len(shape))]
    # Sum, root, reciprocal and two products.
    linear = linear_maps.Scale(scale.reshape(sizes), shape, terms=5)
    return Affine(linear, bias.reshape(sizes), cancelled.reshape(sizes))


@affine.register
def _(layer: keras.layers.Normalization, shape):
    norms.check_built(layer)
    if layer.mean is None:
        raise ValueError(
            f"Layer {layer.name!r} has no mean and variance yet. Call its "
            "`adapt(data)` first."
        )
    mean, variance = (
        keras.ops.convert_to_numpy(x).astype("float64")
        for x in (layer.mean, layer.variance)
    )
    # They have an axis for the batch, but for one mean of everything.
    mean, variance = (
        x[0] if x.ndim > len(shape) else x for x in (mean, variance)
    )
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    _check_deviation(layer, deviation, layer.compute_dtype)
    if layer.invert:
        return Affine(linear_maps.Scale(deviation, shape, terms=3), mean)
    linear = linear_maps.Scale(1 / deviation, shape, terms=3)
    # The mean is subtracted first.
    partial = max(1.0, float(deviation.max()))
    return Affine(linear, -mean / deviation, partial=partial)


def _check_deviation(layer, deviation, dtype):
    """Raises a `ValueError` where what divides is not finite or flushed."""
    smallest = floats.smallest(floats.roundoff_of(dtype, layer.name))
    if np.all(np.isfinite(deviation) & (deviation**2 >= smallest)):
        return
    raise ValueError(
        f"Layer {layer.name!r} divides by a deviation that is 0, not finite or "
        f"too small for {dtype}, for which no bound exists. "
        "Received: deviations from "
        f"{np.min(deviation)} to {np.max(deviation)}. Leave out components "
        "that are constant, or use a larger `epsilon`."
    )


@affine.register
def _(layer: keras.layers.Rescaling, shape):
    scale, offset = norms.rescaling_values(layer)
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        # As Keras does, which leaves the offset as it is.
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
    return Affine(linear_maps.Scale(scale, shape), offset)


@affine.register
def _(layer: ScalarGate, shape):
    return Affine(linear_maps.Scale(norms.values(layer.alpha), shape))


@affine.register(COPYING)
def _(layer, shape):
    return Affine(_copied(layer, shape))


@affine.register
def _(layer: keras.layers.UpSampling2D, shape):
    if layer.interpolation == "nearest":
        return Affine(_copied(layer, shape))
    return probed_maps.of_layer(layer, shape)


@affine.register
def _(layer: keras.layers.CenterCrop, shape):
    sizes, _ = _sizes(layer, shape)
    if layer.height <= sizes[0] and layer.width <= sizes[1]:
        return Affine(_copied(layer, shape))
    # Smaller images are resized, and components mixed.
    return probed_maps.of_layer(layer, shape)


@affine.register
def _(layer: GaussianFilter2D, shape):
    channels = shape[-1]
    edges = [((size - 1) // 2, size // 2) for size in layer.kernel_size]
    constant = {"constant_values": -1} if layer.padding == "constant" else {}
    indices = np.arange(math.prod(shape)).reshape(shape)
    indices = np.pad(indices, [*edges, (0, 0)], layer.padding, **constant)
    window = np.outer(*map(gaussian_window, layer.kernel_size, layer.sigma))
    windows = window_maps.Windows(
        indices.shape[:2], layer.kernel_size, (1, 1), (1, 1), "valid"
    )
    kernel = np.repeat(window[..., None, None], channels, axis=-1)
    smooth = window_maps.Convolution(kernel, windows, channels, channels)
    padded = linear_maps.Gather(indices, shape)
    return Affine(linear_maps.Chained(padded, smooth))


def _copied(layer, shape):
    return probed_maps.gather(probed_maps.exact(layer, "float32"), shape)


def _bias(layer):
    return norms.values(layer.bias) if layer.use_bias else 0.0
