"""The degree of what each layer and operation of Keras yields."""

import numbers

import numpy as np
from keras import layers

from keras_polynets.layers.degrees import after_activation

# Affine maps, but for the activation that some of them have. Only these
# classes themselves: what a subclass computes is not known.
AFFINE = {
    layers.Activation,
    layers.ActivityRegularization,
    layers.AdaptiveAveragePooling1D,
    layers.AdaptiveAveragePooling2D,
    layers.AdaptiveAveragePooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.BatchNormalization,
    layers.CenterCrop,
    layers.Conv1D,
    layers.Conv1DTranspose,
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.Conv3D,
    layers.Conv3DTranspose,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.Dense,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.EinsumDense,
    layers.Flatten,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.Identity,
    layers.Normalization,
    layers.Permute,
    layers.RepeatVector,
    layers.Rescaling,
    layers.Reshape,
    layers.Resizing,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
}
# They do nothing in inference.
NOISE = {
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.RandomBrightness,
    layers.RandomContrast,
    layers.RandomFlip,
    layers.RandomRotation,
    layers.RandomTranslation,
    layers.RandomZoom,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
}
SUMS = {layers.Add, layers.Average, layers.Concatenate, layers.Subtract}
# The layer inside acts on the input, or on parts of it.
WRAPPERS = {layers.SpectralNormalization, layers.TimeDistributed}

# Operations by the names of their classes. Affine in the first argument, the
# others being constant:
AFFINE_OPERATIONS = set(
    "AdaptiveAveragePool ArraySplit Average AveragePool BroadcastTo "
    "ConvertToTensor Copy CropImages Cumsum DepthToSpace Diag Diagflat "
    "Diagonal Diff Divide DivideNoNan Dsplit ExpandDims ExtractPatches Flip "
    "Fliplr Flipud Fold GetItem Hsplit Mean Moveaxis Negative Pad PadImages "
    "Ravel Rearrange Repeat Reshape Resize RGBToGrayscale Roll Rot90 Slice "
    "SpaceToDepth Split Squeeze StopGradient Sum Swapaxes Take TakeAlongAxis "
    "Tile Trace Transpose Trapezoid Tril TrueDivide Triu Unfold Unstack "
    "Vsplit".split()
)
SUM_OPERATIONS = set(
    "Add Append Concatenate Dstack Hstack Stack Subtract Vstack".split()
)
# Linear in each of their tensors.
PRODUCT_OPERATIONS = set(
    "Conv ConvTranspose Cross DepthwiseConv Dot Einsum Inner Kron Matmul "
    "Multiply Outer SeparableConv Tensordot Vdot".split()
)
CONSTANT_OPERATIONS = {"FullLike", "OnesLike", "Size", "ZerosLike"}


class Obstacle(Exception):
    """Says why an operation yields no polynomial."""


class Degree:
    """Stands for a tensor.

    Args:
        value: Integer, the degree; `None` where it is no polynomial.
    """

    def __init__(self, value):
        self.value = value


def of_layer(layer, degrees):
    """Returns the degree of what a layer yields.

    Args:
        layer: A built layer.
        degrees: List of integers, those of its input tensors.

    Raises:
        Obstacle: If that is no polynomial, or not known as one.
    """
    cls = type(layer)
    if callable(getattr(layer, "polynomial_degree", None)):
        return _own(layer, degrees)
    if getattr(layer, "quantization_mode", None):
        raise Obstacle("it is quantized")
    if cls in AFFINE:
        activation = getattr(layer, "activation", None)
        degree = after_activation(activation, max(degrees))
        if degree is None:
            raise Obstacle(_of_activation(activation))
        return degree
    if cls in NOISE or cls in SUMS:
        return max(degrees)
    if cls is layers.Multiply or (cls is layers.Dot and not layer.normalize):
        return sum(degrees)
    if cls.__module__.startswith("keras."):
        raise Obstacle("no polynomial, or not known as one")
    raise Obstacle(
        "a custom class without a method `polynomial_degree(degrees)` that "
        "returns the degree of its output, given those of its inputs"
    )


def unwrap(layer):
    """Returns the layer inside wrappers that only apply it.

    Args:
        layer: A layer, wrapped or not.
    """
    while type(layer) in WRAPPERS:
        layer = layer.layer
    return layer


def _own(layer, degrees):
    """Returns what a layer's own method says."""
    said = layer.polynomial_degree(degrees)
    values = said if isinstance(said, list | tuple) else [said]
    if None in values:
        activation = getattr(layer, "activation", None)
        if after_activation(activation, 1) is None:
            raise Obstacle(_of_activation(activation))
        raise Obstacle("its `polynomial_degree` returns `None`")
    if not all(isinstance(v, numbers.Integral) and v >= 0 for v in values):
        raise ValueError(
            f"`{type(layer).__name__}.polynomial_degree` must return an "
            "integer of at least 0, a list of them for several outputs, or "
            f"`None`. Received from layer {layer.name!r}: {said!r}"
        )
    return said


def _of_activation(activation):
    name = getattr(activation, "__name__", type(activation).__name__)
    return f"its activation is {name!r}"


def of_operation(operation, args, kwargs):
    """Returns the degree of what an operation that is no layer yields.

    Args:
        operation: A `keras.Operation`.
        args: List of its arguments, each tensor a `Degree`.
        kwargs: Dictionary of further ones.

    Raises:
        Obstacle: If that is no polynomial, or not known as one.
    """
    name = type(operation).__name__
    first = max(tensors(args[:1]), default=0)
    others = tensors((args[1:], kwargs))
    if name in CONSTANT_OPERATIONS:
        return 0
    if name in SUM_OPERATIONS:
        return max(first, *others, 0)
    if name in PRODUCT_OPERATIONS:
        return sum(tensors((args, kwargs)))
    if name == "Square":
        return 2 * first
    if name == "Power":
        return first * _exponent(args[1])
    if name in ("Cast", "ConvertToTensor"):
        if "float" in str(operation.dtype or "float32"):
            return first
        raise Obstacle(f"it rounds to {operation.dtype}")
    if name in AFFINE_OPERATIONS:
        if any(others):
            raise Obstacle(
                "it divides by a tensor that depends on the input"
                if "Divide" in name
                else "an argument beside the first depends on the input"
            )
        return first
    raise Obstacle("no polynomial, or not known as one")


def _exponent(exponent):
    if isinstance(exponent, Degree):
        raise Obstacle("its exponent is a tensor")
    values = np.ravel(np.asarray(exponent, "float64"))
    if np.any(values < 0) or np.any(values != np.round(values)):
        raise Obstacle(f"its exponent is {exponent}")
    return int(values.max())


def tensors(structure):
    """Returns the degrees of the tensors in a structure of arguments."""
    if isinstance(structure, Degree):
        return [structure.value]
    if isinstance(structure, dict):
        structure = structure.values()
    elif not isinstance(structure, list | tuple):
        return []
    return [value for part in structure for value in tensors(part)]
