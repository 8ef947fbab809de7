"""What a log looks like when it is opened.

- One directory, one writer: an exclusive lock on the directory, which goes with the process.
- The newest segment is read and its chain checked, linked to the last record of the segment before.
- A last line without its newline is what a crash left in the middle of a write: nothing was answered on it,
  so it is to be cut off. Anything else that is broken is refused, by file and record; so is a log whose end
  is missing.
"""

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from authz.audit.chain import EMPTY, Head, follow
from authz.audit.log_head import read_head
from authz.audit.read_lines import SegmentFile, segment_files, segment_lines, segment_name
from authz.audit.record import MAX_RECORD_BYTES, Record, digest
from authz.errors import AuditError


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a log ends: its head, its newest segment, the bytes of records in that, what is torn behind."""

    head: Head
    path: Path
    size: int
    total: int
    torn: bytes


def lock(directory: Path) -> int:
    """Take the directory for this process and return the descriptor that holds it.

    Raises:
        AuditError: if another writer has it.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise AuditError(f"the audit log {str(directory)!r} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AuditError(
            f"another process writes the audit log {str(directory)!r}: stop it, or use another data_dir"
        ) from error
    return descriptor


def read_tail(directory: Path) -> Tail:
    """Find the end of a log, and check it.

    Raises:
        AuditError: if the log is broken, with the file and the record.
    """
    files = segment_files(directory)
    written = read_head(directory)
    if not files:
        if written not in (None, EMPTY):
            raise AuditError(
                f"the audit log {str(directory)!r} has lost all its records: restore it, or move it away"
            )
        return Tail(EMPTY, directory / segment_name(1), 0, 0, b"")
    if written is None:
        raise AuditError(
            f"the audit log {str(directory)!r} has lost its head.json: restore it, or move the log away"
        )
    tail = _read_segment(files, written)
    if tail.head.seq < written.seq:
        raise AuditError(
            f"the audit log has lost its end: {tail.path.name} stops at record {tail.head.seq}, "
            f"head.json names record {written.seq}"
        )
    return tail


def _read_segment(files: list[SegmentFile], written: Head) -> Tail:
    last = files[-1]
    head = _end_of(files[-2]) if len(files) > 1 else EMPTY
    if last.first_seq != head.seq + 1:
        raise AuditError(f"the audit log lacks the records {head.seq + 1} to {last.first_seq - 1}")
    _require_head(head, written, last.path)
    size, torn = 0, b""
    for number, line in enumerate(segment_lines(last.path), start=1):
        if not line.endswith(b"\n") and len(line) <= MAX_RECORD_BYTES:
            torn = line
            break
        try:
            head = follow(head, line.removesuffix(b"\n"))
        except AuditError as error:
            raise AuditError(f"{last.path.name} line {number}: {error}; run `deputy audit verify`") from error
        _require_head(head, written, last.path)
        size += len(line)
    total = size + sum(file.path.stat().st_size for file in files[:-1])
    return Tail(head, last.path, size, total, torn)


def _require_head(head: Head, written: Head, path: Path) -> None:
    if head.seq == written.seq and head != written:
        raise AuditError(
            f"{path.name}: record {head.seq} is not the one that head.json names; run `deputy audit verify`"
        )


def _end_of(segment: SegmentFile) -> Head:
    """Return the last record of a segment that was finished."""
    size = segment.path.stat().st_size
    with segment.path.open("rb") as file:
        file.seek(max(0, size - 2 * MAX_RECORD_BYTES))
        line = file.read().removesuffix(b"\n").rpartition(b"\n")[2]
    try:
        return Head(Record.parse(line).seq, digest(line))
    except AuditError as error:
        raise AuditError(f"{segment.path.name}, last line: {error}; run `deputy audit verify`") from error


def torn_sha256(tail: Tail) -> str:
    """Return the hash of what is to be cut off."""
    return hashlib.sha256(tail.torn).hexdigest()
