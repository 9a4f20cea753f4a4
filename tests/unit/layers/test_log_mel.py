"""Log-mel spectrograms, beside NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets.layers import LogMelSpectrogram

RATE = 16000
WAVES = np.random.default_rng(0).integers(-9000, 9000, (3, RATE), "int16")


def spectrograms(waves, **arguments):
    outputs = LogMelSpectrogram(**arguments)(waves)
    return ops.convert_to_numpy(outputs)


def by_numpy(wave, bands=32, length=2048, stride=512):
    """Decibels of one wave in -1 to 1, by the formulas of the docstring."""
    padded = np.pad(wave, length // 2, mode="reflect")
    window = np.hanning(length + 1)[:-1]
    starts = range(0, len(padded) - length + 1, stride)
    frames = np.stack([padded[s : s + length] * window for s in starts])
    power = np.abs(np.fft.rfft(frames)) ** 2
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(length, 1 / RATE) / 700)
    edges = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), bands + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    up = (mel[:, None] - low) / (middle - low)
    down = (high - mel[:, None]) / (high - middle)
    energy = (power @ np.maximum(0, np.minimum(up, down))).T
    decibels = 10 * np.log10(np.maximum(energy, 1e-10) / energy.max())
    return np.maximum(decibels, -80)


def test_equals_numpy():
    ours = spectrograms(WAVES)
    assert ours.shape == (3, 32, 32, 1)
    for wave, found in zip(WAVES, ours, strict=True):
        decibels = by_numpy(wave / 32768)
        np.testing.assert_allclose(found[..., 0], 1 + decibels / 40, atol=2e-3)


def test_a_tone_lies_in_its_band():
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)[np.newaxis]
    (found,) = spectrograms(tone.astype("float32"))[..., 0]
    middles = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 34)[1:-1]
    expected = np.argmin(np.abs(middles - 2595 * np.log10(1 + 1000 / 700)))
    assert set(found[:, 1:-1].argmax(0)) == {expected}


def test_an_example_does_not_depend_on_the_others_or_on_its_loudness():
    together = spectrograms(WAVES)
    quiet = WAVES // 100 * 2
    alone = spectrograms(WAVES[1:2])
    np.testing.assert_allclose(together[1:2], alone, atol=1e-5)
    mixed = np.stack([WAVES[0] // 90 * 10, quiet[1]])
    loud = np.stack([WAVES[0] // 90 * 90, quiet[1] * 50])
    np.testing.assert_allclose(
        spectrograms(mixed), spectrograms(loud), atol=1e-3
    )


def test_silence_is_even():
    np.testing.assert_array_equal(
        spectrograms(np.zeros((1, 5), "int16"), output_range=(0, 3)), 3
    )


def test_short_and_long_waves():
    short = np.concatenate([WAVES[:, :9000], np.zeros((3, 7000))], axis=1)
    np.testing.assert_array_equal(
        spectrograms(WAVES[:, :9000]), spectrograms(short.astype("int16"))
    )
    long = np.concatenate([WAVES, WAVES], axis=1)
    np.testing.assert_array_equal(spectrograms(long), spectrograms(WAVES))


def test_integers_and_floats_agree():
    floats = (WAVES / 32768).astype("float32")
    np.testing.assert_allclose(
        spectrograms(WAVES), spectrograms(floats), atol=1e-6
    )


def test_another_rate_gives_the_same_below_its_limit():
    seconds = np.arange(24000) / 24000
    chirp = np.sin(2 * np.pi * (300 + 900 * seconds) * seconds)
    fine = chirp[np.newaxis].astype("float32")
    coarse = np.sin(
        2 * np.pi * (300 + 900 * np.arange(8000) / 8000) * np.arange(8000) / 8e3
    )[np.newaxis].astype("float32")
    a = spectrograms(fine, input_rate=24000)[:, :15, 1:-2]
    b = spectrograms(coarse, input_rate=8000)[:, :15, 1:-2]
    loud = a > -0.5
    assert loud.mean() > 0.1
    np.testing.assert_allclose(a[loud], b[loud], atol=0.02)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tf.data is TensorFlow's"
)
def test_tf_data_maps_it():
    import tensorflow as tf

    layer = LogMelSpectrogram()
    batches = tf.data.Dataset.from_tensor_slices(WAVES).batch(2).map(layer)
    found = np.concatenate(list(batches.as_numpy_iterator()))
    np.testing.assert_allclose(found, spectrograms(WAVES), atol=1e-5)


def test_a_single_wave():
    layer = LogMelSpectrogram(8, 4000, 4000, fft_length=256)
    waves = np.random.default_rng(0).normal(size=(2, 4000)).astype("float32")
    both = ops.convert_to_numpy(layer(waves))
    one = ops.convert_to_numpy(layer(waves[1]))
    np.testing.assert_allclose(one, both[1], atol=1e-5)
    assert layer.compute_output_shape((4000,)) == one.shape
    with pytest.raises(ValueError, match="at least one sample"):
        layer(waves[:, :0])


def test_bad_arguments():
    with pytest.raises(ValueError, match="`num_mel_bins` must be an integer"):
        LogMelSpectrogram(num_mel_bins=0)
    with pytest.raises(ValueError, match=r"low < high.*\(1, 1\)"):
        LogMelSpectrogram(output_range=(1, 1))
    with pytest.raises(ValueError, match=r"\(batch_size, sam.*\(1, 9, 2\)"):
        LogMelSpectrogram()(np.zeros((1, 9, 2), "int16"))
