"""Work that comes for thousands at once, a few at a time.

- A change wakes every stream in one moment; without turns, whatever else runs on the same loop would wait
  for the last of them. Decisions of the authorizer may run there.
- Nobody keeps a turn: who is slow holds up nobody.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

_AT_A_TIME: Final = 8


@dataclass(slots=True)
class _Queue:
    waiting: int = 0
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_A_TIME))


# One for each loop, while anybody waits on it.
_QUEUES: Final[dict[asyncio.AbstractEventLoop, _Queue]] = {}


async def turn() -> None:
    """Wait for a turn, and pass it on at once; between two of them, everybody else runs."""
    loop = asyncio.get_running_loop()
    queue = _QUEUES.setdefault(loop, _Queue())
    queue.waiting += 1
    try:
        async with queue.turns:
            await asyncio.sleep(0)
    finally:
        queue.waiting -= 1
        if not queue.waiting:
            _QUEUES.pop(loop, None)
