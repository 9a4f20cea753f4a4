"""Files of weights: written whole, checked before they are read."""

import os
import pathlib
import tempfile
import urllib.parse

import keras

from keras_polynets import _files
from keras_polynets import _weight_layout
from keras_polynets._errors import listed

SUFFIX = ".weights.h5"


def save(model, path):
    """Writes the weights of a model, whole or not at all.

    Args:
        model: A built `keras.Model`.
        path: File whose name ends in `.weights.h5`.

    Returns:
        The SHA-256 of the file, as hexadecimal digits.

    Raises:
        ValueError: If the name has another ending.
    """
    if not str(path).endswith(SUFFIX):
        raise ValueError(
            f"A file of weights is named *{SUFFIX}. Received: {str(path)!r}"
        )
    with _files.atomic_path(path) as aside:
        model.save_weights(aside, overwrite=True)
    return _files.sha256(path)


def load_into(model, path, sha256=None):
    """Loads weights into a model, after checking the file's hash.

    Args:
        model: A built `keras.Model` of the same architecture. After an error
            its weights are those it had.
        path: File whose name ends in `.weights.h5`.
        sha256: Optional SHA-256 that the file must have.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the hash is another one, if the file is not one of Keras
            weights, or if they do not fit, naming the layers.
    """
    path = _existing(path)
    received = _files.sha256(path) if sha256 else None
    if received != sha256:
        raise ValueError(
            f"The weights in {str(path)!r} are not the ones expected and were "
            f"not loaded. Expected sha256 {sha256}, received {received}. The "
            "file is damaged or another one: fetch it again."
        )
    with tempfile.TemporaryDirectory() as folder:
        # What the model would write is what it can read.
        own = pathlib.Path(folder) / f"own{SUFFIX}"
        model.save_weights(own)
        _check_fit(
            f"The weights in {str(path)!r}",
            model,
            _weight_layout.misfits(*map(_weight_layout.read, (path, own))),
        )
        try:
            model.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            model.load_weights(own)
            raise ValueError(
                f"The weights in {str(path)!r} cannot be read: the file is "
                f"damaged. Write or fetch it again. Keras says: {error}"
            ) from error


def transfer(source, target):
    """Copies weights between models of one architecture but for the head.

    Args:
        source: Model with the weights.
        target: Model that receives them. Its head keeps its own weights where
            it has another number of classes, and may be absent.

    Returns:
        List of the paths of the weights that were left fresh.

    Raises:
        ValueError: If weights outside the head do not fit, naming them. The
            target is then unchanged.
    """
    old = {w.path: w for w in source.weights}
    new = {w.path: w for w in target.weights}
    exempt = set()
    if source.output_shape != target.output_shape:
        heads = [h for h in (source.head, target.head) if h is not None]
        exempt = {w.path for head in heads for w in head.weights}
    shared = (old.keys() | new.keys()) - exempt
    _check_fit(
        "The weights",
        target,
        _weight_layout.differences(_shapes(old, shared), _shapes(new, shared)),
    )
    for path in shared:
        new[path].assign(old[path])
    return [path for path in new if path in exempt]


def locate(source):
    """Returns the file and the hash that a user's `weights=` stands for.

    Args:
        source: A file, a folder that holds one file of weights (or
            `best.weights.h5` among several), or a URL that ends in
            `#sha256=` and the hash.

    Returns:
        Pair of a `pathlib.Path` and a hash or `None`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a folder holds several files, or a URL has no hash.
        OSError: If a URL cannot be fetched.
    """
    source = str(source)
    if "://" in source:
        url, fragment = urllib.parse.urldefrag(source)
        key, _, digest = fragment.partition("=")
        if key != "sha256" or len(digest) != 64:
            raise ValueError(
                "A URL of weights must end in #sha256= and the 64 digits of "
                f"the hash. Received: weights={source!r}"
            )
        return download(url, digest), digest
    path = pathlib.Path(source)
    if path.is_dir():
        return _only_file(path), None
    return _existing(path), None


def download(url, sha256):
    """Fetches a file of weights into Keras's cache, once.

    Args:
        url: Address of the file.
        sha256: SHA-256 that the file must have.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        OSError: If the file cannot be fetched or the cache is not writable.
        ValueError: If the hash is another one.
    """
    home = os.environ.get("KERAS_HOME", os.path.expanduser("~/.keras"))
    folder = pathlib.Path(home) / "keras_polynets" / sha256[:16]
    path = folder / os.path.basename(urllib.parse.urlparse(url).path)
    if path.is_file() and _files.sha256(path) == sha256:
        return path
    try:
        with _files.atomic_path(path) as aside:
            keras.utils.get_file(
                aside.name,
                url,
                cache_dir=aside.parent,
                cache_subdir="",
                force_download=True,
            )
            received = _files.sha256(aside)
            if received != sha256:
                raise ValueError(
                    f"The file at {url} is not the one expected and was "
                    f"dropped. Expected sha256 {sha256}, received {received}."
                )
    except OSError as error:
        raise OSError(
            f"Could not fetch {url} into {folder}: {error}. Check the network "
            "and that the folder is writable (KERAS_HOME names another), or "
            "fetch the file by hand and pass its path as weights=."
        ) from error
    except ValueError:
        raise
    except Exception as error:
        # Keras raises a plain Exception where a server refuses.
        raise OSError(
            f"Could not fetch {url}: {error}. Fetch the file by hand and pass "
            "its path as weights=."
        ) from error
    return path


def _only_file(folder):
    best = folder / f"best{SUFFIX}"
    if best.is_file():
        return best
    files = sorted(folder.glob(f"*{SUFFIX}"))
    if len(files) != 1:
        names = ", ".join(f.name for f in files) or "none"
        raise ValueError(
            f"Expected one file *{SUFFIX} in the folder {str(folder)!r}. "
            f"Found: {names}. Pass the path of the file."
        )
    return files[0]


def _existing(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights {str(path)!r}.")
    return path


def _shapes(variables, paths):
    return {p: tuple(variables[p].shape) for p in paths if p in variables}


def _check_fit(weights, model, misfits):
    """Raises a `ValueError` that lists the misfits, if there are any."""
    if not misfits:
        return
    lines = listed(misfits, separator="\n  ")
    raise ValueError(
        f"{weights} do not fit the model {model.name!r}:\n  {lines}\nLoad them "
        "with the name and the arguments that they were trained with, or pass "
        "weights=None."
    )
