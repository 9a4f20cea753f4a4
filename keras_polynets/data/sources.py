"""Images that are too many for memory: random access to encoded files."""

import dataclasses
import pathlib

import numpy as np

from keras_polynets.data import builders
from keras_polynets.data import sample
from keras_polynets.data.class_folders import IMAGES
from keras_polynets.data.class_folders import LAYOUT
from keras_polynets.data.prepared import prepare

# Of a set whose test labels are secret, the validation set tests.
TEST_SPLITS = ("test", "validation")
# How JPEG, PNG, GIF, BMP, WebP and the two forms of JPEG XL begin: what
# TensorFlow decodes, whatever the ending of the name.
HEADS = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"BM",
    b"RIFF",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL",
)
TEST_FOLDERS = ("test", "val", "validation")


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedDataset:
    """An image classification set that is read while it is used.

    Args:
        name: What the set is called.
        train: The training images: an object with a length, whose method
            `read(indices)` returns a list of the bytes of encoded images and
            an int32 array of labels.
        test: The test images, as `train`.
        class_names: The name of each label, a tuple of strings.
        source: One sentence that says where the data comes from.

    Example:

    >>> imagenet = keras_polynets.data.stream("~/imagenet")
    >>> contents, labels = imagenet.train.read([0, 17])
    """

    name: str
    train: object = dataclasses.field(repr=False)
    test: object = dataclasses.field(repr=False)
    class_names: tuple = dataclasses.field(repr=False)
    source: str


def stream(name, *, archives=None, data_dir=None):
    """Opens a set of images that is too large for memory.

    Args:
        name: One of:

            - the name of a set of tensorflow-datasets (TFDS), for example
              `"imagenet2012"`. It is prepared in the format of array_record,
              which gives access to any example at once;
            - the path of a folder that holds `train/<class>/*` and
              `test/<class>/*` (or `val/<class>/*`) as JPEG or PNG images of
              any size.
        archives: For a set of TFDS: folder of its archives. For ImageNet,
            which TFDS cannot download, the folder with
            `ILSVRC2012_img_train.tar` and `ILSVRC2012_img_val.tar`.
        data_dir: For a set of TFDS: the data folder of TFDS.

    Returns:
        A `data.StreamedDataset`. `data.CroppedBatches` and
        `data.evaluation_batches` decode it.

    Raises:
        ImportError: If tensorflow-datasets is needed and missing.
        FileNotFoundError: If a path does not exist, or the set is not to be
            had.
        ValueError: If the name is unknown, the set holds no images with
            labels, was prepared in a format without random access, or a
            folder holds no images or other classes in its two parts.

    Example:

    >>> imagenet = keras_polynets.data.stream("imagenet2012", archives="~/tars")
    """
    text = str(name)
    if text.startswith(("/", ".", "~")) or pathlib.Path(text).is_dir():
        return _stream_folder(pathlib.Path(text).expanduser())
    if text == sample.NAME:
        raise ValueError(
            f"{text!r} is no set of encoded files that could be streamed. Load "
            "it by data.load, in a recipe without the section [stream]."
        )
    return _stream_prepared(text, archives, data_dir)


class FolderSource:
    """Encoded images of class folders.

    Args:
        paths: List of paths.
        labels: List of integers, one a path.
    """

    def __init__(self, paths, labels):
        self.paths = paths
        self.labels = np.array(labels, "int32")

    def __len__(self):
        return len(self.paths)

    def read(self, indices):
        """Returns the bytes and the labels of some images."""
        contents = [_read_image(self.paths[i]) for i in indices]
        return contents, self.labels[indices]


class RecordSource:
    """Encoded images of a split of TFDS.

    Args:
        examples: Sequence of dictionaries.
        keys: The names of the image and of the label in them.
    """

    def __init__(self, examples, keys):
        self.examples, self.keys = examples, keys

    def __len__(self):
        return len(self.examples)

    def read(self, indices):
        """Returns the bytes and the labels of some images."""
        examples = [self.examples[int(i)] for i in indices]
        image, label = self.keys
        contents = [example[image] for example in examples]
        return contents, np.array([e[label] for e in examples], "int32")


def _read_image(path):
    """Returns the bytes of a file, of which a decoder would not say the name.

    One that is whole and damaged in between still gets its error.
    """
    content = path.read_bytes()
    if not content.startswith(HEADS):
        raise ValueError(
            f"{path} is not a JPEG or PNG image: it begins with "
            f"{content[:8]!r}. Get it again, or remove it."
        )
    if not _ends(content):
        raise ValueError(
            f"{path} is an image that breaks off after {len(content):,} bytes. "
            "Get it again, or remove it."
        )
    return content


def _ends(content):
    """Whether a JPEG or PNG image has its last marker; others are not known."""
    if content.startswith(b"\xff\xd8"):
        # That of a thumbnail stands before the scan of the image.
        return content.find(b"\xff\xd9", content.rfind(b"\xff\xda")) >= 0
    return not content.startswith(b"\x89PNG") or b"IEND" in content


def _stream_folder(folder):
    expected = LAYOUT.replace("test/", "test/ (or val/)")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is not a folder. Expected one that holds {expected}."
        )
    test = next((n for n in TEST_FOLDERS if (folder / n).is_dir()), None)
    found = {
        part: sorted(
            path
            for path in (folder / name).glob("*/*")
            if path.name.lower().endswith(IMAGES)
            and not path.name.startswith(".")
        )
        for part, name in (("train", "train"), ("test", test or "test"))
    }
    classes = {
        part: sorted({path.parent.name for path in paths})
        for part, paths in found.items()
    }
    if not classes["train"] or classes["train"] != classes["test"]:
        raise ValueError(
            f"{folder} must hold images of the same classes for training and "
            f"test: {expected}. Received: {len(classes['train'])} and "
            f"{len(classes['test'])} classes."
        )
    labels = {name: label for label, name in enumerate(classes["train"])}
    sources = {
        part: FolderSource(paths, [labels[p.parent.name] for p in paths])
        for part, paths in found.items()
    }
    return StreamedDataset(
        folder.name,
        **sources,
        class_names=tuple(labels),
        source=f"Class folders read from {folder.name}.",
    )


def _stream_prepared(name, archives, data_dir):
    builder = builders.builder(name, data_dir)
    import tensorflow_datasets as tfds

    keys = builder.info.supervised_keys
    features = builder.info.features
    if not keys or not (
        isinstance(features[keys[0]], tfds.features.Image)
        and isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        raise ValueError(
            f"{name!r} is not an image classification set: its supervised "
            f"keys are {keys}, of the features {dict(features)}."
        )
    if not builder.is_prepared():
        prepare(builder, name, archives, file_format="array_record")
    splits = builder.info.splits or ("train", "validation")
    test = next((s for s in TEST_SPLITS if s in splits), None)
    if "train" not in splits or test is None:
        raise ValueError(
            f"{name!r} needs the split 'train' and one of 'test' and "
            f"'validation'. It has: {', '.join(map(repr, splits))}."
        )
    decoders = {keys[0]: tfds.decode.SkipDecoding()}
    try:
        train, test_examples = (
            RecordSource(builder.as_data_source(s, decoders=decoders), keys)
            for s in ("train", test)
        )
    except NotImplementedError as error:
        raise ValueError(
            f"{name!r} is prepared in {builder.data_dir} in the format "
            f"{builder.info.file_format.value!r}, which can be read in its own "
            "order only. Give another folder by data_dir=, or prepare it again "
            "with download_and_prepare(file_format='array_record')."
        ) from error
    return StreamedDataset(
        name,
        train,
        test_examples,
        class_names=tuple(features[keys[1]].names),
        source=(
            f"{builder.info.full_name} of tensorflow-datasets, splits 'train' "
            f"and {test!r}."
        ),
    )
