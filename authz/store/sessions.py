"""Whose each session of MCP is, in one SQLite file that the processes of one machine share.

- Of two who present an id for the first time at the same moment, in whatever process, exactly one has it:
  looking and keeping are one transaction under the write lock of the file. Several bindings share one, for it
  waits for the disk.
- A session stays bound until it was unused for a week. Whoever has more than their share loses their own, the
  longest unused first, and nobody else's. Where all is full, what nobody used for a day makes room, whosever
  it is; what was used within the day is unbound by nobody but its owner. Full of those is closed.
- No id, no person, no agent is in it: digests, and when each was last used, to ten minutes.
- What is bound is on the disk before it counts. The file has mode 0600 in a directory of 0700; a damaged one
  is refused, not repaired. No WAL, for the reason that stands in authz/store/replay.py.
- Up to 0.5 s is waited for another process; then, as for any other failure, StoreError is raised.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeVar

from authz.errors import StoreError
from authz.store.shared_database import SharedForm, open_shared_database
from authz.store.turns import Turns

SESSIONS_FILE: Final = "sessions.db"
APPLICATION_ID: Final = 0x44505353
SCHEMA_VERSION: Final = 1
BUSY_SECONDS: Final = 0.5
# How exactly it is kept when a session was used: what is written more often wears the disk and helps nobody.
TOUCH_SECONDS: Final = 600

_PAUSE_SECONDS: Final = 0.0005
_FORGET_AT_ONCE: Final = 256
_SCHEMA: Final = (
    """CREATE TABLE sessions (
        session BLOB NOT NULL PRIMARY KEY CHECK (length(session) = 32),
        owner BLOB NOT NULL CHECK (length(owner) = 32),
        used_at INTEGER NOT NULL CHECK (typeof(used_at) = 'integer')
    ) WITHOUT ROWID""",
    "CREATE INDEX sessions_owner ON sessions (owner, used_at)",
    "CREATE INDEX sessions_used_at ON sessions (used_at)",
    # Counting 200,000 rows at each first sight would take milliseconds.
    "CREATE TABLE kept (entries INTEGER NOT NULL)",
    "INSERT INTO kept VALUES (0)",
    "CREATE TRIGGER session_added AFTER INSERT ON sessions BEGIN UPDATE kept SET entries = entries + 1; END",
    "CREATE TRIGGER session_gone AFTER DELETE ON sessions BEGIN UPDATE kept SET entries = entries - 1; END",
)
_FORM: Final = SharedForm(
    what="the file of sessions",
    worth="sessions that are open are then bound to whoever uses them next",
    application_id=APPLICATION_ID,
    version=SCHEMA_VERSION,
    schema=_SCHEMA,
    synchronous="FULL",
)

# `full`: it is nobody's, and there is no room for it.
Whose = Literal["own", "others", "full"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Presented:
    """A session, who presents it, and when; the digests of them, and seconds."""

    session: bytes
    owner: bytes
    at: int


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a session that nobody uses stays bound, and how many are kept."""

    kept_seconds: int = 7 * 24 * 3600
    # For so long after its use nobody else's sessions take its place.
    safe_seconds: int = 24 * 3600
    max_of_owner: int = 4096
    max_sessions: int = 200_000


DEFAULT_LIMITS: Final = SessionLimits()


class SessionFile:
    """The sessions and their owners, by their digests; made by `open`."""

    def __init__(self, connection: sqlite3.Connection, limits: SessionLimits) -> None:
        self._turns = Turns(
            connection, unknown="whose session it is", busy_seconds=BUSY_SECONDS, pause_seconds=_PAUSE_SECONDS
        )
        self._connection = connection
        self._limits = limits

    @classmethod
    def open(cls, path: Path, limits: SessionLimits = DEFAULT_LIMITS) -> "SessionFile":
        """Open the file, or make it.

        Raises:
            StoreError: if it is not ours alone, is damaged, or of another version or program.
        """
        return cls(open_shared_database(path, _FORM), limits)

    def close(self) -> None:
        """Let the file go."""
        self._turns.close()

    def bind(self, presented: Sequence[Presented]) -> list[Whose]:
        """Say of each session whose it is, in order; one that is nobody's is bound to who presents it.

        Raises:
            StoreError: if that cannot be known, or kept, of any.
        """
        with self._turns.held():
            # Mostly each is known, and was used a moment ago: nothing to write.
            known = [self._turns.insist(partial(self._look, each)) for each in presented]
            if None not in known:
                return [each for each in known if each is not None]
            with self._turns.inside():
                return [self._bind(each) for each in presented]

    def sweep(self, now: datetime) -> None:
        """Forget what nobody used for too long, some at a time.

        Raises:
            StoreError: if that cannot be done.
        """
        until = int(now.timestamp()) - self._limits.kept_seconds
        with self._turns.held():
            oldest = self._turns.insist(lambda: self._row("SELECT min(used_at) FROM sessions")[0])
            if isinstance(oldest, int) and oldest <= until:
                with self._turns.inside():
                    self._forget("used_at <= ?", until, _FORGET_AT_ONCE)

    def _look(self, presented: Presented) -> Whose | None:
        """Return whose it is; None where something is to be written."""
        found = self._find(presented)
        if found is None or (found[0] == presented.owner and abs(presented.at - found[1]) >= TOUCH_SECONDS):
            return None
        return _whose(found[0], presented)

    def _bind(self, presented: Presented) -> Whose:
        session, owner, at = presented.session, presented.owner, presented.at
        found = self._find(presented)
        if found is not None:
            if found[0] == owner:
                self._connection.execute("UPDATE sessions SET used_at = ? WHERE session = ?", (at, session))
            return _whose(found[0], presented)
        self._forget("session = ?", session, 1)
        if not self._make_room(owner, at):
            return "full"
        self._connection.execute("INSERT INTO sessions VALUES (?, ?, ?)", (session, owner, at))
        return "own"

    def _make_room(self, owner: bytes, at: int) -> bool:
        limits = self._limits
        if self._count("SELECT count(*) FROM sessions WHERE owner = ?", owner) >= limits.max_of_owner:
            self._forget("owner = ?", owner, 1)
        if self._count("SELECT entries FROM kept") >= limits.max_sessions:
            self._forget("used_at <= ?", at - limits.safe_seconds, _FORGET_AT_ONCE)
        return self._count("SELECT entries FROM kept") < limits.max_sessions

    def _forget(self, which: str, value: bytes | int, limit: int) -> None:
        """Forget some, the longest unused first; `which` is a condition of ours."""
        self._connection.execute(
            "DELETE FROM sessions WHERE session IN (SELECT session FROM sessions "  # noqa: S608 - ours
            f"WHERE {which} ORDER BY used_at LIMIT ?)",
            (value, limit),
        )

    def _find(self, presented: Presented) -> tuple[bytes, int] | None:
        """Return the owner of a session and when it was used; None where it is nobody's (any more)."""
        found = self._connection.execute(
            "SELECT owner, used_at FROM sessions WHERE session = ?", (presented.session,)
        ).fetchone()
        if found is None:
            return None
        owner, used_at = found
        if not isinstance(owner, bytes) or not isinstance(used_at, int):
            raise StoreError("the file of sessions does not hold what it must")
        return None if used_at <= presented.at - self._limits.kept_seconds else (owner, used_at)

    def _count(self, query: str, *values: bytes) -> int:
        (number,) = self._row(query, *values)
        if not isinstance(number, int):
            raise StoreError("the file of sessions does not hold what it must")
        return number

    def _row(self, query: str, *values: bytes) -> tuple[object, ...]:
        found = self._connection.execute(query, values).fetchone()
        return (None,) if found is None else tuple(found)


def _whose(owner: bytes, presented: Presented) -> Whose:
    return "own" if owner == presented.owner else "others"
