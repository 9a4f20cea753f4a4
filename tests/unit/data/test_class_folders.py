"""Folders and archives of class folders."""

import io
import os
import pathlib
import tarfile
import zipfile

import numpy as np
import pytest

from keras_polynets.data import load

Image = pytest.importorskip("PIL.Image")

CLASSES = ("ant", "bee")
CIFAR10 = os.environ.get("KERAS_POLYNETS_CIFAR10_JPEG")


def png(value, shape=(6, 5, 3)):
    buffer = io.BytesIO()
    pixels = np.full(shape, value, np.uint8).squeeze()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def small_set():
    """Returns `{name: bytes}`; each image holds its own number."""
    files = {"train/README.txt": b"not an image"}
    value = 0
    for split, count in (("train", 3), ("test", 2)):
        for name in CLASSES:
            for i in range(count):
                files[f"{split}/{name}/{i}.png"] = png(value)
                value += 1
    return files


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


WRITERS = {
    "folder": lambda path, files: write_folder(path / "set", files),
    "tar.gz": lambda path, files: write_tar(path / "set.tar.gz", files),
    "tgz": lambda path, files: write_tar(path / "set.tgz", files),
    "tar": lambda path, files: write_tar(path / "set.tar", files, "w"),
    "zip": lambda path, files: write_zip(path / "set.zip", files),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_reads_every_form(kind, tmp_path):
    files = small_set()
    # The order in the archive does not matter.
    files = dict(reversed(files.items()))
    data = load(str(WRITERS[kind](tmp_path, files)))
    assert data.x_train.shape == (6, 6, 5, 3)
    assert data.x_train.dtype == np.uint8 and data.y_train.dtype == np.int32
    assert data.x_train[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.x_test[:, 0, 0, 0].tolist() == [6, 7, 8, 9]
    assert data.y_test.tolist() == [0, 0, 1, 1]
    assert data.class_names == CLASSES
    assert data.name in data.source and str(tmp_path) not in data.source


def test_folder_above_the_splits_is_allowed_in_archives(tmp_path):
    files = {f"./top/{name}": c for name, c in small_set().items()}
    data = load(write_tar(tmp_path / "a.tar.gz", files))
    assert len(data.x_train) == 6


def test_grey_images_have_one_channel(tmp_path):
    files = {
        f"{split}/a/{i}.png": png(i, (4, 4, 1))
        for split in ("train", "test")
        for i in range(2)
    }
    data = load(write_zip(tmp_path / "a.zip", files))
    assert data.x_train.shape == (2, 4, 4, 1)


def test_jpeg_palette_and_relative_folder(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(buffer, "JPEG")
    palette = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).quantize().save(palette, "PNG")
    write_folder(
        tmp_path / "mine",
        {
            "train/a/0.JPG": buffer.getvalue(),
            "test/a/0.png": palette.getvalue(),
        },
    )
    monkeypatch.chdir(tmp_path)
    data = load("mine")
    assert data.x_train.shape == data.x_test.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(data.x_train[0, 0, 0], (200, 10, 10), atol=4)
    np.testing.assert_array_equal(data.x_test[0, 0, 0], (200, 10, 10))


def test_images_of_another_shape_are_named(tmp_path):
    files = {**small_set(), "train/bee/2.png": png(0, (6, 6, 3))}
    with pytest.raises(
        ValueError, match=r"train/bee/2.png in .* has \(6, 6, 3\), train/ant"
    ):
        load(write_tar(tmp_path / "a.tar.gz", files))


def test_broken_image_is_named(tmp_path):
    for content in (b"", b"no image", png(3)[:-30]):
        files = {**small_set(), "test/ant/1.png": content}
        with pytest.raises(ValueError, match="test/ant/1.png in .*not a whole"):
            load(write_tar(tmp_path / "a.tar.gz", files))


def test_sixteen_bits_are_refused(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(buffer, "PNG")
    files = {"train/a/0.png": buffer.getvalue()}
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        load(write_zip(tmp_path / "a.zip", files))


@pytest.mark.parametrize(
    "kind,share",
    # The second half of the small .tar is padding behind the end mark.
    [(kind, share) for kind in ("tar.gz", "zip") for share in (0.3, 0.7, 0.99)]
    + [("tar", 0.1), ("tar", 0.3), ("tar", 0.5)],
)
def test_truncated_archive(kind, share, tmp_path):
    path = WRITERS[kind](tmp_path, small_set())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match="truncated or damaged|not a whole"):
        load(path)


def test_tar_cut_between_two_members(tmp_path):
    path = WRITERS["tar"](tmp_path, small_set())
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(ValueError, match="truncated or damaged: the end mark"):
        load(path)


def test_damaged_content_fails_the_sum(tmp_path):
    path = WRITERS["tar.gz"](tmp_path, small_set())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or damaged: CRC"):
        load(path)


@pytest.mark.parametrize(
    "name",
    [
        "/train/ant/9.png",
        "../train/ant/9.png",
        "a/../../train/ant/9.png",
        "C:/train/ant/9.png",
        "..\\train\\ant\\9.png",
    ],
)
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_members_that_escape_are_refused(kind, name, tmp_path):
    path = WRITERS[kind](tmp_path, {**small_set(), name: png(9)})
    with pytest.raises(ValueError, match="is outside the archive"):
        load(path)


def test_links_are_refused(tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
        member = tarfile.TarInfo("train/ant/9.png")
        member.type, member.linkname = kind, "/etc/passwd"
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            archive.addfile(member)
        with pytest.raises(ValueError, match="is a link or a device"):
            load(tmp_path / "a.tar")
    member = zipfile.ZipInfo("train/ant/9.png")
    member.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(ValueError, match="is a link or a device"):
        load(tmp_path / "a.zip")


def test_missing_parts(tmp_path):
    files = {n: c for n, c in small_set().items() if n.startswith("train")}
    with pytest.raises(ValueError, match="no images in test/<class>/"):
        load(write_zip(tmp_path / "a.zip", files))
    for name in ("a/b", "a/b.png"):
        with pytest.raises(
            ValueError, match="neither images nor recordings .*<word>/.*wav"
        ):
            load(write_folder(tmp_path / "other", {name: png(0)}))
    files = {**small_set(), "train/cow/0.png": png(1)}
    with pytest.raises(ValueError, match="Only in one of them: 'cow'"):
        load(write_zip(tmp_path / "b.zip", files))


def test_same_image_twice(tmp_path):
    files = {**small_set(), "top/train/ant/0.png": png(0)}
    with pytest.raises(ValueError, match="holds train/ant/0.png twice"):
        load(write_zip(tmp_path / "a.zip", files))


def test_bad_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.zip does not exist"):
        load(tmp_path / "nothing.zip")
    other = tmp_path / "images.rar"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="neither a folder nor an archive"):
        load(str(other))
    with pytest.raises(TypeError, match="Received: 3 of type int"):
        load(3)


@pytest.mark.skipif(
    not CIFAR10, reason="KERAS_POLYNETS_CIFAR10_JPEG names no archive"
)
def test_cifar10_as_jpeg():
    data = load(pathlib.Path(CIFAR10))
    assert data.x_train.shape == (50_000, 32, 32, 3)
    assert np.bincount(data.y_test).tolist() == [1000] * 10
    assert data.class_names[0] == "airplane"
