"""How near images are to others: PSNR and SSIM, means over images."""

import keras
import numpy as np
from keras import ops

# Wang et al.'s window and constants.
WINDOW, DEVIATION = 11, 1.5
K1, K2 = 0.01, 0.03


class _ImageQuality(keras.metrics.MeanMetricWrapper):
    """A mean over images of a number between each and its target."""

    _function = None

    def __init__(self, max_value, name, dtype):
        if not max_value > 0:
            raise ValueError(
                "Argument `max_value` must be above 0: 1 for images in (0, 1), "
                f"255 for stored ones. Received: max_value={max_value}"
            )
        super().__init__(
            type(self)._function, name, dtype, max_value=float(max_value)
        )
        self._direction = "up"

    def get_config(self):
        return {
            "max_value": self._fn_kwargs["max_value"],
            "name": self.name,
            "dtype": self.dtype,
        }


def _psnr(targets, images, max_value):
    """Returns the peak signal-to-noise ratio of each image."""
    axes = tuple(range(1, len(targets.shape)))
    errors = ops.mean(ops.square(targets - images), axis=axes)
    return -10.0 * ops.log10(errors / max_value**2)


def _ssim(targets, images, max_value):
    """Returns the structural similarity of each image, in NHWC.

    `keras.ops.image.ssim` came with Keras 3.15.
    """
    if min(size or WINDOW for size in targets.shape[1:3]) < WINDOW:
        raise ValueError(
            f"Structural similarity needs images of at least {WINDOW} by "
            f"{WINDOW} pixels. Received: shape {tuple(targets.shape)}"
        )
    x, y = _planes(targets), _planes(images)
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variances = _local_mean(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    c1, c2 = (K1 * max_value) ** 2, (K2 * max_value) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    planes = ops.mean(similarity, axis=(1, 2, 3))
    return ops.mean(ops.reshape(planes, (-1, targets.shape[-1])), axis=1)


def _planes(images):
    """Makes every channel an image of its own."""
    height, width = ops.shape(images)[1:3]
    channels_first = ops.transpose(images, (0, 3, 1, 2))
    return ops.reshape(channels_first, (-1, height, width, 1))


def _local_mean(planes):
    """Returns the means in a Gaussian window, where it fits."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * DEVIATION**2))
    weights = (weights / weights.sum()).astype(planes.dtype.name)
    for shape in ((WINDOW, 1, 1, 1), (1, WINDOW, 1, 1)):
        planes = ops.conv(
            planes, weights.reshape(shape), data_format="channels_last"
        )
    return planes


@keras.saving.register_keras_serializable(package="keras_polynets")
class PeakSignalToNoiseRatio(_ImageQuality):
    """Mean over images of the peak signal-to-noise ratio, in decibels.

    `10 log10(max_value² / e)`, where `e` is the mean squared error of one
    image. (`keras.ops.psnr` takes one error for the whole batch.) An image
    without any error makes it infinite.

    Args:
        max_value: Float above 0, the difference between the brightest and the
            darkest value that an image can have.
        name: String.
        dtype: The dtype of the result, Keras's default where `None`.

    Raises:
        ValueError: If `max_value` is not above 0.

    Example:

    >>> metric = keras_polynets.metrics.PeakSignalToNoiseRatio()
    >>> metric.update_state(np.zeros((1, 8, 8, 1)), np.full((1, 8, 8, 1), 0.1))
    >>> float(metric.result())
    20.0
    """

    _function = staticmethod(_psnr)

    def __init__(self, max_value=1.0, name="psnr", dtype=None):
        super().__init__(max_value, name, dtype)


@keras.saving.register_keras_serializable(package="keras_polynets")
class StructuralSimilarity(_ImageQuality):
    """Mean over images of the structural similarity, 1 for equal images.

    Means, variances and the covariance are taken in a Gaussian window of 11 ×
    11 pixels (standard deviation 1.5) wherever it fits into the image; a
    channel at a time, then averaged. `K1 = 0.01` and `K2 = 0.03`.

    Args:
        max_value: Float above 0, the difference between the brightest and the
            darkest value that an image can have.
        name: String.
        dtype: The dtype of the result, Keras's default where `None`.

    Raises:
        ValueError: If `max_value` is not above 0 or, at the first update, if
            images have fewer than 11 rows or columns.

    Example:

    >>> metric = keras_polynets.metrics.StructuralSimilarity()
    >>> metric.update_state(images, images)
    >>> float(metric.result())
    1.0

    Reference:
        - Wang et al., "Image Quality Assessment: From Error Visibility to
          Structural Similarity", IEEE Transactions on Image Processing 2004,
          Equation (13).
    """

    _function = staticmethod(_ssim)

    def __init__(self, max_value=1.0, name="ssim", dtype=None):
        super().__init__(max_value, name, dtype)
