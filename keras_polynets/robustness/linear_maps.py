"""Linear maps of one example in NumPy float64: applied, transposed, |A|.

Norms and enclosures need more of a layer than its outputs: the transposed map,
and the map of the absolute weights. The maps act on arrays with any number of
axes before those of an example, and know its shape before and after.
"""

import dataclasses
import math

import numpy as np

# How many float64 numbers the unrolled windows of a convolution may take.
_CHUNK = 2**21


class LinearMap:
    """A linear map `x -> A x` of arrays.

    Args:
        input_shape: Tuple, the shape of an example.
        output_shape: Tuple, the shape of what the map makes of it.
        terms: Integer, how many products an output is the sum of, at most. It
            bounds the rounding error of whoever computes the map.
    """

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
    """

    def __init__(self, factors, shape):
        super().__init__(shape, shape, 1)
        self._factors = np.asarray(factors, "float64")

    def _apply(self, x):
        return x * self._factors

    _adjoint = _apply

    def absolute(self):
        return Scale(np.abs(self._factors), self.input_shape)


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


class Windows:
    """Where the windows of a convolution or a pooling lie.

    Args:
        sizes: Tuple, the spatial sizes of the input.
        window: Tuple of integers.
        strides: Tuple of integers.
        dilation: Tuple of integers.
        padding: `"valid"`, `"same"` or `"causal"`.
    """

    def __init__(self, sizes, window, strides, dilation, padding):
        self.sizes, self.window = tuple(sizes), tuple(window)
        self.dilation, self._strides = tuple(dilation), tuple(strides)
        reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
        pads = map(_padding[padding], sizes, reach, strides)
        self.pads = tuple(pads)
        self.padded = tuple(
            n + sum(pad) for n, pad in zip(sizes, self.pads, strict=True)
        )
        self.outputs = tuple(
            max((n - r) // s + 1, 0)
            for n, r, s in zip(self.padded, reach, strides, strict=True)
        )

    def taps(self, axes):
        """Yields each tap of some axes, and the places that it takes.

        Args:
            axes: List of spatial axes.

        Yields:
            Pair of the tap, a tuple of integers, and a tuple of slices of the
            padded input along these axes.
        """
        for tap in np.ndindex(*(self.window[n] for n in axes)):
            starts = [
                t * self.dilation[n] for t, n in zip(tap, axes, strict=True)
            ]
            yield (
                tap,
                tuple(
                    slice(
                        start,
                        start + (self.outputs[n] - 1) * self._strides[n] + 1,
                        self._strides[n],
                    )
                    for start, n in zip(starts, axes, strict=True)
                ),
            )

    def pad(self, x):
        """Returns inputs `(count, *sizes, channels)` with zeros around them."""
        return np.pad(x, [(0, 0), *self.pads, (0, 0)])

    def cut(self, padded):
        """Returns padded inputs without what is around them."""
        inner = (
            slice(before, before + n)
            for n, (before, _) in zip(self.sizes, self.pads, strict=True)
        )
        return padded[(slice(None), *inner)]


def _same(size, reach, stride):
    missing = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return missing // 2, missing - missing // 2


_padding = {
    "valid": lambda size, reach, stride: (0, 0),
    "causal": lambda size, reach, stride: (reach - 1, 0),
    "same": _same,
}


class Convolution(LinearMap):
    """A convolution over any number of axes, channels last.

    Args:
        kernel: Array of shape `(*window, channels_in / groups, channels_out)`.
        windows: The `Windows`.
        channels: Integer, the channels of the input.
        groups: Integer.
    """

    def __init__(self, kernel, windows, channels, groups=1):
        super().__init__(
            (*windows.sizes, channels),
            (*windows.outputs, kernel.shape[-1]),
            math.prod(kernel.shape[:-1]),
        )
        self.kernel, self.windows, self.groups = kernel, windows, groups
        *self._outer, self._last = range(len(windows.sizes))

    def _chunks(self, count):
        size = math.prod(self.windows.padded) * self.windows.window[-1]
        step = max(_CHUNK // (size * self.input_shape[-1]), 1)
        return (slice(n, n + step) for n in range(0, count, step))

    def _groups(self, channels):
        """Yields, for each group, its channels of input and output, and the
        kernel of each tap of the outer axes: `(taps and channels, filters)`."""
        kernels = np.split(self.kernel, self.groups, axis=-1)
        filters = kernels[0].shape[-1]
        for n, kernel in enumerate(kernels):
            inputs = slice(n * channels, (n + 1) * channels)
            outputs = slice(n * filters, (n + 1) * filters)
            shape = (*kernel.shape[:-3], -1, filters)
            yield inputs, outputs, kernel.reshape(shape)

    # Windows are unrolled along the last axis alone: along all of them they
    # would not fit the caches.

    def _apply(self, x):
        outputs = np.zeros((len(x), *self.output_shape))
        for part in self._chunks(len(x)):
            padded = self.windows.pad(x[part])
            for inputs, filters, kernel in self._groups(self.kernel.shape[-2]):
                rows = self._unrolled(padded[..., inputs])
                total = 0.0
                for tap, where in self.windows.taps(self._outer):
                    window = rows[(slice(None), *where)]
                    flat = window.reshape(-1, window.shape[-1])
                    # One product of matrices: NumPy is slow at many.
                    total = total + flat @ kernel[tap]
                shape = (len(padded), *self.windows.outputs, -1)
                outputs[part, ..., filters] = total.reshape(shape)
        return outputs

    def _unrolled(self, padded):
        taps = self.windows.taps([self._last])
        return np.concatenate(
            [padded[..., where, :] for _, (where,) in taps], axis=-1
        )

    def _adjoint(self, y):
        inputs = np.empty((len(y), *self.input_shape))
        for part in self._chunks(len(y)):
            shape = (len(y[part]), *self.windows.padded, self.input_shape[-1])
            padded = np.zeros(shape)
            for channels, filters, kernel in self._groups(
                self.kernel.shape[-2]
            ):
                self._add_rows(
                    padded[..., channels], y[part][..., filters], kernel
                )
            inputs[part] = self.windows.cut(padded)
        return inputs

    def _add_rows(self, padded, y, kernel):
        channels = padded.shape[-1]
        rows = np.zeros((*padded.shape[:-2], y.shape[-2], kernel.shape[-2]))
        flat = y.reshape(-1, y.shape[-1])
        for tap, where in self.windows.taps(self._outer):
            place = rows[(slice(None), *where)]
            place += (flat @ kernel[tap].T).reshape(place.shape)
        taps = self.windows.taps([self._last])
        for n, (_, (where,)) in enumerate(taps):
            part = slice(n * channels, (n + 1) * channels)
            padded[..., where, :] += rows[..., part]

    def absolute(self):
        return Convolution(
            np.abs(self.kernel),
            self.windows,
            self.input_shape[-1],
            self.groups,
        )


class Pooling(LinearMap):
    """Average pooling over any number of axes, channels last.

    Padded places count in no average.

    Args:
        windows: The `Windows`.
        channels: Integer.
    """

    def __init__(self, windows, channels):
        super().__init__(
            (*windows.sizes, channels),
            (*windows.outputs, channels),
            math.prod(windows.window),
        )
        self._windows = windows
        self._axes = range(len(windows.sizes))
        self._counts = 1.0
        self._counts = self._apply(np.ones((1, *windows.sizes, 1)))

    def _apply(self, x):
        padded = self._windows.pad(x)
        taps = self._windows.taps(self._axes)
        sums = sum(padded[(slice(None), *where)] for _, where in taps)
        return sums / self._counts

    def _adjoint(self, y):
        padded = np.zeros((len(y), *self._windows.padded, y.shape[-1]))
        means = y / self._counts
        for _, where in self._windows.taps(self._axes):
            padded[(slice(None), *where)] += means
        return self._windows.cut(padded)

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
    """

    linear: LinearMap
    bias: np.ndarray | float = 0.0
