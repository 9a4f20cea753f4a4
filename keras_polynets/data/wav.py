"""Recordings in wav files, as waves of one rate and one length."""

import io
import pathlib
import warnings

import numpy as np

from keras_polynets.layers.resampling import Resample
from keras_polynets.layers.resampling import check_rates

# What the models of the zoo for speech take.
RATE = 16_000
SECONDS = 1.0
# Below it a head is damaged: telephones have 8,000.
LEAST_RATE = 1_000
# Clips that are resampled at once.
_BLOCK = 256


def read_wav(source):
    """Reads a wav file: its wave and its rate.

    Several channels are averaged, and samples of other sizes (8, 24 and 32
    bits, floats) become integers of 16 bits.

    Args:
        source: Path of a file, or the bytes of one.

    Returns:
        A pair of an int16 vector, the wave, and an integer, its samples a
        second.

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ImportError: If SciPy, which decodes it, is not installed.
        ValueError: If it is no wav file, is cut short, or holds no samples or
            NaN.

    Example:

    >>> wave, rate = keras_polynets.data.read_wav("7_theo_3.wav")
    """
    if isinstance(source, bytes):
        return decode_wav(source, "the content")
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder. Expected the path of one wav file; a folder "
            "of them is read by data.load."
        )
    return decode_wav(path.read_bytes(), str(path))


def decode_wav(content, where):
    """Does the work of `read_wav` for the bytes of a file.

    Args:
        content: The bytes.
        where: What errors call the file.
    """
    try:
        from scipy.io import wavfile
    except ImportError as error:
        raise ImportError(
            "Wav files are decoded with SciPy, which is not installed. Install "
            "it with `pip install keras_polynets[data]`."
        ) from error
    _check_whole(content, where)
    try:
        with warnings.catch_warnings():
            # Of chunks beside the samples, such as a title.
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(content))
    except Exception as error:
        # Other errors are whatever SciPy's parser stumbled over.
        reason = f": {error}" if isinstance(error, ValueError) else ""
        raise ValueError(
            f"{where} is not a wav file that can be read{reason}. Expected "
            "uncompressed PCM or floats, whole."
        ) from error
    if not len(samples) or rate <= 0:
        raise ValueError(
            f"{where} holds no sound: {len(samples)} samples at a rate of "
            f"{rate} a second. Remove it or record it again."
        )
    if np.isnan(samples).any():
        raise ValueError(
            f"{where} holds samples that are not numbers (NaN). Remove it or "
            "record it again."
        )
    samples = _as_int16(samples)
    if samples.ndim == 2:
        samples = np.rint(samples.mean(axis=1)).astype("int16")
    return samples, int(rate)


def decode_recording(content, where):
    """Does the work of `decode_wav` for a recording that goes to `RATE`.

    Raises:
        ValueError: Also if its rate cannot be converted.
    """
    wave, rate = decode_wav(content, where)
    if rate < LEAST_RATE:
        raise ValueError(
            f"{where} has a rate of {rate} samples a second. Expected at least "
            f"{LEAST_RATE:,}. Remove it or record it again."
        )
    try:
        check_rates(rate, RATE)
    except ValueError as error:
        raise ValueError(f"{where} cannot be converted. {error}") from None
    return wave, rate


def _check_whole(content, where):
    if content[:4] not in (b"RIFF", b"RIFX", b"RF64") or (
        content[8:12] != b"WAVE"
    ):
        raise ValueError(
            f"{where} is not audio in the wav format: it begins with "
            f"{content[:12]!r} instead of b'RIFF....WAVE'. Convert it to wav, "
            "or remove it."
        )
    order = "big" if content[:4] == b"RIFX" else "little"
    promised = int.from_bytes(content[4:8], order) + 8
    if content[:4] != b"RF64" and promised > len(content) + 1:
        raise ValueError(
            f"{where} is cut short: its head says {promised:,} bytes, and it "
            f"has {len(content):,}. Get it again."
        )


def _as_int16(samples):
    kind = samples.dtype
    if kind.kind == "f":
        return np.rint(np.clip(samples, -1, 1) * 32767).astype("int16")
    if kind == np.uint8:
        return (samples.astype("int16") - 128) << 8
    # Of more bits the highest 16; fewer than 32 are aligned to the left.
    return (samples >> 8 * (kind.itemsize - 2)).astype("int16")


def fitted(wave, rate, seconds=SECONDS):
    """Returns a wave of `rate * seconds` samples, cut or padded with silence.

    Args:
        wave: Vector of any length: int16 in any integer dtype, or floats in
            (-1, 1).
        rate: Its samples a second.
        seconds: Float.
    """
    length = round(rate * seconds)
    clip = np.zeros(length, "int16")
    wave = np.asarray(wave[:length])
    clip[: len(wave)] = _as_int16(wave) if wave.dtype.kind == "f" else wave
    return clip


def stacked(clips, rates):
    """Returns clips of a second, of several rates, as one array at `RATE`.

    Args:
        clips: List of int16 vectors as `fitted` returns them.
        rates: Their rates.

    Returns:
        int16 array of shape `(n, RATE * SECONDS)`.
    """
    rates = np.asarray(rates)
    waves = np.empty((len(clips), round(RATE * SECONDS)), "int16")
    for rate in map(int, np.unique(rates)):
        (where,) = np.nonzero(rates == rate)
        for begin in range(0, len(where), _BLOCK):
            block = where[begin : begin + _BLOCK]
            waves[block] = resampled(np.stack([clips[i] for i in block]), rate)[
                :, : waves.shape[1]
            ]
    return waves


def resampled(waves, rate):
    """Returns waves at `RATE`, rounded to int16.

    Args:
        waves: int16 array of shape `(n, samples)`.
        rate: Their samples a second.
    """
    import keras

    if rate == RATE:
        return waves
    floats = keras.ops.convert_to_numpy(Resample(rate, RATE)(waves))
    # The filter overshoots where a wave is clipped.
    return np.rint(np.clip(floats * 32768, -32768, 32767)).astype("int16")
