"""Affine layers as the theorems see them: a matrix, a bias and their norms."""

import dataclasses
import functools

import keras
import numpy as np

from keras_polynets.robustness import layer_maps
from keras_polynets.robustness import linear_maps
from keras_polynets.robustness import norms
from keras_polynets.robustness import operator_norms


@dataclasses.dataclass(frozen=True)
class AffineMap:
    """The map `z -> A z + b`, at one position or at all of a convolution.

    Args:
        matrix: Array `(units, inputs)`: `A`, or for a convolution the kernel
            with a row for every unit (the reshaped kernel of Theorem 5), whose
            rows have the norms of those of `A`, or larger ones at the border.
        bias: Array `(units,)`.
        kernel: For a convolution its kernel.
        groups: For a convolution the number of groups.
        operator: For a convolution on images of a fixed size its
            `linear_maps.LinearMap`.
        positions: For a convolution the number of output positions, `None` if
            that is open.
    """

    matrix: np.ndarray
    bias: np.ndarray
    kernel: np.ndarray | None = None
    groups: int = 1
    operator: linear_maps.LinearMap | None = None
    positions: int | None = 1

    def norm(self, p):
        """Returns the operator norm of `A`, an upper bound for convolutions
        and `p = 2`.

        Args:
            p: 1, 2 or infinity.
        """
        if self.operator is not None:
            return operator_norms.norm_of_map(self.operator, p)
        if self.kernel is not None:
            return operator_norms.unbounded_norm(self.kernel, self.groups, p)
        return float(np.linalg.norm(self.matrix, p))

    def repeated(self, vector, p):
        """Returns the norm of a vector that stands at every position.

        Args:
            vector: Array `(units,)`.
            p: 1, 2 or infinity.
        """
        size = float(np.linalg.norm(vector, p))
        if p == np.inf or size == 0:
            return size
        if self.positions is None:
            raise ValueError(
                f"For p={p} the bound depends on the size of the image, which "
                "the layer leaves open. Build it with a fixed input shape, or "
                "use p=float('inf')."
            )
        return size * float(self.positions) ** (1 / p)

    def lifted_norm(self, scale, column, p):
        """Returns the norm of `[0 1; scale A, column]`.

        It maps `[z; 1]` to `[1; scale A z + column]`. For convolutions and
        finite `p` it is bounded by the norm of the matrix of the norms of the
        four blocks.

        Args:
            scale: Positive float.
            column: Array `(units,)`.
            p: 1, 2 or infinity.
        """
        if self.kernel is None or p == np.inf:
            lifted = with_constant(scale * self.matrix, column)
        else:
            blocks = [scale * self.norm(p), self.repeated(column, p)]
            lifted = np.array([[0.0, 1.0], blocks])
        return float(np.linalg.norm(lifted, p))


def with_constant(matrix, column):
    """Returns `[0 1; matrix column]`, which maps `[z; 1]` to `[1; Mz + c]`."""
    first = np.zeros((1, matrix.shape[1] + 1))
    first[0, -1] = 1.0
    return np.vstack([first, np.column_stack([matrix, column])])


@functools.singledispatch
def affine_maps(layer, parts=1):
    """Returns the `AffineMap`s that lie side by side in an affine layer.

    Args:
        layer: A built `Dense` or convolution.
        parts: Positive integer, how many equal parts its units form.
    """
    raise TypeError(
        f"Expected a dense or convolutional layer. Received {layer.name!r} of "
        f"class {type(layer).__name__}."
    )


@affine_maps.register
def _(layer: keras.layers.Dense, parts=1):
    kernels, biases = _split(layer, parts)
    return [AffineMap(k.T, b) for k, b in zip(kernels, biases, strict=True)]


@affine_maps.register(norms.CONVOLUTIONS)
def _(layer, parts=1):
    kernels, biases = _split(layer, parts)
    if layer.groups > 1 and parts > 1:
        raise NotImplementedError(
            f"Convolution {layer.name!r} of {layer.groups} groups cannot be "
            "split into the maps of several orders."
        )
    norms.check_one_shape(layer)
    shape = norms.example_shape(layer)
    return [
        _convolution(layer, kernel, bias, shape)
        for kernel, bias in zip(kernels, biases, strict=True)
    ]


def affine_map(layer):
    """Returns the `AffineMap` of an affine layer.

    Args:
        layer: A built `Dense` or convolution.
    """
    return affine_maps(layer)[0]


def _convolution(layer, kernel, bias, shape):
    operator, positions = None, None
    if None not in shape:
        operator = layer_maps.convolution(layer, kernel, 0.0, shape).linear
        positions = int(np.prod(operator.output_shape)) // len(bias)
    return AffineMap(
        kernel.reshape(-1, len(bias)).T,
        bias,
        kernel,
        layer.groups,
        operator,
        positions,
    )


def _split(layer, parts):
    norms.check_built(layer)
    kernel = norms.values(layer.kernel)
    units = kernel.shape[-1]
    bias = norms.values(layer.bias) if layer.use_bias else np.zeros(units)
    return np.split(kernel, parts, axis=-1), np.split(bias, parts)
