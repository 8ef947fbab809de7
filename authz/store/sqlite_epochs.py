"""The changes of a state that another process writes, read from its SQLite file.

- The file is opened read-only and never made: nothing here writes, checkpoints or takes the writer's lock.
- Whether it is worth looking costs a look at a counter in shared memory (`PRAGMA data_version`) and at the
  inodes: a file that was put in the place of the one that is open is opened instead.
- The newest change that is known must still stand where it stood. A state without it, or one whose numbers
  went back, is another one: a backup was restored, and is not obeyed.
- What is read together is read in one transaction: it is of one moment, and of the version that this program
  knows. An authority that was upgraded may take rights away in a form that its old replicas cannot read.
"""

import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from os import geteuid
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, create_engine, event, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store.agents import read_agents
from authz.store.changes import Change, Progress, read_changes, read_progress
from authz.store.held_consents import KEPT_CONSENTS
from authz.store.held_tasks import KEPT_TASKS
from authz.store.port import News
from authz.store.rights import read_consents, read_withdrawals
from authz.store.rows import read_agent, read_consent, read_task, read_withdrawal
from authz.store.schema import (
    AGENTS,
    APPLICATION_ID,
    CHANGES,
    CONSENTS,
    SCHEMA_VERSION,
    TASKS,
    WITHDRAWALS,
)
from identity.withdrawal import Withdrawal

STATE_FILE: Final = "state.db"
BUSY_SECONDS: Final = 0.25

# SQLite allows 32,766 parameters; many small queries cost more than a few large ones.
_AT_ONCE: Final = 500
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_Inodes = tuple[int, int, int]
_Mark = tuple[int, str, str, str]


class SqliteEpochs:
    """One state, followed; used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Follow a file; it is opened by the first reading."""
        self._path = path
        self._engine: Engine | None = None
        self._connection: sqlite3.Connection | None = None
        self._inodes: _Inodes | None = None
        self._version: int | None = None
        self._mark: _Mark | None = None

    def close(self) -> None:
        """Let the file go."""
        if self._engine is not None:
            with suppress(SQLAlchemyError, sqlite3.Error):
                self._engine.dispose()
        self._engine = self._connection = self._version = None

    def is_moved(self) -> bool:
        """Say whether somebody wrote since the last reading, or put another file there.

        Raises:
            StoreError: if the file is gone, or is not ours alone.
        """
        inodes = self._look()
        if self._connection is None or self._version is None or inodes != self._inodes:
            return True
        try:
            return self._data_version() != self._version
        except sqlite3.Error as error:
            raise StoreError(f"the state {str(self._path)!r} cannot be read: {error}") from error

    def changes_after(self, known: Progress | None, now: datetime) -> News:
        """Return what is new since a moment, or everything.

        Raises:
            StoreError: if it cannot be read, or is another state than the one that is known, or an older one.
        """
        try:
            if self._connection is None or self._look() != self._inodes:
                self._open()
            version = self._data_version()
            with self._reading() as connection:
                self._require_version(connection.exec_driver_sql("PRAGMA user_version").scalar())
                progress = read_progress(connection)
                if known is not None:
                    self._refuse_older(known, progress, connection)
                news = _read(connection, known, progress, now)
                mark = _mark(connection, progress.last)
        except (sqlite3.Error, SQLAlchemyError) as error:
            reason = getattr(error, "orig", error)
            raise StoreError(f"the state {str(self._path)!r} cannot be read: {reason}") from error
        # Only now: what could not be read is worth looking at again.
        self._version, self._mark = version, mark
        return news

    def _look(self) -> _Inodes:
        """Return which files are there, after looking at whose they are."""
        try:
            status = self._path.lstat()
            # Its index in shared memory: with a new one, the old one tells of no change any more.
            shared = Path(f"{self._path}-shm")
            index = shared.lstat().st_ino if self._connection is not None else 0
        except OSError as error:
            raise StoreError(f"the state {str(self._path)!r} cannot be read: {error.strerror}") from error
        if (
            not stat.S_ISREG(status.st_mode)
            or status.st_uid != geteuid()
            or stat.S_IMODE(status.st_mode) & _OTHERS
        ):
            raise StoreError(f"the state {str(self._path)!r} is not a file for this user alone")
        return status.st_dev, status.st_ino, index

    def _open(self) -> None:
        self.close()
        self._look()
        uri = f"file:{quote(str(self._path))}?mode=ro"
        opened = sqlite3.connect(
            uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        engine = create_engine("sqlite+pysqlite://", creator=lambda: opened, poolclass=StaticPool)
        event.listen(engine, "begin", _begin)
        self._engine, self._connection = engine, opened
        opened.execute("PRAGMA query_only = ON")
        opened.execute("PRAGMA trusted_schema = OFF")
        if opened.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            self.close()
            raise StoreError(f"the state {str(self._path)!r} is another program's")
        self._inodes = self._look()

    def _require_version(self, version: object) -> None:
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"the state {str(self._path)!r} has schema version {version}, this program knows "
                f"{SCHEMA_VERSION}: run replicas of the same version as their authority"
            )

    def _data_version(self) -> int:
        if self._connection is None:
            raise StoreError(f"the state {str(self._path)!r} is closed")
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _refuse_older(self, known: Progress, found: Progress, connection: Connection) -> None:
        if found.term < known.term or found.last < known.last or found.epoch < known.epoch:
            raise StoreError(
                f"the state {str(self._path)!r} went back from {known} to {found}: a backup was restored; "
                "restart the replicas when that is meant"
            )
        mark = _mark(connection, known.last)
        # Old rows are forgotten, the newest never. Where it went, all is read anew, but under the same term.
        if mark != self._mark and (mark is not None or found.term != known.term):
            raise StoreError(
                f"the state {str(self._path)!r} is another one than before: restart the replicas when that "
                "is meant"
            )

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if self._engine is None:
            raise StoreError(f"the state {str(self._path)!r} is closed")
        with self._engine.connect() as connection, connection.begin():
            yield connection


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _mark(connection: Connection, n: int) -> _Mark | None:
    row = connection.execute(select(CHANGES).where(CHANGES.c.n == n)).first()
    return None if row is None else (row.n, row.kind, row.subject, row.at)


def _read(connection: Connection, known: Progress | None, progress: Progress, now: datetime) -> News:
    changes = None if known is None else read_changes(connection, known.last, progress.last)
    if changes is None:
        return _everything(connection, progress, now)
    agents, tasks = _subjects(changes, "agent"), _subjects(changes, "task")
    consents, numbers = _subjects(changes, "consent"), _subjects(changes, "withdrawal")
    is_released = any(change.kind == "release" for change in changes)
    registered = {
        row["name"]: read_agent(row)
        for row in _rows(connection, AGENTS.c.name, agents)
        if row["retired_at"] is None
    }
    running = {row["id"]: read_task(row) for row in _rows(connection, TASKS.c.id, tasks)}
    granted = {row["id"]: read_consent(row) for row in _rows(connection, CONSENTS.c.id, consents)}
    return News(
        progress=progress,
        is_everything=False,
        agents={name: registered.get(name) for name in agents},
        tasks={task: running.get(task) for task in tasks},
        consents={consent: granted.get(consent) for consent in consents},
        # One that was released already is not there: then all are read.
        withdrawn=read_withdrawals(connection, now) if is_released else _withdrawn(connection, numbers),
        withdrawals_anew=is_released,
    )


def _everything(connection: Connection, progress: Progress, now: datetime) -> News:
    tasks = connection.execute(select(TASKS).where(TASKS.c.deadline > timestamp(now - KEPT_TASKS)))
    return News(
        progress=progress,
        is_everything=True,
        agents={name: entry.agent for name, entry in read_agents(connection).items()},
        tasks={row["id"]: read_task(row) for row in tasks.mappings()},
        consents={each.id: each for each in read_consents(connection, now - KEPT_CONSENTS)},
        withdrawn=read_withdrawals(connection, now),
        withdrawals_anew=True,
    )


def _withdrawn(connection: Connection, numbers: Sequence[str]) -> tuple[Withdrawal, ...]:
    rows = _rows(connection, WITHDRAWALS.c.n, [int(number) for number in numbers])
    return tuple(read_withdrawal(row) for row in sorted(rows, key=lambda row: int(row["n"])))


def _subjects(changes: Iterable[Change], kind: str) -> list[str]:
    return list(dict.fromkeys(change.subject for change in changes if change.kind == kind))


def _rows(
    connection: Connection, column: ColumnElement[str] | ColumnElement[int], values: Sequence[str | int]
) -> Iterator[RowMapping]:
    for start in range(0, len(values), _AT_ONCE):
        some = select(column.table).where(column.in_(values[start : start + _AT_ONCE]))
        yield from connection.execute(some).mappings()
