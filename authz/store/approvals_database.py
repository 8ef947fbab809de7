"""The file of approvals: its form, and one transaction at a time in it.

- Each transaction holds the write lock of the file, and is on the disk when it is over. What fails in between
  changes nothing.
- A clock that went back ends whatever is open: what had expired does not come to life again.
- No WAL, for the reason that stands in authz/store/replay.py. The file has mode 0600 in a directory of 0700;
  SQLite writes zeros over what is deleted.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from authz.approvals.approval import OPEN
from authz.errors import StoreError
from authz.store.shared_database import SharedForm, open_shared_database
from authz.store.turns import Turns

APPROVALS_FILE: Final = "approvals.db"
APPLICATION_ID: Final = 0x44504150
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 0.5
# How far the clocks of two readings may lie apart without a clock having gone back.
CLOCK_SECONDS: Final = 5
# Written as in the indexes, or SQLite does not use them.
IS_OPEN: Final = f"state IN ({', '.join(repr(state) for state in OPEN)})"

_SCHEMA: Final = (
    """CREATE TABLE approvals (
        id TEXT NOT NULL PRIMARY KEY,
        key_sha256 TEXT NOT NULL,
        key TEXT NOT NULL,
        human TEXT,
        agent TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied', 'used', 'expired')),
        requested_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        decided_by TEXT,
        decided_at INTEGER,
        reason TEXT NOT NULL DEFAULT '',
        arguments TEXT,
        used_at INTEGER,
        call BLOB NOT NULL DEFAULT x''
    ) WITHOUT ROWID""",
    f"CREATE UNIQUE INDEX approvals_open ON approvals (key_sha256) WHERE {IS_OPEN}",
    f"CREATE INDEX approvals_of ON approvals (human, agent) WHERE {IS_OPEN}",
    "CREATE INDEX approvals_end ON approvals (expires_at)",
    "CREATE INDEX approvals_used ON approvals (key_sha256, call) WHERE state = 'used'",
    "CREATE TABLE clock (latest INTEGER NOT NULL)",
    "INSERT INTO clock VALUES (0)",
)
_FORM: Final = SharedForm(
    what="the file of approvals",
    worth="nothing in it lasts",
    application_id=APPLICATION_ID,
    version=SCHEMA_VERSION,
    schema=_SCHEMA,
    synchronous="FULL",
    secure_delete=True,
)


Row = Mapping[str, object]


class ApprovalDatabase:
    """One connection; made by `open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._turns = Turns(connection, unknown="what was approved", busy_seconds=BUSY_SECONDS)
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> "ApprovalDatabase":
        """Open the file, or make it.

        Raises:
            StoreError: if it is not ours alone, is damaged, or of another version or program.
        """
        return cls(open_shared_database(path, _FORM))

    def close(self) -> None:
        """Let the file go."""
        self._turns.close()

    @contextmanager
    def transaction(self, at: int) -> Iterator[None]:
        """Hold the file alone; `at` is the time in milliseconds.

        Raises:
            StoreError: if it cannot be held, read or written.
        """
        with self._turns.transaction():
            self._look_at_clock(at)
            yield

    def one(self, statement: str, *values: object) -> Row | None:
        """Return the first row that a statement gives."""
        rows = self.all(statement, *values)
        return rows[0] if rows else None

    def all(self, statement: str, *values: object) -> list[Row]:
        """Return all rows that a statement gives."""
        cursor = self._connection.execute(statement, values)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def set_clock(self, at: int) -> None:
        """Remember a time at which something was written."""
        self._connection.execute("UPDATE clock SET latest = max(latest, ?)", (at,))

    def _look_at_clock(self, at: int) -> None:
        row = self.one("SELECT latest FROM clock")
        if row is None or not isinstance(latest := row["latest"], int):
            raise StoreError("the file of approvals does not hold what it must")
        if at < latest - CLOCK_SECONDS * 1000:
            self._connection.execute(
                f"UPDATE approvals SET state = 'expired', arguments = NULL WHERE {IS_OPEN}"  # noqa: S608 - ours
            )
            self._connection.execute("UPDATE clock SET latest = ?", (at,))
