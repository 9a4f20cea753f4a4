"""Images in folders of classes, on disk or in an archive."""

import io
import pathlib

import keras
import numpy as np

from keras_polynets._errors import listed
from keras_polynets.data.arrays import ArrayDataset
from keras_polynets.data.members import check_exists
from keras_polynets.data.members import files_of

IMAGES = (".jpg", ".jpeg", ".png")
LAYOUT = "train/<class>/*.jpg (or .png) and test/<class>/*"


def load_class_folders(path):
    """Returns the images of class folders as an `ArrayDataset`.

    Classes are numbered in the order of their names, images of a class follow
    in the order of theirs, whatever the order in the archive.

    Args:
        path: A folder, or an archive whose name ends in one of
            `members.SUFFIXES`.
    """
    path = pathlib.Path(path).expanduser()
    check_exists(path, LAYOUT)
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
        source=f"Class folders read from {path.name}.",
    )


def _decode_all(path):
    """Returns `{(split, class, file name): uint8 array}`."""
    progress = keras.utils.Progbar(None, unit_name="image")
    images = {}
    first = None
    for name, content in files_of(path, is_image):
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
            f"one of them: {listed(map(repr, only))}."
        )
    return tuple(classes["train"])


def _arrays(images, split, class_names):
    keys = sorted(key for key in images if key[0] == split)
    labels = {name: label for label, name in enumerate(class_names)}
    x = np.stack([images[key] for key in keys])
    return x, np.array([labels[c] for _, c, _ in keys], "int32")


def is_image(name):
    """Whether a file is an image of the layout, by its name."""
    parts = pathlib.PurePosixPath(name).parts
    return (
        len(parts) >= 3
        and parts[-3] in ("train", "test")
        and not parts[-1].startswith(".")
        and name.lower().endswith(IMAGES)
    )
