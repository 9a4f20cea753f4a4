"""Images in folders of classes, on disk or in an archive."""

import gzip
import io
import os
import pathlib
import stat
import tarfile
import zipfile
import zlib

import keras
import numpy as np

from keras_polynets.data.arrays import ArrayDataset

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
IMAGES = (".jpg", ".jpeg", ".png")
LAYOUT = "train/<class>/*.jpg (or .png) and test/<class>/*"


def load_class_folders(path):
    """Returns the images of class folders as an `ArrayDataset`.

    Classes are numbered in the order of their names, images of a class follow
    in the order of theirs, whatever the order in the archive.

    Args:
        path: A folder, or an archive whose name ends in one of `SUFFIXES`.
    """
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist. Expected a folder or an archive "
            f"({', '.join(SUFFIXES)}) that holds {LAYOUT}."
        )
    images = _decode_all(path)
    class_names = _class_names(path, images)
    arrays = [
        array
        for split in ("train", "test")
        for array in _arrays(images, split, class_names)
    ]
    return ArrayDataset(
        path.name,
        *arrays,
        class_names=class_names,
        source=f"Class folders read from {path.absolute()}.",
    )


def _decode_all(path):
    """Returns `{(split, class, file name): uint8 array}`."""
    progress = keras.utils.Progbar(None, unit_name="image")
    images = {}
    first = None
    for name, content in _files_of(path):
        key = pathlib.PurePosixPath(name).parts[-3:]
        image = _decode(content, f"{name} in {path}")
        first = first or (name, image.shape)
        if image.shape != first[1]:
            raise ValueError(
                f"All images must have one shape (height, width, channels): "
                f"{name} in {path} has {image.shape}, {first[0]} has "
                f"{first[1]}. Resize or convert them first."
            )
        if key in images:
            raise ValueError(f"{path} holds {'/'.join(key)} twice.")
        images[key] = image
        if len(images) % 1000 == 0:
            progress.update(len(images))
    if len(images) >= 1000:
        progress.update(len(images), finalize=True)
    return images


def _decode(content, where):
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "Images are decoded with Pillow, which is not installed. Install "
            "it with `pip install keras_polynets[data]`."
        ) from error
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            if image.mode not in ("L", "RGB"):
                image = _converted(image, where)
            pixels = np.asarray(image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{where} is not a whole JPEG or PNG image: {error}"
        ) from error
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _converted(image, where):
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"{where} has more than 8 bits a channel (mode {image.mode}). "
            "Convert it to 8 bits first."
        )
    return image.convert("L" if image.mode in ("1", "LA") else "RGB")


def _class_names(path, images):
    classes = {
        split: sorted({c for s, c, _ in images if s == split})
        for split in ("train", "test")
    }
    empty = [split for split, names in classes.items() if not names]
    if empty:
        raise ValueError(
            f"{path} has no images in {' and '.join(empty)}/<class>/. "
            f"Expected {LAYOUT}."
        )
    if classes["train"] != classes["test"]:
        only = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise ValueError(
            f"{path} must have the same classes in train/ and test/. Only in "
            f"one of them: {', '.join(map(repr, only))}."
        )
    return tuple(classes["train"])


def _arrays(images, split, class_names):
    keys = sorted(key for key in images if key[0] == split)
    labels = {name: label for label, name in enumerate(class_names)}
    x = np.stack([images[key] for key in keys])
    return x, np.array([labels[c] for _, c, _ in keys], "int32")


def _files_of(path):
    """Yields `(name, bytes)` of every image of the layout."""
    if path.is_dir():
        return _folder_files(path)
    if path.name.endswith(".zip"):
        return _checked(path, _zip_files(path))
    if path.name.endswith(SUFFIXES):
        return _checked(path, _tar_files(path))
    raise ValueError(
        f"{path} is neither a folder nor an archive. Expected a name that "
        f"ends in {', '.join(SUFFIXES)}."
    )


def _is_wanted(name):
    parts = pathlib.PurePosixPath(name).parts
    return (
        len(parts) >= 3
        and parts[-3] in ("train", "test")
        and not parts[-1].startswith(".")
        and name.lower().endswith(IMAGES)
    )


def _folder_files(folder):
    for split in ("train", "test"):
        for path in sorted(folder.glob(f"{split}/*/*")):
            name = path.relative_to(folder).as_posix()
            if _is_wanted(name):
                yield name, path.read_bytes()


def _tar_files(path):
    opener = open if path.name.endswith(".tar") else gzip.open
    with (
        opener(path, "rb") as packed,
        tarfile.open(fileobj=packed, mode="r|") as archive,
    ):
        for member in archive:
            _check_member(path, member.name, member.isfile() or member.isdir())
            if member.isfile() and _is_wanted(member.name):
                yield member.name, archive.extractfile(member).read()
        # To the end, so that gzip checks its sum.
        while packed.read(1 << 20):
            pass
    if opener is open:
        _check_end(path)


def _check_end(path):
    """A cut between two members shows only by the absent end mark."""
    with open(path, "rb") as packed:
        packed.seek(-min(1024, path.stat().st_size), os.SEEK_END)
        if packed.read().strip(b"\0"):
            raise EOFError("the end mark is missing")


def _zip_files(path):
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check_member(
                path, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR)
            )
            if not member.is_dir() and _is_wanted(member.filename):
                yield member.filename, archive.read(member)


def _check_member(path, name, is_plain):
    """Refuses what would lie outside if the archive were extracted."""
    parts = pathlib.PureWindowsPath(name)
    if not is_plain or parts.drive or parts.root or ".." in parts.parts:
        raise ValueError(
            f"{path} is refused: its member {name!r} is "
            + ("outside the archive." if is_plain else "a link or a device.")
            + " Expected plain files and folders."
        )


def _checked(path, files):
    """Explains a truncated or damaged archive."""
    try:
        yield from files
    except (
        EOFError,
        OSError,
        zlib.error,
        tarfile.TarError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"The archive {path} ({path.stat().st_size:,} bytes) is truncated "
            f"or damaged: {error}. Get it again."
        ) from error
