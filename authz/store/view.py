"""What is asked about rights, in the process that writes them and in those that follow it."""

from typing import Protocol

from identity.caller import Agent, Task
from identity.consent import Consent
from identity.withdrawal import Withdrawals


class RightsView(Protocol):
    """What counts now; a decision that reads the epoch first and last and finds it the same counts too."""

    @property
    def epoch(self) -> int:
        """The number of the newest change of somebody's rights that is known here."""
        ...

    @property
    def withdrawals(self) -> Withdrawals:
        """All that is withdrawn."""
        ...

    @property
    def is_fresh(self) -> bool:
        """Say whether it was read a moment ago."""
        ...

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""
        ...

    def task(self, task_id: str) -> Task | None:
        """Return a task, also one that has ended."""
        ...

    def consent(self, consent_id: str) -> Consent | None:
        """Return what a person granted, also what was revoked."""
        ...

    async def refresh(self) -> None:
        """Read again what was read too long ago.

        Raises:
            StoreError: if that cannot be read, or is older than what was read before.
        """
        ...

    async def reach(self, min_epoch: int) -> None:
        """Wait until an epoch is known.

        Raises:
            StoreError: if it cannot be had in time.
        """
        ...
