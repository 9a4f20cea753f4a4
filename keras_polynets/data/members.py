"""The files of a folder or an archive, read without extracting anything."""

import gzip
import os
import pathlib
import stat
import tarfile
import zipfile
import zlib

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")


def check_exists(path, layout):
    """Raises a `FileNotFoundError` that says what was expected at a path.

    Args:
        path: A `pathlib.Path`.
        layout: What the folder or archive has to hold, in words.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist. Expected a folder or an archive "
            f"({', '.join(SUFFIXES)}) that holds {layout}."
        )


def files_of(path, is_wanted):
    """Yields `(name, bytes)` of the wanted files of a folder or an archive.

    Names are relative to it, with slashes. Archives are read as streams, in
    their own order; folders in that of the names.

    Args:
        path: A `pathlib.Path`: a folder, or an archive whose name ends in one
            of `SUFFIXES`.
        is_wanted: Function from a name to whether the file is wanted.

    Raises:
        ValueError: If the archive is damaged, is none by its name, or has a
            member outside itself, a link or a device.
    """
    if path.is_dir():
        return _folder_files(path, is_wanted)
    if path.name.endswith(".zip"):
        return _checked(path, _zip_files(path, is_wanted))
    if path.name.endswith(SUFFIXES):
        return _checked(path, _tar_files(path, is_wanted))
    raise ValueError(
        f"{path} is neither a folder nor an archive. Expected a name that "
        f"ends in {', '.join(SUFFIXES)}."
    )


def _folder_files(folder, is_wanted):
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if is_wanted(name) and path.is_file():
            yield name, path.read_bytes()


def _tar_files(path, is_wanted):
    opener = open if path.name.endswith(".tar") else gzip.open
    with (
        opener(path, "rb") as packed,
        tarfile.open(fileobj=packed, mode="r|") as archive,
    ):
        for member in archive:
            _check_member(path, member.name, member.isfile() or member.isdir())
            if member.isfile() and is_wanted(member.name):
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


def _zip_files(path, is_wanted):
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            _check_member(
                path, member.filename, kind in (0, stat.S_IFREG, stat.S_IFDIR)
            )
            if not member.is_dir() and is_wanted(member.filename):
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
