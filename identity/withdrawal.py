"""What was taken back: a token, a task, a lineage, a grant; or an agent, a workload, a person stopped.

- Looking is a few dictionary look-ups, whatever their number: it happens at every call.
- `before` None stops the subject until it is released. With a time it takes back what was issued, or signed
  in, at or before that second: what begins later counts again (CAEP session-revoked).
- A withdrawal of a token, transaction, task or grant has an end, after which nothing of it can be alive.
- One of a token or a transaction keeps whose it was, where that is known; a task and a grant name theirs
  themselves. Who is denied does not depend on it: it is there to tell others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Literal, get_args

from identity.bucket_map import BucketMap
from identity.caller import Caller, Human
from identity.errors import IdentityError, WithdrawalError
from identity.names import parse_ulid
from identity.qualified_name import parse_registered_name
from identity.quick_init import quick_init
from identity.spiffe import SpiffeId

_Key = tuple[str, str]
Kind = Literal["token", "txn", "task", "grant", "agent", "workload", "human"]

# What can be stopped and released again; the rest never comes back.
CONTAINED: Final[frozenset[str]] = frozenset({"agent", "workload", "human"})
# Whose name says nothing of the person behind it.
OF_SOMEBODY: Final[frozenset[str]] = frozenset({"token", "txn"})
KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
MAX_REASON: Final = 500
MAX_SUBJECT: Final = 800


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One withdrawal; `by` says who ordered it, `reason` why, `human` whose it was (`issuer#subject`)."""

    kind: Kind
    subject: str
    before: int | None
    reason: str
    by: str
    at: datetime
    expires_at: datetime | None = None
    human: str | None = None

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
        _check_human(self.kind, self.human)

    @property
    def is_containment(self) -> bool:
        """Say whether it lasts until it is released."""
        return self.kind in CONTAINED and self.before is None

    def covers(self, other: "Withdrawal") -> bool:
        """Say whether this takes back as much of its subject as another one, for as long.

        Who contained somebody may release them, so one containment never stands for that of another author;
        and one that does not know whose it is does not for one that does, which others are told of.
        """
        if self.is_containment and self.by != other.by:
            return False
        if self.human is None and other.human is not None:
            return False
        if self.expires_at is not None and (other.expires_at is None or self.expires_at < other.expires_at):
            return False
        if self.before is None or other.before is None:
            # What is released tomorrow does not stand for what stays; nor the other way round.
            return self.before is other.before
        return self.before >= other.before

    def joined(self, other: "Withdrawal") -> "Withdrawal":
        """Return what takes back as much as both of one subject; reason and author are the newer one's.

        One that only adds whose it was leaves them: who presents a token that an operator revoked is not the
        one who did.
        """
        if self.human is None and other.human is not None and self.covers(replace(other, human=None)):
            return replace(self, human=other.human)
        before = None if self.before is None or other.before is None else max(self.before, other.before)
        ends = [self.expires_at, other.expires_at]
        expires_at = None if None in ends else max(end for end in ends if end is not None)
        return replace(other, before=before, expires_at=expires_at, human=other.human or self.human)


@quick_init
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
    parents: tuple[str, ...] = ()

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
            parents=caller.parents,
        )

    def __iter__(self) -> Iterator[tuple[Kind, str]]:
        """Give each part, as a withdrawal would name it."""
        single: tuple[tuple[Kind, str | None], ...] = (
            ("human", self.human),
            ("txn", self.txn),
            ("token", self.jti),
        )
        yield from ((kind, subject) for kind, subject in single if subject is not None)
        yield from (("token", parent) for parent in self.parents)
        yield from (("agent", agent) for agent in self.agents)
        yield from (("task", task) for task in self.tasks)
        yield from (("grant", grant) for grant in self.grants)
        yield from (("workload", workload) for workload in self.workloads)


@dataclass(frozen=True, slots=True)
class Withdrawals:
    """All that is withdrawn at one moment; a changed copy is cheap, however many there are."""

    _all: BucketMap[_Key, Withdrawal] = field(default_factory=BucketMap, repr=False)
    _until: BucketMap[_Key, Withdrawal] = field(default_factory=BucketMap, repr=False)

    @classmethod
    def of(cls, items: Iterable[Withdrawal]) -> "Withdrawals":
        """Index some withdrawals; of two for one subject what either takes back counts."""
        whole: dict[_Key, Withdrawal] = {}
        until: dict[_Key, Withdrawal] = {}
        for item in items:
            key, held = (item.kind, item.subject), whole if item.before is None else until
            held[key] = held[key].joined(item) if key in held else item
        return cls(BucketMap.of(whole.items()), BucketMap.of(until.items()))

    @property
    def items(self) -> tuple[Withdrawal, ...]:
        """Each of them, the oldest first; its cost grows with their number."""
        return tuple(sorted((*self._all.values(), *self._until.values()), key=lambda item: item.at))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._all) + len(self._until)

    def find(self, standing: Standing) -> Withdrawal | None:
        """Return a withdrawal that takes back any part of this."""
        if not len(self):
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

    def standing(self, like: Withdrawal) -> Withdrawal | None:
        """Return what is withdrawn of the same subject in the same way: as a whole, or up to a time."""
        return self._part(like).get((like.kind, like.subject))

    def covers(self, withdrawal: Withdrawal) -> bool:
        """Say whether as much is withdrawn already, for as long."""
        standing = self.standing(withdrawal)
        return standing is not None and standing.covers(withdrawal)

    def plus(self, withdrawal: Withdrawal) -> "Withdrawals":
        """Return a copy in which this is withdrawn too."""
        standing = self.standing(withdrawal)
        joined = withdrawal if standing is None else standing.joined(withdrawal)
        return self._with(withdrawal, self._part(withdrawal).plus((joined.kind, joined.subject), joined))

    def minus(self, like: Withdrawal) -> "Withdrawals":
        """Return a copy in which nothing is withdrawn of this subject in this way."""
        return self._with(like, self._part(like).minus((like.kind, like.subject)))

    def _part(self, like: Withdrawal) -> BucketMap[_Key, Withdrawal]:
        return self._all if like.before is None else self._until

    def _with(self, like: Withdrawal, part: BucketMap[_Key, Withdrawal]) -> "Withdrawals":
        return Withdrawals(part, self._until) if like.before is None else Withdrawals(self._all, part)


def _begun(caller: Caller) -> int | None:
    """Return when the credential, or the sign-in behind it, began: whichever was first."""
    signed_in = caller.human.auth_time if caller.human else None
    times = [moment for moment in (caller.issued_at, signed_in) if moment is not None]
    return min(times, default=None)


def _check_human(kind: Kind, human: str | None) -> None:
    if human is None:
        return
    if kind not in OF_SOMEBODY:
        raise WithdrawalError(f"a withdrawal of a {kind} does not keep whose it was")
    try:
        Human.parse_uri(human)
    except IdentityError as error:
        raise WithdrawalError(f"not a person whose it was: {error}") from error


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
