"""An SQLite file that nobody else may read: made so, or refused.

- The file has mode 0600 in a directory of 0700; SQLite would make it with the process's umask, and gives what
  it puts beside it (`-wal`, `-shm`, the journal) the mode of the file.
- What is in it is for the caller to look at before it is believed.
"""

import os
import sqlite3
from pathlib import Path

from authz.errors import StoreError
from authz.store.private import open_private, private_directory


def open_database(path: Path, what: str, timeout: float) -> sqlite3.Connection:
    """Open a file, or make an empty one; `what` names it in messages, `timeout` is in seconds.

    Raises:
        StoreError: if others could get at it, or it cannot be opened.
    """
    private_directory(path.parent)
    try:
        os.close(open_private(path, os.O_RDWR | os.O_CREAT))
        return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
    except OSError as error:
        raise StoreError(f"{what} {str(path)!r} cannot be opened: {error.strerror}") from error
    except sqlite3.Error as error:
        raise StoreError(f"{what} {str(path)!r} cannot be opened: {error}") from error
