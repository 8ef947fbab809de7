"""One file of the log, open for appending.

- A line goes in with one write, or not at all: what a full disk let through in part is cut off again.
- While the end could not be put right, nothing more is written.
- The file has mode 0600 and belongs to us.
"""

import errno
import os
from pathlib import Path
from typing import Protocol

from authz.store.private import open_private


class Segment(Protocol):
    """What the log needs of a file; every method raises OSError."""

    size: int

    def append(self, data: bytes) -> None:
        """Write all of `data` at the end, or nothing."""

    def undo(self, size: int) -> None:
        """Cut the end off again, down to `size`."""

    def sync(self) -> None:
        """Wait until what was written survives a power cut."""

    def intact(self) -> bool:
        """Say whether the file still is what we wrote: nobody removed or changed it."""

    def close(self) -> None:
        """Let go of the file."""


class FileSegment:
    """A segment on disk."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._torn = False
        self.size = size

    @classmethod
    def open(cls, path: Path, size: int) -> "FileSegment":
        """Open a segment whose records end at `size`; what stands behind is cut off.

        Raises:
            OSError: if that is not possible.
            StoreError: if others could get at the file.
        """
        descriptor = open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size > size:
                os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, size)

    @classmethod
    def create(cls, path: Path) -> "FileSegment":
        """Begin a segment.

        Raises:
            OSError: if that is not possible, or the file is there already.
            StoreError: if others could get at the file.
        """
        return cls(open_private(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL), 0)

    def append(self, data: bytes) -> None:
        """Write all of `data` at the end, or nothing."""
        if self._torn:
            self.undo(self.size)
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            # Nothing was written (POSIX write), but a cut is cheap and a torn line is not.
            self._undo_after_failure()
            raise
        if written != len(data):
            self._undo_after_failure()
            raise OSError(errno.ENOSPC, "the disk took part of the record only")
        self.size += written

    def undo(self, size: int) -> None:
        """Cut the end off again, down to `size`."""
        self._torn = True
        os.ftruncate(self._descriptor, size)
        self._torn = False
        self.size = size

    def sync(self) -> None:
        """Wait until what was written survives a power cut."""
        os.fdatasync(self._descriptor)

    def intact(self) -> bool:
        """Say whether the file still is what we wrote: nobody removed or changed it."""
        state = os.fstat(self._descriptor)
        return self._torn or (state.st_nlink > 0 and state.st_size == self.size)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _undo_after_failure(self) -> None:
        try:
            self.undo(self.size)
        except OSError:
            # `_torn` stays set: the next append begins here again.
            return
