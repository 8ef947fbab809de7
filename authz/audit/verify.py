"""Whether a log is what was written: every record, in order, none changed, none missing.

- Pure: lines in, a verdict out, in constant memory, whatever the lines hold.
- A record is proven by the one after it, which holds its hash; the last one by the head beside the log.
- Each problem names the file, the line, the record's number and id, and what is wrong. After one, the rest
  is read on, so that a second change is found too.
- What it cannot find: a log that was written anew from some record on, together with its head. Whoever may
  write the directory can do that; a signed checkpoint outside it is what helps.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from authz.audit.chain import EMPTY, Head
from authz.audit.record import Record, digest
from authz.errors import AuditError

MAX_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where; `seq` and `id` where they could be read."""

    file: str
    line: int
    seq: int | None
    id: str | None
    what: str

    def __str__(self) -> str:
        named = "" if self.seq is None else f" record {self.seq}"
        return f"{self.file} line {self.line}{named}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdict; `problems` holds the first MAX_PROBLEMS, in the order of the log."""

    records: int
    first_seq: int | None
    last_seq: int | None
    head: Head
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Say whether nothing is wrong."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok


@dataclass(slots=True)
class _Place:
    """A line of the log that was read."""

    file: str = ""
    line: int = 0
    seq: int | None = None
    id: str | None = None


@dataclass(slots=True)
class _Reader:
    """What is known after each line: the chain so far, and what is wrong with it."""

    written: Head | None
    head: Head = EMPTY
    records: int = 0
    first_seq: int | None = None
    problems: list[Problem] = field(default_factory=list)
    # The line that `head` stands for, and how many lines after it could not be read.
    last: _Place = field(default_factory=_Place)
    unread: int = 0
    # The newest link does not fit: the record before it was changed, unless the next one does not fit either.
    suspect: _Place | None = None

    def read(self, place: _Place, line: bytes, promised: int | None) -> None:
        """Take the next line; `promised` is the number that the file's name gives its first line."""
        try:
            if not line.endswith(b"\n"):
                raise AuditError("cut off: the line has no end")
            record = Record.parse(line[:-1])
        except AuditError as error:
            place.seq = self.head.seq + self.unread + 1
            self.unread += 1
            self._problem(place, str(error))
            return
        place.seq, place.id = record.seq, record.id
        self.records += 1
        if self.first_seq is None:
            self.first_seq = record.seq
        if promised not in (None, record.seq):
            self._problem(place, f"the file is named after record {promised}")
        if record.seq > self.head.seq:
            self._advance(place, record, Head(record.seq, digest(line[:-1])))
        else:
            self._problem(place, self._out_of_order(record, line))

    def end(self) -> None:
        """Take the end of the log."""
        self._settle()
        if self.written is None:
            self._problem(self.last, "head.json is missing, so nobody can say whether the log ends here")
        elif self.written.seq > self.head.seq + self.unread:
            missing = _records(self.head.seq + self.unread + 1, self.written.seq)
            self._problem(self.last, f"the end of the log is cut off: {missing} missing")

    def _out_of_order(self, record: Record, line: bytes) -> str:
        if (record.seq, digest(line[:-1])) == (self.head.seq, self.head.hash):
            return "stands there twice"
        return f"out of order: it stands after record {self.head.seq}"

    def _advance(self, place: _Place, record: Record, now: Head) -> None:
        expected = self.head.seq + self.unread + 1
        if record.seq > expected:
            self._settle()
            self._problem(place, f"{_records(expected, record.seq - 1)} missing before it")
        elif record.seq > self.head.seq + 1:
            # What this one links to is among the lines that could not be read, and were named.
            self._settle()
        else:
            self._check_link(place, fits=record.prev == self.head.hash)
        self.head, self.last, self.unread = now, place, 0
        if self.written is not None and self.written.seq == now.seq and self.written != now:
            self.suspect = None
            self._problem(place, "not the record that head.json names: changed, or written anew")

    def _check_link(self, place: _Place, *, fits: bool) -> None:
        if fits:
            self._settle()
        elif self.suspect is None:
            self.suspect = self.last if self.head.seq else place
        else:
            # Neither the link to the last record nor the one from it fits: it is that one.
            self.suspect = self.last
            self._settle()

    def _settle(self) -> None:
        if self.suspect is not None:
            self._problem(self.suspect, "changed after it was written: the hashes around it do not fit")
            self.suspect = None

    def _problem(self, place: _Place, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(place.file, place.line, place.seq, place.id, what))


def verify_lines(lines: Iterable[tuple[str, bytes]], written: Head | None) -> Verification:
    """Check a log: its (file name, line with newline) in order, and the head that stands beside it."""
    reader = _Reader(written)
    file, number = "", 0
    for name, line in lines:
        promised = None
        if name != file:
            file, number, promised = name, 0, _promised(name)
        number += 1
        reader.read(_Place(name, number), line, promised)
    reader.end()
    last_seq = reader.head.seq if reader.records else None
    return Verification(reader.records, reader.first_seq, last_seq, reader.head, tuple(reader.problems))


def _promised(name: str) -> int | None:
    stem = name.partition(".")[0]
    return int(stem) if stem.isdecimal() and stem.isascii() else None


def _records(first: int, last: int) -> str:
    return f"record {first} is" if first == last else f"records {first} to {last} are"
