"""The state of a service, read while it runs or not, and never written.

- SQLite opens the file read-only; a service that runs is not disturbed. Where none runs, SQLite leaves its
  two side files, empty.
- For a time in the past a task counts that ended only later, a grant that was revoked only later, and a
  withdrawal that was released only later. Agents are as they are now: what they were is not kept.
- A file that an older program wrote is not read: `deputy serve` brings it up to date.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Select, create_engine, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store.changes import read_progress
from authz.store.rows import read_agent, read_consent, read_task, read_withdrawal
from authz.store.schema import AGENTS, CONSENTS, SCHEMA_VERSION, TASKS, WITHDRAWALS
from identity.caller import Agent, Task
from identity.consent import Consent
from identity.withdrawal import Withdrawal, Withdrawals


@dataclass(frozen=True, slots=True)
class Registry:
    """What was known at one time."""

    engine: Engine
    at: datetime
    epoch: int
    withdrawals: Withdrawals

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent.

        Raises:
            StoreError: if the file cannot be read.
        """
        row = self._first(select(AGENTS).where(AGENTS.c.name == name, AGENTS.c.retired_at.is_(None)))
        return None if row is None else read_agent(row)

    def task(self, task_id: str) -> Task | None:
        """Return a task, as it was then.

        Raises:
            StoreError: if the file cannot be read.
        """
        row = self._first(select(TASKS).where(TASKS.c.id == task_id))
        if row is None:
            return None
        task = read_task(row)
        return replace(task, ended_at=None) if task.ended_at is not None and task.ended_at > self.at else task

    def consent(self, consent_id: str) -> Consent | None:
        """Return what a person had granted by then.

        Raises:
            StoreError: if the file cannot be read.
        """
        row = self._first(select(CONSENTS).where(CONSENTS.c.id == consent_id, self._granted()))
        return None if row is None else self._as_then(row)

    def consents(self) -> tuple[Consent, ...]:
        """Return what people had granted by then, also what was revoked, the oldest first.

        Raises:
            StoreError: if the file cannot be read.
        """
        granted = select(CONSENTS).where(self._granted()).order_by(CONSENTS.c.created_at, CONSENTS.c.id)
        with _reading(self.engine) as connection:
            return tuple(self._as_then(row) for row in connection.execute(granted).mappings())

    def _granted(self) -> ColumnElement[bool]:
        return CONSENTS.c.created_at <= timestamp(self.at)

    def _as_then(self, row: RowMapping) -> Consent:
        consent = read_consent(row)
        is_later = consent.revoked_at is not None and consent.revoked_at > self.at
        return replace(consent, revoked_at=None) if is_later else consent

    def _first(self, query: Select[tuple[object, ...]]) -> RowMapping | None:
        with _reading(self.engine) as connection:
            return connection.execute(query).mappings().first()


@contextmanager
def open_registry(path: Path, at: datetime) -> Iterator[Registry]:
    """Open the state of a service for reading.

    Raises:
        StoreError: if there is none, or it cannot be read.
    """
    if not path.is_file():
        raise StoreError(f"there is no state {str(path)!r}: has 'deputy serve' run with this configuration?")
    address = f"file:{quote(str(path.absolute()))}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=1.0)

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=StaticPool)
    try:
        with _reading(engine) as connection:
            _require_version(connection, path)
            epoch = read_progress(connection).epoch
            withdrawals = Withdrawals.of(_withdrawn(connection, at))
        yield Registry(engine, at, epoch, withdrawals)
    finally:
        engine.dispose()


def _withdrawn(connection: Connection, at: datetime) -> Iterator[Withdrawal]:
    then = timestamp(at)
    query = select(WITHDRAWALS).where(
        WITHDRAWALS.c.at <= then,
        or_(WITHDRAWALS.c.released_at.is_(None), WITHDRAWALS.c.released_at > then),
        or_(WITHDRAWALS.c.expires_at.is_(None), WITHDRAWALS.c.expires_at > then),
    )
    rows = connection.execute(query.order_by(WITHDRAWALS.c.n))
    return map(read_withdrawal, rows.mappings())


def _require_version(connection: Connection, path: Path) -> None:
    version = connection.exec_driver_sql("PRAGMA user_version").scalar()
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"the state {str(path)!r} has schema version {version}, this program knows {SCHEMA_VERSION}: "
            "start 'deputy serve' of this version once, or use the deputy that wrote it"
        )


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise StoreError(f"the state cannot be read: {error.orig}") from error
