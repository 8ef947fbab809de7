"""Who may change registry, grants, policy and epochs: one question to the policy, one evidence of its leave.

- An actor is made from a value that was verified: a user id of the private socket, a SPIFFE ID from mTLS, a
  person from an OpenID Provider. No two kinds of actor have ids that could be equal.
- The policy sees an agent as it is and as it would be; what raises it is for the policy to say.
- An error is a denial, and so is whatever is no plain allow: an approval, an obligation nobody would fulfil.
- This file alone makes a `Permit`; a test walks the code for other places.
"""

from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from authz.codes import Code
from authz.decision import Deny, denied, denied_by, refused
from authz.errors import CodedError
from authz.policy.modules import ADMIN_VERSION
from authz.policy.port import Policy
from identity.caller import Agent, Human
from identity.spiffe import SpiffeId

Action = Literal[
    "agents/change",
    "agents/contain",
    "agents/list",
    "agents/register",
    "agents/release",
    "agents/retire",
    "approvals/approve",
    "approvals/deny",
    "approvals/list",
    "approvals/show",
    "epochs/show",
    "events/receive",
    "grants/create",
    "grants/list",
    "grants/revoke",
    "people/contain",
    "people/release",
    "pins/accept",
    "pins/forget",
    "pins/list",
    "pins/show",
    "policy/reload",
    "tokens/revoke",
    "workloads/contain",
    "workloads/release",
]
RevokedKind = Literal["token", "txn", "task", "grant"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks to administer; `id` is what stands as the author of what they did."""

    kind: Literal["local", "workload", "human"]
    id: str
    groups: tuple[str, ...] = ()

    @classmethod
    def of_local(cls, uid: int) -> "Actor":
        """Take a process behind the private socket, by the user id that the kernel told."""
        return cls("local", f"uid:{uid}")

    @classmethod
    def of_workload(cls, workload: SpiffeId) -> "Actor":
        """Take the peer of a connection over mTLS."""
        return cls("workload", str(workload))

    @classmethod
    def of_human(cls, human: Human) -> "Actor":
        """Take a person who signed in, and speaks without an agent between."""
        return cls("human", human.uri, human.groups)


@dataclass(frozen=True, slots=True)
class AdminRequest:
    """What is asked for, and what it is done to; a part that the action does not concern is None.

    `agent` is as it is registered, or was, and `proposed` as it would be; `human` is the person (their URI)
    whose grants, token, task or sessions they are, or whom a call acts for, None where all are meant, or
    nobody; `contained_by` is the author of the containment in force, if there is one; `kind` and `id` name
    what is revoked, and `id` what is approved, or the tool (`service/tool`) whose pin it is.
    """

    action: Action
    agent: Agent | None = None
    proposed: Agent | None = None
    human: str | None = None
    workload: SpiffeId | None = None
    contained_by: str | None = None
    kind: RevokedKind | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to do the one thing that was asked; the evidence that whoever does it takes."""

    actor: Actor
    request: AdminRequest
    revision: str

    def __bool__(self) -> bool:
        return True


async def decide_admin(policy: Policy, actor: Actor, request: AdminRequest) -> Permit | Deny:
    """Ask the policy whether this actor may do this; only here does a permit come to be."""
    try:
        verdict = await policy.decide(admin_query(actor, request))
    except CodedError as error:
        return refused(error, policy.revision)
    if verdict.effect != "allow":
        return denied_by(verdict)
    if verdict.obligations:
        return denied(Code.POLICY_SHAPE, "obligations on administration", verdict.revision)
    return Permit(actor, request, verdict.revision)


def admin_query(actor: Actor, request: AdminRequest) -> Mapping[str, object]:
    """Write the question, of the form deputy.admin/v1."""
    agent, proposed = request.agent, request.proposed
    expiry = None if agent is None or agent.expires_at is None else _second(agent.expires_at)
    # An instant between two seconds is the earlier one now and the later one then, lest it grow unseen.
    proposed_expiry = None if proposed is None or proposed.expires_at is None else _ceil(proposed.expires_at)
    if agent is not None and proposed is not None and agent.expires_at == proposed.expires_at:
        proposed_expiry = expiry
    return {
        "version": ADMIN_VERSION,
        "actor": {"kind": actor.kind, "id": actor.id, "groups": list(actor.groups)},
        "action": request.action,
        "target": {
            "agent": None if agent is None else _agent(agent, expiry),
            "proposed": None if proposed is None else _agent(proposed, proposed_expiry),
            "human": request.human,
            "workload": None if request.workload is None else str(request.workload),
            "contained_by": request.contained_by,
            "kind": request.kind,
            "id": request.id,
        },
    }


def _agent(agent: Agent, expires_at: int | None) -> Mapping[str, object]:
    clients = sorted((client.issuer, client.client_id) for client in agent.clients)
    return {
        "name": agent.name,
        "owner": agent.owner,
        "sponsor": agent.sponsor,
        "ceiling": agent.ceiling,
        "autonomous": agent.autonomous,
        "hosts": sorted(map(str, agent.hosts)),
        "clients": [{"issuer": issuer, "client_id": client_id} for issuer, client_id in clients],
        "max_depth": agent.max_depth,
        "expires_at": expires_at,
        "sandbox": agent.sandbox,
    }


def _second(moment: datetime) -> int:
    return timegm(moment.utctimetuple())


def _ceil(moment: datetime) -> int:
    return _second(moment) + (moment.microsecond > 0)
