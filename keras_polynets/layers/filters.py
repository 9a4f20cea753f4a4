"""Filters of images without parameters, for denoising."""

import keras
import numpy as np
from keras import ops

from keras_polynets._errors import check_positive_integer
from keras_polynets._errors import unknown_name

PADDINGS = ("reflect", "symmetric", "constant")


class _Filter2D(keras.layers.Layer):
    """What the filters share: a window, and how images go on at the edge."""

    def __init__(self, kernel_size, padding, **kwargs):
        super().__init__(**kwargs)
        sizes = np.ravel(kernel_size).tolist()
        if len(sizes) not in (1, 2):
            raise ValueError(
                "Argument `kernel_size` must be an integer or a pair of them. "
                f"Received: kernel_size={kernel_size!r}"
            )
        for size in sizes:
            check_positive_integer("kernel_size", size)
        if padding not in PADDINGS:
            raise unknown_name("padding", padding, PADDINGS)
        self.kernel_size = (sizes[0], sizes[-1])
        self.padding = padding
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        # The edges go on with pixels of the image, which must have them.
        for size, window in zip(
            input_shape[1:3], self.kernel_size, strict=True
        ):
            if size is not None and size <= window // 2:
                raise ValueError(
                    f"{type(self).__name__} with a window of "
                    f"{self.kernel_size} needs images of at least "
                    f"{tuple(w // 2 + 1 for w in self.kernel_size)} pixels. "
                    f"Received: shape {tuple(input_shape)}"
                )

    def _pad(self, images):
        """Returns images of which each window is a whole one."""
        for axis, size in enumerate(self.kernel_size, start=1):
            images = _continued(
                images, axis, (size - 1) // 2, size // 2, self.padding
            )
        return images

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable(package="keras_polynets")
class GaussianFilter2D(_Filter2D):
    """Smooths images with a Gaussian window.

    A linear map, so that gradients, attacks and polynomial degrees go through
    it unchanged.

    Args:
        kernel_size: Integer or pair of integers, the window in pixels.
        sigma: Float above 0 or a pair of them, the standard deviation in
            pixels.
        padding: How images go on beyond their edges: `"reflect"` (the edge is
            not repeated), `"symmetric"` (it is) or `"constant"` (zeros).
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, floats.

    Output shape:
        The input's shape.

    Raises:
        ValueError: If `kernel_size` is not positive, `sigma` is not above 0,
            the padding is unknown, or the input has not four axes.

    Example:

    >>> images = np.random.uniform(-1, 1, (8, 28, 28, 1))
    >>> keras_polynets.layers.GaussianFilter2D(3, sigma=1.0)(images).shape
    (8, 28, 28, 1)

    Reference:
        - Xie et al., "Feature Denoising for Improving Adversarial Robustness",
          CVPR 2019.
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Appendix H.9.
    """

    def __init__(self, kernel_size=3, sigma=1.0, padding="reflect", **kwargs):
        super().__init__(kernel_size, padding, **kwargs)
        sigmas = np.ravel(sigma).astype(float).tolist()
        if len(sigmas) not in (1, 2) or min(sigmas) <= 0:
            raise ValueError(
                "Argument `sigma` must be a number above 0 or a pair of them. "
                f"Received: sigma={sigma!r}"
            )
        self.sigma = (sigmas[0], sigmas[-1])

    def call(self, inputs):
        rows, columns = map(gaussian_window, self.kernel_size, self.sigma)
        window = np.outer(rows, columns)[:, :, None, None]
        window = np.repeat(window, inputs.shape[-1], axis=2)
        return ops.depthwise_conv(
            self._pad(inputs),
            ops.convert_to_tensor(window, inputs.dtype),
            padding="valid",
            data_format="channels_last",
        )

    def polynomial_degree(self, degrees):
        """Returns the degree of the output: the filter is linear."""
        return degrees[0]

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma}


@keras.saving.register_keras_serializable(package="keras_polynets")
class MedianFilter2D(_Filter2D):
    """Replaces each pixel by the median of the window around it.

    Each channel is filtered alone. The median is differentiable almost
    everywhere: the gradient goes to the pixel that it is (to two of them for
    windows of even size), so that attacks go through it. It is no polynomial.

    Args:
        kernel_size: Integer or pair of integers, the window in pixels.
        padding: How images go on beyond their edges: `"reflect"` (the edge is
            not repeated), `"symmetric"` (it is) or `"constant"` (zeros).
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, floats.

    Output shape:
        The input's shape.

    Raises:
        ValueError: If `kernel_size` is not positive, the padding is unknown,
            or the input has not four axes.

    Example:

    >>> images = np.random.uniform(-1, 1, (8, 28, 28, 1))
    >>> keras_polynets.layers.MedianFilter2D(3)(images).shape
    (8, 28, 28, 1)

    Reference:
        - Xie et al., "Feature Denoising for Improving Adversarial Robustness",
          CVPR 2019.
        - Zhu et al., "Controlling the Complexity and Lipschitz Constant
          improves Polynomial Nets", ICLR 2022, Appendix H.9.
    """

    def __init__(self, kernel_size=3, padding="reflect", **kwargs):
        super().__init__(kernel_size, padding, **kwargs)

    def call(self, inputs):
        shape, padded = ops.shape(inputs), self._pad(inputs)
        height, width = self.kernel_size
        windows = [
            padded[:, i : i + shape[1], j : j + shape[2], :]
            for i in range(height)
            for j in range(width)
        ]
        ordered = ops.sort(ops.stack(windows, axis=-1), axis=-1)
        middle = len(windows) // 2
        if len(windows) % 2:
            return ordered[..., middle]
        return (ordered[..., middle - 1] + ordered[..., middle]) / 2

    def polynomial_degree(self, degrees):
        """Returns `None`: a median is no polynomial."""


def _continued(images, axis, before, after, padding):
    """Returns images with so many more pixels before and behind an axis.

    Keras's own padding is another one on PyTorch where it is symmetric.
    """
    if padding == "constant":
        widths = [(0, 0)] * 4
        widths[axis] = (before, after)
        return ops.pad(images, widths)
    edge = 1 if padding == "reflect" else 0
    parts = [images]
    if before:
        parts.insert(0, _mirrored(images, axis, edge, edge + before))
    if after:
        parts.append(_mirrored(images, axis, -edge - after, -edge or None))
    return ops.concatenate(parts, axis=axis)


def _mirrored(images, axis, start, stop):
    part = [slice(None)] * 4
    part[axis] = slice(start, stop)
    return ops.flip(images[tuple(part)], axis=axis)


def gaussian_window(size, sigma):
    """Returns the weights of a Gaussian window, which sum to 1.

    Args:
        size: Integer, the number of pixels. A window of even size lies half a
            pixel behind its centre.
        sigma: The standard deviation in pixels.

    Returns:
        NumPy float64 array of shape `(size,)`.
    """
    distance = np.arange(size) - (size - 1) // 2
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    return weights / weights.sum()
