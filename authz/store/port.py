"""The ports of replicas: how far the state is, and who obeys it.

- SQLite and files implement them now; they are made for PostgreSQL and NATS.
- The truth is one sequence of changes under one term. A push (data_version of SQLite, NOTIFY, a NATS
  subject) only says that it is worth looking: what is new is pulled after the number that is known, so that
  pushes may be lost, doubled or reordered.
- One reading is of one moment: what it gives belongs together.
- A lease is what a replica says of itself, and nobody needs its word for more than so many seconds: it is
  counted from before the reading that it is about, and whoever could not renew it in time stops to answer.
- On PostgreSQL a lease is a row whose time is the server's, with CLOCK_BOOTTIME of each side for its length;
  here all sides share the clock of one machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from authz.store.changes import Progress
from identity.caller import Agent, Task
from identity.consent import Consent
from identity.withdrawal import Withdrawal

# How long a replica may be silent before nobody waits for it any more, and it may not answer any more (L).
LEASE_SECONDS: Final = 5.0
MAX_REPLICAS: Final = 64


@dataclass(frozen=True, slots=True)
class News:
    """What changed since a moment; what is gone is None. `is_everything`: what is not in it is not there.

    `withdrawn` is what was withdrawn besides, or, where `withdrawals_anew`, all that is withdrawn.
    """

    progress: Progress
    is_everything: bool
    agents: Mapping[str, Agent | None]
    tasks: Mapping[str, Task | None]
    consents: Mapping[str, Consent | None]
    withdrawn: tuple[Withdrawal, ...]
    withdrawals_anew: bool


class Epochs(Protocol):
    """The changes of the state, for one who only reads; each method may block."""

    def is_moved(self) -> bool:
        """Say whether it is worth looking.

        Raises:
            StoreError: if nobody can say.
        """

    def changes_after(self, known: Progress | None, now: datetime) -> News:
        """Return what is new since a moment, or everything where that cannot be told apart.

        Raises:
            StoreError: if it cannot be read, or is another state than the one that is known, or an older one.
        """

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one replica obeys: all of `epoch` in `term`, as it was at `boottime` or later."""

    replica: str
    term: int
    epoch: int
    boottime: float
    address: str
    version: str

    def obeys(self, term: int, epoch: int) -> bool:
        """Say whether it obeys an epoch; one of another term may be of another history."""
        return self.term == term and self.epoch >= epoch

    def is_live(self, now: float) -> bool:
        """Say whether it counts; one of the future is of an earlier start of the machine."""
        return 0 <= now - self.boottime < LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Listed:
    """All leases, also ended ones; `malformed` names what is none, `unread` says that there were too many."""

    leases: tuple[Lease, ...]
    malformed: tuple[str, ...] = ()
    unread: bool = False


class Leases(Protocol):
    """Who obeys what; each method may block."""

    def acknowledge(self, lease: Lease) -> None:
        """Say what this replica obeys.

        Raises:
            StoreError: if that cannot be said.
        """

    def end(self, replica: str) -> None:
        """Say that a replica answers no more."""

    def listed(self) -> Listed:
        """Return every lease.

        Raises:
            StoreError: if they cannot be read.
        """
