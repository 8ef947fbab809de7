"""The file `head.json` beside the segments: what the newest record was.

- It is replaced in one step, and only after what it names survives a power cut; so it may be late, never
  ahead.
"""

import errno
import os
from pathlib import Path
from typing import Final

from authz.audit.chain import MAX_HEAD_BYTES, Head
from authz.errors import AuditError
from authz.store.private import open_private

HEAD_FILE: Final = "head.json"


def read_head(directory: Path) -> Head | None:
    """Return the head that was written last, None if none ever was.

    Raises:
        AuditError: if the file cannot be read, or is not a head.
    """
    path = directory / HEAD_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_HEAD_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    try:
        return Head.parse(data)
    except AuditError as error:
        raise AuditError(f"{str(path)!r} is not what we wrote: {error}") from error


def write_head(directory: Path, head: Head) -> None:
    """Replace the head.

    Raises:
        OSError: if that is not possible; the old head is still there then.
        StoreError: if somebody put another file in the way.
    """
    path = directory / HEAD_FILE
    draft = path.with_suffix(".tmp")
    descriptor = open_private(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(descriptor, head.to_bytes())
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    # A write that was cut short by a full disk must not replace the good head.
    if draft.stat().st_size != len(head.to_bytes()):
        raise OSError(errno.ENOSPC, "the disk took part of the head only")
    draft.replace(path)
