"""The segments of a log, read in order.

- A segment is named by the number of its first record: `000000000001.jsonl`.
- A line comes with its newline. One without is the end of a file that was cut, or is being written: it is
  read again a few times before that is believed.
- No line is read beyond the size of the longest record, so that memory is bounded whatever the file holds.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from authz.audit.record import MAX_RECORD_BYTES
from authz.errors import AuditError

SUFFIX: Final = ".jsonl"
_DIGITS: Final = 12
_NAME: Final = re.compile(rf"([0-9]{{{_DIGITS},16}})\{SUFFIX}")
_TRIES: Final = 5


class SegmentFile(NamedTuple):
    """A segment on disk; the order is that of the records."""

    first_seq: int
    path: Path


def segment_name(first_seq: int) -> str:
    """Return the file name of the segment that begins with a record."""
    return f"{first_seq:0{_DIGITS}d}{SUFFIX}"


def first_seq_of(name: str) -> int | None:
    """Return the number that a file name promises, None if it is not the name of a segment."""
    match = _NAME.fullmatch(name)
    if match is None or segment_name(int(match[1])) != name:
        return None
    return int(match[1])


def segment_files(directory: Path) -> list[SegmentFile]:
    """Return the segments in order.

    Raises:
        AuditError: if the directory cannot be read, or holds records under a name that we do not give.
    """
    try:
        names = sorted(path.name for path in directory.iterdir() if path.name.endswith(SUFFIX))
    except OSError as error:
        raise AuditError(f"the audit log {str(directory)!r} cannot be read: {error.strerror}") from error
    found = []
    for name in names:
        first = first_seq_of(name)
        if first is None:
            raise AuditError(
                f"{str(directory / name)!r} is not named like a segment of the log: move it away"
            )
        found.append(SegmentFile(first, directory / name))
    return sorted(found)


def wait_for_the_writer() -> None:
    """Give a writer the time to finish its line."""
    time.sleep(0.005)


def log_lines(
    directory: Path, pause: Callable[[], None] = wait_for_the_writer
) -> Iterator[tuple[str, bytes]]:
    """Yield (file name, line) for each line of a log.

    Raises:
        AuditError: if a file cannot be read.
    """
    for segment in segment_files(directory):
        for line in segment_lines(segment.path, pause):
            yield segment.path.name, line


def segment_lines(path: Path, pause: Callable[[], None] = lambda: None, offset: int = 0) -> Iterator[bytes]:
    """Yield each line of one segment, from an offset on.

    Raises:
        AuditError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while line := _whole_line(file, pause):
                yield line
    except OSError as error:
        raise AuditError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def _whole_line(file: BinaryIO, pause: Callable[[], None]) -> bytes:
    start = file.tell()
    line = file.readline(MAX_RECORD_BYTES + 1)
    for _ in range(_TRIES):
        if not line or line.endswith(b"\n") or len(line) > MAX_RECORD_BYTES:
            break
        pause()
        file.seek(start)
        line = file.readline(MAX_RECORD_BYTES + 1)
    return line
