"""Places local archives where TFDS keeps its downloads."""

import dataclasses
import hashlib
import pathlib
import shutil
import struct
import urllib.parse

from keras_polynets import _files
from keras_polynets.data import builders


@dataclasses.dataclass(frozen=True)
class Package:
    """A package of Debian that holds a set's archives in a folder."""

    name: str
    folder: str


DEBIAN = {
    "fashion_mnist": Package(
        "dataset-fashion-mnist", "/usr/share/datasets/fashion-mnist"
    ),
}
# Bytes above which a copy takes long enough to be announced.
LARGE = 2**28
# Debian's build replaces name and time in the head of a .gz file, and with
# them its SHA-256. These are the times (Unix) of the originals: training and
# test archives of Fashion-MNIST.
_GZIP_TIMES = (1504176606, 1504176627)


def place_archives(name, archives=None, data_dir=None):
    """Places archives of a TFDS set in the download cache of TFDS.

    TFDS then prepares the set as after a download, without a network. It works
    for every set whose archives' checksums TFDS registers. An archive is found
    by its file name or, where the name differs, by its content.

    Args:
        name: Name of a set of TFDS, for example `"fashion_mnist"` or
            `"emnist/letters"`.
        archives: Folder that holds the set's archives as they are downloaded,
            or one archive. Default: the folder of Debian's package, where
            there is one (`/usr/share/datasets/fashion-mnist`).
        data_dir: The data folder of TFDS (default: its own,
            `~/tensorflow_datasets`); the cache is its folder `downloads`.

    Returns:
        A dict from each registered URL to the `pathlib.Path` of its archive
        in the cache, or to `None` where the archive was not found.

    Raises:
        ImportError: If tensorflow-datasets is not installed.
        ValueError: If TFDS does not know the set, registers no checksums for
            it, or an archive has another SHA-256 than the registered one.
        FileNotFoundError: If `archives` does not exist.
        OSError: If the cache cannot be written. Nothing half-written remains.

    Example:

    >>> place_archives("kmnist", archives="~/Downloads/kmnist")
    >>> kmnist = keras_polynets.data.load("kmnist")
    """
    builder = builders.builder(name, data_dir)
    return place_for(builder, archives)


def place_for(builder, archives=None):
    """Does the work of `place_archives` for a builder of TFDS."""
    if not builder.url_infos:
        raise ValueError(
            f"TFDS registers no checksums for {builder.name!r}, so archives "
            "of it cannot be checked. Let TFDS download it, or put what it "
            f"asks for in {builders.download_dir(builder) / 'manual'}."
        )
    files = _local_files(builder, archives)
    # A package of another release must not stand in the way of a download.
    strict = archives is not None
    return {
        url: _place(builder, url, info, files, strict)
        for url, info in builder.url_infos.items()
    }


def check_manual(builder, folder):
    """Checks the archives of a set that TFDS cannot download.

    TFDS reads them where they are, and checks nothing.

    Args:
        builder: The builder of the set.
        folder: The folder that holds them.

    Raises:
        ValueError: If one has another size or SHA-256 than TFDS registers.
    """
    folder = pathlib.Path(folder).expanduser()
    for url, info in (builder.url_infos or {}).items():
        path = folder / file_name(url, info)
        if not path.is_file():
            continue
        if info.size > LARGE:
            size = f"{info.size / 2**20:,.0f} MiB"
            print(f"Checking {path} ({size}) ...", flush=True)
        if path.stat().st_size != info.size or (
            _files.sha256(path) != info.checksum
        ):
            raise _mismatch(path, info)


def file_name(url, info):
    """Returns the name under which an archive is downloaded."""
    return (
        info.filename
        or pathlib.PurePosixPath(
            urllib.parse.unquote(urllib.parse.urlparse(url).path)
        ).name
    )


def _local_files(builder, archives):
    if archives is None:
        if builder.name not in DEBIAN:
            return []
        folder = pathlib.Path(DEBIAN[builder.name].folder)
        return sorted(folder.iterdir()) if folder.is_dir() else []
    path = pathlib.Path(archives).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(
            f"Argument `archives` must be a folder that holds the archives of "
            f"{builder.name!r}, or one of them. Received: {path}, which does "
            "not exist."
        )
    return sorted(p for p in path.iterdir() if p.is_file())


def _place(builder, url, info, files, strict):
    """Returns the archive's path in the cache, `None` where it is missing."""
    from tensorflow_datasets.core.download import resource

    target = builders.cache_path(builder, url, info)
    if _is_placed(target, info):
        return target
    found = _find(file_name(url, info), info, files, strict)
    if found is None:
        return None
    path, content = found
    if info.size > LARGE:
        print(f"Placing {path} ({info.size / 2**20:,.0f} MiB) ...", flush=True)
    try:
        with _files.atomic_write(target) as file:
            if content is None:
                with open(path, "rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
            else:
                file.write(content)
            file.flush()
            if _files.sha256(file.name) != info.checksum:
                raise _mismatch(path, info)
        resource.get_info_path(target).unlink(missing_ok=True)
        resource.write_info_file(
            url, target, builder.name, file_name(url, info), info
        )
    except OSError as error:
        raise builders.unwritable(target.parent, error) from error
    return target


def _is_placed(target, info):
    from tensorflow_datasets.core.download import resource

    return (
        resource.is_locally_cached(target)
        and target.stat().st_size == info.size
    )


def _find(name, info, files, strict):
    """Returns `(path, content)` of an archive, the latter `None` if as is."""
    named = [path for path in files if path.name == name]
    others = [path for path in files if path.name != name]
    for path in named + others:
        if path.stat().st_size == info.size and (
            _files.sha256(path) == info.checksum
        ):
            return path, None
    for path in named:
        content = _with_original_head(path, info)
        if content is not None:
            return path, content
        if strict:
            raise _mismatch(path, info)
    return None


def _with_original_head(path, info):
    """Returns the .gz file with its name and time restored, or `None`.

    RFC 1952: ten bytes, of which the fourth holds the flags (8: a name
    follows, ended by a zero) and the next four the time.
    """
    head = struct.Struct("<3sBI2s")
    name = path.name.removesuffix(".gz").encode() + b"\0"
    if path.stat().st_size + len(name) != info.size:
        return None
    packed = path.read_bytes()
    magic, flags, _, system = head.unpack_from(packed)
    if magic != b"\x1f\x8b\x08" or flags:
        return None
    body = system + name + packed[head.size :]
    for time in _GZIP_TIMES:
        content = magic + struct.pack("<BI", 8, time) + body
        if hashlib.sha256(content).hexdigest() == info.checksum:
            return content
    return None


def _mismatch(path, info):
    return ValueError(
        f"The archive {path} is truncated, damaged or of another set: expected "
        f"{int(info.size):,} bytes with sha256 {info.checksum}, received "
        f"{path.stat().st_size:,} bytes with sha256 {_files.sha256(path)}. "
        "Get it again; it was not used."
    )
