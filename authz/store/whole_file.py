"""Small files of ours that are read whole and replaced whole.

- A reader finds what was written last, all of it: a file is replaced in one step, after its bytes and, since
  the name counts too, before the step's return its directory survive a power cut.
- Mode 0600, in a directory of 0700; no more is read than is allowed.
"""

import os
from pathlib import Path

from authz.errors import StoreError
from authz.store.private import open_private, private_directory


def read_whole(path: Path, limit: int) -> bytes | None:
    """Return what a file holds; None, if there is none.

    Raises:
        StoreError: if it cannot be read, others could get at it, or it is longer than we write.
    """
    try:
        with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise StoreError(f"{str(path)!r} is longer than what we write: delete it")
    return data


def replace_whole(path: Path, data: bytes) -> None:
    """Replace a file.

    Raises:
        StoreError: if that is not possible; the old one is still there then.
    """
    private_directory(path.parent)
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with os.fdopen(open_private(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error.strerror}") from error
