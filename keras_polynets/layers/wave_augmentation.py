"""Random changes of wave forms, for inside the compiled step."""

import keras
import numpy as np
from keras import ops

from keras_polynets._errors import check_positive_integer
from keras_polynets.layers.augmentation import ReplicaSeedGenerator
from keras_polynets.layers.resampling import as_float_waves
from keras_polynets.layers.resampling import working_dtype


class WaveAugmentation(keras.layers.Layer):
    """Base class of the layers that change some waves of a batch at random.

    Each wave is changed with the given probability, independently of the
    others, in training only. A subclass overrides `change`.

    Args:
        probability: Float in (0, 1], the share of the waves that are changed.
        seed: Integer, or `None` for a random one. The state of the generator
            is among `layer.variables`. Under `tf.distribute` every replica
            draws other numbers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, samples)`, floats in -1 to 1, or integers of 16 bits.

    Output shape:
        That of the input; floats, in which 1 is the full scale, in training
        and outside of it.
    """

    def __init__(self, probability=0.5, seed=None, **kwargs):
        # Integers stay integers until their unit is known.
        super().__init__(autocast=False, **kwargs)
        if not 0 < probability <= 1:
            raise ValueError(
                "Argument `probability` must be in (0, 1]. "
                f"Received: probability={probability}"
            )
        self.probability = probability
        self.seed = seed
        self.seed_generator = ReplicaSeedGenerator(seed)

    def change(self, waves):
        """Returns the waves, each one changed.

        Args:
            waves: Float tensor of shape `(batch_size, samples)`.
        """
        raise NotImplementedError

    def draw(self, waves, low, high):
        """Returns a number a wave, uniform from `low` to `high`.

        Args:
            waves: The waves.
            low: Float.
            high: Float.
        """
        shape = (ops.shape(waves)[0], 1)
        return keras.random.uniform(
            shape, low, high, dtype=waves.dtype, seed=self.seed_generator
        )

    def call(self, waves, training=False):
        waves = as_float_waves(waves, working_dtype(self.compute_dtype))
        if training:
            chosen = self.draw(waves, 0.0, 1.0) < self.probability
            waves = ops.where(chosen, self.change(waves), waves)
        return ops.cast(waves, self.compute_dtype)

    def polynomial_degree(self, degrees):
        """Returns the degree of the output in inference."""
        return degrees[0]

    def compute_output_shape(self, input_shape):
        return input_shape

    def compute_output_spec(self, waves, training=False):
        return keras.KerasTensor(waves.shape, self.compute_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "probability": self.probability,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="keras_polynets")
class RandomGain(WaveAugmentation):
    """Multiplies waves by random numbers.

    A log-mel spectrogram in decibels below its loudest value, such as that of
    `LogMelSpectrogram`, does not change with the gain alone, nor with that of
    a wave to which `RandomNoise` adds white noise, which is as loud as the
    wave: the gain matters before recorded noise is added.

    Args:
        low: Float, the smallest gain.
        high: Float, the largest one.
        **kwargs: `probability`, 0.5 by default, the share of the waves that
            are changed; `seed`; and the arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, samples)`, floats in -1 to 1, or integers of 16 bits.

    Output shape:
        That of the input, floats.

    Raises:
        ValueError: If not 0 < low <= high, the probability is out of range, or
            the waves have not two axes.

    Example:

    >>> louder = RandomGain(0.7, 1.1, seed=0)(waves, training=True)
    """

    def __init__(self, low=0.7, high=1.1, **kwargs):
        super().__init__(**kwargs)
        if not 0 < low <= high:
            raise ValueError(
                "Arguments `low` and `high` must have 0 < low <= high. "
                f"Received: low={low}, high={high}"
            )
        self.low, self.high = low, high

    def change(self, waves):
        """Returns the waves, each times its gain.

        Args:
            waves: Float tensor of shape `(batch_size, samples)`.
        """
        return waves * self.draw(waves, self.low, self.high)

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable(package="keras_polynets")
class RandomSpeed(WaveAugmentation):
    """Plays waves faster or slower, with another pitch.

    Each is read at its own speed, by linear interpolation, from its beginning.
    What lies behind the end is silence.

    Args:
        factor: Float in (0, 1): speeds are from `1 - factor` to `1 + factor`.
        **kwargs: `probability`, 0.5 by default, the share of the waves that
            are changed; `seed`; and the arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, samples)`, floats in -1 to 1, or integers of 16 bits.

    Output shape:
        That of the input, floats.

    Raises:
        ValueError: If the factor or the probability is out of range, or the
            waves have not two axes.

    Example:

    >>> faster = RandomSpeed(0.2, seed=0)(waves, training=True)
    """

    def __init__(self, factor=0.2, **kwargs):
        super().__init__(**kwargs)
        if not 0 < factor < 1:
            raise ValueError(
                f"Argument `factor` must be in (0, 1). Received: {factor}"
            )
        self.factor = factor

    def change(self, waves):
        """Returns the waves, each at its speed.

        Args:
            waves: Float tensor of shape `(batch_size, samples)`.
        """
        length = ops.shape(waves)[1]
        speed = self.draw(waves, 1 - self.factor, 1 + self.factor)
        where = speed * ops.arange(length, dtype=waves.dtype)
        first = ops.floor(where)
        share = where - first
        first = ops.cast(first, "int32")
        return (1 - share) * _read(waves, first) + share * _read(
            waves, first + 1
        )

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="keras_polynets")
class RandomShift(WaveAugmentation):
    """Moves waves in time, and fills up with silence.

    Args:
        samples: Positive integer, the largest move to either side.
        **kwargs: `probability`, 0.5 by default, the share of the waves that
            are changed; `seed`; and the arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, samples)`, floats in -1 to 1, or integers of 16 bits.

    Output shape:
        That of the input, floats.

    Raises:
        ValueError: If `samples` is not a positive integer, the probability is
            out of range, or the waves have not two axes.

    Example:

    >>> later = RandomShift(4096, seed=0)(waves, training=True)
    """

    def __init__(self, samples=4096, **kwargs):
        super().__init__(**kwargs)
        check_positive_integer("samples", samples)
        self.samples = samples

    def change(self, waves):
        """Returns the waves, each moved by its number of samples.

        Args:
            waves: Float tensor of shape `(batch_size, samples)`.
        """
        move = keras.random.randint(
            (ops.shape(waves)[0], 1),
            -self.samples,
            self.samples + 1,
            seed=self.seed_generator,
        )
        return _read(waves, ops.arange(ops.shape(waves)[1]) + move)

    def get_config(self):
        return {**super().get_config(), "samples": self.samples}


@keras.saving.register_keras_serializable(package="keras_polynets")
class RandomNoise(WaveAugmentation):
    """Mixes waves with noise from recordings, or with white noise.

    With a share `a` that is uniform in (0, factor) a wave becomes
    `(1 - a) * wave + a * noise`. The noise is a random part of the recordings;
    without recordings it is white, as loud as the wave.

    Args:
        factor: Float in (0, 1], the largest share of the noise.
        noise: Optional vector of recorded noise, floats in -1 to 1 or integers
            of 16 bits, at the rate of the waves. Where it is shorter than
            they are it is repeated.
        **kwargs: `probability`, 0.5 by default, the share of the waves that
            are changed; `seed`; and the arguments of `keras.layers.Layer`.

    Input shape:
        `(batch_size, samples)`, floats in -1 to 1, or integers of 16 bits.

    Output shape:
        That of the input, floats.

    Raises:
        ValueError: If the factor or the probability is out of range, the noise
            is no vector or empty, or the waves have not two axes.

    Example:

    >>> noisy = RandomNoise(0.45, seed=0)(waves, training=True)
    """

    def __init__(self, factor=0.45, noise=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 < factor <= 1:
            raise ValueError(
                f"Argument `factor` must be in (0, 1]. Received: {factor}"
            )
        if noise is not None:
            noise = np.asarray(noise)
            if noise.ndim != 1 or not len(noise):
                raise ValueError(
                    "Argument `noise` must be a vector, not empty. "
                    f"Received: shape {noise.shape}"
                )
        self.factor = factor
        self.noise = noise

    def change(self, waves):
        """Returns the waves, each with its share of noise.

        Args:
            waves: Float tensor of shape `(batch_size, samples)`.
        """
        share = self.draw(waves, 0.0, self.factor)
        noise = self._white if self.noise is None else self._recorded
        return (1 - share) * waves + share * noise(waves)

    def _white(self, waves):
        loudness = ops.sqrt(
            ops.mean(ops.square(waves), axis=1, keepdims=True) + 1e-12
        )
        return loudness * keras.random.normal(
            ops.shape(waves), dtype=waves.dtype, seed=self.seed_generator
        )

    def _recorded(self, waves):
        length = waves.shape[1]
        noise = np.resize(self.noise, max(len(self.noise), length))
        first = keras.random.randint(
            (ops.shape(waves)[0], 1),
            0,
            len(noise) - length + 1,
            seed=self.seed_generator,
        )
        # Integers are converted behind the choice, which is much smaller.
        chosen = ops.take(noise, first + ops.arange(length), axis=0)
        return as_float_waves(chosen, waves.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "factor": self.factor,
            "noise": self.noise,
        }

    @classmethod
    def from_config(cls, config):
        noise = config.get("noise")
        if isinstance(noise, dict):
            noise = keras.saving.deserialize_keras_object(noise)
        return cls(**{**config, "noise": noise})


def _read(waves, indices):
    """Returns `waves[b, indices[b, t]]`, zero outside."""
    length = ops.shape(waves)[1]
    inside = ops.logical_and(indices >= 0, indices < length)
    read = ops.take_along_axis(waves, ops.clip(indices, 0, length - 1), axis=1)
    return ops.where(inside, read, 0.0)
