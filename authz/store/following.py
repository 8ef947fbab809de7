"""The thread of a replica that reads what others write, and the lease by which it may answer.

- It looks each 50 ms, and at once when somebody needs to know. All who ask at one time share a reading, which
  begins after they asked; readings have a shortest distance, so that a flood of questions costs nothing.
- What was read longer than half a second ago is read again before it is used. Ages are counted from before a
  reading, on a clock that runs while the machine sleeps: who was stopped knows that it was.
- A lease is about a reading, and is renewed each second and for each new epoch. Who could not renew it in
  LEASE_SECONDS may not answer: nobody waits for it any more. With its first lease, or the first after a
  pause, it reads once more: what happened before others could see the lease is known then.
- A new epoch is acknowledged after the event loop has gone round once: what was decided on before is answered
  by then, so nothing that is answered later was decided by what was known before the epoch.
- A reading that fails changes nothing, and is said to whoever needs it: StoreError.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from time import sleep
from typing import Final

from authz.errors import AuthzError, StoreError
from authz.store.changes import Progress
from authz.store.port import LEASE_SECONDS
from identity.errors import IdentityError
from identity.followed_file import Boottime, boottime

LOOK_SECONDS: Final = 0.05
FRESH_SECONDS: Final = 0.5
RENEW_SECONDS: Final = 1.0
# A proxy waits a quarter of a second for its answer.
WAIT_SECONDS: Final = 0.2
APART_SECONDS: Final = 0.005

_LOG = logging.getLogger(__name__)
_NEVER: Final = float("-inf")


class Follower:
    """One replica's readings; `look` is what reads, `acknowledge` renews the lease."""

    def __init__(
        self,
        look: Sequence[Callable[[], object]],
        progress: Callable[[], Progress],
        acknowledge: Callable[[Progress, float], None],
        clock: Boottime = boottime,
    ) -> None:
        """Read nothing yet; `start` does."""
        self._look, self._progress, self._acknowledge, self._clock = look, progress, acknowledge, clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._wake, self._stopped, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._asked: asyncio.Future[None] | None = None
        # When the newest good reading began; and the one that the lease is about; and whether one was begun
        # after others could see the lease.
        self._read_at = _NEVER
        self._leased_at = _NEVER
        self._is_joined = False
        self._leased: Progress | None = None
        self._next_lease: tuple[Progress, float] | None = None
        self._handed: Progress | None = None
        self._problem = ""

    def start(self) -> None:
        """Read and take a lease, then follow.

        Raises:
            StoreError: if there is nothing to follow.
        """
        self._loop = asyncio.get_running_loop()
        self._turn()
        if not self.is_fresh:
            raise StoreError(self._problem)
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; this waits for a reading that is under way."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_fresh(self) -> bool:
        """Say whether what is known may be used now."""
        now = self._clock()
        return (
            self._is_joined
            and 0 <= now - self._read_at <= FRESH_SECONDS
            and now - self._leased_at < LEASE_SECONDS
        )

    async def refresh(self) -> None:
        """Read again what was read too long ago.

        Raises:
            StoreError: if that cannot be read, or the lease cannot be renewed.
        """
        if self.is_fresh:
            return
        await self.learn()
        if not self.is_fresh:
            raise StoreError(self._problem or "the state was read too long ago")

    async def reach(self, min_epoch: int) -> None:
        """Wait until an epoch is known; one that was given out is on disk at once, or a moment later.

        Raises:
            StoreError: if it cannot be had in time.
        """
        give_up_at = self._clock() + WAIT_SECONDS
        while self._progress().epoch < min_epoch:
            if self._clock() >= give_up_at:
                raise StoreError(f"epoch {min_epoch} is asked for, and {self._progress().epoch} is known")
            await self.learn()

    async def learn(self) -> None:
        """Wait for a reading that begins now.

        Raises:
            StoreError: if it failed, or takes too long.
        """
        with self._lock:
            if self._asked is None:
                self._asked = asyncio.get_running_loop().create_future()
            asked = self._asked
        self._wake.set()
        try:
            # The others wait for it too: it is not given up with the one who gives up.
            await asyncio.wait_for(asyncio.shield(asked), WAIT_SECONDS)
        except TimeoutError:
            raise StoreError("the state cannot be read in time") from None
        if self._problem:
            raise StoreError(self._problem)

    # ---- the thread

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            with self._lock:
                asked, self._asked = self._asked, None
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001 - whatever it was, nobody would ever read again
                self._fails(f"the state cannot be read: {type(error).__name__}")
            self._answer(asked)
            sleep(APART_SECONDS)
        self._answer(self._asked)

    def _turn(self) -> None:
        """Read, and see to the lease."""
        began = self._clock()
        try:
            self._read(began)
            if self._clock() - self._leased_at >= LEASE_SECONDS:
                self._join()
            elif self._next_lease is not None:
                (progress, at), self._next_lease = self._next_lease, None
                if at >= self._leased_at:  # else it was handed over before a pause
                    self._renew(progress, at)
            elif (
                self._progress() not in (self._leased, self._handed)
                or began - self._leased_at >= RENEW_SECONDS
            ):
                self._hand(self._progress(), began)
        except (AuthzError, IdentityError) as error:
            self._fails(str(error))
        else:
            if self._problem:
                _LOG.warning("follows again")
            self._problem = ""

    def _join(self) -> None:
        """Take a lease, as one who has none: nobody waits for us now."""
        self._is_joined = False
        # A first reading may take long, and a lease counts from its reading on.
        began = self._clock()
        self._read(began)
        self._renew(self._progress(), began)
        self._read(self._clock())
        self._is_joined = True

    def _read(self, began: float) -> None:
        for look in self._look:
            look()
        self._read_at = began

    def _renew(self, progress: Progress, at: float) -> None:
        self._acknowledge(progress, at)
        self._leased, self._leased_at = progress, at
        self._handed = None

    def _hand(self, progress: Progress, at: float) -> None:
        """Let the event loop go round, then acknowledge."""

        def is_round() -> None:
            self._next_lease = (progress, at)
            self._wake.set()

        self._handed = progress
        self._call(is_round)

    def _answer(self, asked: asyncio.Future[None] | None) -> None:
        if asked is not None:
            self._call(lambda: None if asked.done() else asked.set_result(None))

    def _call(self, callback: Callable[[], None]) -> None:
        if self._loop is None or self._loop.is_closed():
            return
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # it closed just now
            return

    def _fails(self, problem: str) -> None:
        if problem != self._problem:
            _LOG.warning("cannot follow: %s", problem)
        self._problem = problem
