"""Builders of tensorflow-datasets (TFDS) and where TFDS keeps things."""

import errno
import importlib
import importlib.util
import pathlib

from keras_polynets._errors import unknown_name


def builder(name, data_dir=None):
    """Returns the TFDS builder of a set, or explains why there is none.

    Args:
        name: `"set"` or `"set/configuration"`, a version after `:` allowed.
        data_dir: The data folder of TFDS, by default its own.
    """
    tfds = _import_tfds(name)
    if data_dir is not None:
        data_dir = pathlib.Path(data_dir).expanduser()
    try:
        return tfds.builder(name, data_dir=data_dir)
    except ValueError as error:
        raise _explained(tfds, name, error) from None


def is_known(name):
    """Returns whether TFDS, where it is installed, has a set of this name.

    Args:
        name: As in `builder`.
    """
    try:
        tfds = _import_tfds(name)
    except ImportError:
        return False
    return name.partition("/")[0].partition(":")[0] in _known(tfds)


def _known(tfds):
    return tfds.list_builders(with_community_datasets=False)


def download_dir(builder):
    """Returns the folder in which TFDS keeps its downloads."""
    return pathlib.Path(builder.data_dir_root).expanduser() / "downloads"


def cache_path(builder, url, info):
    """Returns where TFDS looks for the archive of a URL."""
    from tensorflow_datasets.core.download import resource

    name = resource.get_dl_fname(url, info.checksum)
    return download_dir(builder) / builder.name / name


def unwritable(folder, error):
    """Returns the `OSError` for a folder of TFDS that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return OSError(
        getattr(error, "errno", None) or errno.EIO,
        f"TFDS's data cannot be written to {folder} ({reason}). Give a "
        "writable folder with enough space by `data_dir=` or the environment "
        "variable TFDS_DATA_DIR; nothing half-written was left",
    )


def _import_tfds(name):
    # TFDS needs importlib_resources on Python 3.11 without requiring it.
    needed = ("tensorflow_datasets", "importlib_resources", "tensorflow")
    missing = [m for m in needed if importlib.util.find_spec(m) is None]
    if missing:
        raise ImportError(
            f"The data set {name!r} is read through tensorflow-datasets, and "
            f"{' and '.join(missing)} cannot be imported. Install it with "
            "`pip install keras_polynets[data,tensorflow]`, or use the "
            "embedded set 'fashion_mnist_sample', or give the path of a "
            "folder or an archive of class folders or of recordings."
        )
    import tensorflow_datasets as tfds

    # Registers the builder of this package with TFDS.
    importlib.import_module("keras_polynets.data.speech_commands")
    return tfds


def _explained(tfds, name, error):
    if not is_known(name):
        known = [*_known(tfds), "fashion_mnist_sample"]
        return unknown_name("data set", name, known)
    set_name, _, configuration = name.partition("/")
    known = tfds.builder_cls(set_name).builder_configs
    if not configuration or configuration in known:
        return error
    return unknown_name(f"configuration of {set_name!r}", configuration, known)
