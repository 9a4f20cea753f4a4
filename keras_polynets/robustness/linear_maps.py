"""Linear maps of one example in NumPy float64: applied, transposed, |A|.

Norms and enclosures need more of a layer than its outputs: the transposed map,
and the map of the absolute weights. The maps act on arrays with any number of
axes before those of an example, and know its shape before and after.
"""

import copy
import dataclasses
import math

import numpy as np


class LinearMap:
    """A linear map `x -> A x` of arrays.

    `is_huge` says whether weights may be too large for single precision.

    Args:
        input_shape: Tuple, the shape of an example.
        output_shape: Tuple, the shape of what the map makes of it.
        terms: Integer, how many products an output is the sum of, at most. It
            bounds the rounding error of whoever computes the map.
    """

    is_huge = False

    def __init__(self, input_shape, output_shape, terms):
        self.input_shape = tuple(input_shape)
        self.output_shape = tuple(output_shape)
        self.terms = terms

    def apply(self, x):
        """Returns `A x`.

        Args:
            x: Array of shape `(..., *input_shape)`.
        """
        flat = x.reshape(-1, *self.input_shape)
        outputs = self._apply(flat)
        return outputs.reshape(*self._leading(x, True), *self.output_shape)

    def adjoint(self, y):
        """Returns `A^T y`.

        Args:
            y: Array of shape `(..., *output_shape)`.
        """
        flat = y.reshape(-1, *self.output_shape)
        inputs = self._adjoint(flat)
        return inputs.reshape(*self._leading(y, False), *self.input_shape)

    def absolute(self):
        """Returns the map of the absolute values of the matrix."""
        raise NotImplementedError

    def matrix(self):
        """Returns `A`, of shape `(outputs, inputs)`."""
        size = math.prod(self.input_shape)
        columns = self.apply(np.eye(size).reshape(size, *self.input_shape))
        return columns.reshape(size, -1).T

    def _leading(self, x, is_input):
        shape = self.input_shape if is_input else self.output_shape
        return x.shape[: x.ndim - len(shape)]


class Matrix(LinearMap):
    """The map of a matrix, between flattened examples.

    Args:
        matrix: Array of shape `(outputs, inputs)`.
        input_shape: Tuple, or `None` for `(inputs,)`.
        output_shape: Tuple, or `None` for `(outputs,)`.
    """

    def __init__(self, matrix, input_shape=None, output_shape=None):
        outputs, inputs = matrix.shape
        super().__init__(
            (inputs,) if input_shape is None else input_shape,
            (outputs,) if output_shape is None else output_shape,
            inputs,
        )
        self._matrix = matrix

    def _apply(self, x):
        return x.reshape(len(x), -1) @ self._matrix.T

    def _adjoint(self, y):
        return y.reshape(len(y), -1) @ self._matrix

    def absolute(self):
        return Matrix(np.abs(self._matrix), self.input_shape, self.output_shape)


class LastAxis(LinearMap):
    """A matrix on the last axis, at every position of the axes before.

    Args:
        matrix: Array of shape `(outputs, inputs)`.
        positions: Tuple, the sizes of the axes before.
    """

    def __init__(self, matrix, positions=()):
        outputs, inputs = matrix.shape
        super().__init__((*positions, inputs), (*positions, outputs), inputs)
        self._matrix = matrix

    def _apply(self, x):
        flat = x.reshape(-1, x.shape[-1]) @ self._matrix.T
        return flat.reshape(*x.shape[:-1], -1)

    def _adjoint(self, y):
        flat = y.reshape(-1, y.shape[-1]) @ self._matrix
        return flat.reshape(*y.shape[:-1], -1)

    def absolute(self):
        return LastAxis(np.abs(self._matrix), self.input_shape[:-1])


class Scale(LinearMap):
    """Multiplies by one factor a component.

    Args:
        factors: Array that broadcasts against an example.
        shape: Tuple, the shape of an example.
        terms: Integer, how many roundings make a factor and its product.
    """

    def __init__(self, factors, shape, terms=1):
        super().__init__(shape, shape, terms)
        self._factors = np.asarray(factors, "float64")
        # Unlike weights, they are computed.
        self.is_huge = bool((np.abs(self._factors) > 1e30).any())

    def _apply(self, x):
        return x * self._factors

    _adjoint = _apply

    def absolute(self):
        return Scale(np.abs(self._factors), self.input_shape, self.terms)


class Gather(LinearMap):
    """Copies components: reshapes, permutes, crops, pads and repeats.

    Args:
        indices: Integer array of the shape of the outputs: which component of
            the flattened input stands there, or -1 for zero.
        input_shape: Tuple, the shape of an example.
    """

    def __init__(self, indices, input_shape):
        super().__init__(input_shape, indices.shape, 1)
        self._indices = indices.ravel()
        size = math.prod(self.input_shape)
        self._keeps_order = np.array_equal(self._indices, np.arange(size))

    def _apply(self, x):
        x = x.reshape(len(x), -1)
        if self._keeps_order:
            return x
        return x[:, self._indices] * (self._indices >= 0)

    def _adjoint(self, y):
        y = y.reshape(len(y), -1)
        if self._keeps_order:
            return y
        kept = self._indices >= 0
        inputs = np.zeros((math.prod(self.input_shape), len(y)))
        np.add.at(inputs, self._indices[kept], y[:, kept].T)
        return inputs.T

    def absolute(self):
        return self


class Transposed(LinearMap):
    """The transpose of a map.

    Args:
        inner: The `LinearMap` that is transposed.
        terms: Integer, as in `LinearMap`.
    """

    def __init__(self, inner, terms):
        super().__init__(inner.output_shape, inner.input_shape, terms)
        self.inner = inner
        self._apply, self._adjoint = inner._adjoint, inner._apply

    def absolute(self):
        return Transposed(self.inner.absolute(), self.terms)


class Chained(LinearMap):
    """One map behind another, of which one copies components.

    Args:
        first: The `LinearMap` whose outputs the other takes.
        second: The other.
    """

    def __init__(self, first, second):
        terms = max(first.terms, second.terms)
        super().__init__(first.input_shape, second.output_shape, terms)
        self.first, self.second = first, second

    def _apply(self, x):
        return self.second.apply(self.first.apply(x))

    def _adjoint(self, y):
        return self.first.adjoint(self.second.adjoint(y))

    def absolute(self):
        # Absolute terms of components that are the same do not cancel here,
        # which rounding does not let them do either.
        return Chained(self.first.absolute(), self.second.absolute())


class Repeated(LinearMap):
    """A map at every position of an axis before those of an example.

    Args:
        inner: The `LinearMap`.
        count: Integer, the number of positions.
    """

    def __init__(self, inner, count):
        super().__init__(
            (count, *inner.input_shape),
            (count, *inner.output_shape),
            inner.terms,
        )
        self.inner, self.is_huge = inner, inner.is_huge

    def _apply(self, x):
        return self.inner.apply(x)

    def _adjoint(self, y):
        return self.inner.adjoint(y)

    def absolute(self):
        return Repeated(self.inner.absolute(), self.input_shape[0])


class MovedChannels(LinearMap):
    """A map with channels last, for examples with channels first.

    Args:
        inner: The `LinearMap` of the examples with channels last.
    """

    def __init__(self, inner):
        super().__init__(
            _channels_first(inner.input_shape),
            _channels_first(inner.output_shape),
            inner.terms,
        )
        self.inner = inner

    def _apply(self, x):
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        return np.moveaxis(self.inner._apply(x), -1, 1)

    def _adjoint(self, y):
        y = np.ascontiguousarray(np.moveaxis(y, 1, -1))
        return np.moveaxis(self.inner._adjoint(y), -1, 1)

    def absolute(self):
        return MovedChannels(self.inner.absolute())


def _channels_first(shape):
    return (shape[-1], *shape[:-1])


@dataclasses.dataclass(frozen=True)
class Affine:
    """What a layer does to one example: `x -> A x + b`.

    Args:
        linear: The `LinearMap` of `A`.
        bias: Array that broadcasts against its outputs, or 0.
        cancelled: Array that broadcasts likewise, or 0: how much larger than
            the bias the terms are that the layer sums to it, absolute values.
        partial: Float, how many times larger than the sum of absolute terms
            the numbers may be that the layer computes on the way.
    """

    linear: LinearMap
    bias: np.ndarray | float = 0.0
    cancelled: np.ndarray | float = 0.0
    partial: float = 1.0

    def with_terms(self, terms):
        """Returns the same map for a layer that sums more terms.

        Args:
            terms: Integer, as in `LinearMap`.
        """
        linear = copy.copy(self.linear)
        linear.terms = terms
        return dataclasses.replace(self, linear=linear)

    @property
    def bias_terms(self):
        """The sum of the absolute terms of the bias, for its rounding."""
        return np.abs(self.bias) + self.cancelled
