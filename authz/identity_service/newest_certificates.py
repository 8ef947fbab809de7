"""The registry's note of each task's newest certificate, many in one write.

- A note is on disk before its certificate is handed out.
- While one write runs, the notes that come meanwhile gather for the next. So thousands of tasks that renew in
  one moment share a few writes, and none waits for more than two.
- A note that is given up, since its caller is gone, is written all the same.
"""

import asyncio
from dataclasses import dataclass, field

from authz.broker.deps import Tasks
from identity.errors import NotEntitledError


@dataclass(slots=True)
class _Batch:
    writing: asyncio.Task[frozenset[str]]
    marks: dict[str, str] = field(default_factory=dict)


class NewestCertificates:
    """Notes thumbprints by task."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._gathering: _Batch | None = None
        self._turn = asyncio.Lock()

    async def note(self, task_id: str, thumbprint: str) -> None:
        """Note the newest certificate of a running task.

        Raises:
            NotEntitledError: if it is over.
            StoreError: if it cannot be written.
        """
        batch = self._gathering
        if batch is None:
            batch = self._gathering = _Batch(asyncio.create_task(self._write()))
        batch.marks[task_id] = thumbprint
        if task_id in await asyncio.shield(batch.writing):
            raise NotEntitledError(f"a task that is over: {task_id!r}")

    async def _write(self) -> frozenset[str]:
        async with self._turn:
            batch, self._gathering = self._gathering, None
            marks = {} if batch is None else batch.marks
            return await asyncio.to_thread(self._tasks.set_thumbprints, marks)
