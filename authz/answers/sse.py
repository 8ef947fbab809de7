"""Server-Sent Events (WHATWG HTML, 9.2): read from chunks as they come, and written anew.

- However the bytes are cut into chunks, the events are the same. A line ends with CR, LF or both; a byte
  order mark counts at the very start only; `data` lines are joined by LF.
- An event is whole once its blank line is there; what stands behind the last one is none.
- An event of more than 4 MiB, or one whose texts are no text, is skipped as a whole, and said to be. What is
  held meanwhile is bounded.
- Strict where the specification is lax: bytes that are not UTF-8 are not replaced, and the name and the id of
  an event are printable. Some clients end lines at U+2028 or U+0085 as well.
- A comment, or a block without any known field, is an event of nothing: it keeps a connection alive, and
  what it said is not passed on.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_EVENT: Final = 4 << 20
MAX_FIELD_CHARS: Final = 1024
# Milliseconds, as far as every reader can count.
_MAX_RETRY_DIGITS: Final = 15

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_BLANK_LINES: Final = re.compile(rb"[\r\n]+")
# Stands for a line of which nothing is kept but that it is not blank.
_SOMETHING: Final = b"x"


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `data` is None where no such field was there, which is not the same as an empty one."""

    data: str | None = field(default=None, repr=False)
    event: str | None = None
    id: str | None = None
    retry: int | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """An event that was too large, or no text."""


KEEP_ALIVE: Final = Event()


class EventReader:
    """Reads one stream."""

    def __init__(self) -> None:
        """Begin before the byte order mark."""
        self._start: bytes | None = b""
        self._line = bytearray()
        self._is_after_cr = False
        self._begin()

    @property
    def held(self) -> int:
        """Count the bytes of what is not whole yet."""
        return len(self._line) + len(self._data or b"")

    def feed(self, chunk: bytes) -> Iterator[Event | Skipped]:
        """Yield the events that are whole with this chunk; it is read to its end only if all are taken."""
        if self._start is not None:
            chunk = self._without_mark(self._start + chunk)
        if self._is_after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._is_after_cr = False
        start = 0
        for line_end, next_start in _line_ends(chunk):
            if start < line_end:
                self._hold(chunk[start:line_end])
            start = next_start
            if self._line:
                self._read_line()
            elif self._has_lines:
                yield self._event()
                self._begin()
        self._hold(chunk[start:])
        self._is_after_cr = self._is_after_cr or chunk.endswith(b"\r")

    def _without_mark(self, head: bytes) -> bytes:
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._start = head
            return b""
        self._start = None
        return head.removeprefix(_BOM)

    def _begin(self) -> None:
        self._size = 0
        self._has_lines = False
        self._is_skipped = False
        self._data: bytearray | None = None
        self._fields: dict[str, str] = {}

    def _hold(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > MAX_EVENT:
            self._skip()
        if self._is_skipped:
            self._line[:] = _SOMETHING if self._line or piece else b""
        else:
            self._line += piece

    def _skip(self) -> None:
        self._is_skipped = True
        self._data = None
        self._fields = {}

    def _read_line(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        self._has_lines = True
        if self._is_skipped:
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name in {b"event", b"id"}:
            self._set_text(name.decode(), value)
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
            self._fields["retry"] = value.decode()

    def _add_data(self, value: bytes) -> None:
        if self._data is None:
            self._data = bytearray(value)
        else:
            self._data += b"\n" + value

    def _set_text(self, name: str, value: bytes) -> None:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            self._skip()
            return
        if _is_plain(text):
            self._fields[name] = text
        else:
            self._skip()

    def _event(self) -> Event | Skipped:
        if self._is_skipped:
            return Skipped()
        if self._data is None and not self._fields:
            return KEEP_ALIVE
        try:
            data = None if self._data is None else self._data.decode()
        except UnicodeDecodeError:
            return Skipped()
        retry = self._fields.get("retry")
        return Event(
            data,
            self._fields.get("event"),
            self._fields.get("id"),
            None if retry is None else int(retry),
        )


def _line_ends(chunk: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each line ends and the next one starts; a search for one byte is the fastest there is."""
    feed, carriage = chunk.find(b"\n"), chunk.find(b"\r")
    while feed >= 0 or carriage >= 0:
        if carriage < 0 or 0 <= feed < carriage:
            end, start = feed, feed + 1
        else:
            end, start = carriage, carriage + (2 if feed == carriage + 1 else 1)
        yield end, start
        blanks = _BLANK_LINES.match(chunk, start)
        if blanks is not None:
            # However many blank lines follow, they end one event.
            start = blanks.end()
            yield blanks.start(), start
        if 0 <= feed < start:
            feed = chunk.find(b"\n", start)
        if 0 <= carriage < start:
            carriage = chunk.find(b"\r", start)


def encode(event: Event) -> bytes:
    """Write an event.

    Raises:
        ValueError: if its name or its id would not be read as they are.
    """
    if event == KEEP_ALIVE:
        return b":\n\n"
    if not _is_plain(event.event or "") or not _is_plain(event.id or ""):
        raise ValueError("an event whose name or id is not printable")
    fields = {"event": event.event, "id": event.id, "retry": event.retry}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    if event.data is not None:
        is_one = "\n" not in event.data and "\r" not in event.data
        lines += [f"data: {line}" for line in ([event.data] if is_one else _LINE_END.split(event.data))]
    return ("\n".join(lines) + "\n\n").encode()


def _is_plain(text: str) -> bool:
    return text.isprintable() and len(text) <= MAX_FIELD_CHARS
