"""What is known about an event, typed, before it becomes a record.

- There is no place for a token, a header, a body or an argument's value: names and hashes only. `detail` is
  the one free text, for the operator; authz/audit/entry.py bounds it and replaces a token in it.
- A human is a Human and a hop is a Hop; the rest are plain values, so that no other part's type is needed
  here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from identity.caller import Hop, Human
from identity.key_ring import Action, Role
from identity.quick_init import quick_init

Effect = Literal["allow", "deny"]
IssuedKind = Literal[
    "task", "x509-svid", "jwt-svid", "wit-svid", "delegation-token", "transaction-token", "id-jag"
]
RegistryChange = Literal["agent-registered", "agent-changed", "agent-retired", "task-started", "task-ended"]
PolicyChange = Literal["loaded", "refused"]
KeyOutcome = Literal["ordered", "failed"]
FederationChange = Literal["federation-added", "federation-removed"]
DriftChange = Literal["changed", "went-back"]
EventOutcome = Literal["received", "ignored", "repeated", "sent", "given-up"]


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFacts:
    """What was decided, for whom, about what; `policy` is the revision, hashes are lower-case hex."""

    effect: Effect
    code: str
    codes: tuple[str, ...] = ()
    rule: str = ""
    human: Human | None = None
    agent: str | None = None
    task: str | None = None
    autonomous: bool = False
    chain: tuple[Hop, ...] = ()
    peer: str | None = None
    asker: str | None = None
    binding: str | None = None
    protocol: str | None = None
    method: str | None = None
    phase: str | None = None
    service: str | None = None
    resource_type: str | None = None
    resource_name: str | None = None
    args_hmac: str | None = None
    # The classes of data that were found in what was sent, never the data.
    payload: tuple[str, ...] = ()
    # The approval that was used, or that is asked for.
    approval: str | None = None
    policy: str | None = None
    token_id: str | None = None
    txn: str | None = None
    txn_jti: str | None = None
    request_id: str | None = None
    latency_us: int = 0
    detail: str = ""


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What was handed out; a token by its hash only."""

    kind: IssuedKind
    subject: str
    expires_at: datetime
    audience: str | None = None
    token_id: str | None = None
    scopes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryFacts:
    """A change of the registry or of a task, and who or what made it."""

    change: RegistryChange
    agent: str
    task: str | None = None
    human: Human | None = None
    by: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFacts:
    """A policy that speaks from now on, or one that was refused while the last good one stays."""

    change: PolicyChange
    revision: str | None
    previous: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """A step of a key, ordered before it is taken; a second record says so if it failed."""

    change: Action
    role: Role
    kid: str | None
    outcome: KeyOutcome = "ordered"
    by: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationFacts:
    """Another trust domain whose SVIDs count from now on, or count no more."""

    change: FederationChange
    trust_domain: str
    url: str
    profile: str
    outcome: KeyOutcome = "ordered"
    by: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFacts:
    """A tool that is not what was accepted, or is it again; by hashes, for its texts are a stranger's.

    `code` is what its callers are told from now on; of a tool that went back there is none.
    """

    change: DriftChange
    service: str
    tool: str
    accepted: str
    seen: str
    seen_at: datetime
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminFacts:
    """What somebody ordered, before it acts; or that it was refused, or failed after all."""

    action: str
    outcome: Literal["ordered", "refused", "failed"]
    by: str
    subject: str
    reason: str = ""
    human: Human | None = None
    agent: str | None = None
    code: str = ""
    policy: str | None = None
    epoch: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """A security event that another party sent to us or we to them; `event` is the name of its type."""

    outcome: EventOutcome
    event: str
    party: str
    jti: str
    human: Human | None = None
    txn: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Refusals of one peer that are counted and have no record of their own."""

    peer: str
    count: int
    since: datetime
    until: datetime
