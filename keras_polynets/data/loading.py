"""From a name or a path to a data set in memory."""

import pathlib

from keras_polynets.data import sample
from keras_polynets.data.class_folders import SUFFIXES
from keras_polynets.data.class_folders import load_class_folders
from keras_polynets.data.prepared import load_prepared


def load(name, *, archives=None, data_dir=None):
    """Loads an image classification set as arrays.

    Args:
        name: One of:

            - `"fashion_mnist_sample"`: 10,000 training and 2,000 test images
              of Fashion-MNIST that lie inside the package;
            - the name of a set of tensorflow-datasets (TFDS) whose images
              have one size, for example `"fashion_mnist"`, `"kmnist"`,
              `"emnist/letters"` or `"cifar10"`;
            - the path of a folder, or of a `.tar.gz`, `.tgz`, `.tar` or
              `.zip` archive, that holds `train/<class>/*` and
              `test/<class>/*` as JPEG or PNG images of one size. An archive
              is read as a stream, nothing is extracted. A path that could be
              a name is written `./path`.
        archives: For a set of TFDS: folder of its archives, for machines
            without a network (see `data.place_archives`).
        data_dir: For a set of TFDS: the data folder of TFDS.

    Returns:
        A `data.ArrayDataset` with the images as they are stored, uint8 from 0
        to 255.

    Raises:
        ImportError: If tensorflow-datasets or Pillow is needed and missing.
        FileNotFoundError: If a path does not exist, or the set is neither
            prepared, nor among local archives, nor downloadable.
        ValueError: If the name is unknown, an archive is damaged, or the
            images do not form arrays.
        OSError: If the data folder of TFDS cannot be written.

    Example:

    >>> sample = keras_polynets.data.load("fashion_mnist_sample")
    >>> cifar10 = keras_polynets.data.load("~/data/cifar10_jpeg.tar.gz")
    """
    if name == sample.NAME:
        return sample.load_sample()
    if not isinstance(name, str | pathlib.PurePath):
        raise TypeError(
            "Argument `name` must be the name of a data set or a path. "
            f"Received: {name!r} of type {type(name).__name__}"
        )
    if _is_path(name):
        return load_class_folders(name)
    return load_prepared(name, archives, data_dir)


def _is_path(name):
    if isinstance(name, pathlib.PurePath):
        return True
    return (
        name.startswith(("/", ".", "~"))
        or "\\" in name
        or name.endswith(SUFFIXES)
        or (pathlib.Path(name) / "train").is_dir()
    )
