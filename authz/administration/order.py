"""One order, from the question to its answer: who asks, may they, recorded, done.

- The policy decides (package `deputy.admin`). What it refuses has a record, and so has what it allows, on the
  disk, before it acts; what fails after that has a second one. What only reads has none.
- What was changed between the decision and the act is not changed again: 409, read it again.
- A containment or a revocation from the private socket goes on where the policy cannot be asked: the switch
  must work when everything else is broken. Rights only shrink by it.
- What takes rights away says which epoch it made, and on request waits until every replica obeys it.
- An answer tells of our insides no more than the token endpoint's does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from authz.admin import Actor, AdminRequest, decide_admin
from authz.administration.asker import Agents, ask_who
from authz.audit.entry import Entry, administration, stranger
from authz.audit.facts import AdminFacts, DecisionFacts
from authz.audit.strangers import Admission
from authz.broker.arrival import Arrival
from authz.broker.deps import Broker
from authz.broker.refusal import RefusedError, malformed, refusal_of, refuse
from authz.broker.reply import Reply
from authz.codes import Code
from authz.decision import Deny
from authz.errors import AuditError, AuthzError, ChangedError, StoreError
from authz.form import Form
from identity.caller import Agent, Human
from identity.errors import ConsentError, WithdrawalError

_STATUS: Final = {Form.MALFORMED: 400, Form.TOKEN: 401, Form.UNAVAILABLE: 503}
_STATUS_OF_CODE: Final = {Code.BODY_TOO_LARGE.value: 413, Code.CHANGED.value: 409}
_UNKNOWN: Final = {"everywhere": False, "replicas": {}, "expired": [], "behind": [], "malformed": []}
_OPERATOR: Final = "a service without a policy to ask"


class OrderError(AuthzError):
    """An order that cannot be carried out; the message is for the one who gave it."""


class ExistenceError(OrderError):
    """One whose message tells what is registered, or is not: it is for those only who may list that."""

    def __init__(self, message: str, agent: Agent | None = None) -> None:
        """Keep the agent that it is about, if there is one."""
        super().__init__(message)
        self.agent = agent


class Barrier(Protocol):
    """Waits until every replica obeys."""

    async def __call__(self, epoch: int) -> Mapping[str, object]:
        """Return what each did and how long it took, when none can act on an earlier epoch any more."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What orders are carried out with; `is_local` where they come over the private socket."""

    broker: Broker
    agents: Agents
    barrier: Barrier
    is_local: bool
    # The providers whose people there can be; None where any may be named.
    issuers: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done: the question for the policy, the act, and what is answered.

    `act` may wait for the disk, so it runs in a thread; `run` does not. Each returns the epoch that it made,
    or None. What `takes_away` takes rights away and nothing else; `waits` asks for the barrier after it.
    """

    request: AdminRequest
    subject: str
    body: Callable[[], Mapping[str, object]]
    act: Callable[[], int | None] | None = None
    run: Callable[[], Awaitable[int | None]] | None = None
    reason: str = ""
    status: int = 200
    takes_away: bool = False
    waits: bool = False
    # For the record, beside the reason: what the order is about in numbers and hashes.
    detail: str = ""


Plan = Callable[[Actor, datetime], Awaitable[Order]]


async def carry_out(action: str, plan: Plan, arrival: Arrival, desk: Desk) -> Reply:
    """Carry out one order; this never raises."""
    broker = desk.broker
    now = broker.clock()
    record_id = broker.new_id(now)
    facts = AdminFacts(action=action, outcome="refused", by="nobody", subject="")
    try:
        actor = await ask_who(arrival, broker, desk.agents, now, is_local=desk.is_local)
        facts = replace(facts, by=actor.id)
        order = await _planned(plan, actor, desk, now)
        facts = _facts(facts, order)
        policy = await _allowed(actor, order, desk)
        facts = replace(facts, outcome="ordered", policy=policy)
        if order.act is None and order.run is None:
            # A long list is no reason for calls to wait.
            return Reply(order.status, await asyncio.to_thread(order.body))
        await broker.sink.append(administration(facts, record_id, now))
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked gets an answer and the log a record
        return await _refuse(_refusal(error), facts, arrival, desk, record_id)
    return await _done(order, facts, desk, record_id)


async def _planned(plan: Plan, actor: Actor, desk: Desk, now: datetime) -> Order:
    """Return what is to be done.

    Raises:
        RefusedError: in place of an ExistenceError, for whoever may not know.
    """
    try:
        return await plan(actor, now)
    except ExistenceError as error:
        if actor.kind != "local":
            listing = AdminRequest("agents/list", agent=error.agent)
            permit = await decide_admin(desk.broker.policy, actor, listing)
            if isinstance(permit, Deny):
                raise RefusedError(permit) from error
        raise


async def _allowed(actor: Actor, order: Order, desk: Desk) -> str:
    """Return the revision of the policy that allows it.

    Raises:
        RefusedError: if it does not.
    """
    permit = await decide_admin(desk.broker.policy, actor, order.request)
    if not isinstance(permit, Deny):
        return permit.revision
    if permit.form is Form.UNAVAILABLE and actor.kind == "local" and order.takes_away:
        return _OPERATOR
    raise RefusedError(permit)


async def _done(order: Order, facts: AdminFacts, desk: Desk, record_id: str) -> Reply:
    """Act, and answer; an act that was ordered goes on although the client may be gone."""
    try:
        epoch = await asyncio.shield(_act(order))
        body = dict(order.body())
        if epoch is not None:
            body["epoch"] = epoch
        if order.waits and epoch is not None:
            body["obeyed"] = await _obeyed(epoch, desk)
        return Reply(order.status, body)
    except Exception as error:  # noqa: BLE001 - as above
        refusal = _refusal(error)
        now = desk.broker.clock()
        failed = replace(facts, outcome="failed", code=refusal.deny.code, detail=refusal.deny.detail)
        return await _recorded(administration(failed, desk.broker.new_id(now), now), refusal, desk, record_id)


async def _obeyed(epoch: int, desk: Desk) -> Mapping[str, object]:
    """Wait for the replicas; that nobody can say who obeys is no failure of what was done."""
    try:
        return await desk.barrier(epoch)
    except (AuthzError, OSError):
        return _UNKNOWN


async def _act(order: Order) -> int | None:
    if order.run is not None:
        return await order.run()
    return await asyncio.to_thread(order.act) if order.act is not None else None


async def _refuse(
    refusal: RefusedError, facts: AdminFacts, arrival: Arrival, desk: Desk, record_id: str
) -> Reply:
    broker, now = desk.broker, desk.broker.clock()
    if facts.by == "nobody":
        if broker.strangers.admit(arrival.source, now) is not Admission.RECORD:
            return _reply(refusal, record_id)
        deny = refusal.deny
        unknown = DecisionFacts(
            effect="deny",
            code=deny.code,
            peer=arrival.source,
            method=f"admin {facts.action}",
            detail=deny.detail,
        )
        return await _recorded(stranger(unknown, record_id, now), refusal, desk, record_id)
    refused = replace(facts, outcome="refused", code=refusal.deny.code, detail=refusal.deny.detail)
    return await _recorded(administration(refused, record_id, now), refusal, desk, record_id)


async def _recorded(entry: Entry, refusal: RefusedError, desk: Desk, decision_id: str) -> Reply:
    try:
        await desk.broker.sink.append(entry)
    except AuditError as error:
        return _reply(refusal_of(error), decision_id)
    return _reply(refusal, decision_id)


def _refusal(error: Exception) -> RefusedError:
    """Turn what was raised into a refusal; what is wrong with an order is said to who gave it."""
    if isinstance(error, ChangedError):
        return refuse(Code.CHANGED, str(error), description=str(error))
    if isinstance(error, StoreError) and error.__cause__ is not None:
        # The disk under it: whoever may order this must know what counts until a restart only.
        return refuse(Code.INTERNAL, str(error), description=str(error))
    if isinstance(error, OrderError | StoreError | ConsentError | WithdrawalError):
        return malformed(str(error))
    return refusal_of(error)


def _facts(facts: AdminFacts, order: Order) -> AdminFacts:
    agent = order.request.agent or order.request.proposed
    human = order.request.human
    return replace(
        facts,
        action=order.request.action,
        subject=order.subject,
        reason=order.reason,
        detail=order.detail,
        agent=agent.name if agent else None,
        human=Human.parse_uri(human) if human else None,
    )


def _reply(refusal: RefusedError, decision_id: str) -> Reply:
    deny = refusal.deny
    status = _STATUS_OF_CODE.get(deny.code) or _STATUS.get(deny.form, 403)
    body = {"error": refusal.description, "code": deny.code, "decision_id": decision_id}
    if deny.form is not Form.MALFORMED:
        body["fix"] = deny.fix
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return Reply(status, body, headers)
