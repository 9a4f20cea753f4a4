"""From wave forms to log-mel spectrograms, as a layer that models carry."""

import keras
from keras import ops

from keras_polynets._errors import check_positive_integer
from keras_polynets.layers.resampling import Resample
from keras_polynets.layers.resampling import as_float_waves
from keras_polynets.layers.resampling import working_dtype

# Power below which a band is silent, and decibels below the loudest band.
SILENCE = 1e-10
RANGE = 80.0


@keras.saving.register_keras_serializable(package="keras_polynets")
class LogMelSpectrogram(keras.layers.Layer):
    """Turns wave forms into log-mel spectrograms of a fixed size.

    Waves are cut or padded with silence to `num_samples`, resampled where
    they come at another rate, and become mel bands (the scale of HTK, as in
    `keras.layers.MelSpectrogram`) of the power in windows of `fft_length`
    samples. Each example is in decibels below its own loudest band and
    moment, down to -80, and these go to `output_range`. So the loudness of a
    recording does not matter; a silent clip, all of it as loud as its loudest
    band, becomes the upper end of `output_range` everywhere. With the defaults
    a second at 16 kHz becomes 32 bands of 32 moments. `tf.data` maps the layer,
    and a model of the zoo for speech carries it as its `preprocessor`.

    Args:
        num_mel_bins: Integer, the number of bands.
        num_samples: Integer, the length of a clip at `sampling_rate`. It gives
            `1 + num_samples // sequence_stride` moments.
        sampling_rate: Integer, samples a second of the analysis.
        input_rate: Integer, samples a second of the waves that come in, by
            default `sampling_rate`.
        fft_length: Integer, samples of a window (Hann's).
        sequence_stride: Integer, samples from one window to the next.
        output_range: Pair of floats, what -80 and 0 decibels become.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, samples)`, integers of 16 bits as they are stored, or
        floats in -1 to 1; or `(samples,)`, a single wave.

    Output shape:
        `(batch_size, num_mel_bins, 1 + num_samples // sequence_stride, 1)`,
        without the first axis for a single wave.

    Raises:
        ValueError: If a size or rate is not a positive integer, the range is
            none, the two rates have too small a common measure, or the waves
            have not two axes.

    Example:

    >>> waves = np.random.default_rng(0).integers(-999, 999, (2, 16000))
    >>> LogMelSpectrogram()(waves.astype("int16")).shape
    (2, 32, 32, 1)
    """

    def __init__(
        self,
        num_mel_bins=32,
        num_samples=16000,
        sampling_rate=16000,
        input_rate=None,
        fft_length=2048,
        sequence_stride=512,
        output_range=(-1.0, 1.0),
        **kwargs,
    ):
        # Integers stay integers until their unit is known.
        super().__init__(autocast=False, **kwargs)
        input_rate = sampling_rate if input_rate is None else input_rate
        sizes = {
            "num_mel_bins": num_mel_bins,
            "num_samples": num_samples,
            "sampling_rate": sampling_rate,
            "input_rate": input_rate,
            "fft_length": fft_length,
            "sequence_stride": sequence_stride,
        }
        for name, value in sizes.items():
            check_positive_integer(name, value)
            setattr(self, name, value)
        low, high = self.output_range = tuple(map(float, output_range))
        if not low < high:
            raise ValueError(
                "Argument `output_range` must be a pair (low, high) with low < "
                f"high. Received: output_range={output_range}"
            )
        dtype = working_dtype(self.compute_dtype)
        self._resample = Resample(input_rate, sampling_rate, dtype=dtype)
        self._mel = keras.layers.MelSpectrogram(
            fft_length=fft_length,
            sequence_stride=sequence_stride,
            sampling_rate=sampling_rate,
            num_mel_bins=num_mel_bins,
            min_freq=0.0,
            # Keras's decibels depend on the rest of the batch.
            power_to_db=False,
            dtype=dtype,
        )

    def build(self, input_shape):
        self._resample.build((None, self._input_length()))
        self._mel.build((None, self.num_samples))
        self.built = True

    def call(self, waves):
        waves = ops.convert_to_tensor(waves)
        if len(waves.shape) == 1:
            return self._spectrograms(waves[None])[0]
        return self._spectrograms(waves)

    def _spectrograms(self, waves):
        waves = as_float_waves(waves, working_dtype(self.compute_dtype))
        length = self._input_length()
        waves = ops.pad(waves, ((0, 0), (0, length)))[:, :length]
        waves = ops.reshape(waves, (-1, length))
        waves = self._resample(waves)[:, : self.num_samples]
        power = ops.maximum(self._mel(waves), SILENCE)
        loudest = ops.max(power, axis=(1, 2), keepdims=True)
        decibels = 10 * ops.log10(power / loudest)
        low, high = self.output_range
        scale = (high - low) / RANGE
        outputs = high + scale * ops.maximum(decibels, -RANGE)
        return ops.cast(ops.expand_dims(outputs, -1), self.compute_dtype)

    def _input_length(self):
        return -(-self.num_samples * self.input_rate // self.sampling_rate)

    def polynomial_degree(self, degrees):
        """Returns `None`: a logarithm is no polynomial."""

    def compute_output_shape(self, input_shape):
        moments = 1 + self.num_samples // self.sequence_stride
        return (*input_shape[:-1], self.num_mel_bins, moments, 1)

    def get_config(self):
        return {
            **super().get_config(),
            "num_mel_bins": self.num_mel_bins,
            "num_samples": self.num_samples,
            "sampling_rate": self.sampling_rate,
            "input_rate": self.input_rate,
            "fft_length": self.fft_length,
            "sequence_stride": self.sequence_stride,
            "output_range": self.output_range,
        }
