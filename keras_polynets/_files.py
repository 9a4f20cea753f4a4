"""Files that are whole or absent: written aside, then renamed."""

import contextlib
import hashlib
import os
import pathlib
import tempfile


@contextlib.contextmanager
def atomic_path(path):
    """Yields a temporary path that replaces `path` when the block succeeds.

    The temporary file lies in the same folder, so that the last step is a
    rename. After an error nothing is left behind and `path` is as it was.

    Args:
        path: The file to write. Missing parent folders are made.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, because some writers choose the format by it.
    handle, aside = tempfile.mkstemp(
        prefix=".writing-", suffix="".join(path.suffixes), dir=path.parent
    )
    os.close(handle)
    try:
        yield pathlib.Path(aside)
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)


@contextlib.contextmanager
def atomic_write(path, mode="wb"):
    """Yields an open file that becomes `path` when the block succeeds.

    Args:
        path: The file to write.
        mode: `"wb"` for bytes or `"w"` for UTF-8 text.
    """
    encoding = None if "b" in mode else "utf-8"
    with atomic_path(path) as aside, open(aside, mode, encoding=encoding) as f:
        yield f
        f.flush()


def sha256(path):
    """Returns the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
