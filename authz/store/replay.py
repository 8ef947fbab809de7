"""What counts once, in one SQLite file that the processes of one machine share (JW-09).

- Of all processes that present one thing, exactly one is told that it is the first: each insertion is one
  transaction under the write lock of the file.
- A restart forgets nothing, the death of a process at any moment neither. The loss of the machine's power
  may damage the file (`synchronous=OFF`: what it holds is worth minutes); a damaged file is refused, not
  repaired.
- No WAL: several processes write, and before 3.51.3 SQLite can damage a WAL then. The rollback journal is
  truncated, not deleted, after each transaction.
- The file has mode 0600 in a directory of 0700, and holds digests only. It is bounded in all and for each
  presenter; what has expired is removed by whoever inserts next, a few at a time.
- Up to 0.1 s is waited for another process; then, as for any other failure, StoreError is raised.
"""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Final

from authz.errors import StoreError
from authz.replay import (
    MAX_ENTRIES,
    MAX_OF_PRESENTER,
    ReplayKind,
    Use,
    refuse_full,
    refuse_unknown,
)
from authz.store.shared_database import SharedForm, open_shared_database
from authz.store.turns import Turns

BUSY_SECONDS: Final = 0.1
APPLICATION_ID: Final = 0x44505250
SCHEMA_VERSION: Final = 1

_PAUSE_SECONDS: Final = 0.0002
# More than one, or what has expired would grow; bounded, or one caller would wait for all of it.
_FORGET_AT_ONCE: Final = 64
_FORGET_WHEN_FULL: Final = 4096
# The row of `live` that counts all; a presenter's name is a digest, so it is never empty.
_ALL: Final = b""
_SCHEMA: Final = (
    """CREATE TABLE used (
        digest BLOB NOT NULL PRIMARY KEY,
        presenter BLOB NOT NULL,
        call BLOB NOT NULL,
        expires_at INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX used_expires_at ON used (expires_at)",
    "CREATE INDEX used_presenter ON used (presenter, expires_at)",
    "CREATE TABLE live (presenter BLOB NOT NULL PRIMARY KEY, entries INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE forgotten (until INTEGER NOT NULL)",
    "INSERT INTO live VALUES (x'', 0)",
    "INSERT INTO forgotten VALUES (0)",
    """CREATE TRIGGER used_added AFTER INSERT ON used BEGIN
        INSERT INTO live VALUES (NEW.presenter, 1)
            ON CONFLICT (presenter) DO UPDATE SET entries = entries + 1;
        UPDATE live SET entries = entries + 1 WHERE presenter = x'';
    END""",
    """CREATE TRIGGER used_forgotten AFTER DELETE ON used BEGIN
        UPDATE live SET entries = entries - 1 WHERE presenter IN (OLD.presenter, x'');
        DELETE FROM live WHERE presenter = OLD.presenter AND entries = 0;
        UPDATE forgotten SET until = max(until, OLD.expires_at);
    END""",
)
_FORM: Final = SharedForm(
    what="the file",
    worth="what it holds is worth minutes",
    application_id=APPLICATION_ID,
    version=SCHEMA_VERSION,
    schema=_SCHEMA,
    synchronous="OFF",
)


class ReplayFile:
    """The memory that several processes share; made by `open`."""

    def __init__(self, connection: sqlite3.Connection, max_entries: int, max_of_presenter: int) -> None:
        self._turns = Turns(
            connection,
            unknown="what was presented before",
            busy_seconds=BUSY_SECONDS,
            pause_seconds=_PAUSE_SECONDS,
        )
        self._connection = connection
        self._max_entries = max_entries
        self._max_of_presenter = max_of_presenter

    @classmethod
    def open(
        cls, path: Path, max_entries: int = MAX_ENTRIES, max_of_presenter: int = MAX_OF_PRESENTER
    ) -> "ReplayFile":
        """Open the file, or make it.

        Raises:
            StoreError: if it is not ours alone, is damaged, or of another version or program.
        """
        return cls(open_shared_database(path, _FORM), max_entries, max_of_presenter)

    def close(self) -> None:
        """Let the file go."""
        self._turns.close()

    def first_time(
        self,
        kind: ReplayKind,
        key: str,
        expires_at: int,
        *,
        presenter: str,
        now: datetime,
        call: str = "",
    ) -> bool:
        """See `authz.replay.Replay.first_time`."""
        use = Use.of(kind, key, expires_at, presenter, call, now)
        with self._turns.transaction():
            return self._insert(use, int(now.timestamp()))

    def _insert(self, use: Use, seconds: int) -> bool:
        self._forget("digest = ?", use.digest, seconds, 1)
        known = self._one("SELECT call FROM used WHERE digest = ?", use.digest)
        if known is not None:
            return known == use.call != b""
        self._forget("TRUE", None, seconds, _FORGET_AT_ONCE)
        refuse_unknown(use, self._number("SELECT until FROM forgotten"))
        self._make_room(use, seconds)
        self._connection.execute(
            "INSERT INTO used VALUES (?, ?, ?, ?)", (use.digest, use.presenter, use.call, use.expires_at)
        )
        return True

    def _make_room(self, use: Use, seconds: int) -> None:
        """Look at the bounds; what has expired does not count, but is still there after a burst."""
        if self._entries(use.presenter) >= self._max_of_presenter:
            self._forget("presenter = ?", use.presenter, seconds, _FORGET_WHEN_FULL)
        if self._entries(_ALL) >= self._max_entries:
            self._forget("TRUE", None, seconds, _FORGET_WHEN_FULL)
        refuse_full(
            self._entries(_ALL), self._entries(use.presenter), self._max_entries, self._max_of_presenter
        )

    def _forget(self, which: str, value: bytes | None, seconds: int, limit: int) -> None:
        """Remove some of what has expired; `which` is a condition of ours."""
        values = () if value is None else (value,)
        self._connection.execute(
            "DELETE FROM used WHERE digest IN (SELECT digest FROM used "  # noqa: S608 - constants of this file
            f"WHERE {which} AND expires_at <= ? ORDER BY expires_at LIMIT ?)",
            (*values, seconds, limit),
        )

    def _entries(self, presenter: bytes) -> int:
        return self._number("SELECT total(entries) FROM live WHERE presenter = ?", presenter)

    def _number(self, query: str, *values: bytes) -> int:
        value = self._one(query, *values)
        if not isinstance(value, int | float):
            raise StoreError("the file of what was presented before does not hold what it must")
        return int(value)

    def _one(self, query: str, *values: bytes) -> object:
        row = self._connection.execute(query, values).fetchone()
        return None if row is None else row[0]
