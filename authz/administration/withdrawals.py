"""The kill switch: stop a token, a task, a lineage, a grant, an agent, a workload or a person; and release.

- A token is named by its `jti`, or sent whole: then it is verified as ours, whoever it is for, and its person
  may revoke it, too. It is read and not kept; its person is kept, so that others can be told. Of what is only
  named nobody knows whose it is: no caller says so.
- A task ends; what it holds is dead with it.
- `sessions` true takes back what a person began until it acts; what they begin afterwards counts.
- The answer names the epoch; `wait` true waits until every replica obeys it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, Protocol, cast

from authz.admin import Action, Actor, AdminRequest, RevokedKind
from authz.administration.document import flag, members, reason_of, text, withdrawal_json
from authz.administration.order import Desk, ExistenceError, Order, OrderError
from authz.broker.arrival import Arrival
from authz.broker.parties import verify_subject
from authz.store.decided_on import DecidedOn, OnAuthor
from authz.store.held_withdrawals import kept_until
from identity.caller import Agent, Task
from identity.consent import Consent
from identity.jws import UnverifiedToken
from identity.spiffe import SpiffeId
from identity.withdrawal import CONTAINED, KINDS, OF_SOMEBODY, Kind, Withdrawal, Withdrawals

_CONTAIN: Final[Mapping[Kind, Action]] = {
    "agent": "agents/contain",
    "workload": "workloads/contain",
    "human": "people/contain",
}
_RELEASE: Final[Mapping[Kind, Action]] = {
    "agent": "agents/release",
    "workload": "workloads/release",
    "human": "people/release",
}

MAX_LISTED: Final = 1000
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")


class Switch(Protocol):
    """The state, as far as it takes rights away; the writing methods may block for the disk."""

    @property
    def epoch(self) -> int:
        """Count withdrawals."""

    @property
    def withdrawals(self) -> Withdrawals:
        """Return all that is withdrawn."""

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""

    def task(self, task_id: str) -> Task | None:
        """Return a task."""

    def consent(self, consent_id: str) -> Consent | None:
        """Return a person's grant."""

    def withdraw(self, withdrawal: Withdrawal, now: datetime, decided_on: OnAuthor = None) -> int:
        """Withdraw, and return the epoch."""

    def release(  # noqa: PLR0917 - what a release says of itself, and what it was decided on
        self, kind: Kind, subject: str, by: str, reason: str, now: datetime, decided_on: OnAuthor = None
    ) -> int:
        """End a containment, and return the epoch."""

    def revoke_consent(
        self, consent_id: str, now: datetime, *, by: str | None = None, reason: str = "revoked"
    ) -> int:
        """Revoke a person's grant and what came of it, and return the epoch."""


@dataclass(frozen=True, slots=True)
class Named:
    """What is to be withdrawn, and whose it is."""

    kind: Kind
    subject: str
    human: str | None = None
    agent: Agent | None = None


async def withdraw(arrival: Arrival, state: Switch, desk: Desk, actor: Actor, now: datetime) -> Order:
    """Plan a containment or a revocation (POST /admin/v1/withdrawals).

    Raises:
        OrderError, WithdrawalError or TokenError: if it names nothing that can be withdrawn.
    """
    body = members(
        arrival,
        required=frozenset({"kind", "reason"}),
        optional=frozenset({"subject", "token", "wait", "sessions"}),
    )
    named, reason = _named(body, state, desk, now), reason_of(body)
    before = int(now.timestamp()) if flag(body, "sessions") else None
    human = named.human if named.kind in OF_SOMEBODY else None
    withdrawal = Withdrawal(
        named.kind, named.subject, before, reason, actor.id, now, kept_until(named.kind, now), human
    )
    request = _request(named, _CONTAIN, state)
    return Order(
        request=request,
        subject=f"{named.kind} {named.subject}",
        body=lambda: _shown(withdrawal, state),
        act=partial(_withdraw, withdrawal, state, desk.broker.clock, DecidedOn(request.contained_by)),
        reason=reason,
        status=201,
        takes_away=True,
        waits=flag(body, "wait"),
    )


async def release(arrival: Arrival, state: Switch, actor: Actor, now: datetime) -> Order:
    """Plan the end of a containment (POST /admin/v1/releases).

    Raises:
        OrderError: if nothing of the kind is contained.
    """
    body = members(arrival, required=frozenset({"kind", "subject", "reason"}), optional=frozenset({"wait"}))
    kind, subject, reason = _kind(body), text(body, "subject"), reason_of(body)
    contained = state.withdrawals.containment(kind, subject)
    agent = state.agent(subject) if kind == "agent" else None
    if kind not in CONTAINED or contained is None:
        raise ExistenceError(f"{kind} {subject[:255]!r} is not contained", agent)
    named = Named(kind, subject, _human_of(kind, subject), agent)
    request = _request(named, _RELEASE, state)
    return Order(
        request=request,
        subject=f"{kind} {subject}",
        body=lambda: {"kind": kind, "subject": subject, "released": True},
        act=partial(state.release, kind, subject, actor.id, reason, now, DecidedOn(request.contained_by)),
        reason=reason,
        waits=flag(body, "wait"),
    )


async def list_withdrawals(state: Switch) -> Order:
    """Plan the list of what is withdrawn (GET /admin/v1/withdrawals)."""
    return Order(
        request=AdminRequest("epochs/show"),
        subject="withdrawals",
        body=partial(_list, state),
    )


def _list(state: Switch) -> dict[str, object]:
    """Return whoever is contained, and the newest of the rest: of tokens there may be very many."""
    epoch, items = state.epoch, state.withdrawals.items
    contained = [item for item in items if item.is_containment]
    others = [item for item in items if not item.is_containment]
    return {
        "epoch": epoch,
        "total": len(items),
        "withdrawals": [withdrawal_json(item) for item in (*contained, *others[-MAX_LISTED:])],
    }


def _shown(withdrawal: Withdrawal, state: Switch) -> dict[str, object]:
    """Return what stands now; whose it is only to whom showed the token, for others may not list that."""
    standing = state.withdrawals.standing(withdrawal) or withdrawal
    return withdrawal_json(replace(standing, human=withdrawal.human))


def _withdraw(
    withdrawal: Withdrawal, state: Switch, clock: Callable[[], datetime], decided_on: OnAuthor
) -> int:
    now = clock()
    if withdrawal.before is not None:
        # What was issued since the order was planned came of the same sign-in.
        withdrawal = replace(withdrawal, before=max(withdrawal.before, int(now.timestamp())))
    if withdrawal.kind == "grant":
        return state.revoke_consent(withdrawal.subject, now, by=withdrawal.by, reason=withdrawal.reason)
    return state.withdraw(withdrawal, now, decided_on)


def _named(body: Mapping[str, object], state: Switch, desk: Desk, now: datetime) -> Named:
    kind = _kind(body)
    if ("subject" in body) == ("token" in body):
        raise OrderError("exactly one of subject and token says what is meant")
    if flag(body, "sessions") and kind != "human":
        raise OrderError("sessions belong to kind: human")
    if "token" in body:
        return _of_token(kind, text(body, "token"), desk, now)
    return _of_subject(kind, text(body, "subject"), state, desk)


def _of_subject(kind: Kind, subject: str, state: Switch, desk: Desk) -> Named:
    match kind:
        case "agent":
            agent = state.agent(subject)
            if agent is None:
                raise ExistenceError(f"no agent {subject[:255]!r} is registered")
            return Named(kind, subject, agent=agent)
        case "task":
            task = state.task(subject)
            if task is None:
                raise OrderError(f"no task {subject[:64]!r} is known")
            return Named(kind, subject, task.human, state.agent(task.agent))
        case "grant":
            consent = state.consent(subject)
            if consent is None:
                raise OrderError(f"no grant {subject[:64]!r} is known")
            return Named(kind, subject, consent.human)
        case "token" | "txn":
            if not _NAME.fullmatch(subject):
                # A token that was pasted here would stand in the record, and go on counting.
                raise OrderError(
                    f"subject is no {'jti' if kind == 'token' else 'txn'}: send the token as token"
                )
            return Named(kind, subject)
        case "human":
            # A person with a misspelt issuer would be contained, and act on.
            issuer = subject.partition("#")[0]
            if desk.issuers is not None and issuer not in desk.issuers:
                raise OrderError(
                    f"no provider {issuer[:255]!r} is configured: write the person as records do"
                )
            return Named(kind, subject, subject)
        case _:
            return Named(kind, subject)


def _of_token(kind: Kind, unverified: str, desk: Desk, now: datetime) -> Named:
    token = verify_subject(UnverifiedToken.parse(unverified), desk.broker, now)
    match kind:
        case "token":
            return Named(kind, token.jti, token.human.uri)
        case "txn":
            return Named(kind, token.txn, token.human.uri)
        case _:
            raise OrderError("a token names a token or a txn")


def _request(named: Named, actions: Mapping[Kind, Action], state: Switch) -> AdminRequest:
    if named.kind not in actions:
        return AdminRequest(
            "tokens/revoke" if named.kind != "grant" else "grants/revoke",
            agent=named.agent,
            human=named.human,
            kind=cast("RevokedKind", named.kind),
            id=named.subject,
        )
    contained = state.withdrawals.containment(named.kind, named.subject)
    return AdminRequest(
        actions[named.kind],
        agent=named.agent,
        human=named.human,
        workload=SpiffeId.parse(named.subject) if named.kind == "workload" else None,
        contained_by=contained.by if contained else None,
        id=named.subject,
    )


def _kind(body: Mapping[str, object]) -> Kind:
    kind = text(body, "kind")
    if kind not in KINDS:
        raise OrderError(f"kind is not one of {', '.join(sorted(KINDS))}")
    return cast("Kind", kind)


def _human_of(kind: Kind, subject: str) -> str | None:
    return subject if kind == "human" else None
