"""The linear map and the bias of each affine layer, in NumPy float64."""

import functools
import math

import keras
import numpy as np

from keras_polynets.analysis.degree_rules import AFFINE
from keras_polynets.layers.filters import GaussianFilter2D
from keras_polynets.layers.filters import gaussian_window
from keras_polynets.layers.residual import PadShortcut
from keras_polynets.layers.residual import ScalarGate
from keras_polynets.robustness import linear_maps
from keras_polynets.robustness import norms
from keras_polynets.robustness import window_maps
from keras_polynets.robustness.linear_maps import Affine

# The largest matrix that is made of a layer whose map is not known here.
MATRIX_LIMIT = 2**24

CONVOLUTIONS = norms.CONVOLUTIONS
TRANSPOSED = (
    keras.layers.Conv1DTranspose
    | keras.layers.Conv2DTranspose
    | keras.layers.Conv3DTranspose
)
# Rounding between their two maps is not seen in the matrix of both.
TWO_STAGES = {keras.layers.SeparableConv1D, keras.layers.SeparableConv2D}
# Layers of Keras whose map is known; only these classes themselves.
KNOWN = AFFINE - TWO_STAGES
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
    return _by_columns(layer, shape)


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
    first = layer.data_format == "channels_first"
    sizes, channels = (
        (shape[1:], shape[0]) if first else (shape[:-1], shape[-1])
    )
    linear = window_maps.Convolution(
        kernel, _windows(layer, sizes), channels, layer.groups
    )
    return _with_channels(layer, linear, bias)


def _windows(layer, sizes):
    return window_maps.Windows(
        sizes,
        layer.kernel_size,
        layer.strides,
        layer.dilation_rate,
        layer.padding,
    )


def _with_channels(layer, linear, bias=0.0):
    if layer.data_format == "channels_last":
        return Affine(linear, bias)
    rank = len(linear.output_shape) - 1
    bias = np.reshape(bias, (-1, *[1] * rank)) if np.ndim(bias) else bias
    return Affine(linear_maps.MovedChannels(linear), bias)


@affine.register(TRANSPOSED)
def _(layer, shape):
    norms.check_built(layer)
    if layer.output_padding is not None:
        return _by_columns(layer, shape)
    first = layer.data_format == "channels_first"
    outputs = layer.compute_output_shape((None, *shape))[1:]
    sizes, channels = (
        (outputs[1:], outputs[0]) if first else (outputs[:-1], outputs[-1])
    )
    kernel = norms.values(layer.kernel)
    windows = _windows(layer, sizes)
    forward = window_maps.Convolution(kernel, windows, channels)
    inputs = (*shape[1:], shape[0]) if first else tuple(shape)
    if forward.output_shape != inputs:
        return _by_columns(layer, shape)
    terms = math.prod(layer.kernel_size) * inputs[-1]
    linear = linear_maps.Transposed(forward, terms)
    return _with_channels(layer, linear, _bias(layer))


@affine.register(norms.WINDOW_POOLINGS)
def _(layer, shape):
    if layer.padding == "same" and keras.backend.backend() == "torch":
        # There Keras does not leave padded places out of an average.
        return _by_columns(layer, shape)
    first = layer.data_format == "channels_first"
    sizes, channels = (
        (shape[1:], shape[0]) if first else (shape[:-1], shape[-1])
    )
    rank = len(sizes)
    windows = window_maps.Windows(
        sizes,
        np.broadcast_to(layer.pool_size, rank).tolist(),
        np.broadcast_to(layer.strides, rank).tolist(),
        [1] * rank,
        layer.padding,
    )
    return _with_channels(layer, window_maps.Pooling(windows, channels))


@affine.register(norms.GLOBAL_POOLINGS)
def _(layer, shape):
    first = layer.data_format == "channels_first"
    size = math.prod(shape[1:] if first else shape[:-1])
    channels = shape[0] if first else shape[-1]
    means = np.full((1, size), 1 / size)
    outputs = layer.compute_output_shape((None, *shape))[1:]
    eye = np.eye(channels)
    matrix = np.kron(eye, means) if first else np.kron(means, eye)
    return Affine(linear_maps.Matrix(matrix, shape, outputs))


@affine.register
def _(layer: keras.layers.BatchNormalization, shape):
    norms.check_built(layer)
    variance = norms.values(layer.moving_variance)
    scale = 1 / np.sqrt(variance + layer.epsilon)
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
def _(layer: keras.layers.Rescaling, shape):
    scale, offset = (
        np.asarray(x, "float64") for x in (layer.scale, layer.offset)
    )
    if scale.ndim and keras.config.image_data_format() == "channels_first":
        # As Keras does, which leaves the offset as it is.
        scale = scale.reshape(scale.shape + (1,) * (3 - scale.ndim))
    return Affine(linear_maps.Scale(scale, shape), offset)


@affine.register
def _(layer: ScalarGate, shape):
    return Affine(linear_maps.Scale(norms.values(layer.alpha), shape))


@affine.register(COPYING)
def _(layer, shape):
    return Affine(gather(_exact(layer, "float32"), shape))


@affine.register
def _(layer: keras.layers.UpSampling2D, shape):
    if layer.interpolation == "nearest":
        return Affine(gather(_exact(layer, "float32"), shape))
    return _by_columns(layer, shape)


@affine.register
def _(layer: keras.layers.CenterCrop, shape):
    sizes = shape[1:] if layer.data_format == "channels_first" else shape[:-1]
    if layer.height <= sizes[0] and layer.width <= sizes[1]:
        return Affine(gather(_exact(layer, "float32"), shape))
    # Smaller images are resized, and components mixed.
    return _by_columns(layer, shape)


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


def gather(function, shape, name=None):
    """Returns the `Gather` of a function that copies components.

    Args:
        function: A layer, or another callable of a batch of examples.
        shape: Tuple of integers, the shape of an example.
        name: String, how a message calls the function.

    Raises:
        NotImplementedError: If the function does not copy components of each
            example on its own, or if there are too many to be followed.
    """
    size = math.prod(shape)
    if size >= 2**24:
        raise NotImplementedError(
            f"{name or function} acts on {size:,} numbers; up to {2**24:,} "
            "are followed"
        )
    # Numbers up to 2**24 are exact in float32; 0 stands for padding.
    numbers = np.arange(1, size + 1, dtype="float32").reshape(1, *shape)
    # Two examples, which have no number in common.
    outputs = function(np.concatenate([numbers, -numbers]))
    outputs = keras.ops.convert_to_numpy(outputs)
    if outputs.dtype != "float32":
        raise NotImplementedError(
            f"{name or function} makes {outputs.dtype} of float32. Rounding to "
            "a dtype that an operation names has no bound here: give the "
            "layers the dtype instead."
        )
    indices = outputs[:1].astype("int64")
    expected = np.concatenate([indices, -indices])
    if not np.array_equal(outputs, expected) or indices.min(initial=0) < 0:
        raise NotImplementedError(
            "Expected a function that copies components of each example on "
            f"its own. Received: {name or function}, which changes their "
            "values or acts on the axis of the batch too. Give it the axis "
            "that is meant, which must not be 0."
        )
    return linear_maps.Gather(indices[0] - 1, shape)


def _exact(layer, dtype):
    """Returns a copy of a layer, not built, that computes in a dtype."""
    return type(layer).from_config({**layer.get_config(), "dtype": dtype})


def _bias(layer):
    return norms.values(layer.bias) if layer.use_bias else 0.0


def _by_columns(layer, shape):
    """Returns the affine map of a layer that is run on each unit vector."""
    name = f"Layer {layer.name!r}, a {type(layer).__name__}"
    outputs = layer.compute_output_shape((None, *shape))[1:]
    _check_size(name, shape, outputs)
    norms.check_built(layer)
    for variable in layer.weights:
        norms.values(variable)
    exact = _exact(layer, "float64")
    exact.build((None, *shape))
    exact.set_weights(layer.get_weights())
    if isinstance(exact, keras.layers.Normalization):
        # What it computes with is made of its weights when it is built.
        exact.finalize_state()
    if hasattr(exact, "activation"):
        exact.activation = keras.activations.linear
    return _columns(functools.partial(exact, training=False), shape, name)


def of_operation(operation, function, shape):
    """Returns the affine map of an operation that sums components.

    Args:
        operation: The `keras.Operation`.
        function: A callable of a batch of examples, the operation with its
            further arguments.
        shape: Tuple of integers, the shape of an example.

    Raises:
        NotImplementedError: If its matrix would be too large.
    """
    name = f"Operation {operation.name!r}, a {type(operation).__name__}"
    example = keras.KerasTensor((None, *shape))
    _check_size(name, shape, keras.ops.shape(function(example))[1:])
    known = _columns(function, shape, name)
    # The division of a mean is rounded as well.
    return known.with_terms(math.prod(shape) + 1)


def _check_size(name, shape, outputs):
    size, count = math.prod(shape), math.prod(outputs)
    if size * count > MATRIX_LIMIT:
        raise NotImplementedError(
            f"{name}, has no rule of its own, and its matrix of {size:,} × "
            f"{count:,} numbers is too large: the limit is {MATRIX_LIMIT:,}. "
            "Use smaller inputs, or layers such as `Conv2D`, `Dense` and "
            "`AveragePooling2D`."
        )


def _columns(function, shape, name):
    size = math.prod(shape)
    points = np.concatenate([np.zeros((1, size)), np.eye(size)])
    outputs = function(keras.ops.convert_to_tensor(points.reshape(-1, *shape)))
    values = keras.ops.convert_to_numpy(outputs)
    if values.dtype != "float64" or len(values) != size + 1:
        raise NotImplementedError(
            f"{name}, has no rule of its own, and its matrix needs float64 "
            "and examples that do not meet. With JAX set JAX_ENABLE_X64=1."
        )
    matrix = (values[1:] - values[0]).reshape(size, -1).T
    linear = linear_maps.Matrix(matrix, shape, values.shape[1:])
    return Affine(linear, values[0])
