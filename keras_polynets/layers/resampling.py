"""Wave forms: their unit, and their rate."""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_polynets._errors import check_positive_integer

# Numbers of a filter's table, 64 MB: rates without a common measure need more.
LARGEST_TABLE = 2**24


def working_dtype(compute_dtype):
    """Returns the dtype in which waves are worked on: no less than float32."""
    return "float64" if compute_dtype == "float64" else "float32"


def as_float_waves(waves, dtype="float32"):
    """Returns waves as floats: integers of 16 bits are divided by 32768.

    Args:
        waves: Tensor of shape `(batch_size, samples)`.
        dtype: The dtype of the result.

    Raises:
        ValueError: If the waves have not two axes, or no samples.
    """
    waves = ops.convert_to_tensor(waves)
    if len(waves.shape) != 2 or waves.shape[1] == 0:
        raise ValueError(
            "Expected wave forms of one channel, of shape (batch_size, "
            "samples), with at least one sample. Average the channels of "
            "others, and give a single wave a batch axis, `wave[None]`. "
            f"Received: shape {tuple(waves.shape)}"
        )
    stored = keras.backend.standardize_dtype(waves.dtype)
    scale = 1.0 if "float" in stored else 1 / 32768
    return ops.cast(waves, dtype) * scale


@keras.saving.register_keras_serializable(package="keras_polynets")
class Resample(keras.layers.Layer):
    """Changes the rate of wave forms.

    A band-limited filter, evaluated where the new samples lie: the result of
    `scipy.signal.resample_poly`, that is a windowed sinc (Kaiser, β = 5, ten
    zero crossings on each side at the lower of the two rates), as one strided
    convolution that every backend runs and a SavedModel carries.

    Args:
        input_rate: Integer, samples a second of what comes in.
        output_rate: Integer, samples a second of what goes out.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, samples)`, floats, or integers of 16 bits. The number of
        samples is fixed.

    Output shape:
        `(batch_size, ceil(samples * output_rate / input_rate))`, floats in the
        unit in which 1 is the full scale.

    Raises:
        ValueError: If a rate is not a positive integer, the two have too small
            a common measure (44,101 and 16,000), or the waves have not two
            axes.

    Example:

    >>> waves = np.zeros((2, 8000), "int16")
    >>> Resample(8000, 16000)(waves).shape
    (2, 16000)
    """

    def __init__(self, input_rate, output_rate, **kwargs):
        # Integers stay integers until their unit is known.
        super().__init__(autocast=False, **kwargs)
        check_positive_integer("input_rate", input_rate)
        check_positive_integer("output_rate", output_rate)
        self.input_rate = input_rate
        self.output_rate = output_rate
        check_rates(input_rate, output_rate)
        common = math.gcd(input_rate, output_rate)
        self._up, self._down = output_rate // common, input_rate // common

    def call(self, waves):
        dtype = working_dtype(self.compute_dtype)
        waves = as_float_waves(waves, dtype)
        if self._up != self._down:
            waves = self._converted(waves, dtype)
        return ops.cast(waves, self.compute_dtype)

    def _converted(self, waves, dtype):
        left, right, kernel = _filter(self._up, self._down)
        length = self._length(waves.shape[1])
        frames = -(-length // self._up)
        needed = (frames - 1) * self._down + len(kernel)
        after = max(0, needed - left - waves.shape[1])
        padded = ops.pad(waves, ((0, 0), (left, after)))[:, :needed]
        # Each step over `down` samples gives `up` new ones.
        samples = ops.conv(
            ops.expand_dims(padded, -1),
            ops.convert_to_tensor(kernel, dtype),
            strides=self._down,
            padding="valid",
            data_format="channels_last",
        )
        return ops.reshape(samples, (-1, frames * self._up))[:, :length]

    def polynomial_degree(self, degrees):
        """Returns the degree of the output: resampling is linear."""
        return degrees[0]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self._length(input_shape[1]))

    def _length(self, samples):
        if samples is None:
            raise ValueError(
                "Resample needs wave forms of a fixed number of samples. "
                "Received: shape (batch_size, None)"
            )
        return -(-samples * self._up // self._down)

    def get_config(self):
        return {
            **super().get_config(),
            "input_rate": self.input_rate,
            "output_rate": self.output_rate,
        }


def check_rates(input_rate, output_rate):
    """Raises a `ValueError` if one rate cannot be converted into the other."""
    common = math.gcd(input_rate, output_rate)
    if _table_size(output_rate // common, input_rate // common) > LARGEST_TABLE:
        raise ValueError(
            f"The rates {input_rate:,} and {output_rate:,} have too small "
            f"a common measure ({common}) to convert one into the other "
            "here. Convert the files with a program for audio first."
        )


def _half_length(up, down):
    """Returns how far the filter reaches, in samples of the common rate."""
    return 10 * max(up, down)


def _table_size(up, down):
    return (down + 2 * _half_length(up, down) // up + 2) * up


@functools.lru_cache(maxsize=8)
def _filter(up, down):
    """Returns the filter, a row a sample that comes in, a column a new one.

    The new sample `j` of a step lies `j * down / up` old ones behind its
    beginning, and weighs an old one `i` by `h(j * down - i * up)`.

    Returns:
        Old samples before the beginning of a step, and after it, and the
        float64 array of shape `(before + after + 1, 1, up)`.
    """
    half = _half_length(up, down)
    times = np.arange(-half, half + 1)
    h = np.sinc(times / max(up, down)) * np.kaiser(len(times), 5.0)
    h *= up / h.sum()
    before, after = half // up, ((up - 1) * down + half) // up
    old = np.arange(-before, after + 1)[:, np.newaxis]
    lag = np.arange(up) * down - old * up
    inside = np.abs(lag) <= half
    table = np.where(inside, h[np.clip(lag + half, 0, 2 * half)], 0.0)
    return before, after, table[:, np.newaxis]
