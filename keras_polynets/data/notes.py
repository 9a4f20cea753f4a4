"""The notes of NSynth as pictures of their first second, by instrument."""

import contextlib
import pathlib

import numpy as np

from keras_polynets._files import atomic_write
from keras_polynets.data import builders
from keras_polynets.data import wav
from keras_polynets.data.arrays import ArrayDataset
from keras_polynets.data.prepared import prepare

# Split of TFDS → part of an `ArrayDataset`.
SPLITS = {"train": "train", "test": "test", "valid": "validation"}
SIZE = 28
BATCH = 500


def is_notes(name):
    """Returns whether a name is that of NSynth, with or without its version."""
    return name.partition("/")[0].partition(":")[0] == "nsynth"


def load_notes(name, archives=None, data_dir=None):
    """Returns NSynth as an `ArrayDataset` of pictures.

    A picture holds the log-mel spectrogram of the first second, 28 bands of 28
    moments from -80 decibels, 0, to the loudest band, 255. The class is one of
    the 11 families of instruments.

    Args:
        name: The name of a configuration for TFDS.
        archives: As in `data.load`.
        data_dir: As in `data.load`.
    """
    builder = builders.builder(name, data_dir)
    if not builder.is_prepared():
        prepare(builder, name, archives)
    parts = _remembered(builder)
    return ArrayDataset(
        name=name,
        class_names=tuple(builder.info.features["instrument"]["family"].names),
        source=(
            f"{builder.info.full_name} of tensorflow-datasets, splits "
            f"{', '.join(map(repr, SPLITS))}; log-mel spectrograms of the "
            "first second, by family of instruments."
        ),
        **parts,
    )


def _remembered(builder):
    """Returns the arrays of all parts; they are written beside the set."""
    path = pathlib.Path(builder.data_dir) / f"log_mel_{SIZE}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    parts = {}
    for split, part in SPLITS.items():
        parts[f"x_{part}"], parts[f"y_{part}"] = _read(builder, split)
    # Stand-ins of TFDS have no folder, and that of a set may belong to others.
    if path.parent.is_dir():
        with contextlib.suppress(OSError), atomic_write(path) as file:
            np.savez_compressed(file, **parts)
    return parts


def _read(builder, split):
    import tensorflow_datasets as tfds

    from keras_polynets.layers import LogMelSpectrogram

    rate = builder.info.features["audio"].sample_rate or wav.RATE
    spectrograms = LogMelSpectrogram(
        num_mel_bins=SIZE,
        num_samples=rate,
        sampling_rate=rate,
        sequence_stride=rate // (SIZE - 1),
        output_range=(0.0, 255.0),
    )
    pictures, labels = [], []
    for batch in tfds.as_numpy(builder.as_dataset(split=split).batch(BATCH)):
        clips = np.stack([wav.fitted(wave, rate) for wave in batch["audio"]])
        found = np.asarray(spectrograms(clips))
        pictures.append(np.rint(found).astype("uint8"))
        labels.append(batch["instrument"]["family"])
    return np.concatenate(pictures), np.concatenate(labels).astype("int32")
