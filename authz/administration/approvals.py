"""Calls that wait for a person: see them, with all that would be done, and approve or deny each.

- The call acts for a person, and that person decides; an operator may, too, who owns neither the agent nor
  one that handed the work on to it. What an agent asks for nobody is an operator's to decide. No workload
  approves, whatever its role.
- Whoever decides sees what the approval is for: the whole call, with its arguments. Who lists sees none.
- An approval counts for the policy that asked for it. After a change of that, or of the agent, the agent has
  to ask again.
- Who may not see a request is not told whether it is there.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from authz.admin import Action, Actor, AdminRequest
from authz.administration.document import members, moment_json, reason_of
from authz.administration.grants import whose
from authz.administration.order import ExistenceError, Order, OrderError
from authz.approvals.approval import STATES, Approval, Verdict, summary
from authz.broker.arrival import Arrival
from authz.errors import ChangedError
from identity.caller import Agent

# In place of a state: whatever its state.
ANY: Final = "any"
_ACTIONS: Final[Mapping[Verdict, Action]] = {"approved": "approvals/approve", "denied": "approvals/deny"}


class Requests(Protocol):
    """The file of approvals; every method may wait for the disk."""

    def find(self, approval_id: str, now: datetime) -> Approval | None:
        """Return one request."""

    def newest(self, now: datetime, human: str | None = None) -> tuple[Approval, ...]:
        """Return the newest requests, without arguments."""

    def decide(self, approval_id: str, verdict: Verdict, by: str, reason: str, now: datetime) -> Approval:
        """Approve what waits, or deny it."""


class Registered(Protocol):
    """The registry, as far as it says who answers for an agent."""

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""


@dataclass(frozen=True, slots=True)
class Inbox:
    """What waits, the agents that asked, and the revision of the policy that counts now."""

    requests: Requests
    registry: Registered
    revision: Callable[[], str]
    clock: Callable[[], datetime]


async def list_approvals(
    human: str | None, state: str | None, inbox: Inbox, actor: Actor, now: datetime
) -> Order:
    """Plan a list of requests (GET /admin/v1/approvals); a person sees their own, unless they ask for more.

    Raises:
        OrderError: if what is asked for is no person, or no state.
    """
    of, wanted = whose(human, actor), "pending" if state is None else state
    if wanted not in {*STATES, ANY}:
        raise OrderError(f"state is not one of {', '.join((*STATES, ANY))}")

    def body() -> dict[str, object]:
        found = inbox.requests.newest(now, of)
        return {"approvals": [approval_json(each) for each in found if wanted in {ANY, each.state}]}

    return Order(request=AdminRequest("approvals/list", human=of), subject=of or "everybody", body=body)


async def show_approval(approval_id: str, inbox: Inbox, now: datetime) -> Order:
    """Plan to show one request with its arguments (GET /admin/v1/approvals/{id}).

    Raises:
        OrderError: if there is none.
    """
    approval, request = await _asked(approval_id, "approvals/show", inbox, now)
    return Order(
        request=request, subject=f"approval {approval.id}", body=lambda: approval_json(approval, whole=True)
    )


async def decide_approval(  # noqa: PLR0917 - as the routes give it
    approval_id: str, verdict: Verdict, arrival: Arrival, inbox: Inbox, actor: Actor, now: datetime
) -> Order:
    """Plan a decision (POST /admin/v1/approvals/{id}/approve and …/deny).

    Raises:
        OrderError: if there is no such request, or a denial for somebody else is not explained.
    """
    body = members(arrival, required=frozenset(), optional=frozenset({"reason"}))
    approval, request = await _asked(approval_id, _ACTIONS[verdict], inbox, now)
    asking = request.agent
    request = replace(request, agent=_of_actor(approval.key.via, inbox, actor) or asking)
    if verdict == "denied" and "reason" not in body and actor.id != approval.key.human:
        raise ExistenceError("missing: reason, for a call that is not your own")
    reason = reason_of(body) if "reason" in body else ""
    decided: list[Approval] = []

    def act() -> None:
        if verdict == "approved":
            _require_unchanged(approval, asking, inbox)
        decided.append(inbox.requests.decide(approval.id, verdict, actor.id, reason, inbox.clock()))

    return Order(
        request=request,
        subject=f"approval {approval.id}",
        body=lambda: approval_json(decided[0]),
        act=act,
        reason=reason,
        takes_away=verdict == "denied",
    )


def approval_json(approval: Approval, *, whole: bool = False) -> dict[str, object]:
    """Write a request; `whole` shows the arguments, too, as long as there are any."""
    key = approval.key
    written: dict[str, object] = {
        "id": approval.id,
        "state": approval.state,
        "summary": summary(key),
        "human": key.human,
        "agent": key.agent,
        "via": list(key.via),
        "task": key.task,
        "service": key.service,
        "address": key.address,
        "action": key.action,
        "resource": key.resource,
        "arguments_sha256": key.arguments_sha256 or None,
        "policy": key.revision,
        "requested_at": moment_json(approval.requested_at),
        "expires_at": moment_json(approval.expires_at),
        "decided_by": approval.decided_by,
        "decided_at": moment_json(approval.decided_at),
        "reason": approval.reason or None,
    }
    if whole:
        written["arguments"] = json.loads(approval.arguments) if approval.arguments else None
    return written


async def _asked(
    approval_id: str, action: Action, inbox: Inbox, now: datetime
) -> tuple[Approval, AdminRequest]:
    approval = await asyncio.to_thread(inbox.requests.find, approval_id, now)
    if approval is None:
        raise ExistenceError(f"no approval {approval_id[:64]!r} is asked for")
    key = approval.key
    agent = inbox.registry.agent(key.agent)
    if agent is None and action == "approvals/approve":
        raise ExistenceError(f"agent {key.agent!r}, which asked for it, is not registered any more")
    return approval, AdminRequest(action, agent=agent, human=key.human, id=approval.id)


def _of_actor(via: tuple[str, ...], inbox: Inbox, actor: Actor) -> Agent | None:
    """Return an agent that handed the work on and is the actor's own: its owner would wave it through."""
    agents = (inbox.registry.agent(name) for name in via)
    owned = (agent for agent in agents if agent is not None and agent.owner == actor.id)
    return next(owned, None) if actor.kind == "human" else None


def _require_unchanged(approval: Approval, agent: Agent | None, inbox: Inbox) -> None:
    """Refuse to approve what was asked of another policy, or for an agent that is another one by now.

    Raises:
        ChangedError: if so.
    """
    if inbox.revision() != approval.key.revision:
        raise ChangedError("the policy was changed since this was asked for: let the agent ask again")
    if inbox.registry.agent(approval.key.agent) != agent:
        raise ChangedError(f"agent {approval.key.agent!r} was changed meanwhile")
