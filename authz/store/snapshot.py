"""What the hot path knows of agents and tasks: values in memory, one writer, and an epoch.

- Reading never waits and never touches the disk: `agent`, `task` and `epoch` are one look-up each.
- Agents and tasks are immutable values. A change replaces a value; nobody sees half of one.
- Every change first reaches the disk, then memory. A withdrawal (a task ended, an agent changed or retired)
  reaches memory even where the disk refuses, and then raises: rights may shrink without a record, never
  grow.
- The epoch moves with withdrawals only, **after** they are in memory. Who reads the epoch, then decides,
  then finds the same epoch, decided on rights that were there when the second reading was made. If the
  epoch moved first, a reader between the two steps would take the new epoch with the old rights, and never
  learn of it.
- Who asked to be told of withdrawals is told after the epoch moved: streams of an identity end then.
- A started task needs no new epoch: nobody can have decided on it. So adding one copies nothing, also among
  100,000.
- Memory is bounded: tasks leave it some time after their deadline, the longest-ended ones before that.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from types import MappingProxyType
from typing import Final

from authz.errors import StoreError
from authz.store.sqlite import Registration, Store
from identity.caller import Agent, Task
from identity.withdrawal import Withdrawals

MAX_TASKS: Final = 100_000
MAX_ENDED: Final = 10_000
# For so long after its deadline a task is still known, so that the refusal says "ended" and not "unknown".
KEPT_IN_MEMORY: Final = timedelta(minutes=10)
KEPT_ON_DISK: Final = timedelta(days=30)
_FORGET_EVERY: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of all that is known at one moment; for lists, not for the hot path."""

    agents: Mapping[str, Agent]
    tasks: Mapping[str, Task]
    epoch: int


class State:
    """The registry and the tasks in memory, over a Store; made by `load`."""

    def __init__(self, store: Store, agents: Iterable[Agent], tasks: Iterable[Task], now: datetime) -> None:
        self._store = store
        self._writing = Lock()
        self._agents = {agent.name: agent for agent in agents}
        self._tasks: dict[str, Task] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._ended: deque[str] = deque()
        self._forgotten_at = now
        self._epoch = 1
        self._tell: Callable[[], None] = lambda: None
        self._withdrawals = Withdrawals()
        for task in tasks:
            self._remember(task)

    @classmethod
    def load(cls, store: Store, now: datetime) -> "State":
        """Read what is on disk.

        Raises:
            StoreError: if that cannot be read.
        """
        store.forget_tasks(now - KEPT_ON_DISK)
        return cls(store, store.agents(), store.tasks(now - KEPT_IN_MEMORY), now)

    @property
    def epoch(self) -> int:
        """The number of withdrawals so far; read it before the rights, and again after the decision."""
        return self._epoch

    @property
    def withdrawals(self) -> Withdrawals:
        """All that is withdrawn."""
        return self._withdrawals

    def on_withdrawal(self, tell: Callable[[], None]) -> None:
        """Call this after each withdrawal, from whichever thread made it; it may not wait."""
        self._tell = tell

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""
        return self._agents.get(name)

    def task(self, task_id: str) -> Task | None:
        """Return a task, also one that has ended."""
        return self._tasks.get(task_id)

    def snapshot(self) -> Snapshot:
        """Return a copy of everything; its cost grows with the number of tasks."""
        with self._writing:
            return Snapshot(
                MappingProxyType(dict(self._agents)), MappingProxyType(dict(self._tasks)), self._epoch
            )

    def compare_agents(self, agents: Iterable[Agent]) -> Registration:
        """Say what this list would change.

        Raises:
            StoreError: if a name stands twice, or the registry cannot be read.
        """
        with self._writing:
            return self._store.compare_agents(agents)

    def register_agents(self, agents: Iterable[Agent], now: datetime) -> Registration:
        """Make the registry this list, and nothing else.

        Raises:
            StoreError: if a name stands twice, or the change cannot be written; then nothing changed.
        """
        wanted = list(agents)
        with self._writing:
            registration = self._store.register_agents(wanted, now)
            self._agents = {agent.name: agent for agent in wanted}
            for name in registration.retired:
                self._end_tasks_of(name, now)
            if registration.changed or registration.retired:
                self._withdrawn()
        return registration

    def retire(self, name: str, now: datetime) -> None:
        """Take an agent out of the registry and end its tasks.

        Raises:
            StoreError: if the disk refused; the agent is out of memory all the same, until a restart.
        """
        with self._writing:
            try:
                self._store.retire(name, now)
            except StoreError as error:
                raise StoreError(f"agent {name!r} is retired until a restart only: {error}") from error
            finally:
                self._agents = {key: agent for key, agent in self._agents.items() if key != name}
                self._end_tasks_of(name, now)
                self._withdrawn()

    def start_task(self, task: Task, now: datetime) -> None:
        """Add a task of a registered agent.

        Raises:
            StoreError: if the agent is unknown, the id taken, the tasks too many, or it cannot be written.
        """
        with self._writing:
            self._prune(now)
            if len(self._tasks) >= MAX_TASKS:
                raise StoreError(f"{MAX_TASKS} tasks are running: end some, or shorten their deadlines")
            self._store.start_task(task)
            self._remember(task)

    def end_task(self, task_id: str, now: datetime) -> Task | None:
        """End a task and return it, None if it is not known here.

        Raises:
            StoreError: if the disk refused; the task has ended in memory all the same, until a restart.
        """
        with self._writing:
            try:
                self._store.end_task(task_id, now)
            except StoreError as error:
                raise StoreError(f"task {task_id!r} has ended until a restart only: {error}") from error
            finally:
                self._end(task_id, now)
                self._withdrawn()
            return self._tasks.get(task_id)

    def set_thumbprint(self, task_id: str, thumbprint: str) -> None:
        """Note the newest X.509-SVID of a running task.

        Raises:
            StoreError: if no such task is running, or it cannot be written.
        """
        if self.set_thumbprints({task_id: thumbprint}):
            raise StoreError(f"no task {task_id!r} is running, so it gets no certificate")

    def set_thumbprints(self, thumbprints: Mapping[str, str]) -> frozenset[str]:
        """Note the newest X.509-SVIDs of tasks in one write; return the tasks that are not running.

        Raises:
            StoreError: if they cannot be written.
        """
        with self._writing:
            refused = self._store.set_thumbprints(thumbprints)
            for task_id in thumbprints.keys() - refused:
                if (task := self._tasks.get(task_id)) is not None and task.ended_at is None:
                    self._tasks[task_id] = replace(task, thumbprint=thumbprints[task_id])
        return refused

    def prune(self, now: datetime) -> None:
        """Forget what ended long ago; call it now and then.

        Raises:
            StoreError: if old tasks cannot be deleted on disk.
        """
        with self._writing:
            self._prune(now)
            if now - self._forgotten_at >= _FORGET_EVERY:
                self._forgotten_at = now
                self._store.forget_tasks(now - KEPT_ON_DISK)

    def _withdrawn(self) -> None:
        self._epoch += 1
        self._tell()

    def _remember(self, task: Task) -> None:
        self._tasks[task.id] = task
        heapq.heappush(self._deadlines, (task.deadline, task.id))
        if task.ended_at is not None:
            self._note_ended(task.id)

    def _end_tasks_of(self, agent: str, now: datetime) -> None:
        for task in [task for task in self._tasks.values() if task.agent == agent]:
            self._end(task.id, now)

    def _end(self, task_id: str, now: datetime) -> None:
        task = self._tasks.get(task_id)
        if task is not None and task.ended_at is None:
            self._tasks[task_id] = replace(task, ended_at=now)
            self._note_ended(task_id)

    def _note_ended(self, task_id: str) -> None:
        self._ended.append(task_id)
        if len(self._ended) > MAX_ENDED:
            self._tasks.pop(self._ended.popleft(), None)

    def _prune(self, now: datetime) -> None:
        while self._deadlines and self._deadlines[0][0] <= now - KEPT_IN_MEMORY:
            self._tasks.pop(heapq.heappop(self._deadlines)[1], None)
        if len(self._deadlines) > 2 * (len(self._tasks) + MAX_ENDED):
            # Tasks that left memory before their deadline are still listed here.
            self._deadlines = sorted((task.deadline, task.id) for task in self._tasks.values())
