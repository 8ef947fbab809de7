"""What a replica knows of agents, tasks, grants and withdrawals: the state of another process, in memory.

- It is asked the same as the state itself, and writes nothing.
- What is new is applied to memory first, then the epoch moves, as in the process that writes: who reads the
  epoch, decides, and finds the same epoch decided on what was there at the second reading.
- Withdrawals, retired agents and revoked grants are applied before tasks: what takes away counts first.
- Reading, its age and the lease by which a replica answers are authz/store/following.py's.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from authz.store.changes import Progress
from authz.store.following import Follower
from authz.store.held_consents import HeldConsents
from authz.store.held_tasks import HeldTasks
from authz.store.held_withdrawals import HeldWithdrawals
from authz.store.port import Epochs, News
from identity.caller import Agent, Task
from identity.consent import Consent
from identity.followed_file import Boottime, boottime
from identity.withdrawal import Withdrawals

_NOTHING: Final = Progress(0, 0, 0)


class FollowedState:
    """The rights as they were read a moment ago; `start` reads them first."""

    def __init__(
        self,
        epochs: Epochs,
        acknowledge: Callable[[Progress, float], None],
        now: Callable[[], datetime],
        *,
        also: Sequence[Callable[[], object]] = (),
        clock: Boottime = boottime,
    ) -> None:
        """Follow a state, and what else is to be read `also`, each time."""
        self._epochs, self._now = epochs, now
        self._progress = _NOTHING
        self._agents: dict[str, Agent] = {}
        self._tasks = HeldTasks()
        self._consents = HeldConsents()
        self._withdrawals = HeldWithdrawals()
        self._follower = Follower((*also, self.poll), lambda: self._progress, acknowledge, clock)

    def start(self) -> None:
        """Read everything, take a lease, and follow.

        Raises:
            StoreError: if there is nothing to follow.
        """
        self._follower.start()

    def close(self) -> None:
        """Follow no more."""
        self._follower.stop()
        self._epochs.close()

    @property
    def progress(self) -> Progress:
        """How far the state was when it was read last."""
        return self._progress

    @property
    def epoch(self) -> int:
        """The number of the newest change of rights that is known."""
        return self._progress.epoch

    @property
    def withdrawals(self) -> Withdrawals:
        """All that is withdrawn."""
        return self._withdrawals.value

    @property
    def is_fresh(self) -> bool:
        """Say whether it was read a moment ago, and others know that we follow."""
        return self._follower.is_fresh

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""
        return self._agents.get(name)

    def task(self, task_id: str) -> Task | None:
        """Return a task, also one that has ended."""
        return self._tasks.get(task_id)

    def consent(self, consent_id: str) -> Consent | None:
        """Return what a person granted, also what was revoked a while ago."""
        return self._consents.get(consent_id)

    def consents_of(self, human: str) -> tuple[Consent, ...]:
        """Return what one person granted, the oldest first."""
        return self._consents.of(human)

    async def refresh(self) -> None:
        """Read again what was read too long ago.

        Raises:
            StoreError: if that cannot be read, or is older than what was read before.
        """
        await self._follower.refresh()

    async def reach(self, min_epoch: int) -> None:
        """Wait until an epoch is known.

        Raises:
            StoreError: if it cannot be had in time.
        """
        await self._follower.reach(min_epoch)

    async def learn(self) -> None:
        """Read once more, because something is not known here.

        Raises:
            StoreError: if that cannot be read.
        """
        await self._follower.learn()

    def poll(self) -> None:
        """Read what is new; for the thread that follows.

        Raises:
            StoreError: if it cannot be read; nothing changed then.
        """
        now = self._now()
        if self._epochs.is_moved():
            known = None if self._progress is _NOTHING else self._progress
            self._apply(self._epochs.changes_after(known, now))
        for held in (self._withdrawals, self._tasks, self._consents):
            held.prune(now)

    def _apply(self, news: News) -> None:
        if news.withdrawals_anew:
            self._withdrawals = HeldWithdrawals(news.withdrawn)
        else:
            for withdrawal in news.withdrawn:
                self._withdrawals.put(withdrawal)
        agents = {} if news.is_everything else self._agents
        if news.agents or news.is_everything:
            changed = {**agents, **news.agents}
            self._agents = {name: agent for name, agent in changed.items() if agent is not None}
        consents = HeldConsents() if news.is_everything else self._consents
        for consent in news.consents.values():
            if consent is not None:
                consents.put(consent)
        tasks = HeldTasks() if news.is_everything else self._tasks
        for task in news.tasks.values():
            if task is not None:
                tasks.put(task)
        self._consents, self._tasks = consents, tasks
        # The last of all, for whoever reads it before and after.
        self._progress = news.progress
