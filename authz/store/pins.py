"""What tools are, as they were accepted and were seen last: the file that the processes of a machine share.

- Of all who learn one tool at a time, in whatever process, the first decides what it is, and to the others
  it has changed: each look is taken at the file, under its lock.
- What is read is the newest: whoever asks after a change has been made, by whatever process, asks by it.
- Bounded: tools of a service, a declaration, all declarations of a service. What is not kept is known by its
  hash alone, and nobody accepts it.
- A declaration stays as long as it is accepted, or what waits to be.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from authz.errors import ChangedError, StoreError
from authz.pins.change import PinChange, change_of
from authz.pins.declared import Declared, is_tool_name
from authz.pins.known import DEFAULT_LIMITS, KnownPins, PinLimits, by_name, looked_at
from authz.pins.pin import MAX_LOOKED_AT, Pin, Sighting
from authz.pins.port import PinMode
from authz.store.pin_rows import pin_of, values_of
from authz.store.pins_database import PinDatabase

_COLUMNS: Final = 12
_OF_TOOL: Final = "service = ? AND tool = ?"


@dataclass(slots=True)
class _Room:
    """What may still be kept of a service."""

    tools: int
    octets: int
    # For how many that are denied already there is time in this minute.
    looks: int = 0


class PinFile:
    """The pins; made by `open`."""

    def __init__(self, database: PinDatabase, limits: PinLimits) -> None:
        self._database = database
        self._limits = limits
        self._known: tuple[bytes, KnownPins] | None = None

    @classmethod
    def open(cls, path: Path, limits: PinLimits = DEFAULT_LIMITS) -> "PinFile":
        """Open the file, or make it.

        Raises:
            StoreError: if it is not ours alone, is damaged, or of another version or program.
        """
        return cls(PinDatabase.open(path), limits)

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def current(self) -> KnownPins | None:
        """Return what is known, if that is still what there is; this waits for nobody.

        Raises:
            StoreError: if that cannot be known.
        """
        counter, known = self._database.counter(), self._known
        return known[1] if known is not None and known[0] == counter else None

    def load(self) -> KnownPins:
        """Return what there is, read where it has changed.

        Raises:
            StoreError: if it cannot be read.
        """
        if (known := self.current()) is not None:
            return known
        with self._database.reading():
            rows = self._database.all("SELECT * FROM pins")
            # Behind the lock of a reader nobody writes: this is the counter of what was read.
            counter = self._database.counter()
        known = KnownPins(map(pin_of, rows), self._limits)
        self._known = (counter, known)
        return known

    def learn(
        self,
        service: str,
        declared: Sequence[Declared],
        mode: PinMode,
        now: datetime,
        tell: Callable[[PinChange], None] | None = None,
    ) -> KnownPins:
        """Take notice of a list, and return what is known then; `tell` gets each change once, and first.

        Raises:
            StoreError: if it cannot be kept.
        """
        # Others may have learnt the same while this one waited.
        if not self.load().is_news(service, declared, mode, now):
            return self.load()
        changes: list[PinChange] = []
        with self._database.writing():
            rows = self._database.all("SELECT * FROM pins WHERE service = ?", service)
            pins = {pin.tool: pin for pin in map(pin_of, rows)}
            room = _Room(
                self._limits.tools - len(pins),
                self._limits.service_bytes - self._bytes(service),
                MAX_LOOKED_AT - looked_at(pins.values(), now),
            )
            for name, several in by_name(declared).items():
                known = pins.get(name)
                if known is None and (room.tools <= 0 or not is_tool_name(name)):
                    continue
                before = known or Pin(service, name)
                noticed = self._noticed(before, several, mode, now, room)
                if noticed is not before:
                    room.tools -= known is None
                    self._write(noticed)
                    if (change := change_of(before, noticed)) is not None:
                        changes.append(change)
        # Before anybody here reads what was written: who is answered by it is answered after them.
        if tell is not None:
            for change in changes:
                tell(change)
        return self.load()

    def _noticed(
        self, pin: Pin, several: Sequence[Declared], mode: PinMode, now: datetime, room: _Room
    ) -> Pin:
        learns = mode == "learn" and len(several) == 1
        for each in several:
            sighted = Sighting(each.digest, now)
            is_repeat = pin.is_repeat(sighted)
            if is_repeat and room.looks <= 0:
                continue
            noticed = pin.notice(sighted, learns=learns)
            room.looks -= is_repeat and noticed is not pin
            if noticed is not pin and not self._keep(pin.service, each, room):
                noticed = pin.notice(replace(sighted, is_kept=False), learns=learns)
            pin = noticed
        return pin

    def accept(
        self,
        of: tuple[str, str],
        digest: str,
        by: str,
        now: datetime,
        declared: Declared | None = None,
    ) -> Pin:
        """Let a declaration of a tool, (service, tool), count: one that was seen, or this one.

        Raises:
            ChangedError: if it is none (any more) that waits, or there is no room for it.
            StoreError: if it cannot be kept.
        """
        service, tool = of
        with self._database.writing():
            pin = self._find(service, tool)
            if declared is not None:
                self._require_room(pin, service, declared)
            elif pin is None or digest not in pin.digests or self._text(service, tool, digest) is None:
                raise ChangedError(
                    f"the tool {service}/{tool} is not what was reviewed (any more): look at it again"
                )
            accepted = (pin or Pin(service, tool)).accept(digest, by, now)
            self._write(accepted)
        self.load()
        return accepted

    def forget(self, service: str, tool: str) -> Pin:
        """Know nothing of a tool any more, and return what was known.

        Raises:
            ChangedError: if nothing is.
            StoreError: if that cannot be kept.
        """
        with self._database.writing():
            pin = self._find(service, tool)
            if pin is None:
                raise ChangedError(f"nothing is known of the tool {service}/{tool} (any more)")
            for table in ("declarations", "pins"):
                self._database.all(f"DELETE FROM {table} WHERE {_OF_TOOL}", service, tool)  # noqa: S608 - ours
        self.load()
        return pin

    def declarations(self, service: str, tool: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what is kept of a tool's declarations, by digest.

        Raises:
            StoreError: if they cannot be read.
        """
        with self._database.reading():
            rows = self._database.all(
                f"SELECT sha256, text FROM declarations WHERE {_OF_TOOL}",  # noqa: S608 - ours
                *(service, tool),
            )
        return {str(digest): _declaration(text) for digest, text in rows}

    def _find(self, service: str, tool: str) -> Pin | None:
        row = self._database.one(f"SELECT * FROM pins WHERE {_OF_TOOL}", service, tool)  # noqa: S608 - ours
        return None if row is None else pin_of(row)

    def _text(self, service: str, tool: str, digest: str) -> str | None:
        row = self._database.one(
            f"SELECT text FROM declarations WHERE {_OF_TOOL} AND sha256 = ?",  # noqa: S608 - ours
            *(service, tool, digest),
        )
        return None if row is None else str(row[0])

    def _bytes(self, service: str) -> int:
        return self._number("SELECT coalesce(sum(bytes), 0) FROM declarations WHERE service = ?", service)

    def _number(self, statement: str, service: str) -> int:
        row = self._database.one(statement, service)
        return 0 if row is None else int(str(row[0]))

    def _require_room(self, pin: Pin | None, service: str, declared: Declared) -> None:
        room = _Room(self._limits.tools, self._limits.service_bytes - self._bytes(service))
        tools = self._number("SELECT count(*) FROM pins WHERE service = ?", service)
        is_full = pin is None and tools >= room.tools
        if is_full or not self._keep(service, declared, room):
            raise ChangedError(f"there is no room for the tool {service}/{declared.name}: forget others")

    def _keep(self, service: str, declared: Declared, room: _Room) -> bool:
        """Keep what a declaration says, if there is room; say whether it is there."""
        if self._text(service, declared.name, declared.digest) is not None:
            return True
        text = declared.text
        if len(text) > min(self._limits.declaration_bytes, room.octets):
            return False
        room.octets -= len(text)
        self._database.all(
            "INSERT INTO declarations VALUES (?, ?, ?, ?, ?)",
            *(service, declared.name, declared.digest, len(text), text.decode()),
        )
        return True

    def _write(self, pin: Pin) -> None:
        """Write a pin, and forget the declarations that it does not name."""
        marks = ", ".join("?" * _COLUMNS)
        self._database.all(f"INSERT OR REPLACE INTO pins VALUES ({marks})", *values_of(pin))  # noqa: S608 - marks
        named = sorted(pin.digests)
        marks = ", ".join("?" * len(named))
        self._database.all(
            f"DELETE FROM declarations WHERE {_OF_TOOL} AND sha256 NOT IN ({marks})",  # noqa: S608 - marks
            *(pin.service, pin.tool, *named),
        )


def _declaration(text: object) -> Mapping[str, Any]:
    try:
        found = json.loads(str(text))
    except ValueError as error:
        raise StoreError("a declaration that is not as we wrote it") from error
    if not isinstance(found, dict):
        raise StoreError("a declaration that is not as we wrote it")
    return found
