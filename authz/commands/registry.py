"""The registry and the tasks of a service, read while it runs or not, and never written.

- SQLite opens the file read-only; a service that runs is not disturbed. Where none runs, SQLite leaves its
  two side files, empty.
- For a time in the past a task counts that ended only later. Agents are as they are now: what they were is
  not kept.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from authz.errors import StoreError
from authz.store.rows import read_agent, read_task
from authz.store.schema import AGENTS, TASKS
from identity.caller import Agent, Task
from identity.withdrawal import Withdrawals


@dataclass(frozen=True, slots=True)
class Registry:
    """What is known of agents and tasks at one time."""

    engine: Engine
    at: datetime

    @property
    def epoch(self) -> int:
        """Nothing is withdrawn from a copy."""
        return 1

    @property
    def withdrawals(self) -> Withdrawals:
        """Nothing is withdrawn from a copy."""
        return Withdrawals()

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent.

        Raises:
            StoreError: if the file cannot be read.
        """
        query = select(AGENTS).where(AGENTS.c.name == name, AGENTS.c.retired_at.is_(None))
        try:
            with self.engine.connect() as connection:
                row = connection.execute(query).mappings().first()
        except DBAPIError as error:
            raise StoreError(f"the state cannot be read: {error.orig}") from error
        return None if row is None else read_agent(row)

    def task(self, task_id: str) -> Task | None:
        """Return a task, as it was then.

        Raises:
            StoreError: if the file cannot be read.
        """
        query = select(TASKS).where(TASKS.c.id == task_id)
        try:
            with self.engine.connect() as connection:
                row = connection.execute(query).mappings().first()
        except DBAPIError as error:
            raise StoreError(f"the state cannot be read: {error.orig}") from error
        if row is None:
            return None
        task = read_task(row)
        return replace(task, ended_at=None) if task.ended_at is not None and task.ended_at > self.at else task


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
        yield Registry(engine, at)
    finally:
        engine.dispose()
