"""From a name or a path to a data set in memory."""

import pathlib

from keras_polynets.data import builders
from keras_polynets.data import members
from keras_polynets.data import notes
from keras_polynets.data import sample
from keras_polynets.data import speech
from keras_polynets.data.class_folders import LAYOUT
from keras_polynets.data.class_folders import is_image
from keras_polynets.data.class_folders import load_class_folders
from keras_polynets.data.prepared import load_prepared

LAYOUTS = f"images, {LAYOUT}; or {speech.LAYOUT}"


def load(name, *, archives=None, data_dir=None, split=None):
    """Loads a set of images or of spoken words as arrays.

    Args:
        name: One of:

            - `"fashion_mnist_sample"`: 10,000 training and 2,000 test images
              of Fashion-MNIST that lie inside the package;
            - the name of a set of tensorflow-datasets (TFDS) whose images
              have one size, for example `"fashion_mnist"`, `"kmnist"`,
              `"emnist/letters"` or `"cifar10"`, or with recordings;
            - `"nsynth"`: the notes of NSynth as pictures, log-mel spectrograms
              of 28 x 28 of their first second, by family of instruments;
            - `"speech_commands35"`: Speech Commands v0.02 with its 35 words,
              prepared by a TFDS builder of this package (3.4 GB in memory);
            - the path of a folder, or of a `.tar.gz`, `.tgz`, `.tar` or
              `.zip` archive, that holds `train/<class>/*` and
              `test/<class>/*` as JPEG or PNG images of one size, or as wav
              files; or the folders of Speech Commands with its two lists; or
              the files `<word>_<speaker>_<index>.wav` of the Free Spoken
              Digit Dataset. An archive is read as a stream, nothing is
              extracted. A path that is a set's name too is written `./path`.
        archives: For a set of TFDS: folder of its archives, for machines
            without a network (see `data.place_archives`).
        data_dir: For a set of TFDS: the data folder of TFDS.
        split: For spoken digits, what is held out: `"index"` (the default),
            the recordings 0 to 4 of each speaker and digit for the test;
            `"speaker:NAME"`, all recordings of one speaker; or
            `"speaker:NAME,NAME"`, those of a second one to select models.

    Returns:
        A `data.ArrayDataset` with the images as they are stored, uint8 from 0
        to 255, or with recordings of one second at 16 kHz, int16: of another
        rate they are resampled, shorter ones end in silence, longer ones are
        cut.

    Raises:
        ImportError: If tensorflow-datasets or Pillow is needed and missing.
        FileNotFoundError: If a path does not exist, or the set is neither
            prepared, nor among local archives, nor downloadable.
        ValueError: If the name or the split is unknown, an archive is
            damaged, a file is no image or no audio, or the images do not form
            arrays.
        OSError: If the data folder of TFDS cannot be written.

    Example:

    >>> sample = keras_polynets.data.load("fashion_mnist_sample")
    >>> cifar10 = keras_polynets.data.load("~/data/cifar10_jpeg.tar.gz")
    >>> digits = keras_polynets.data.load("fsdd.tar.gz", split="speaker:theo")
    """
    if not isinstance(name, str | pathlib.PurePath):
        raise TypeError(
            "Argument `name` must be the name of a data set or a path. "
            f"Received: {name!r} of type {type(name).__name__}"
        )
    if is_path(name):
        path = pathlib.Path(name).expanduser()
        members.check_exists(path, LAYOUTS)
        if _holds_recordings(path):
            return speech.load_speech(path, split)
    if split:
        raise ValueError(
            "Argument `split` is for files of spoken words, given by their "
            f"path. Received: name={str(name)!r}, split={split!r}"
        )
    if name == sample.NAME:
        return sample.load_sample()
    if is_path(name):
        return load_class_folders(name)
    if notes.is_notes(name):
        return notes.load_notes(name, archives, data_dir)
    return load_prepared(name, archives, data_dir)


def is_path(name):
    """Whether a name of data is a path, not the name of a set.

    Args:
        name: String or `pathlib.Path`.
    """
    if isinstance(name, pathlib.PurePath):
        return True
    path = pathlib.Path(name)
    return (
        name.startswith(("/", ".", "~"))
        or "\\" in name
        or name.endswith(("/", *members.SUFFIXES))
        or (path / "train").is_dir()
        # Results, or what TFDS prepared, may lie in a folder of a set's name.
        or (path.exists() and not _is_set(name))
    )


def _is_set(name):
    return name == sample.NAME or builders.is_known(name)


def _holds_recordings(path):
    """Whether a path holds wav files or images, by the first of them."""
    for first, _ in members.files_of(
        path, lambda name: is_image(name) or speech.is_recording(name)
    ):
        return speech.is_recording(first)
    raise ValueError(
        f"{path} has neither images nor recordings in a known layout. Expected "
        f"{LAYOUTS}."
    )
