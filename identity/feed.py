"""Changes, told to everybody who waits: keys, bundles, entitlements.

- A waiter sees every state that matters, not every step: who slept through three changes gets the newest.
- Publishing never waits and works from any thread.
"""

import asyncio
from threading import Lock


class Feed:
    """A version that grows, and those who wait for the next."""

    def __init__(self) -> None:
        """Start at version 0 with nobody waiting."""
        self._lock = Lock()
        self._version = 0
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    @property
    def version(self) -> int:
        """Count the changes."""
        return self._version

    def publish(self) -> None:
        """Tell everybody that something changed."""
        with self._lock:
            self._version += 1
            waiting, self._waiting = self._waiting, {}
        loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for future, loop in waiting.items():
            loops.setdefault(loop, []).append(future)
        for loop, futures in loops.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, futures)

    async def wait(self, seen: int) -> int:
        """Wait for a version after the one seen, and return the newest."""
        while self._version <= seen:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            with self._lock:
                if self._version > seen:
                    break
                self._waiting[future] = loop
            try:
                await future
            finally:
                with self._lock:
                    self._waiting.pop(future, None)
        return self._version


def _wake(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
