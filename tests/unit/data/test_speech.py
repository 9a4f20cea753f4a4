"""Sets of spoken words: their layouts, splits and defects."""

import hashlib
import io
import os
import pathlib
import tarfile

import numpy as np
import pytest

from keras_polynets import data

wavfile = pytest.importorskip("scipy.io.wavfile")

FSDD = os.environ.get("KERAS_POLYNETS_FSDD")


def recording(value, rate=16000, samples=100):
    """Returns a wav file whose samples are all one number."""
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, np.full(samples, value, "int16"))
    return buffer.getvalue()


def speech_commands(extra=None):
    """Returns `{name: bytes}`; each recording holds its own number."""
    files = {
        f"{word}/{who}_nohash_{i}.wav": recording(100 * w + 10 * s + i)
        for w, word in enumerate(("cat", "yes"))
        for s, who in enumerate(("a1", "b2", "c3"))
        for i in range(2)
    }
    lists = {
        "testing_list.txt": "cat/c3_nohash_0.wav\nyes/c3_nohash_0.wav\n",
        "validation_list.txt": "yes/b2_nohash_1.wav\n",
    }
    files |= {name: text.encode() for name, text in lists.items()}
    files["_background_noise_/hum.wav"] = recording(7, samples=40)
    files["_background_noise_/README.md"] = b"noise"
    return files | (extra or {})


def spoken_digits():
    return {
        f"recordings/{digit}_{speaker}_{i}.wav": recording(
            100 * d + 10 * s + i, rate=8000
        )
        for d, digit in enumerate("38")
        for s, speaker in enumerate(("ann", "bob", "cy_lo"))
        for i in (0, 4, 5, 12)
    }


def class_folders():
    return {
        f"{split}/{word}/{i}.wav": recording(value + i)
        for value, split in ((0, "train"), (50, "test"), (70, "validation"))
        for word in ("go", "up")
        for i in range(2)
    }


def write(path, files):
    """Writes a folder, or an archive by its name."""
    if path.suffix != ".gz":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def numbers(waves):
    return sorted(waves[:, 10].tolist())


@pytest.mark.parametrize("name", ["set", "set.tar.gz"])
def test_speech_commands(name, tmp_path):
    loaded = data.load(write(tmp_path / name, speech_commands()))
    assert loaded.class_names == ("cat", "yes")
    assert loaded.x_train.shape == (9, 16000) and loaded.sampling_rate == 16000
    assert numbers(loaded.x_test) == [20, 120]
    assert numbers(loaded.x_validation) == [111]
    assert numbers(loaded.x_train) == [0, 1, 10, 11, 21, 100, 101, 110, 121]
    for x, y in (
        (loaded.x_train, loaded.y_train),
        (loaded.x_test, loaded.y_test),
        (loaded.x_validation, loaded.y_validation),
    ):
        np.testing.assert_array_equal(y, x[:, 10] // 100)
    np.testing.assert_array_equal(loaded.noise, np.full(40, 7))
    assert np.all(loaded.x_train[:, 100:] == 0)


def test_class_folders_of_recordings(tmp_path):
    loaded = data.load(write(tmp_path / "set", class_folders()))
    assert loaded.class_names == ("go", "up") and loaded.noise is None
    assert numbers(loaded.x_train) == [0, 0, 1, 1]
    assert numbers(loaded.x_test) == [50, 50, 51, 51]
    assert numbers(loaded.x_validation) == [70, 70, 71, 71]


def test_spoken_digits_by_index_and_by_speaker(tmp_path):
    path = write(tmp_path / "fsdd.tar.gz", spoken_digits())
    by_index = data.load(str(path))
    assert by_index.class_names == ("3", "8")
    assert by_index.x_train.shape == (12, 16000)

    def near(waves):
        # The rate doubles: a constant stays, but for a ripple of the filter.
        return sorted(waves[:, 100].tolist())

    def close(found, expected):
        np.testing.assert_allclose(found, sorted(expected), atol=2)

    base = [100 * d + 10 * s for d in range(2) for s in range(3)]
    close(near(by_index.x_train), [b + i for b in base for i in (5, 12)])
    close(near(by_index.x_test), [b + i for b in base for i in (0, 4)])
    by_speaker = data.load(path, split="speaker:cy_lo")
    assert by_speaker.x_validation is None
    close(
        near(by_speaker.x_test),
        [b + i for b in (20, 120) for i in (0, 4, 5, 12)],
    )
    assert len(by_speaker.y_train) == 16
    both = data.load(path, split="speaker:cy_lo,ann")
    close(
        near(both.x_validation),
        [b + i for b in (0, 100) for i in (0, 4, 5, 12)],
    )
    assert len(both.y_train) == 8 and "speaker:cy_lo,ann" in both.source


def without(files, name):
    return {key: value for key, value in files.items() if key != name}


BAD = {
    "no lists": (
        without(speech_commands(), "validation_list.txt"),
        {},
        "lacks validation_list.txt, by which some",
    ),
    "neither of the lists": (
        {n: c for n, c in speech_commands().items() if "list" not in n},
        {"split": "index"},
        "Speech Commands and lacks validation_list.txt and testing_list.txt,",
    ),
    "many words that are not tested": (
        {f"{w}_ann_{9}.wav": recording(1) for w in range(20)},
        {},
        "Not in test: '0', .*, '15', and 12 more.",
    ),
    "a list of absent files": (
        without(speech_commands(), "yes/c3_nohash_0.wav"),
        {},
        "lists name 1 recordings .* the first is yes/c3_nohash_0.wav",
    ),
    "no audio": (
        speech_commands({"yes/d4_nohash_0.wav": b"<html>"}),
        {},
        r"yes/d4_nohash_0.wav in .* is not audio in the wav format",
    ),
    "a rate without a common measure": (
        speech_commands({"yes/d4_nohash_0.wav": recording(1, rate=44_101)}),
        {},
        "yes/d4_nohash_0.wav in .* cannot be converted. The rates 44,101 and",
    ),
    "a rate that cannot be": (
        speech_commands({"yes/d4_nohash_0.wav": recording(1, rate=1)}),
        {},
        "yes/d4_nohash_0.wav in .* has a rate of 1 samples a second",
    ),
    "no layout": (
        {"some/where/x.wav": recording(1)},
        {},
        r"no known layout, for example some/where/x.wav. Expected wav files",
    ),
    "a word that is not tested": (
        {k: v for k, v in class_folders().items() if "test/up" not in k},
        {},
        "Not in test: 'up'",
    ),
    "an unknown speaker": (
        spoken_digits(),
        {"split": "speaker:rob"},
        "Unknown speaker 'rob'. Did you mean 'bob'?",
    ),
    "an unknown split": (
        spoken_digits(),
        {"split": "random"},
        "must be 'index', 'speaker:TEST' or .*split='random'",
    ),
    "a split beside lists": (
        speech_commands(),
        {"split": "index"},
        "validation_list.txt and testing_list.txt say what is held out",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_defects_are_named(name, tmp_path):
    files, arguments, message = BAD[name]
    path = write(tmp_path / "set", files)
    before = sorted(p for p in path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        data.load(path, **arguments)
    assert sorted(p for p in path.rglob("*")) == before


@pytest.mark.parametrize("name", ["recs", "recs/", "sets/recs"])
def test_a_folder_that_exists_is_no_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, spoken_digits())
    assert len(data.load(name).x_test) == 12


def test_a_set_is_no_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "fashion_mnist_sample", spoken_digits())
    assert data.load("fashion_mnist_sample").sampling_rate is None
    write(tmp_path / "speech_commands35", spoken_digits())
    tfds = pytest.importorskip("tensorflow_datasets")
    with tfds.testing.mock_data(num_examples=2):
        assert data.load("speech_commands35").name == "speech_commands35"
    assert len(data.load("./speech_commands35").x_test) == 12


def test_a_path_that_is_none_is_named_before_its_split():
    with pytest.raises(
        FileNotFoundError, match="fsdd.tar.gz does not exist. .*images, .*wav"
    ):
        data.load("fsdd.tar.gz", split="index")


def test_a_split_is_for_recordings_only():
    with pytest.raises(ValueError, match="'fashion_mnist_sample', split='in"):
        data.load("fashion_mnist_sample", split="index")


def test_members_outside_the_archive_are_refused(tmp_path):
    path = write(
        tmp_path / "set.tar.gz", speech_commands({"../../evil.wav": b""})
    )
    with pytest.raises(ValueError, match="evil.wav' is outside the archive"):
        data.load(path)
    assert [p.name for p in tmp_path.iterdir()] == ["set.tar.gz"]


def test_a_cut_archive_is_refused(tmp_path):
    path = write(tmp_path / "set.tar.gz", speech_commands())
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match="truncated or damaged"):
        data.load(path)


def test_the_builder_of_tfds(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core.download import checksums

    from keras_polynets.data import speech_commands as builder

    assert len(builder.WORDS) == 35 and builder.WORDS == sorted(builder.WORDS)
    archive = tmp_path / "tars" / "speech_commands_v0.02.tar.gz"
    archive.parent.mkdir()
    write(archive, speech_commands())
    info = checksums.UrlInfo(
        size=archive.stat().st_size,
        checksum=hashlib.sha256(archive.read_bytes()).hexdigest(),
        filename=archive.name,
    )
    registered = builder.SpeechCommands35.url_infos[builder.URL]
    assert (registered.filename, registered.size) == (archive.name, 2428923189)
    monkeypatch.setattr(
        builder.SpeechCommands35, "url_infos", {builder.URL: info}
    )
    loaded = data.load(
        "speech_commands35", archives=archive.parent, data_dir=tmp_path / "d"
    )
    assert loaded.class_names == tuple(builder.WORDS)
    assert set(loaded.y_train.tolist()) == {
        builder.WORDS.index("cat"),
        builder.WORDS.index("yes"),
    }
    direct = data.load(archive)
    for name in ("x_train", "x_test", "x_validation"):
        found = getattr(loaded, name)
        assert numbers(found) == numbers(getattr(direct, name)), name
    np.testing.assert_array_equal(loaded.noise, direct.noise)
    names = np.array(builder.WORDS)[loaded.y_test]
    np.testing.assert_array_equal(
        names == "yes", loaded.x_test[:, 10] // 100 == 1
    )


def test_a_set_of_tfds_without_a_rate_is_refused():
    tfds = pytest.importorskip("tensorflow_datasets")

    class RatelessWords(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "audio": tfds.features.Audio(),
                        "label": tfds.features.ClassLabel(num_classes=2),
                    }
                ),
                supervised_keys=("audio", "label"),
            )

        def _split_generators(self, dl_manager):
            raise NotImplementedError

        def _generate_examples(self):
            raise NotImplementedError

    with tfds.testing.mock_data(num_examples=2):
        with pytest.raises(ValueError, match="a known rate.*the rate None"):
            data.load("rateless_words")


def test_the_hash_is_that_of_tfds():
    tfds = pytest.importorskip("tensorflow_datasets")
    from keras_polynets.data import speech_commands as builder

    theirs = tfds.builder_cls("speech_commands").url_infos[builder.URL]
    ours = builder.SpeechCommands35.url_infos[builder.URL]
    assert (ours.size, ours.checksum) == (theirs.size, theirs.checksum)


@pytest.mark.skipif(
    not FSDD,
    reason="KERAS_POLYNETS_FSDD does not name the archive of FSDD",
)
def test_the_free_spoken_digit_dataset():
    content = pathlib.Path(FSDD).read_bytes()
    assert hashlib.sha256(content).hexdigest() == (
        "394cf6970e5d7a0e10d32afd1af2968fb703f1280bc815e54b81fb56c164a446"
    )
    loaded = data.load(FSDD)
    assert loaded.class_names == tuple("0123456789")
    assert loaded.x_train.shape == (2700, 16000)
    assert np.bincount(loaded.y_test).tolist() == [30] * 10
    loaded = data.load(FSDD, split="speaker:theo,george")
    sizes = [len(x) for x in (loaded.x_train, loaded.x_validation)]
    assert sizes == [2000, 500] and len(loaded.x_test) == 500
