"""Questions to the log: list, get, watch; also while it is being written.

- Oldest first, always; a limit keeps the newest. Memory is bounded by the limit and one record.
- A last line without its end is being written, so it is not there yet. Any other line that is not a record
  is an error that names it: a log that was tampered with does not answer as if it were whole.
- `follow` never waits by itself: the caller's `pause` does, and ends it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.audit.filter import Filter
from authz.audit.read_lines import SegmentFile, segment_files, segment_lines
from authz.audit.record import MAX_RECORD_BYTES, Record
from authz.errors import AuditError

MAX_LIMIT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two lines of a log."""

    segment: int
    offset: int


def latest(directory: Path, where: Filter, limit: int) -> list[Record]:
    """Return the newest records that match, oldest first.

    Raises:
        AuditError: if the log cannot be read, or a line is not a record.
    """
    limit = min(max(limit, 0), MAX_LIMIT)
    found: list[Record] = []
    for segment in reversed(segment_files(directory)):
        if len(found) >= limit:
            break
        matching = (record for record in _records(segment) if where.matches(record))
        found = [*deque(matching, maxlen=limit - len(found)), *found]
    return found


def find(directory: Path, record_id: str) -> tuple[Record, ...]:
    """Return the record with an id and those that withdraw it, none if there is none.

    Raises:
        AuditError: if the log cannot be read, or a line is not a record.
    """
    return tuple(
        record
        for segment in segment_files(directory)
        for record in _records(segment)
        if record.id == record_id or record.members.get("withdraws") == record_id
    )


def end(directory: Path) -> Position:
    """Return the place behind the last whole line, where `follow` begins when only news are asked for.

    Raises:
        AuditError: if the log cannot be read.
    """
    files = segment_files(directory)
    if not files:
        return Position(0, 0)
    size = sum(len(line) for line in segment_lines(files[-1].path) if line.endswith(b"\n"))
    return Position(files[-1].first_seq, size)


def follow(directory: Path, where: Filter, start: Position, pause: Callable[[], bool]) -> Iterator[Record]:
    """Yield what matches from a place on; at the end of the log `pause` waits, and ends it by saying no.

    Raises:
        AuditError: if the log cannot be read, or a line is not a record.
    """
    place = start
    while True:
        for segment in segment_files(directory):
            if segment.first_seq < place.segment:
                continue
            if segment.first_seq > place.segment:
                place = Position(segment.first_seq, 0)
            for record, size in _sized(segment, place.offset):
                place = Position(place.segment, place.offset + size)
                if where.matches(record):
                    yield record
        if not pause():
            return


def _records(segment: SegmentFile) -> Iterator[Record]:
    for record, _ in _sized(segment, 0):
        yield record


def _sized(segment: SegmentFile, offset: int) -> Iterator[tuple[Record, int]]:
    for line in segment_lines(segment.path, offset=offset):
        if not line.endswith(b"\n") and len(line) <= MAX_RECORD_BYTES:
            return
        try:
            yield Record.parse(line.removesuffix(b"\n")), len(line)
        except AuditError as error:
            raise AuditError(
                f"{segment.path.name} at byte {offset}: {error}; run `deputy audit verify`"
            ) from error
        offset += len(line)
