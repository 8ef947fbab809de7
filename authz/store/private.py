"""Files that nobody else may read.

- A directory of ours has mode 0700 and a file 0600; both belong to the user that we run as, and neither is
  a link.
- What exists with other rights is refused, never repaired: somebody may have read it, or put it there.
"""

import os
import stat
from pathlib import Path
from typing import Final

from authz.errors import StoreError

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077


def private_directory(path: Path) -> None:
    """Make a directory for us alone, or check that it is one.

    Raises:
        StoreError: if it cannot be made, or others could get at it.
    """
    try:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        state = path.lstat()
    except OSError as error:
        raise StoreError(f"the directory {str(path)!r} cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(state.st_mode):
        raise StoreError(f"{str(path)!r} is not a directory")
    _require_ours(path, state, "700")


def open_private(path: Path, flags: int) -> int:
    """Open a file for us alone, which is made where `flags` say so, and return its descriptor.

    Raises:
        StoreError: if others could get at it, or it is not a file.
        OSError: if it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise StoreError(f"{str(path)!r} is not a file")
        _require_ours(path, state, "600")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_ours(path: Path, state: os.stat_result, mode: str) -> None:
    if state.st_uid != os.geteuid():
        raise StoreError(
            f"{str(path)!r} belongs to another user (uid {state.st_uid}): give it to uid {os.geteuid()}"
        )
    if state.st_mode & _OTHERS:
        raise StoreError(
            f"others can get at {str(path)!r}: run `chmod {mode}` on it, and see who could read it"
        )
