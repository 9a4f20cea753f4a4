"""The rate of wave forms, beside SciPy."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_polynets.layers import Resample


@pytest.mark.parametrize(
    "rates",
    [(8000, 16000), (44100, 16000), (22050, 16000), (48000, 16000), (3, 5)],
)
@pytest.mark.parametrize("samples", [1, 700, 1001])
def test_equals_scipy(rates, samples):
    signal = pytest.importorskip("scipy.signal")
    waves = np.random.default_rng(0).uniform(-1, 1, (2, samples))
    ours = Resample(*rates)(waves.astype("float32"))
    common = math.gcd(*rates)
    theirs = signal.resample_poly(
        waves, rates[1] // common, rates[0] // common, axis=1
    )
    np.testing.assert_allclose(ops.convert_to_numpy(ours), theirs, atol=2e-6)


def test_a_tone_keeps_its_frequency():
    seconds = np.arange(11025) / 11025
    tone = np.sin(2 * np.pi * 440 * seconds)[np.newaxis].astype("float32")
    ours = ops.convert_to_numpy(Resample(11025, 16000)(tone))[0]
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    np.testing.assert_allclose(ours[200:-200], expected[200:-200], atol=2e-3)


def test_integers_become_floats_of_full_scale():
    waves = np.array([[-32768, 0, 16384]], "int16")
    ours = Resample(16000, 16000)(waves)
    assert keras.backend.standardize_dtype(ours.dtype) == "float32"
    np.testing.assert_array_equal(ops.convert_to_numpy(ours), [[-1, 0, 0.5]])


def test_bad_arguments():
    with pytest.raises(ValueError, match="`output_rate` must be an integer"):
        Resample(8000, 0)
    with pytest.raises(ValueError, match=r"44,101 and 16,000 .* measure \(1\)"):
        Resample(44101, 16000)
    with pytest.raises(ValueError, match=r"one channel.*shape \(1, 9, 2\)"):
        Resample(8000, 16000)(np.zeros((1, 9, 2)))
    with pytest.raises(ValueError, match="fixed number of samples"):
        Resample(8000, 16000)(keras.Input((None,)))
