"""The log of one process: append-only files, a record a line, each naming the hash of the one before.

- A record is in the operating system (mode `written`) or on the disk (`durable`) before `append` returns.
- A single durable record in the mode `written` waits for the disk in another thread, and others are written
  meanwhile. If the disk does not keep it, the log stops.
- What cannot be written whole is not written at all, and raises AuditError; the log goes on as soon as
  there is room.
- One writer: a second one on the same directory is refused.
- The last `reserve_bytes` of the disk, and of `max_bytes`, are kept for the records of callers who proved
  who they are. Strangers' records stop before that.
- `head.json` names the newest record. It is written in another thread, at most once a second, after the
  record it names has reached the disk.
- A file that somebody removed or changed under us stops the log at the next `publish_head`.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Final

from authz.audit.chain import EMPTY, Head
from authz.audit.entry import Entry, recovered
from authz.audit.log_head import read_head, write_head
from authz.audit.log_open import Tail, lock, read_tail, torn_sha256
from authz.audit.log_segment import FileSegment, Segment
from authz.audit.read_lines import segment_name
from authz.audit.record import MAX_RECORD_BYTES, canonical_of_ordered, digest
from authz.audit.sink import Receipt
from authz.errors import AuditError, StoreError
from authz.store.private import private_directory

_MEBIBYTE: Final = 1024 * 1024
HEAD_EVERY_SECONDS: Final = 1.0
_CHANGED: Final = (
    "a file of the audit log was removed or changed by another program: run `deputy audit verify`"
)
_UNSYNCED: Final = "the disk did not keep a record of the audit log: restart, which checks the log"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How large a file and the log may get, what is kept for the authenticated, what `append` waits for."""

    segment_bytes: int = 64 * _MEBIBYTE
    max_bytes: int | None = None
    reserve_bytes: int = 16 * _MEBIBYTE
    durable: bool = False


class AuditLog:
    """A Sink; made by `open`."""

    def __init__(
        self,
        directory: Path,
        settings: LogSettings,
        tail: Tail,
        *,
        segment: Segment,
        lock_descriptor: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._lock_descriptor = lock_descriptor
        self._monotonic = monotonic
        self._writing = Lock()
        self._publishing = Lock()
        self._head = tail.head
        self._published: Head | None = None
        self._publish_after = monotonic() + HEAD_EVERY_SECONDS
        self._segment = segment
        self._finished: list[Segment] = []
        self._total = tail.total
        self._stopped: str | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        settings: LogSettings,
        record_id: str,
        now: datetime,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> "AuditLog":
        """Open a log, or begin one; `record_id` and `now` are for the record of a recovery, if one is needed.

        Raises:
            AuditError: if the directory is not ours alone, has a writer, or holds a broken log.
        """
        try:
            private_directory(directory)
        except StoreError as error:
            raise AuditError(str(error)) from error
        descriptor = lock(directory)
        try:
            tail = read_tail(directory)
            if read_head(directory) is None:
                # Before the first segment: from now on a log without a head is a log that lost it.
                write_head(directory, EMPTY)
            segment = FileSegment.open(tail.path, tail.size)
        except AuditError:
            os.close(descriptor)
            raise
        except (OSError, StoreError) as error:
            os.close(descriptor)
            raise AuditError(f"the audit log {str(directory)!r} cannot be opened: {error}") from error
        log = cls(directory, settings, tail, segment=segment, lock_descriptor=descriptor, monotonic=monotonic)
        if tail.torn:
            log._note(recovered(len(tail.torn), torn_sha256(tail), record_id, now))
        return log

    @property
    def head(self) -> Head:
        """The newest record."""
        return self._head

    async def append(self, entry: Entry) -> Receipt:
        """Write one record and see to it that the head follows.

        Raises:
            AuditError: if the record is not written.
        """
        receipt = self._write(entry, durable=self._settings.durable)
        if entry.is_durable and not self._settings.durable:
            # It waits for the disk, and this loop has calls to answer.
            await asyncio.to_thread(self.sync)
        if self._monotonic() >= self._publish_after:
            self._publish_after = self._monotonic() + HEAD_EVERY_SECONDS
            # Nobody waits for it, and a loop that shuts down starts no threads: `close` writes the head then.
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().run_in_executor(None, self.publish_head)
        return receipt

    def write(self, entry: Entry) -> Receipt:
        """Write one record, and wait for the disk where it is durable.

        Raises:
            AuditError: if the record is not written.
        """
        return self._write(entry, durable=entry.is_durable or self._settings.durable)

    def sync(self) -> None:
        """Wait until what was written survives a power cut; others write meanwhile.

        Raises:
            AuditError: if nobody can know whether it does; then nothing is written any more.
        """
        with self._publishing:
            with self._writing:
                if self._stopped is not None:
                    raise AuditError(self._stopped)
                segments = (*self._finished, self._segment)
            try:
                for each in segments:
                    each.sync()
            except OSError as error:
                self._stopped = _UNSYNCED
                raise AuditError(_UNSYNCED) from error

    def _write(self, entry: Entry, *, durable: bool) -> Receipt:
        with self._writing:
            if self._stopped is not None:
                raise AuditError(self._stopped)
            seq = self._head.seq + 1
            line = canonical_of_ordered(entry.members(seq, self._head.hash))
            self._require_room(len(line) + 1, of_stranger=entry.of_stranger)
            try:
                self._put(line + b"\n", durable=durable)
                self._head = Head(seq, digest(line))
            except (OSError, StoreError) as error:
                raise AuditError(f"the audit log cannot be written: {error}") from error
            except BaseException:
                # An interrupt between the line and the head: nobody knows whether `seq` is taken.
                self._stopped = "the audit log was interrupted: restart, which checks it"
                raise
            return Receipt(seq, entry.id)

    def publish_head(self) -> None:
        """Write the head beside the log if it moved; an idle service calls this once a second."""
        with self._publishing:
            with self._writing:
                if self._stopped is not None or self._head == self._published:
                    return
                if not self._segment.intact():
                    self._stopped = _CHANGED
                    return
                head, segment, finished = self._head, self._segment, self._finished
                self._finished = []
            try:
                for each in (*finished, segment):
                    each.sync()
            except OSError:
                self._stopped = _UNSYNCED
                return
            finally:
                for each in finished:
                    each.close()
            # A head that is late is no error; one that is ahead would be.
            with contextlib.suppress(OSError, StoreError):
                write_head(self._directory, head)
                self._published = head

    def close(self) -> None:
        """Write the head and let the directory go; the log takes no record any more."""
        self.publish_head()
        with self._publishing, self._writing:
            if self._lock_descriptor < 0:
                return
            self._stopped = self._stopped or "the audit log is closed"
            for segment in (*self._finished, self._segment):
                segment.close()
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1

    def _note(self, entry: Entry) -> None:
        try:
            self.write(entry)
        except AuditError:
            self.close()
            raise

    def _require_room(self, size: int, *, of_stranger: bool) -> None:
        if size > MAX_RECORD_BYTES:
            raise AuditError(f"a record of {size} bytes is longer than {MAX_RECORD_BYTES}")
        kept = self._settings.reserve_bytes if of_stranger else 0
        if self._settings.max_bytes is not None and self._total + size + kept > self._settings.max_bytes:
            raise AuditError(
                "the audit log has reached its max_bytes" + (" less the reserve" if kept else "")
            )
        if kept:
            disk = os.fstatvfs(self._lock_descriptor)
            if disk.f_bavail * disk.f_frsize < kept + size:
                raise AuditError("the rest of the disk is kept for records of authenticated callers")

    def _put(self, data: bytes, *, durable: bool) -> None:
        if self._segment.size and self._segment.size + len(data) > self._settings.segment_bytes:
            self._rotate()
        start = self._segment.size
        self._segment.append(data)
        if durable:
            self._sync_or_undo(start)
        self._total += len(data)

    def _sync_or_undo(self, start: int) -> None:
        try:
            # No record is worth anything without those before it, which may be in a segment that is full.
            for segment in (*self._finished, self._segment):
                segment.sync()
        except OSError:
            # After a failed sync the kernel may forget what it could not write: a second one proves nothing.
            self._stopped = _UNSYNCED
            self._segment.undo(start)
            raise

    def _rotate(self) -> None:
        segment = FileSegment.create(self._directory / segment_name(self._head.seq + 1))
        os.fsync(self._lock_descriptor)
        self._finished.append(self._segment)
        self._segment = segment
