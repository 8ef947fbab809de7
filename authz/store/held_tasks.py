"""The tasks, in memory: bounded, by their id.

- A value is replaced, never changed; adding one copies nothing, also among 100,000.
- Tasks leave memory some time after their deadline, the longest-ended ones before that.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from authz.errors import StoreError
from identity.caller import Task

MAX_TASKS: Final = 100_000
MAX_ENDED: Final = 10_000
# For so long after its deadline a task is still known, so that the refusal says "ended" and not "unknown".
KEPT_TASKS: Final = timedelta(minutes=10)


class HeldTasks:
    """The runs that are known."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._by_id: dict[str, Task] = {}
        self._deadlines: list[tuple[datetime, str]] = []
        self._ended: deque[str] = deque()
        for task in tasks:
            self.put(task)

    def get(self, task_id: str) -> Task | None:
        """Return one, also one that has ended."""
        return self._by_id.get(task_id)

    def copy(self) -> dict[str, Task]:
        """Return a copy of all."""
        return dict(self._by_id)

    def require_room(self) -> None:
        """Check that one more may be held.

        Raises:
            StoreError: if there are too many.
        """
        if len(self._by_id) >= MAX_TASKS:
            raise StoreError(f"{MAX_TASKS} tasks are running: end some, or shorten their deadlines")

    def put(self, task: Task) -> None:
        """Hold one more."""
        self._by_id[task.id] = task
        heapq.heappush(self._deadlines, (task.deadline, task.id))
        if task.ended_at is not None:
            self._note_ended(task.id)

    def end(self, task_id: str, now: datetime) -> bool:
        """End one; False if it had ended, or is not known."""
        task = self._by_id.get(task_id)
        if task is None or task.ended_at is not None:
            return False
        self._by_id[task_id] = replace(task, ended_at=now)
        self._note_ended(task_id)
        return True

    def end_of_agent(self, agent: str, now: datetime) -> None:
        """End all of an agent."""
        for task in [task for task in self._by_id.values() if task.agent == agent]:
            self.end(task.id, now)

    def note_thumbprint(self, task_id: str, thumbprint: str) -> None:
        """Note the newest certificate of a running task."""
        task = self._by_id.get(task_id)
        if task is not None and task.ended_at is None:
            self._by_id[task_id] = replace(task, thumbprint=thumbprint)

    def prune(self, now: datetime) -> None:
        """Forget what ended a while ago."""
        while self._deadlines and self._deadlines[0][0] <= now - KEPT_TASKS:
            self._by_id.pop(heapq.heappop(self._deadlines)[1], None)
        if len(self._deadlines) > 2 * (len(self._by_id) + MAX_ENDED):
            # Tasks that left memory before their deadline are still listed here.
            self._deadlines = sorted((task.deadline, task.id) for task in self._by_id.values())

    def _note_ended(self, task_id: str) -> None:
        self._ended.append(task_id)
        if len(self._ended) > MAX_ENDED:
            self._by_id.pop(self._ended.popleft(), None)
