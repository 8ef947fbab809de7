"""What was taken back: a token, a task, a lineage, a grant; or an agent, a workload, a person stopped.

- Looking is a few dictionary look-ups, whatever their number: it happens at every call.
- `before` None stops the subject until it is released. With a time it takes back what was issued, or signed
  in, at or before that second: what begins later counts again (CAEP session-revoked).
- A withdrawal of a token, transaction, task or grant has an end, after which nothing of it can be alive.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal, get_args

from identity.caller import Caller, Human
from identity.errors import IdentityError, WithdrawalError
from identity.names import parse_ulid
from identity.qualified_name import parse_registered_name
from identity.spiffe import SpiffeId

Kind = Literal["token", "txn", "task", "grant", "agent", "workload", "human"]

# What can be stopped and released again; the rest never comes back.
CONTAINED: Final[frozenset[str]] = frozenset({"agent", "workload", "human"})
KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
MAX_REASON: Final = 500
MAX_SUBJECT: Final = 800


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One withdrawal; `by` says who ordered it, `reason` why."""

    kind: Kind
    subject: str
    before: int | None
    reason: str
    by: str
    at: datetime
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a withdrawal that names nothing, or has no reason.

        Raises:
            WithdrawalError: with what is wrong.
        """
        if self.kind not in KINDS:
            raise WithdrawalError(f"not a kind of what can be withdrawn: {self.kind!r}")
        if not self.reason.strip() or len(self.reason) > MAX_REASON or not self.reason.isprintable():
            raise WithdrawalError(f"a reason is needed: one line of at most {MAX_REASON} characters")
        if self.before is not None and self.kind != "human":
            raise WithdrawalError("only a person's sessions are withdrawn up to a time")
        _check_subject(self.kind, self.subject)

    @property
    def is_containment(self) -> bool:
        """Say whether it lasts until it is released."""
        return self.kind in CONTAINED and self.before is None


@dataclass(frozen=True, slots=True)
class Standing:
    """All that somebody acts by; what is None or empty is not part of it."""

    human: str | None = None
    agents: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    txn: str | None = None
    jti: str | None = None
    grants: tuple[str, ...] = ()
    issued_at: int | None = None

    @classmethod
    def of(cls, caller: Caller, workloads: Iterable[SpiffeId]) -> "Standing":
        """Return what a caller acts by: person, agents, runs, the workloads of these, and the credential."""
        return cls(
            human=caller.human.uri if caller.human else None,
            agents=tuple(hop.agent for hop in caller.chain),
            tasks=tuple(hop.task for hop in caller.chain),
            workloads=(str(caller.peer), *map(str, workloads)),
            txn=caller.txn,
            jti=caller.jti,
            grants=caller.grants,
            issued_at=_begun(caller),
        )

    def __iter__(self) -> Iterator[tuple[Kind, str]]:
        """Give each part, as a withdrawal would name it."""
        single: tuple[tuple[Kind, str | None], ...] = (
            ("human", self.human),
            ("txn", self.txn),
            ("token", self.jti),
        )
        yield from ((kind, subject) for kind, subject in single if subject is not None)
        yield from (("agent", agent) for agent in self.agents)
        yield from (("task", task) for task in self.tasks)
        yield from (("grant", grant) for grant in self.grants)
        yield from (("workload", workload) for workload in self.workloads)


@dataclass(frozen=True, slots=True)
class Withdrawals:
    """All that is withdrawn at one moment."""

    items: tuple[Withdrawal, ...] = ()
    _all: Mapping[tuple[str, str], Withdrawal] = field(default_factory=dict, repr=False)
    _until: Mapping[tuple[str, str], Withdrawal] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, items: Iterable[Withdrawal]) -> "Withdrawals":
        """Index some withdrawals; of two for one subject the one that takes back more counts."""
        listed = tuple(items)
        whole: dict[tuple[str, str], Withdrawal] = {}
        until: dict[tuple[str, str], Withdrawal] = {}
        for item in listed:
            key = (item.kind, item.subject)
            if item.before is None:
                whole[key] = item
            elif key not in until or (until[key].before or 0) < item.before:
                until[key] = item
        return cls(listed, MappingProxyType(whole), MappingProxyType(until))

    def find(self, standing: Standing) -> Withdrawal | None:
        """Return a withdrawal that takes back any part of this."""
        if not self.items:
            return None
        for key in standing:
            if (found := self._all.get(key)) is not None:
                return found
            earlier = self._until.get(key)
            if earlier is not None and (
                standing.issued_at is None or standing.issued_at <= (earlier.before or 0)
            ):
                return earlier
        return None

    def containment(self, kind: Kind, subject: str) -> Withdrawal | None:
        """Return what stops this subject until it is released."""
        return self._all.get((kind, subject))


def _begun(caller: Caller) -> int | None:
    """Return when the credential, or the sign-in behind it, began: whichever was first."""
    signed_in = caller.human.auth_time if caller.human else None
    times = [moment for moment in (caller.issued_at, signed_in) if moment is not None]
    return min(times, default=None)


def _check_subject(kind: Kind, subject: str) -> None:
    if not 1 <= len(subject) <= MAX_SUBJECT or not subject.isprintable():
        raise WithdrawalError(f"nothing is named, or not in at most {MAX_SUBJECT} printable characters")
    try:
        match kind:
            case "task" | "grant":
                parse_ulid(subject)
            case "agent":
                parse_registered_name(subject)
            case "workload":
                SpiffeId.parse(subject)
            case "human":
                Human.parse_uri(subject)
            case "token" | "txn":
                pass
    except IdentityError as error:
        raise WithdrawalError(f"not a {kind}: {error}") from error
