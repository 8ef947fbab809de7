"""The state on disk: agents, tasks, what people granted and what was withdrawn, in one SQLite file.

- A method returns after its commit reached the disk (WAL, `synchronous=FULL`), or raises StoreError and
  changed nothing.
- One connection, used by one thread at a time, writes and checkpoints: two of them can damage a WAL in
  SQLite before 3.51.3.
- Each change stands in the log of changes, by one transaction with it; `progress` says how far that is.
  `at_least` is the number that was reserved for a change before it was written.
- An agent that the configuration names no more is retired, and its tasks end with it; so do those of an
  agent that is retired by hand. Coming back later does not bring the tasks back.
- What is no longer listed stays in the file for questions; it is forgotten by `forget`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Final

from sqlalchemy import Connection, Engine, bindparam, create_engine, delete, event, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store import agents as registry
from authz.store import rights
from authz.store.agents import Registered, Registration
from authz.store.changes import Progress, Writing, begin_term, forget_changes, read_progress
from authz.store.connect import connect
from authz.store.rights import Release
from authz.store.rows import read_task, task_row
from authz.store.schema import TASKS
from identity.caller import Agent, Task
from identity.consent import Consent
from identity.withdrawal import Withdrawal

_UNKNOWN: Final = Progress(0, 0, 0)


class Store:
    """The registry, the tasks, the grants and the withdrawals; made by `open`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = Lock()
        self._progress = _UNKNOWN
        # Who notes certificates has no clock. The time of the change before serves: it only says when a row
        # may go, and who misses one reads everything.
        self._latest = datetime.fromtimestamp(0, UTC)

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
        store = cls(engine)
        with store._transaction() as connected:
            store._progress = replace(read_progress(connected), term=0)
        return store

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._engine.dispose()

    def begin_term(self) -> None:
        """Become the only one who writes: whoever began earlier is refused from now on.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._transaction() as connection:
            term = begin_term(connection)
        self._progress = replace(self._progress, term=term)

    def progress(self) -> Progress:
        """Return how far the changes are."""
        return self._progress

    def epoch(self) -> int:
        """Return the number of the newest change that moved somebody's rights."""
        return self._progress.epoch

    def reserve(self) -> int:
        """Return the number that the next change will have, and give it to no other."""
        self._progress = replace(self._progress, last=self._progress.last + 1)
        return self._progress.last

    def register_agents(self, agents: Iterable[Agent], now: datetime) -> Registration:
        """Make the agents of deputy.yaml this list, and nothing else.

        Raises:
            StoreError: if a name stands twice or is the API's, or the change cannot be written.
        """
        with self._change(now) as writing:
            return registry.replace_listed(writing, agents)

    def compare_agents(self, agents: Iterable[Agent]) -> Registration:
        """Say what this list would change.

        Raises:
            StoreError: if a name stands twice or is the API's, or the file cannot be read.
        """
        with self._transaction() as connection:
            return registry.compare(connection, agents)

    def retired_agent(self, name: str) -> Agent | None:
        """Return the agent that last had a name, if it is retired.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._transaction() as connection:
            return registry.read_retired(connection, name)

    def register_agent(self, agent: Agent, now: datetime) -> None:
        """Register one agent that the API manages.

        Raises:
            StoreError: if the name is taken, there are too many, or it cannot be written.
        """
        with self._change(now) as writing:
            registry.add(writing, agent)

    def change_agent(self, agent: Agent, now: datetime) -> None:
        """Change one agent that the API manages.

        Raises:
            StoreError: if it is not registered, stands in deputy.yaml, or it cannot be written.
        """
        with self._change(now) as writing:
            registry.change(writing, agent)

    def retire(self, name: str, now: datetime, at_least: int = 0) -> None:
        """Take an agent out of the registry and end its tasks; one that is not there stays so.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._change(now, at_least) as writing:
            registry.retire(writing, name)

    def start_task(self, task: Task) -> None:
        """Add a task of a registered agent.

        Raises:
            StoreError: if the agent is not registered, the id is taken, or it cannot be written.
        """
        with self._change(task.started_at) as writing:
            registry.require_registered(writing.connection, task.agent, "no task of it can start")
            writing.connection.execute(insert(TASKS).values(task_row(task)))
            writing.note("task", [task.id], moves=False)

    def end_task(self, task_id: str, now: datetime, at_least: int = 0) -> None:
        """End a task; one that has ended, or never was, stays so.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._change(now, at_least) as writing:
            ended = update(TASKS).where(TASKS.c.id == task_id, TASKS.c.ended_at.is_(None))
            if writing.connection.execute(ended.values(ended_at=timestamp(now))).rowcount:
                writing.note("task", [task_id], moves=True)

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
        with self._change(self._latest) as writing:
            writing.note("task", thumbprints, moves=False)
            if writing.connection.execute(changed, rows).rowcount == len(rows):
                return frozenset()
            running = select(TASKS.c.id).where(TASKS.c.id.in_(thumbprints), TASKS.c.ended_at.is_(None))
            return frozenset(thumbprints) - set(writing.connection.scalars(running))

    def add_consent(self, consent: Consent, now: datetime) -> None:
        """Keep what a person granted.

        Raises:
            StoreError: if its agent is not registered, they made too many, or it cannot be written.
        """
        with self._change(now) as writing:
            rights.add_consent(writing, consent)

    def revoke_consent(self, consent_id: str, withdrawal: Withdrawal, at_least: int) -> None:
        """Take back what a person granted, and all that came of it.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._change(withdrawal.at, at_least) as writing:
            rights.revoke_consent(writing, consent_id, withdrawal)

    def withdraw(self, withdrawal: Withdrawal, now: datetime, at_least: int) -> None:
        """Write a withdrawal.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._change(now, at_least) as writing:
            rights.withdraw(writing, withdrawal)

    def release(self, ended: Release) -> bool:
        """End a containment; False if there is none.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._change(ended.at) as writing:
            return rights.release(writing, ended)

    def forget_tasks(self, before: datetime) -> None:
        """Delete the tasks whose deadline passed before a time.

        Raises:
            StoreError: if that cannot be written.
        """
        with self._transaction() as connection:
            connection.execute(delete(TASKS).where(TASKS.c.deadline < timestamp(before)))

    def forget(self, before: datetime, now: datetime) -> None:
        """Delete what ended before a time, and the log of changes up to an hour ago.

        Raises:
            StoreError: if that cannot be written.
        """
        self.forget_tasks(before)
        with self._transaction() as connection:
            self._latest = max(self._latest, now)
            rights.forget_rights(connection, before)
            forget_changes(connection, now)

    def agents(self) -> tuple[Agent, ...]:
        """Return the registered agents.

        Raises:
            StoreError: if the file cannot be read.
        """
        return tuple(entry.agent for entry in self.registered().values())

    def registered(self) -> Mapping[str, Registered]:
        """Return the registered agents by name, and who manages each.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._transaction() as connection:
            return registry.read_agents(connection)

    def tasks(self, now: datetime) -> tuple[Task, ...]:
        """Return the tasks whose deadline is still to come, also those that were ended before it.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._transaction() as connection:
            rows = connection.execute(select(TASKS).where(TASKS.c.deadline > timestamp(now)))
            return tuple(read_task(row) for row in rows.mappings())

    def consents(self, now: datetime) -> tuple[Consent, ...]:
        """Return what people granted that has not run out, also what was revoked.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._transaction() as connection:
            return rights.read_consents(connection, now)

    def withdrawals(self, now: datetime) -> tuple[Withdrawal, ...]:
        """Return what is withdrawn.

        Raises:
            StoreError: if the file cannot be read.
        """
        with self._transaction() as connection:
            return rights.read_withdrawals(connection, now)

    @contextmanager
    def _change(self, now: datetime, at_least: int = 0) -> Iterator[Writing]:
        known, self._latest = self._progress, max(self._latest, now)
        with self._transaction() as connection:
            writing = Writing(connection, now)
            yield writing
            progress = writing.finish(known, at_least or known.last + 1)
        self._progress = progress

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


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
