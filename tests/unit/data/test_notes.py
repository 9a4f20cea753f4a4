"""NSynth as pictures of its notes."""

import types

import keras
import numpy as np
import pytest

from keras_polynets import data
from keras_polynets import layers
from keras_polynets.data import builders
from keras_polynets.data import wav

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_datasets")

FAMILIES = ["bass", "brass", "flute"]
RATE = 16_000


class Builder:
    """Three notes of four seconds a split, all of another pitch."""

    def __init__(self, folder):
        self.data_dir = str(folder)
        self.reads = []
        family = types.SimpleNamespace(names=FAMILIES)
        audio = types.SimpleNamespace(sample_rate=RATE)
        self.info = types.SimpleNamespace(
            full_name="nsynth/full/2.3.3",
            features={"audio": audio, "instrument": {"family": family}},
        )

    def is_prepared(self):
        return True

    def waves(self, split):
        pitch = {"train": 200.0, "valid": 400.0, "test": 800.0}[split]
        time = np.arange(4 * RATE) / RATE
        pitches = pitch * np.array([[1.0], [1.5], [2.0]])
        waves = np.sin(2 * np.pi * pitches * time) * np.exp(-time)
        return waves.astype("float32")

    def as_dataset(self, split):
        self.reads.append(split)
        return tf.data.Dataset.from_tensor_slices(
            {
                "audio": self.waves(split),
                "instrument": {"family": np.array([2, 0, 1])},
            }
        )


@pytest.fixture
def builder(tmp_path, monkeypatch):
    builder = Builder(tmp_path)
    monkeypatch.setattr(builders, "builder", lambda name, data_dir: builder)
    return builder


def test_pictures_are_spectrograms_of_the_first_second(builder):
    found = data.load("nsynth")
    assert found.class_names == tuple(FAMILIES)
    np.testing.assert_array_equal(found.y_train, [2, 0, 1])
    layer = layers.LogMelSpectrogram(
        28, sequence_stride=RATE // 27, output_range=(0.0, 255.0)
    )
    for split, part in (("test", found.x_test), ("valid", found.x_validation)):
        assert part.shape == (3, 28, 28, 1) and part.dtype == "uint8"
        for wave, picture in zip(builder.waves(split), part, strict=True):
            second = wav.fitted(wave, RATE)[np.newaxis]
            expected = keras.ops.convert_to_numpy(layer(second))[0]
            assert np.abs(picture - expected).max() <= 0.51
    # A higher pitch lies in a higher band.
    bands = found.x_train[..., 0].sum(axis=2).argmax(axis=1)
    assert bands[0] < bands[1] < bands[2]


def test_pictures_are_made_once(builder, tmp_path):
    first = data.load("nsynth")
    assert sorted(builder.reads) == ["test", "train", "valid"]
    again = data.load("nsynth")
    assert len(builder.reads) == 3
    np.testing.assert_array_equal(first.x_train, again.x_train)
    np.testing.assert_array_equal(first.y_validation, again.y_validation)
    assert [p.name for p in tmp_path.iterdir()] == ["log_mel_28.npz"]


def test_a_folder_that_cannot_be_written_is_no_error(builder, tmp_path):
    builder.data_dir = str(tmp_path / "absent")
    assert len(data.load("nsynth").x_train) == 3
    assert not list(tmp_path.iterdir())
