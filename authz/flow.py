"""What the flow takes besides the request: whom it trusts, what it asks, where it writes.

- Time, randomness, keys, rights, policy and log are arguments of the flow; each stands behind a port or a
  function, so that the flow is the same in every host and in every test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from authz.approvals.port import Approvals
from authz.audit.arguments import ArgumentsKey
from authz.audit.sink import Sink
from authz.audit.strangers import Strangers
from authz.authenticate import Registered, Trust
from authz.pins.port import Pins
from authz.policy.port import Policy
from authz.protocols.operation import Operation
from authz.reused_tokens import ReusedTokens
from authz.services import Service, Services
from authz.sessions.port import Sessions
from authz.token_cache import VerifiedTokens
from identity.caller import Caller
from identity.dpop import DpopProof
from identity.names import ENTROPY_BYTES, new_ulid
from identity.transaction import TransactionIssuer


class Rights(Registered, Protocol):
    """The registry, with the number that moves when rights are withdrawn."""

    @property
    def epoch(self) -> int:
        """Count withdrawals."""


class Following(Protocol):
    """What a replica adds: rights and keys are another process's to change, and are read from there."""

    async def refresh(self) -> None:
        """Read again what was read too long ago.

        Raises:
            StoreError: if that cannot be read, or is older than what was read before.
        """

    async def reach(self, min_epoch: int) -> None:
        """Wait until so many withdrawals are known.

        Raises:
            StoreError: if they cannot be had in time.
        """

    async def learn(self) -> None:
        """Read once more, because something is not known here; many who ask at one time share a reading.

        Raises:
            StoreError: if that cannot be read.
        """


class Spend(Protocol):
    """Counts proofs, each once; the memory may be a file that other processes share."""

    async def __call__(self, proof: DpopProof, *, presenter: str, now: datetime, call: str) -> None:
        """Count a proof; `call` names the request that it came with.

        Raises:
            AuthenticationError: with REPLAYED, or with REPLAY_UNKNOWN where it cannot be known.
        """


class SignedNames(Protocol):
    """Says to a gateway that makes lists what a caller could use (authz/kuadrant)."""

    async def header(
        self, caller: Caller, operation: Operation, service: Service, decision_id: str, now: datetime
    ) -> str | None:
        """Return what goes with an allowed request; None where it needs nothing.

        Raises:
            CodedError: if that cannot be known.
        """


@dataclass(frozen=True, slots=True)
class Flow:
    """All that the flow takes besides the request.

    `trust` is asked at each call, for keys rotate; it gives the same value until something has changed.
    `known` and `reused` save work and decide nothing.
    `following` is for replicas: the process that writes the rights knows them, and waits for nobody.
    """

    services: Services
    trust: Callable[[], Trust]
    rights: Rights
    policy: Policy
    sink: Sink
    strangers: Strangers
    transactions: TransactionIssuer
    spend: Spend
    arguments_key: ArgumentsKey
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    following: Following | None = None
    # None where nobody can be asked: then what needs an approval is denied.
    approvals: Approvals | None = None
    # None where nobody looks at what tools are, or whose sessions: in tests of the rest.
    pins: Pins | None = None
    sessions: Sessions | None = None
    # None where no service is such a gateway.
    signed_names: SignedNames | None = None
    known: VerifiedTokens = field(default_factory=VerifiedTokens)
    reused: ReusedTokens = field(default_factory=ReusedTokens)

    def new_id(self, now: datetime) -> str:
        """Make the id of a decision or a record."""
        return new_ulid(now, self.entropy(ENTROPY_BYTES))
