"""What the hot path knows of agents, tasks, grants and withdrawals: values in memory, one writer, an epoch.

- Reading never waits and never touches the disk: `agent`, `task` and `epoch` are one look-up each.
- All that is held are immutable values. A change replaces a value; nobody sees half of one.
- What gives rights reaches the disk first, then memory. What takes them away (a task ended, an agent
  retired, a grant revoked, a withdrawal) reaches memory first, and stays there where the disk refuses, which
  then raises: rights may shrink without a record, never grow.
- The epoch is a number of the log of changes, so it outlives the process and others can follow it. Where the
  disk refused it moves all the same, by a number that the disk will not use.
- It moves only **after** what changed is in memory. Who reads the epoch, then decides, then finds the same
  epoch, decided on rights that were there when the second reading was made. If the epoch moved first, a
  reader between the two steps would take the new epoch with the old rights, and never learn of it.
- Who asked to be told of withdrawals is told after the epoch moved: streams of an identity end then.
- A started task needs no new epoch: nobody can have decided on it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from types import MappingProxyType
from typing import Final

from authz.errors import StoreError
from authz.store.agents import Registered, Registration
from authz.store.decided_on import OnAgent, OnAuthor, require_unchanged
from authz.store.held_consents import KEPT_CONSENTS, HeldConsents
from authz.store.held_tasks import KEPT_TASKS, HeldTasks
from authz.store.held_withdrawals import HeldWithdrawals, kept_until
from authz.store.rights import Release
from authz.store.rows import ManagedBy
from authz.store.sqlite import Store
from identity.caller import Agent, Task
from identity.consent import Consent
from identity.withdrawal import CONTAINED, Kind, Withdrawal, Withdrawals

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

    def __init__(self, store: Store, now: datetime) -> None:
        self._store = store
        self._writing = Lock()
        self._registered = dict(store.registered())
        self._tasks = HeldTasks(store.tasks(now - KEPT_TASKS))
        self._consents = HeldConsents()
        self._withdrawals = HeldWithdrawals(store.withdrawals(now))
        self._forgotten_at = now
        self._tell: Callable[[], None] = lambda: None
        for consent in store.consents(now - KEPT_CONSENTS):
            self._consents.put(consent)
        self._epoch = store.epoch()

    @classmethod
    def load(cls, store: Store, now: datetime) -> "State":
        """Read what is on disk, and be the only one who writes to it.

        Raises:
            StoreError: if that cannot be read or written.
        """
        store.begin_term()
        store.forget(now - KEPT_ON_DISK, now)
        return cls(store, now)

    @property
    def epoch(self) -> int:
        """The number of the newest change of rights; read it before them, and again after the decision."""
        return self._epoch

    @property
    def term(self) -> int:
        """The number of our time as the only one who writes; replicas say by which they know the epoch."""
        return self._store.progress().term

    @property
    def withdrawals(self) -> Withdrawals:
        """All that is withdrawn."""
        return self._withdrawals.value

    def on_withdrawal(self, tell: Callable[[], None]) -> None:
        """Call this after each withdrawal, from whichever thread made it; it may not wait."""
        self._tell = tell

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""
        entry = self._registered.get(name)
        return None if entry is None else entry.agent

    def agents(self) -> tuple[Agent, ...]:
        """Return the registered agents."""
        return tuple(entry.agent for entry in self._registered.values())

    def managed_by(self, name: str) -> ManagedBy | None:
        """Say where a registered agent is changed: in deputy.yaml, or by the API."""
        entry = self._registered.get(name)
        return None if entry is None else entry.managed_by

    def task(self, task_id: str) -> Task | None:
        """Return a task, also one that has ended."""
        return self._tasks.get(task_id)

    def consent(self, consent_id: str) -> Consent | None:
        """Return what a person granted, also what was revoked a while ago."""
        return self._consents.get(consent_id)

    def consents_of(self, human: str) -> tuple[Consent, ...]:
        """Return what one person granted, the oldest first; also what was revoked a while ago."""
        return self._consents.of(human)

    def consents(self) -> tuple[Consent, ...]:
        """Return what people granted; also what was revoked a while ago."""
        return self._consents.all()

    def snapshot(self) -> Snapshot:
        """Return a copy of everything; its cost grows with the number of tasks."""
        with self._writing:
            agents = {name: entry.agent for name, entry in self._registered.items()}
            return Snapshot(MappingProxyType(agents), MappingProxyType(self._tasks.copy()), self._epoch)

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
            managed = {name: one for name, one in self._registered.items() if one.managed_by == "api"}
            self._registered = managed | {agent.name: Registered(agent, "file") for agent in wanted}
            for name in registration.retired:
                self._end_all_of(name, now)
            if registration.changed or registration.retired:
                self._moved(self._store.epoch())
        return registration

    def retired_agent(self, name: str) -> Agent | None:
        """Return the agent that last had a name which nobody has now; this reads the disk.

        Raises:
            StoreError: if that cannot be read.
        """
        return self._store.retired_agent(name)

    def register_agent(self, agent: Agent, now: datetime, decided_on: OnAgent = None) -> int:
        """Register an agent that the API manages; return the epoch.

        Raises:
            ChangedError: if another agent had the name last than the one that this was decided on.
            StoreError: if the name is taken, there are too many, or it cannot be written.
        """
        with self._writing:
            if agent.name not in self._registered:
                require_unchanged(decided_on, self._store.retired_agent(agent.name), f"agent {agent.name!r}")
            self._store.register_agent(agent, now)
            self._registered = {**self._registered, agent.name: Registered(agent, "api")}
            return self._epoch

    def change_agent(self, agent: Agent, now: datetime, decided_on: OnAgent = None) -> int:
        """Change an agent that the API manages; return the epoch.

        Raises:
            ChangedError: if it is not any more what this was decided on.
            StoreError: if it is not registered, stands in deputy.yaml, or it cannot be written.
        """
        with self._writing:
            require_unchanged(decided_on, self.agent(agent.name), f"agent {agent.name!r}")
            self._store.change_agent(agent, now)
            self._registered = {**self._registered, agent.name: Registered(agent, "api")}
            return self._moved(self._store.epoch())

    def retire(self, name: str, now: datetime, decided_on: OnAgent = None) -> int:
        """Take an agent out of the registry, end its tasks, revoke what it was granted; return the epoch.

        Raises:
            ChangedError: if it is not any more what this was decided on.
            StoreError: if the disk refused; the agent is out of memory all the same, until a restart.
        """
        with self._writing:
            require_unchanged(decided_on, self.agent(name), f"agent {name!r}")
            number = 0
            if name in self._registered:
                self._registered = {key: one for key, one in self._registered.items() if key != name}
                self._end_all_of(name, now)
                number = self._moved(self._store.reserve())
            try:
                self._store.retire(name, now, number)
            except StoreError as error:
                raise StoreError(f"agent {name!r} is retired until a restart only: {error}") from error
            return self._settle()

    def start_task(self, task: Task, now: datetime) -> None:
        """Add a task of a registered agent.

        Raises:
            StoreError: if the agent is unknown, the id taken, the tasks too many, or it cannot be written.
        """
        with self._writing:
            self._tasks.prune(now)
            self._tasks.require_room()
            self._store.start_task(task)
            self._tasks.put(task)

    def end_task(self, task_id: str, now: datetime) -> Task | None:
        """End a task and return it, None if it is not known here.

        Raises:
            StoreError: if the disk refused; the task has ended in memory all the same, until a restart.
        """
        with self._writing:
            number = self._moved(self._store.reserve()) if self._tasks.end(task_id, now) else 0
            try:
                self._store.end_task(task_id, now, number)
            except StoreError as error:
                raise StoreError(f"task {task_id!r} has ended until a restart only: {error}") from error
            self._settle()
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
                self._tasks.note_thumbprint(task_id, thumbprints[task_id])
        return refused

    def add_consent(self, consent: Consent, now: datetime) -> int:
        """Keep what a person granted; return the epoch.

        Raises:
            StoreError: if its agent is not registered, there are too many, or it cannot be written.
        """
        with self._writing:
            self._consents.prune(now)
            self._consents.require_room(consent, now)
            self._store.add_consent(consent, now)
            self._consents.put(consent)
            return self._epoch

    def revoke_consent(
        self, consent_id: str, now: datetime, *, by: str | None = None, reason: str = "revoked"
    ) -> int:
        """Take back what a person granted, and all that came of it; return the epoch.

        Raises:
            StoreError: if it is not known, or the disk refused: then it is revoked until a restart only.
        """
        with self._writing:
            consent = self._consents.get(consent_id)
            if consent is None:
                raise StoreError(f"there is no grant {consent_id!r}")
            # Once more is the same: the end is that of the first time.
            end = max(kept_until("grant", consent.revoked_at or now) or now, consent.expires_at)
            withdrawal = Withdrawal("grant", consent_id, None, reason, by or consent.human, now, end)
            self._consents.revoke(consent_id, now)
            number = self._hold(withdrawal)
            try:
                self._store.revoke_consent(consent_id, withdrawal, number)
            except StoreError as error:
                raise StoreError(f"grant {consent_id!r} is revoked until a restart only: {error}") from error
            return self._settle()

    def withdraw(self, withdrawal: Withdrawal, now: datetime, decided_on: OnAuthor = None) -> int:
        """Take something back; return the epoch from which nobody may act by it.

        Raises:
            ChangedError: if somebody else contained it since this was decided; then it stays theirs.
            StoreError: if the disk refused (then it is withdrawn until a restart only), or too much is
                withdrawn already (then it is not).
        """
        with self._writing:
            what, author = f"{withdrawal.kind} {withdrawal.subject!r}", self._contained_by(withdrawal)
            # What was released meanwhile is contained all the same.
            if withdrawal.is_containment and author not in {None, withdrawal.by}:
                require_unchanged(decided_on, author, what)
            self._withdrawals.prune(now)
            withdrawal = self._withdrawals.aligned(withdrawal)
            if not self.withdrawals.covers(withdrawal):
                self._withdrawals.require_room(withdrawal)
            number = self._hold(withdrawal)
            try:
                self._store.withdraw(withdrawal, now, number)
            except StoreError as error:
                raise StoreError(f"{what} is withdrawn until a restart only: {error}") from error
            return self._settle()

    def release(  # noqa: PLR0917 - what a release says of itself, and what it was decided on
        self, kind: Kind, subject: str, by: str, reason: str, now: datetime, decided_on: OnAuthor = None
    ) -> int:
        """Let somebody act again who was stopped; return the epoch.

        Raises:
            ChangedError: if another one contained them since this was decided.
            StoreError: if nothing of the kind is stopped, or the disk refused; then it stays stopped.
            WithdrawalError: if no reason is given.
        """
        if kind not in CONTAINED:
            raise StoreError(f"a {kind} that was withdrawn never comes back")
        meant = Withdrawal(kind, subject, None, reason, by, now)  # a release is for a reason, too
        with self._writing:
            require_unchanged(decided_on, self._contained_by(meant), f"{kind} {subject!r}")
            is_held = self.withdrawals.containment(kind, subject) is not None
            is_written = self._store.release(Release(kind, subject, by, reason, now))
            if not (is_written or is_held):
                raise StoreError(f"no {kind} {subject!r} is stopped, so nothing is released")
            self._withdrawals.release(kind, subject)
            return self._moved(self._store.epoch() if is_written else self._store.reserve())

    def prune(self, now: datetime) -> None:
        """Forget what ended long ago; call it now and then.

        Raises:
            StoreError: if old tasks cannot be deleted on disk.
        """
        with self._writing:
            self._tasks.prune(now)
            self._consents.prune(now)
            self._withdrawals.prune(now)
            if now - self._forgotten_at >= _FORGET_EVERY:
                self._forgotten_at = now
                self._store.forget(now - KEPT_ON_DISK, now)

    def _contained_by(self, like: Withdrawal) -> str | None:
        contained = self.withdrawals.containment(like.kind, like.subject)
        return None if contained is None else contained.by

    def _hold(self, withdrawal: Withdrawal) -> int:
        """Withdraw in memory; return the number that its change shall have on disk."""
        if self.withdrawals.covers(withdrawal):
            return 0
        self._withdrawals.put(withdrawal)
        return self._moved(self._store.reserve())

    def _settle(self) -> int:
        """Return the epoch after a withdrawal that memory has had before the disk."""
        self._epoch = max(self._epoch, self._store.epoch())
        return self._epoch

    def _moved(self, epoch: int) -> int:
        self._epoch = epoch
        self._tell()
        return epoch

    def _end_all_of(self, agent: str, now: datetime) -> None:
        self._consents.revoke_of_agent(agent, now)
        self._tasks.end_of_agent(agent, now)
