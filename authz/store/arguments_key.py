"""The key of the arguments' hash, in a file of ours.

- It appears in one step, whole, and is made once; losing it makes old hashes uncheckable, never wrong.
"""

import contextlib
import os
from pathlib import Path

from authz.audit.arguments import KEY_BYTES, ArgumentsKey
from authz.errors import StoreError
from authz.store.private import open_private


def load_or_create_arguments_key(path: Path, entropy: bytes) -> ArgumentsKey:
    """Read the key, or make it of 32 random bytes.

    Raises:
        StoreError: if the file is not a key, is open to others, or cannot be used.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return _read(path)
        _create(path, ArgumentsKey(entropy))
        return _read(path)
    except OSError as error:
        raise StoreError(f"the key file {str(path)!r} cannot be used: {error.strerror}") from error


def _read(path: Path) -> ArgumentsKey:
    with os.fdopen(open_private(path, os.O_RDONLY), "rb") as file:
        data = file.read(KEY_BYTES + 1)
    if len(data) != KEY_BYTES:
        raise StoreError(
            f"the key file {str(path)!r} does not hold {KEY_BYTES} bytes: restore it, or move it away"
        )
    return ArgumentsKey(data)


def _create(path: Path, key: ArgumentsKey) -> None:
    draft = path.with_name(f"{path.name}.tmp")
    with os.fdopen(open_private(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
        file.write(key.reveal())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
