"""The state on disk: agents and tasks in one SQLite file.

- A method returns after its commit reached the disk (WAL, `synchronous=FULL`), or raises StoreError and
  changed nothing.
- One connection, used by one thread at a time, writes and checkpoints: two of them can damage a WAL in
  SQLite before 3.51.3.
- An agent that the configuration names no more is retired, and its tasks end with it; so do those of an
  agent that is retired by hand. Coming back later does not bring the tasks back.
- What is no longer listed stays in the file for questions; old tasks are forgotten by `forget_tasks`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, Engine, bindparam, create_engine, delete, event, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store.connect import connect
from authz.store.rows import agent_row, read_agent, read_task, task_row
from authz.store.schema import AGENTS, TASKS
from identity.caller import Agent, Task


@dataclass(frozen=True, slots=True)
class Registration:
    """What a new list of agents changed, by name."""

    registered: tuple[str, ...]
    changed: tuple[str, ...]
    retired: tuple[str, ...]


class Store:
    """The registry and the tasks; made by `open`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the file, or make it.

        Raises:
            StoreError: if the file is not ours alone, is damaged, or of another version or program.
        """
        connection = connect(path)
        engine = create_engine("sqlite+pysqlite://", creator=lambda: connection, poolclass=StaticPool)
        # The driver's own BEGIN comes too late: a transaction that reads first could find its write refused.
        event.listen(engine, "begin", _begin)
        return cls(engine)

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._engine.dispose()

    def register_agents(self, agents: Iterable[Agent], now: datetime) -> Registration:
        """Make the registry this list, and nothing else.

        Raises:
            StoreError: if a name stands twice, or the change cannot be written.
        """
        wanted = _by_name(agents)
        with self._transaction() as connection:
            registration = _compare(_by_name(_agents(connection)), wanted)
            for name in (*registration.registered, *registration.changed):
                row = agent_row(wanted[name])
                statement = (
                    insert(AGENTS).values(row).on_conflict_do_update(index_elements=["name"], set_=row)
                )
                connection.execute(statement)
            for name in registration.retired:
                _retire(connection, name, now)
        return registration

    def compare_agents(self, agents: Iterable[Agent]) -> Registration:
        """Say what this list would change.

        Raises:
            StoreError: if a name stands twice, or the file cannot be read.
        """
        wanted = _by_name(agents)
        with self._transaction() as connection:
            return _compare(_by_name(_agents(connection)), wanted)

    def retire(self, name: str, now: datetime) -> None:
        """Take an agent out of the registry and end its tasks; one that is not there stays so.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._transaction() as connection:
            _retire(connection, name, now)

    def start_task(self, task: Task) -> None:
        """Add a task of a registered agent.

        Raises:
            StoreError: if the agent is not registered, the id is taken, or it cannot be written.
        """
        with self._transaction() as connection:
            registered = select(AGENTS.c.name).where(
                AGENTS.c.name == task.agent, AGENTS.c.retired_at.is_(None)
            )
            if connection.execute(registered).first() is None:
                raise StoreError(f"no agent {task.agent!r} is registered, so no task of it can start")
            connection.execute(insert(TASKS).values(task_row(task)))

    def end_task(self, task_id: str, now: datetime) -> None:
        """End a task; one that has ended, or never was, stays so.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._transaction() as connection:
            ended = update(TASKS).where(TASKS.c.id == task_id, TASKS.c.ended_at.is_(None))
            connection.execute(ended.values(ended_at=timestamp(now)))

    def set_thumbprint(self, task_id: str, thumbprint: str) -> None:
        """Note the newest X.509-SVID of a task.

        Raises:
            StoreError: if there is no such task, or it cannot be written.
        """
        if self.set_thumbprints({task_id: thumbprint}):
            raise StoreError(f"no task {task_id!r} is running, so it gets no certificate")

    def set_thumbprints(self, thumbprints: Mapping[str, str]) -> frozenset[str]:
        """Note the newest X.509-SVIDs of tasks in one transaction; return the tasks that are not running.

        Raises:
            StoreError: if they cannot be written.
        """
        of_it = TASKS.c.id == bindparam("task")
        changed = update(TASKS).where(of_it, TASKS.c.ended_at.is_(None)).values(thumbprint=bindparam("mark"))
        if not thumbprints:
            return frozenset()
        rows = [{"task": task_id, "mark": thumbprint} for task_id, thumbprint in thumbprints.items()]
        with self._transaction() as connection:
            if connection.execute(changed, rows).rowcount == len(rows):
                return frozenset()
            running = select(TASKS.c.id).where(TASKS.c.id.in_(thumbprints), TASKS.c.ended_at.is_(None))
            return frozenset(thumbprints) - set(connection.scalars(running))

    def forget_tasks(self, before: datetime) -> None:
        """Delete the tasks whose deadline passed before a time.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._transaction() as connection:
            connection.execute(delete(TASKS).where(TASKS.c.deadline < timestamp(before)))

    def agents(self) -> tuple[Agent, ...]:
        """Return the registered agents.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._transaction() as connection:
            return tuple(_agents(connection))

    def tasks(self, now: datetime) -> tuple[Task, ...]:
        """Return the tasks whose deadline is still to come, also those that were ended before it.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._transaction() as connection:
            rows = connection.execute(select(TASKS).where(TASKS.c.deadline > timestamp(now)))
            return tuple(read_task(row) for row in rows.mappings())

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._lock:
            try:
                with self._engine.begin() as connection:
                    yield connection
            except IntegrityError as error:
                raise StoreError(
                    "the state refuses the change: a name is taken, or what it names is not there"
                ) from error
            except DBAPIError as error:
                raise StoreError(f"the state cannot be read or written: {error.orig}") from error


def _by_name(agents: Iterable[Agent]) -> dict[str, Agent]:
    listed = list(agents)
    named = {agent.name: agent for agent in listed}
    if len(named) != len(listed):
        raise StoreError("an agent is registered twice")
    return named


def _compare(known: Mapping[str, Agent], wanted: Mapping[str, Agent]) -> Registration:
    kept = known.keys() & wanted.keys()
    return Registration(
        registered=tuple(sorted(wanted.keys() - known.keys())),
        changed=tuple(sorted(name for name in kept if known[name] != wanted[name])),
        retired=tuple(sorted(known.keys() - wanted.keys())),
    )


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _agents(connection: Connection) -> Iterator[Agent]:
    rows = connection.execute(select(AGENTS).where(AGENTS.c.retired_at.is_(None)).order_by(AGENTS.c.name))
    return (read_agent(row) for row in rows.mappings())


def _retire(connection: Connection, name: str, now: datetime) -> None:
    at = timestamp(now)
    registered = update(AGENTS).where(AGENTS.c.name == name, AGENTS.c.retired_at.is_(None))
    connection.execute(registered.values(retired_at=at))
    running = update(TASKS).where(TASKS.c.agent == name, TASKS.c.ended_at.is_(None))
    connection.execute(running.values(ended_at=at))
