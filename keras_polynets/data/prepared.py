"""Sets of tensorflow-datasets (TFDS), prepared and read as arrays."""

import contextlib
import functools
import pathlib
import shutil
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from keras_polynets.data import builders
from keras_polynets.data.archives import DEBIAN
from keras_polynets.data.archives import file_name
from keras_polynets.data.archives import place_for
from keras_polynets.data.arrays import ArrayDataset

# Seconds to wait for a server, and tries: without a network TFDS's own ten
# tries last for minutes.
TIMEOUT = 5
RETRIES = 2


def load_prepared(name, archives=None, data_dir=None):
    """Returns a TFDS image classification set as an `ArrayDataset`.

    A set that is not prepared yet is prepared from local archives, as
    `data.place_archives` finds them, and what is missing is downloaded.
    """
    builder = builders.builder(name, data_dir)
    image_key, label_key = _keys(builder, name)
    if not builder.is_prepared():
        _prepare(builder, name, archives)
    train, test = _split_names(builder, name)
    x_train, y_train = _read(builder, train, image_key, label_key)
    x_test, y_test = _read(builder, test, image_key, label_key)
    return ArrayDataset(
        name=name,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        class_names=tuple(builder.info.features[label_key].names),
        source=(
            f"{builder.info.full_name} of tensorflow-datasets, splits "
            f"{train!r} and {test!r}."
        ),
    )


def _keys(builder, name):
    """Returns the names of the image and of the label among the features."""
    from tensorflow_datasets import features

    keys = builder.info.supervised_keys
    expected = (features.Image, features.ClassLabel)
    if keys and len(keys) == 2 and all(isinstance(k, str) for k in keys):
        received = [builder.info.features[key] for key in keys]
        if all(map(isinstance, received, expected)):
            _check_storage(received[0], name)
            return keys
    raise ValueError(
        f"{name!r} is not an image classification set: expected one image and "
        f"one class label as supervised keys, received {keys} of the features "
        f"{dict(builder.info.features)}."
    )


def _check_storage(image, name):
    if None in image.shape:
        raise ValueError(
            f"The images of {name!r} differ in size (shape {image.shape}), and "
            "arrays hold images of one size. Resize them into class folders "
            "train/<class>/ and test/<class>/ and give that folder's path."
        )
    if image.dtype != np.uint8:
        raise ValueError(
            f"Images must be stored as uint8. Those of {name!r} are "
            f"{np.dtype(image.dtype).name}."
        )


def _split_names(builder, name):
    splits = builder.info.splits
    if not splits:  # Under tfds.testing.mock_data.
        return "train", "test"
    test = next((s for s in ("test", "validation") if s in splits), None)
    if "train" not in splits or test is None:
        raise ValueError(
            f"{name!r} needs the split 'train' and one of 'test' and "
            f"'validation'. It has: {', '.join(map(repr, splits))}."
        )
    return "train", test


def _read(builder, split, image_key, label_key):
    import tensorflow_datasets as tfds

    batches = builder.as_dataset(split=split, batch_size=1000)
    images, labels = zip(
        *((b[image_key], b[label_key]) for b in tfds.as_numpy(batches)),
        strict=True,
    )
    return np.concatenate(images), np.concatenate(labels).astype("int32")


def _prepare(builder, name, archives):
    import tensorflow_datasets as tfds

    # Sets that TFDS cannot download are read from the user's folder itself.
    is_manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS is not None
    placed = {}
    if builder.url_infos or (archives is not None and not is_manual):
        placed = place_for(builder, archives)
    missing = [url for url, path in placed.items() if path is None]
    config = tfds.download.DownloadConfig()
    if is_manual and archives is not None:
        config.manual_dir = pathlib.Path(archives).expanduser()
    download_dir = builders.download_dir(builder)
    failures = []
    try:
        with _no_leftovers(download_dir), _bounded_downloads(failures):
            builder.download_and_prepare(
                download_dir=download_dir, download_config=config
            )
    except Exception as error:
        if failures:
            raise _unreachable(builder, name, missing, failures) from error
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
def _no_leftovers(download_dir):
    """Removes the temporary folders that a failed download leaves."""

    def temporary():
        return set(download_dir.glob("**/*.tmp.*"))

    before = temporary()
    try:
        yield
    except BaseException:
        for folder in temporary() - before:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _unreachable(builder, name, missing, failures):
    url, cause = failures[0]
    listed = [
        f"{file_name(u, info)} ({int(info.size):,} bytes, sha256 "
        f"{info.checksum})"
        for u, info in (builder.url_infos or {}).items()
        if u in missing
    ]
    if len(listed) > 8:
        listed[8:] = [f"and {len(listed) - 8} more"]
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
    ways.append("or use the embedded set 'fashion_mnist_sample'")
    return FileNotFoundError(
        f"The data set {name!r} is not prepared in {builder.data_dir_root}, "
        f"and {url} could not be downloaded ({cause}). Files looked for: "
        f"{'; '.join(listed) or url}. Ways to get it: {'; '.join(ways)}."
    )
