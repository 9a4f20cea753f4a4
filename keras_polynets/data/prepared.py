"""Sets of tensorflow-datasets (TFDS), prepared and read as arrays."""

import contextlib
import functools
import pathlib
import shutil
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from keras_polynets._errors import listed
from keras_polynets.data import builders
from keras_polynets.data import wav
from keras_polynets.data.archives import DEBIAN
from keras_polynets.data.archives import check_manual
from keras_polynets.data.archives import file_name
from keras_polynets.data.archives import place_for
from keras_polynets.data.arrays import ArrayDataset

# Seconds to wait for a server, and tries: without a network TFDS's own ten
# tries last for minutes.
TIMEOUT = 5
RETRIES = 2


def load_prepared(name, archives=None, data_dir=None):
    """Returns a TFDS set of images or recordings as an `ArrayDataset`.

    A set that is not prepared yet is prepared from local archives, as
    `data.place_archives` finds them, and what is missing is downloaded.
    """
    builder = builders.builder(name, data_dir)
    keys = _keys(builder, name)
    if not builder.is_prepared():
        prepare(builder, name, archives)
    train, test = _split_names(builder, name)
    audio = _rate(builder, keys) is not None
    read = _read_recordings if audio else _read_images
    x_train, y_train = read(builder, train, keys)
    x_test, y_test = read(builder, test, keys)
    return ArrayDataset(
        name=name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        class_names=tuple(builder.info.features[keys[1]].names),
        source=(
            f"{builder.info.full_name} of tensorflow-datasets, splits "
            f"{train!r} and {test!r}."
        ),
        **(_of_recordings(builder, test, keys) if audio else {}),
    )


def _keys(builder, name):
    """Returns the names of the input and of the label among the features."""
    from tensorflow_datasets import features

    keys = builder.info.supervised_keys
    expected = ((features.Image, features.Audio), features.ClassLabel)
    if keys and len(keys) == 2 and all(isinstance(k, str) for k in keys):
        received = [builder.info.features[key] for key in keys]
        if all(map(isinstance, received, expected)):
            if isinstance(received[0], features.Image):
                _check_storage(received[0], name)
            else:
                _check_audio(received[0], name)
            return keys
    raise ValueError(
        f"{name!r} is not a classification set of images or recordings: "
        "expected one image or recording and one class label as supervised "
        f"keys, received {keys} of the features "
        f"{dict(builder.info.features)}."
    )


def _check_audio(audio, name):
    if audio.sample_rate is None or audio.shape != (None,):
        raise ValueError(
            f"Recordings need one channel and a known rate. Those of {name!r} "
            f"have the shape {audio.shape} and the rate {audio.sample_rate}. "
            "Write them as wav files train/<word>/* and test/<word>/* and give "
            "that folder's path."
        )


def _rate(builder, keys):
    """Returns the rate of recordings, `None` for images."""
    return getattr(builder.info.features[keys[0]], "sample_rate", None)


def _check_storage(image, name):
    if None in image.shape:
        raise ValueError(
            f"The images of {name!r} differ in size (shape {image.shape}), and "
            "arrays hold images of one size. Open the set by `data.stream` (in "
            "a recipe, by its table [stream]), or resize them into class "
            "folders train/<class>/ and test/<class>/ and give that folder's "
            "path."
        )
    if image.dtype != np.uint8:
        raise ValueError(
            f"Images must be stored as uint8. Those of {name!r} are "
            f"{np.dtype(image.dtype).name}."
        )


def _known_splits(builder):
    # Under tfds.testing.mock_data there are none.
    return builder.info.splits or getattr(builder, "SPLITS", ("train", "test"))


def _split_names(builder, name):
    splits = _known_splits(builder)
    test = next((s for s in ("test", "validation") if s in splits), None)
    if "train" not in splits or test is None:
        raise ValueError(
            f"{name!r} needs the split 'train' and one of 'test' and "
            f"'validation'. It has: {', '.join(map(repr, splits))}."
        )
    return "train", test


def _read_images(builder, split, keys):
    import tensorflow_datasets as tfds

    batches = builder.as_dataset(split=split, batch_size=1000)
    images, labels = zip(
        *((b[keys[0]], b[keys[1]]) for b in tfds.as_numpy(batches)),
        strict=True,
    )
    return np.concatenate(images), np.concatenate(labels).astype("int32")


def _read_recordings(builder, split, keys):
    import tensorflow_datasets as tfds

    rate = _rate(builder, keys)
    clips, labels = [], []
    for example in tfds.as_numpy(builder.as_dataset(split=split)):
        clips.append(wav.fitted(example[keys[0]], rate))
        labels.append(example[keys[1]])
    return wav.stacked(clips, [rate] * len(clips)), np.array(labels, "int32")


def _of_recordings(builder, test, keys):
    """Returns what an `ArrayDataset` has for recordings only."""
    import tensorflow_datasets as tfds

    known = {"sampling_rate": wav.RATE}
    splits = _known_splits(builder)
    if "validation" in splits and test != "validation":
        x, y = _read_recordings(builder, "validation", keys)
        known |= {"x_validation": x, "y_validation": y}
    if "noise" in splits:
        noise = tfds.as_numpy(builder.as_dataset(split="noise"))
        rate = _rate(builder, keys)
        waves = (wav.fitted(e[keys[0]], len(e[keys[0]]), 1) for e in noise)
        known["noise"] = np.concatenate(
            [wav.resampled(wave[np.newaxis], rate)[0] for wave in waves]
        )
    return known


def prepare(builder, name, archives=None, file_format=None):
    """Prepares a set from local archives, and downloads what is missing.

    Args:
        builder: The builder of the set.
        name: What the user called it.
        archives: Folder of local archives.
        file_format: The format in which TFDS writes it, by default its own.
    """
    import tensorflow_datasets as tfds

    # Sets that TFDS cannot download are read from the user's folder itself.
    is_manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS is not None
    placed = {}
    if is_manual and archives is not None:
        check_manual(builder, archives)
    if not is_manual and (builder.url_infos or archives is not None):
        placed = place_for(builder, archives)
    missing = [url for url, path in placed.items() if path is None]
    config = tfds.download.DownloadConfig()
    if is_manual and archives is not None:
        config.manual_dir = pathlib.Path(archives).expanduser()
    download_dir = builders.download_dir(builder)
    failures = []
    try:
        with _no_leftovers(builder), _bounded_downloads(failures):
            builder.download_and_prepare(
                download_dir=download_dir,
                download_config=config,
                **({"file_format": file_format} if file_format else {}),
            )
    except Exception as error:
        if failures:
            raise _unreachable(builder, name, missing, failures) from error
        if is_manual and isinstance(error, AssertionError):
            raise FileNotFoundError(
                f"The data set {name!r} is not prepared in "
                f"{builder.data_dir_root}, and TFDS cannot download it. Give "
                "the folder of its files by archives=FOLDER (in a recipe: "
                "--set data.archives=FOLDER). "
                f"{' '.join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())}"
            ) from error
        if _is_about_writing(error):
            raise builders.unwritable(builder.data_dir_root, error) from error
        raise


def _is_about_writing(error):
    import tensorflow as tf

    return isinstance(
        error,
        (
            OSError,
            tf.errors.PermissionDeniedError,
            tf.errors.ResourceExhaustedError,
        ),
    )


@contextlib.contextmanager
def _bounded_downloads(failures):
    """Makes downloads of TFDS fail fast and notes those that failed."""
    from tensorflow_datasets.core.download import downloader

    opened, retries = downloader._open_url, downloader.MAX_RETRIES
    probe = functools.lru_cache(maxsize=None)(_probe)

    @contextlib.contextmanager
    def open_url(url, **kwargs):
        try:
            probe(urllib.parse.urljoin(url, "/"))
            with opened(url, **kwargs) as response:
                yield response
        except Exception as error:
            failures.append((url, error))
            raise

    downloader._open_url, downloader.MAX_RETRIES = open_url, RETRIES
    try:
        yield
    finally:
        downloader._open_url, downloader.MAX_RETRIES = opened, retries


def _probe(server):
    """Raises an `OSError` unless the server answers in time."""
    request = urllib.request.Request(server, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            pass
    except urllib.error.HTTPError:
        pass  # An answer, though not to this method.


@contextlib.contextmanager
def _no_leftovers(builder):
    """Removes the temporary and empty folders that a failed download leaves."""

    def temporary():
        return set(builders.download_dir(builder).glob("**/*.tmp.*"))

    before = temporary()
    try:
        yield
    except BaseException:
        for folder in temporary() - before:
            shutil.rmtree(folder, ignore_errors=True)
        root = pathlib.Path(builder.data_dir_root).expanduser()
        folder = pathlib.Path(builder.data_dir).expanduser()
        while folder != root and folder.is_relative_to(root):
            with contextlib.suppress(OSError):
                folder.rmdir()
            folder = folder.parent
        raise


def _another(builder):
    """Returns what a set of the same kind can be had from, in words."""
    from tensorflow_datasets import features

    kinds = map(type, builder.info.features.values())
    if features.Audio in kinds:
        return (
            "or give the path of a folder or an archive of wav files, such as "
            "those of Speech Commands and of the Free Spoken Digit Dataset: "
            "load(PATH)"
        )
    return "or use the embedded set 'fashion_mnist_sample'"


def _unreachable(builder, name, missing, failures):
    url, cause = failures[0]
    files = [
        f"{file_name(u, info)} ({int(info.size):,} bytes, sha256 "
        f"{info.checksum})"
        for u, info in (builder.url_infos or {}).items()
        if u in missing
    ]
    ways = [
        "with a network, run again: TFDS downloads it",
        f"without one, give a folder of the files: load({name!r}, "
        "archives=FOLDER)",
    ]
    if builder.name in DEBIAN:
        package = DEBIAN[builder.name]
        ways.append(
            f"on Debian and Ubuntu: apt-get install {package.name} (it puts "
            f"them in {package.folder}, where they are looked for)"
        )
    ways.append(_another(builder))
    return FileNotFoundError(
        f"The data set {name!r} is not prepared in {builder.data_dir_root}, "
        f"and {url} could not be downloaded ({cause}). Files looked for: "
        f"{listed(files, separator='; ') or url}. Ways to get it: "
        f"{'; '.join(ways)}."
    )
