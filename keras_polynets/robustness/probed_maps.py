"""The linear maps of layers and operations that are run to find them."""

import dataclasses
import functools
import math

import keras
import numpy as np

from keras_polynets.robustness import linear_maps
from keras_polynets.robustness import norms
from keras_polynets.robustness.linear_maps import Affine

# The largest matrix that is made column by column.
MATRIX_LIMIT = 2**24
_AVERAGES = (
    keras.layers.AdaptiveAveragePooling1D
    | keras.layers.AdaptiveAveragePooling2D
    | keras.layers.AdaptiveAveragePooling3D
    | keras.layers.CenterCrop
    | keras.layers.Resizing
)


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


def exact(layer, dtype):
    """Returns a copy of a layer, not built, that computes in a dtype.

    Args:
        layer: A layer.
        dtype: String.
    """
    return type(layer).from_config({**layer.get_config(), "dtype": dtype})


def of_layer(layer, shape):
    """Returns the affine map of a layer, which is run on each unit vector.

    Args:
        layer: A built layer that is affine but for its activation, which is
            left out.
        shape: Tuple of integers, the shape of an example.

    Raises:
        NotImplementedError: If its matrix would be too large.
    """
    name = f"Layer {layer.name!r}, a {type(layer).__name__}"
    outputs = layer.compute_output_shape((None, *shape))[1:]
    _check_size(name, shape, outputs)
    norms.check_built(layer)
    for variable in layer.weights:
        norms.values(variable)
    copy = exact(layer, "float64")
    copy.build((None, *shape))
    copy.set_weights(layer.get_weights())
    if hasattr(copy, "activation"):
        copy.activation = keras.activations.linear
    function = functools.partial(copy, training=False)
    bias = _run(function, np.zeros((1, *shape)))[0].astype("float64")
    if getattr(copy, "bias", None) is not None:
        # Small weights would be lost beside it.
        copy.bias.assign(np.zeros(copy.bias.shape))
    dtypes = ["float64"]
    if isinstance(copy, keras.layers.CenterCrop):
        # TensorFlow resizes in single precision.
        dtypes.append("float32")
    known = _columns(function, shape, name, dtypes)
    # Averages may be sums first.
    partial = math.prod(shape) if isinstance(layer, _AVERAGES) else 1.0
    return dataclasses.replace(known, bias=bias, partial=partial)


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
    outputs = tuple(function(example).shape)
    if outputs[:1] != (None,):
        raise NotImplementedError(
            f"{name}, acts on the axis of the batch, so that examples meet. "
            "Give it the axis that is meant, which must not be 0."
        )
    _check_size(name, shape, outputs[1:])
    size = math.prod(shape)
    # The division of a mean is rounded as well, and comes after the sum.
    known = _columns(function, shape, name).with_terms(size + 1)
    return dataclasses.replace(known, partial=size)


def _check_size(name, shape, outputs):
    size, count = math.prod(shape), math.prod(outputs)
    if size * count > MATRIX_LIMIT:
        raise NotImplementedError(
            f"{name}, has no rule of its own, and its matrix of {size:,} × "
            f"{count:,} numbers is too large: the limit is {MATRIX_LIMIT:,}. "
            "Use smaller inputs, or layers such as `Conv2D`, `Dense` and "
            "`AveragePooling2D`."
        )


def _columns(function, shape, name, dtypes=("float64",)):
    size = math.prod(shape)
    points = np.concatenate([np.zeros((1, size)), np.eye(size)])
    values = _run(function, points.reshape(-1, *shape))
    if values.dtype not in dtypes or len(values) != size + 1:
        raise NotImplementedError(
            f"{name}, has no rule of its own, and its matrix needs float64 "
            "and examples that do not meet. With JAX set JAX_ENABLE_X64=1."
        )
    values = values.astype("float64")
    matrix = (values[1:] - values[0]).reshape(size, -1).T
    linear = linear_maps.Matrix(matrix, shape, values.shape[1:])
    return Affine(linear, values[0])


def _run(function, points):
    outputs = function(keras.ops.convert_to_tensor(points))
    return keras.ops.convert_to_numpy(outputs)
