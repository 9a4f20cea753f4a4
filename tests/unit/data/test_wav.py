"""Wav files: their forms, and files that are none."""

import io

import numpy as np
import pytest

from keras_polynets import data
from keras_polynets.data import wav

wavfile = pytest.importorskip("scipy.io.wavfile")

WAVE = np.random.default_rng(0).integers(-9000, 9000, 321, "int16")


def encoded(samples, rate=8000):
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, samples)
    return buffer.getvalue()


def test_a_file_comes_back(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(WAVE, 11025))
    wave, rate = data.read_wav(path)
    assert rate == 11025 and wave.dtype == np.int16
    np.testing.assert_array_equal(wave, WAVE)
    np.testing.assert_array_equal(data.read_wav(path.read_bytes())[0], WAVE)
    with pytest.raises(FileNotFoundError):
        data.read_wav(tmp_path / "b.wav")
    with pytest.raises(IsADirectoryError, match="is a folder. .* data.load"):
        data.read_wav(tmp_path)


@pytest.mark.parametrize(
    "samples, tolerance",
    [
        ((WAVE // 256 + 128).astype("uint8"), 256),
        (WAVE.astype("int32") << 16, 0),
        ((WAVE / 32767).astype("float32"), 0),
        (np.stack([WAVE, WAVE], axis=1), 0),
    ],
)
def test_other_samples_become_int16(samples, tolerance):
    wave, _ = data.read_wav(encoded(samples))
    assert wave.dtype == np.int16 and wave.shape == WAVE.shape
    assert np.abs(wave.astype(int) - WAVE).max() <= tolerance


def test_channels_are_averaged():
    stereo = np.stack([WAVE, np.zeros_like(WAVE)], axis=1)
    wave, _ = data.read_wav(encoded(stereo))
    np.testing.assert_allclose(wave, WAVE / 2, atol=0.5)


WHOLE = encoded(WAVE)
BAD = {
    "mp3": (b"ID3\4" + b"\0" * 99, r"not audio in the wav format.*b'ID3"),
    "avi": (WHOLE[:8] + b"AVI " + WHOLE[12:], "not audio in the wav format"),
    "empty": (b"", "not audio in the wav format"),
    "cut": (WHOLE[:-100], "is cut short: its head says 686 bytes, .* 586"),
    "silent": (encoded(WAVE[:0]), "holds no sound: 0 samples at a rate of 80"),
    "coded": (WHOLE[:20] + b"\x55\0" + WHOLE[22:], "can be read.*PCM"),
    "headless": (
        WHOLE[:4] + b"\4\0\0\0WAVE",
        "not a wav file that can be read. Expected uncompressed PCM",
    ),
    "not numbers": (
        encoded(np.array([0, np.nan, 1], "float32")),
        "samples that are not numbers",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_recording_is_refused(name, tmp_path):
    content, message = BAD[name]
    path = tmp_path / f"{name}.wav"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        data.read_wav(path)
    assert str(path) in str(error.value)
    assert path.read_bytes() == content


def test_clips_of_several_rates_are_stacked():
    seconds = {rate: np.arange(rate) / rate for rate in (8000, 16000)}
    tones = {
        rate: np.rint(9000 * np.sin(2 * np.pi * 500 * t)).astype("int16")
        for rate, t in seconds.items()
    }
    rates = [8000, 16000, 8000]
    clips = [wav.fitted(tones[rate], rate) for rate in rates]
    waves = wav.stacked(clips, rates)
    assert waves.shape == (3, 16000) and waves.dtype == np.int16
    np.testing.assert_array_equal(waves[1], tones[16000])
    np.testing.assert_array_equal(waves[0], waves[2])
    inside = slice(200, -200)
    assert np.abs(waves[0, inside] - tones[16000][inside]).max() < 30


def test_a_clip_has_a_fixed_length():
    clip = wav.fitted(WAVE, 300)
    np.testing.assert_array_equal(clip, WAVE[:300])
    clip = wav.fitted(WAVE, 400)
    np.testing.assert_array_equal(clip, np.pad(WAVE, (0, 79)))


def test_floats_are_scaled_and_whole_numbers_are_not():
    np.testing.assert_array_equal(
        wav.fitted(np.array([0.5, -0.3, 0.9]), 4, 1.0), [16384, -9830, 29490, 0]
    )
    np.testing.assert_array_equal(
        wav.fitted(np.array([500, -300], "int64"), 4, 1.0), [500, -300, 0, 0]
    )
