"""The file of pins: its form, one transaction at a time in it, and whether somebody wrote it since.

- Each transaction that writes holds the write lock, and is on the disk when it is over. What fails in between
  changes nothing.
- Whether the file has changed is read from the file itself: SQLite counts its transactions in the header
  (bytes 24 to 27 of page 1), in the same write as what they change. A look costs no lock and less than 3 µs.
- A file that is gone, or that somebody put another one in the place of, is an error, whether the old one was
  deleted or only has another name now: what is read here would be what nobody writes any more.
- No WAL, for the reason that stands in authz/store/replay.py; without it the counter is in the header.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from authz.errors import StoreError
from authz.store.private import open_private
from authz.store.shared_database import SharedForm, open_shared_database
from authz.store.turns import Turns

PINS_FILE: Final = "pins.db"
APPLICATION_ID: Final = 0x44505049
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 0.5

_COUNTER_BYTES: Final = 4
_COUNTER_AT: Final = 24
_SCHEMA: Final = (
    """CREATE TABLE pins (
        service TEXT NOT NULL,
        tool TEXT NOT NULL,
        accepted TEXT,
        accepted_by TEXT,
        accepted_at INTEGER,
        seen TEXT,
        seen_at INTEGER,
        seen_kept INTEGER NOT NULL,
        drift TEXT,
        drift_at INTEGER,
        drift_kept INTEGER NOT NULL,
        departures INTEGER NOT NULL,
        PRIMARY KEY (service, tool)
    ) WITHOUT ROWID""",
    # Beside the pins, so that who reads all pins does not read all declarations.
    """CREATE TABLE declarations (
        service TEXT NOT NULL,
        tool TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (service, tool, sha256)
    )""",
    "CREATE INDEX declarations_bytes ON declarations (service, bytes)",
)
_FORM: Final = SharedForm(
    what="the file of pins",
    worth="without it each tool is learnt, or has to be accepted, anew",
    application_id=APPLICATION_ID,
    version=SCHEMA_VERSION,
    schema=_SCHEMA,
    synchronous="FULL",
)

Cells = tuple[object, ...]


class PinDatabase:
    """One connection; made by `open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, descriptor: int) -> None:
        self._turns = Turns(connection, unknown="what tools are", busy_seconds=BUSY_SECONDS)
        self._path = str(path)
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> "PinDatabase":
        """Open the file, or make it.

        Raises:
            StoreError: if it is not ours alone, is damaged, or of another version or program.
        """
        connection = open_shared_database(path, _FORM)
        try:
            # To close a descriptor lets go every lock that this process has on the file (POSIX): this one
            # is closed last.
            return cls(connection, path, open_private(path, os.O_RDONLY))
        except OSError as error:
            connection.close()
            raise StoreError(f"the file of pins {str(path)!r} cannot be opened: {error.strerror}") from error

    def close(self) -> None:
        """Let the file go."""
        self._turns.close()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def counter(self) -> bytes:
        """Return what is another value after each change; whoever has read by it has read what there is.

        Raises:
            StoreError: if it cannot be known.
        """
        self._turns.require_place()
        try:
            found = os.pread(self._descriptor, _COUNTER_BYTES, _COUNTER_AT)
        except OSError as error:
            raise StoreError(f"the file of pins {self._path!r} cannot be read: {error.strerror}") from error
        if len(found) != _COUNTER_BYTES:
            raise StoreError(f"the file of pins {self._path!r} was emptied: start again every process")
        return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """See one state of the file; the lock of a reader is held from the first row on.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._turns.transaction("BEGIN"):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the file alone.

        Raises:
            StoreError: if it cannot be held, read or written.
        """
        with self._turns.transaction():
            yield

    def all(self, statement: str, *values: object) -> list[Cells]:
        """Return all rows that a statement gives."""
        return self._turns.insist(lambda: self._turns.connection.execute(statement, values)).fetchall()

    def one(self, statement: str, *values: object) -> Cells | None:
        """Return the first row that a statement gives."""
        rows = self.all(statement, *values)
        return rows[0] if rows else None
