"""Convolutions and average poolings as linear maps, in NumPy float64."""

import math

import numpy as np

from keras_polynets.robustness.linear_maps import LinearMap

# How many float64 numbers the unrolled windows of a convolution may take.
_CHUNK = 2**21


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
