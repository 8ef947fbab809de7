"""Work that comes for thousands at once, a few at a time.

- A change wakes every stream in one moment; without turns, whatever else runs on the same loop would wait
  for the last of them. Decisions of the authorizer may run there.
- Nobody keeps a turn: who is slow holds up nobody.
- What strangers send costs us more to read than them to send. It is read in pieces, for a thousandth of a
  second in each turn of the loop, and each user's in turn: a flood makes only its own user wait.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_AT_A_TIME: Final = 8
_SECONDS_AT_A_TIME: Final = 0.001

Take = Callable[[], bool]


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


class Readers:
    """What callers sent, taken up piece by piece: users in turn, and each user's connections in turn."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._users: dict[int | None, deque[Take]] = {}
        self._next: asyncio.Handle | None = None

    def come(self, uid: int | None, take: Take) -> None:
        """Wait in the line of a user; `take` takes up one piece, and says whether there is more."""
        self._users.setdefault(uid, deque()).append(take)
        if self._next is None:
            self._next = asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + _SECONDS_AT_A_TIME
        try:
            while self._users:
                self._take_one()
                if loop.time() >= until:
                    break
        finally:
            self._next = loop.call_soon(self._run) if self._users else None

    def _take_one(self) -> None:
        uid = next(iter(self._users))
        line = self._users.pop(uid)
        take = line.popleft()
        if take():
            line.append(take)
        if line:
            self._users[uid] = line
