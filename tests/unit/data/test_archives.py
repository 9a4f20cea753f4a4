"""Archives placed in the download cache of TFDS, and sets made of them."""

import gzip
import hashlib
import importlib
import json
import pathlib
import socket
import sys

import numpy as np
import pytest

from keras_polynets import data
from keras_polynets.data import archives
from keras_polynets.data import builders
from keras_polynets.data import prepared
from keras_polynets.data.archives import DEBIAN

tfds = pytest.importorskip("tensorflow_datasets")

DEBIAN_FOLDER = pathlib.Path(DEBIAN["fashion_mnist"].folder)
URL = "http://data.example.invalid/shapes/{}.npz.gz"
BUILDER = '''
import gzip
import numpy as np
import tensorflow_datasets as tfds


class TinyShapes(tfds.core.GeneratorBasedBuilder):
    """A set of two archives, one a split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(4, 4, 1)),
                    "label": tfds.features.ClassLabel(names=["dot", "bar"]),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        paths = dl_manager.download(URLS)
        return {s: self._generate_examples(p) for s, p in paths.items()}

    def _generate_examples(self, path):
        with gzip.open(path) as file:
            images = np.frombuffer(file.read(), "uint8").reshape(-1, 4, 4, 1)
        for i, image in enumerate(images):
            yield i, {"image": image, "label": i % 2}


class ManualShapes(TinyShapes):
    """The same, from a folder that the user fills."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = "Fetch them yourself."

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(
                dl_manager.manual_dir / f"{split}.npz.gz"
            )
            for split in URLS
        }


URLS = {"train": URL.format("train"), "test": URL.format("test")}
'''
IMAGES = {
    "train": np.arange(6 * 16, dtype="uint8").reshape(6, 4, 4, 1),
    "test": np.full((2, 4, 4, 1), 7, "uint8"),
}
CONTENT = {
    split: gzip.compress(images.tobytes(), mtime=0)
    for split, images in IMAGES.items()
}


@pytest.fixture(scope="module")
def tiny_shapes(tmp_path_factory):
    """Registers a small set with TFDS, its checksums beside its code."""
    package = tmp_path_factory.mktemp("sets") / "tiny_shapes"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "tiny_shapes_dataset_builder.py").write_text(
        f"URL = {URL!r}\n{BUILDER}"
    )
    (package / "checksums.tsv").write_text(
        "".join(
            f"{URL.format(split)}\t{len(content)}\t"
            f"{hashlib.sha256(content).hexdigest()}\t{split}.npz.gz\n"
            for split, content in CONTENT.items()
        )
    )
    sys.path.insert(0, str(package.parent))
    importlib.import_module("tiny_shapes.tiny_shapes_dataset_builder")
    yield "tiny_shapes"
    sys.path.remove(str(package.parent))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    for split, content in CONTENT.items():
        (folder / f"{split}.npz.gz").write_bytes(content)
    return folder


def files_in(path):
    return [p for p in path.rglob("*") if p.is_file()]


def test_any_set_is_prepared_from_local_archives(tiny_shapes, folder, tmp_path):
    loaded = data.load(tiny_shapes, archives=folder, data_dir=tmp_path / "d")
    order = np.argsort(loaded.x_train[:, 0, 0, 0])
    np.testing.assert_array_equal(loaded.x_train[order], IMAGES["train"])
    np.testing.assert_array_equal(loaded.y_train[order], [0, 1] * 3)
    np.testing.assert_array_equal(loaded.x_test, IMAGES["test"])
    assert loaded.x_train.dtype == np.uint8
    assert loaded.y_train.dtype == np.int32
    assert loaded.class_names == ("dot", "bar")
    assert "tiny_shapes/1.0.0 of tensorflow-datasets" in loaded.source
    # Once prepared it needs no archive.
    again = data.load(tiny_shapes, data_dir=str(tmp_path / "d"))
    np.testing.assert_array_equal(again.x_train, loaded.x_train)


def test_set_of_manual_downloads(tiny_shapes, folder, tmp_path):
    loaded = data.load("manual_shapes", archives=folder, data_dir=tmp_path)
    np.testing.assert_array_equal(loaded.x_test, IMAGES["test"])


def test_places_what_tfds_accepts(tiny_shapes, folder, tmp_path):
    placed = data.place_archives(tiny_shapes, folder, tmp_path / "d")
    assert list(placed) == [URL.format("train"), URL.format("test")]
    for split, path in zip(CONTENT, placed.values(), strict=True):
        assert path.read_bytes() == CONTENT[split]
        info = json.loads(path.with_suffix(".gz.INFO").read_text())
        assert info["urls"] == [URL.format(split)]
        assert info["original_fname"] == f"{split}.npz.gz"
        assert info["dataset_names"] == ["tiny_shapes"]
    assert len(files_in(tmp_path / "d")) == 4


def test_finds_archives_by_content(tiny_shapes, folder, tmp_path):
    (folder / "train.npz.gz").rename(folder / "downloaded (1)")
    # The name of the other archive, but the content of this one.
    (folder / "test.npz.gz").rename(folder / "train.npz.gz")
    placed = data.place_archives(tiny_shapes, folder, tmp_path / "d")
    assert [p.read_bytes() for p in placed.values()] == list(CONTENT.values())


def test_one_archive_may_be_given(tiny_shapes, folder, tmp_path):
    placed = data.place_archives(
        tiny_shapes, folder / "test.npz.gz", tmp_path / "d"
    )
    assert placed[URL.format("train")] is None
    assert placed[URL.format("test")].exists()


def test_placed_archives_are_not_copied_again(tiny_shapes, folder, tmp_path):
    first = data.place_archives(tiny_shapes, folder, tmp_path / "d")
    times = [path.stat().st_mtime_ns for path in first.values()]
    assert data.place_archives(tiny_shapes, folder, tmp_path / "d") == first
    assert [path.stat().st_mtime_ns for path in first.values()] == times
    # One that was cut is.
    path = first[URL.format("train")]
    path.write_bytes(path.read_bytes()[:-1])
    data.place_archives(tiny_shapes, folder, tmp_path / "d")
    assert path.read_bytes() == CONTENT["train"]


@pytest.mark.parametrize("content", [CONTENT["train"][:-1], b"another set"])
def test_damaged_archive(tiny_shapes, folder, tmp_path, content):
    (folder / "train.npz.gz").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        data.load(tiny_shapes, archives=folder, data_dir=tmp_path / "d")
    message = str(caught.value)
    assert f"{folder / 'train.npz.gz'} is truncated, damaged or" in message
    for expected in (CONTENT["train"], content):
        assert hashlib.sha256(expected).hexdigest() in message
        assert f"{len(expected):,} bytes" in message
    assert files_in(tmp_path / "d") == []


def test_archive_that_changes_under_way(
    tiny_shapes, folder, tmp_path, monkeypatch
):
    copy = archives.shutil.copyfileobj

    def cut(source, target, length):
        copy(source, target, length)
        target.truncate(5)

    monkeypatch.setattr(archives.shutil, "copyfileobj", cut)
    with pytest.raises(ValueError, match="truncated, damaged"):
        data.place_archives(tiny_shapes, folder, tmp_path / "d")
    assert files_in(tmp_path / "d") == []


def test_no_archive_and_no_network(tiny_shapes, tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_probe", no_network)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        data.load(tiny_shapes, archives=empty, data_dir=tmp_path / "d")
    message = str(caught.value)
    assert "The data set 'tiny_shapes' is not prepared" in message
    for split, content in CONTENT.items():
        digest = hashlib.sha256(content).hexdigest()
        assert (
            f"{split}.npz.gz ({len(content):,} bytes, sha256 {digest})"
            in message
        )
    assert "with a network, run again" in message
    assert "load('tiny_shapes', archives=FOLDER)" in message
    assert "no route" in message
    assert "or use the embedded set 'fashion_mnist_sample'" in message
    assert not (tmp_path / "d" / "tiny_shapes").exists()
    assert files_in(tmp_path / "d") == []
    assert list((tmp_path / "d").rglob("*.tmp.*")) == []


def test_no_network_for_recordings(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_probe", no_network)
    with pytest.raises(FileNotFoundError) as caught:
        data.load("speech_commands35", data_dir=tmp_path)
    message = str(caught.value)
    assert "speech_commands_v0.02.tar.gz (2,428,923,189 bytes" in message
    assert "or an archive of wav files, such as those of Speech" in message
    assert "fashion_mnist_sample" not in message
    assert not (tmp_path / "speech_commands35").exists()


def test_error_names_debians_package(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_probe", no_network)
    monkeypatch.setitem(
        archives.DEBIAN,
        "fashion_mnist",
        archives.Package("dataset-fashion-mnist", str(tmp_path / "absent")),
    )
    with pytest.raises(
        FileNotFoundError,
        match="t10k-labels-idx1-ubyte.gz .5,148 bytes.*"
        "apt-get install dataset-fashion-mnist",
    ):
        data.load("fashion_mnist", data_dir=tmp_path / "d")


def no_network(server):
    raise OSError("no route")


def test_silent_server_fails_in_time(monkeypatch):
    monkeypatch.setattr(prepared, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(OSError, match="timed out"):
            prepared._probe(url)


def test_tfds_is_left_as_it_was(tiny_shapes, tmp_path, monkeypatch):
    from tensorflow_datasets.core.download import downloader

    before = downloader._open_url, downloader.MAX_RETRIES
    monkeypatch.setattr(prepared, "_probe", no_network)
    with pytest.raises(FileNotFoundError):
        data.load(tiny_shapes, data_dir=tmp_path / "d")
    assert (downloader._open_url, downloader.MAX_RETRIES) == before


def test_folder_that_cannot_be_written(tiny_shapes, folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written to .*file.*data_dir="):
        data.place_archives(tiny_shapes, folder, tmp_path / "file" / "d")


def test_full_disk(tiny_shapes, folder, tmp_path, monkeypatch):
    def full(source, target, length):
        target.write(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match=r"No space left on device\)") as caught:
        data.place_archives(tiny_shapes, folder, tmp_path / "d")
    assert caught.value.errno == 28
    assert files_in(tmp_path / "d") == []


def test_disk_full_while_preparing(tiny_shapes, folder, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        tfds.core.GeneratorBasedBuilder, "_download_and_prepare", full
    )
    with pytest.raises(OSError, match="cannot be written.*No space left"):
        data.load(tiny_shapes, archives=folder, data_dir=tmp_path / "d")
    assert not (tmp_path / "d" / "tiny_shapes" / "1.0.0").exists()


def test_missing_folder_of_archives(tiny_shapes, tmp_path):
    with pytest.raises(FileNotFoundError, match="archives.*nowhere.*not exist"):
        data.place_archives(tiny_shapes, tmp_path / "nowhere", tmp_path / "d")


def test_unknown_names(tmp_path):
    with pytest.raises(
        ValueError, match="Unknown data set 'fashion_mnst'. Did"
    ):
        data.load("fashion_mnst", data_dir=tmp_path)
    with pytest.raises(ValueError, match="'emnist' 'leters'.*'letters'"):
        data.load("emnist/leters", data_dir=tmp_path)
    with pytest.raises(ValueError, match="set 'mnits/1'. Did") as caught:
        data.load("mnits/1", data_dir=tmp_path)
    assert len(str(caught.value)) < 200
    with pytest.raises(FileNotFoundError, match="recs does not exist. Exp"):
        data.load("recs/")


def test_sets_that_are_no_image_classification(tmp_path):
    with pytest.raises(ValueError, match="not a classification set"):
        data.load("imdb_reviews", data_dir=tmp_path)
    with pytest.raises(ValueError, match="differ in size .*class folders"):
        data.load("imagenette", data_dir=tmp_path)


def test_set_without_checksums(tmp_path, monkeypatch):
    builder = builders.builder("mnist", tmp_path)
    monkeypatch.setattr(type(builder), "url_infos", None)
    with pytest.raises(ValueError, match="registers no checksums for 'mnist'"):
        archives.place_for(builder, tmp_path)


def test_missing_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "importlib_resources" else find(name),
    )
    with pytest.raises(
        ImportError,
        match=r"importlib_resources cannot.*keras_polynets\[data,tensorflow\]",
    ):
        data.load("mnist")


def test_mocked_set(tmp_path):
    with tfds.testing.mock_data(num_examples=5):
        loaded = data.load("mnist", data_dir=tmp_path)
    assert loaded.x_train.shape == loaded.x_test.shape == (5, 28, 28, 1)
    assert loaded.class_names == tuple("0123456789")


@pytest.mark.parametrize("split,time", [("train", 0), ("t10k", 1)])
def test_head_of_a_rewritten_gz_file_is_restored(split, time, tmp_path):
    body = gzip.compress(b"labels" * 10, mtime=123)[10:]
    stem = f"{split}-labels-idx1-ubyte"
    stamp = archives._GZIP_TIMES[time].to_bytes(4, "little")
    original = (
        b"\x1f\x8b\x08\x08" + stamp + b"\x00\x03" + stem.encode() + b"\0" + body
    )
    rewritten = tmp_path / f"{stem}.gz"
    rewritten.write_bytes(b"\x1f\x8b\x08\x00abcd\x00\x03" + body)
    info = type("Info", (), {})()
    info.size = len(original)
    info.checksum = hashlib.sha256(original).hexdigest()
    assert archives._with_original_head(rewritten, info) == original
    info.checksum = "0" * 64
    assert archives._with_original_head(rewritten, info) is None


@pytest.mark.skipif(
    not DEBIAN_FOLDER.is_dir(),
    reason="Debian's dataset-fashion-mnist is absent",
)
def test_real_fashion_mnist_from_debians_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared, "_probe", no_network)
    loaded = data.load("fashion_mnist", data_dir=tmp_path)
    assert loaded.x_train.shape == (60_000, 28, 28, 1)
    assert loaded.x_test.shape == (10_000, 28, 28, 1)
    assert np.bincount(loaded.y_train).tolist() == [6000] * 10
    assert loaded.class_names[0] == "T-shirt/top"
    # The embedded sample's images are among them.
    known = {image.tobytes() for image in loaded.x_test}
    sample = data.load("fashion_mnist_sample")
    assert all(image.tobytes() in known for image in sample.x_test)
