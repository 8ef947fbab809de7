"""What goes into a record, by kind: typed facts in, an entry out.

- One entry a decision, issuance, exchange, withdrawal, security event, order of an administrator, start and
  stop, and a change of policy, registry, keys and federation; one a second for the refusals of a stranger
  that are counted only.
- Every text is made fit here (authz/audit/text.py), so whatever a caller sends, the entry can be written.
- A refusal of a caller whom nobody authenticated is at most 512 bytes with its newline, whatever they sent:
  members are taken in a fixed order while there is room.
- The log adds `seq` and `prev`. Time and ids are arguments; the id of a decision's entry is its
  `decision_id`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from authz.audit.facts import (
    AdminFacts,
    DecisionFacts,
    EventFacts,
    FederationFacts,
    Issued,
    KeyFacts,
    PolicyFacts,
    RegistryFacts,
    Summary,
)
from authz.audit.record import GENESIS, MAX_INTEGER, VERSION, Json, canonical, timestamp
from authz.audit.text import MIN_LIMIT, ascii_name, name, optional_name, sentence
from identity.caller import Hop, Human
from identity.quick_init import quick_init

Kind = Literal[
    "decision",
    "issuance",
    "exchange",
    "withdrawn",
    "policy",
    "registry",
    "keys",
    "federation",
    "event",
    "admin",
    "start",
    "stop",
    "refused",
    "recovered",
]

MAX_STRANGER_BYTES: Final = 512
_MAX_CODE: Final = 40
# The longest chain that anybody may present is 8 (identity/caller.py); the sum of all limits is one record.
_MAX_CHAIN: Final = 10
_MAX_CLASSES: Final = 16
_MAX_CODES: Final = 16
_MAX_SCOPES: Final = 64
_SUMMARY_PEER: Final = 100
_AROUND: Final = len(',"":""')


@quick_init
@dataclass(frozen=True, slots=True)
class Entry:
    """A record without its place in the log; those of strangers may not use the space kept for the others."""

    kind: Kind
    id: str
    time: str
    fields: Mapping[str, Json]
    of_stranger: bool = False
    # On the disk before `append` returns, whatever the log does with the rest.
    is_durable: bool = False

    def members(self, seq: int, prev: str) -> dict[str, Json]:
        """Return all members of the record at one place of the log."""
        return {
            **self.fields,
            "id": self.id,
            "kind": self.kind,
            "prev": prev,
            "seq": seq,
            "time": self.time,
            "v": VERSION,
        }


def decision(facts: DecisionFacts, decision_id: str, now: datetime) -> Entry:
    """Record an answer to `Check` about an authenticated caller."""
    return Entry("decision", decision_id, timestamp(now), _decision(facts))


def unbound(facts: DecisionFacts, decision_id: str, now: datetime) -> Entry:
    """Record that a valid token came from somebody whom it does not belong to: its owner and the sender.

    It is a stranger's record all the same, for the sender may send it as often as they like.
    """
    return Entry("decision", decision_id, timestamp(now), _decision(facts), of_stranger=True)


def exchange(facts: DecisionFacts, issued: Issued | None, decision_id: str, now: datetime) -> Entry:
    """Record an answer to a token exchange (RFC 8693)."""
    return Entry("exchange", decision_id, timestamp(now), {**_decision(facts), "issued": _issued(issued)})


def issuance(facts: DecisionFacts, issued: Issued | None, decision_id: str, now: datetime) -> Entry:
    """Record an answer to one who asks for a task or an SVID."""
    return Entry("issuance", decision_id, timestamp(now), {**_decision(facts), "issued": _issued(issued)})


def withdrawn(facts: DecisionFacts, withdraws: str, record_id: str, now: datetime) -> Entry:
    """Record that the allowed decision `withdraws` was answered with a denial: rights moved meanwhile."""
    fields = {**_decision(facts), "effect": "deny", "withdraws": name(withdraws)}
    return Entry("withdrawn", record_id, timestamp(now), fields)


def stranger(facts: DecisionFacts, decision_id: str, now: datetime) -> Entry:
    """Record the refusal of a caller whom nobody authenticated, in at most MAX_STRANGER_BYTES."""
    fields: dict[str, Json] = {"code": ascii_name(facts.code, _MAX_CODE), "effect": "deny"}
    entry = Entry("decision", decision_id, timestamp(now), fields, of_stranger=True)
    room = MAX_STRANGER_BYTES - 1 - len(canonical(entry.members(MAX_INTEGER, GENESIS)))
    # The order is by worth: who it was comes before what they wanted, and what we think of it comes last.
    for member, value, most in (
        ("peer", facts.peer, 120),
        ("asker", facts.asker, 80),
        ("request_id", facts.request_id, 48),
        ("service", facts.service, 63),
        ("method", facts.method, 32),
        ("detail", facts.detail, MAX_STRANGER_BYTES),
    ):
        room -= _add(fields, member, value or "", min(room, most + _AROUND + len(member)))
    return entry


def refused(summary: Summary, record_id: str, now: datetime) -> Entry:
    """Record how many refusals of one peer have no record of their own."""
    fields: dict[str, Json] = {
        "count": _count(summary.count),
        "effect": "deny",
        "peer": ascii_name(summary.peer, _SUMMARY_PEER),
        "since": timestamp(summary.since),
        "until": timestamp(summary.until),
    }
    return Entry("refused", record_id, timestamp(now), fields, of_stranger=True)


def registry(facts: RegistryFacts, record_id: str, now: datetime) -> Entry:
    """Record a change of who may act at all."""
    fields: dict[str, Json] = {
        "agent": name(facts.agent),
        "by": optional_name(facts.by),
        "change": facts.change,
        "detail": sentence(facts.detail),
        "human": _human(facts.human),
        "task": optional_name(facts.task),
    }
    return Entry("registry", record_id, timestamp(now), fields)


def policy(facts: PolicyFacts, record_id: str, now: datetime) -> Entry:
    """Record a change of the rules, durably, before they speak; or one that was refused."""
    fields: dict[str, Json] = {
        "change": facts.change,
        "detail": sentence(facts.detail),
        "policy": optional_name(facts.revision),
        "previous": optional_name(facts.previous),
    }
    return Entry("policy", record_id, timestamp(now), fields, is_durable=facts.change == "loaded")


def keys(facts: KeyFacts, record_id: str, now: datetime) -> Entry:
    """Record a step of a key of the authority, before it is taken; or that it failed after all."""
    fields: dict[str, Json] = {
        "by": name(facts.by),
        "change": facts.change,
        "detail": sentence(facts.detail),
        "kid": optional_name(facts.kid),
        "outcome": facts.outcome,
        "role": facts.role,
    }
    return Entry("keys", record_id, timestamp(now), fields)


def federation(facts: FederationFacts, record_id: str, now: datetime) -> Entry:
    """Record that another trust domain is trusted, or no more, before it counts; or that it failed."""
    fields: dict[str, Json] = {
        "by": name(facts.by),
        "change": facts.change,
        "detail": sentence(facts.detail),
        "outcome": facts.outcome,
        "profile": name(facts.profile),
        "trust_domain": name(facts.trust_domain),
        "url": name(facts.url),
    }
    return Entry("federation", record_id, timestamp(now), fields)


def administration(facts: AdminFacts, record_id: str, now: datetime) -> Entry:
    """Record an order, durably, before it acts; or that it was refused, or failed."""
    fields: dict[str, Json] = {
        "action": name(facts.action),
        "agent": optional_name(facts.agent),
        "by": name(facts.by),
        "code": name(facts.code),
        "detail": sentence(facts.detail),
        "epoch": None if facts.epoch is None else _count(facts.epoch),
        "human": _human(facts.human),
        "outcome": facts.outcome,
        "policy": optional_name(facts.policy),
        "reason": sentence(facts.reason),
        "subject": name(facts.subject),
    }
    return Entry("admin", record_id, timestamp(now), fields, is_durable=facts.outcome == "ordered")


def security_event(facts: EventFacts, record_id: str, now: datetime) -> Entry:
    """Record a security event: one received, durably, before it acts; one sent, when it was taken."""
    fields: dict[str, Json] = {
        "detail": sentence(facts.detail),
        "event": name(facts.event),
        "human": _human(facts.human),
        "jti": name(facts.jti),
        "outcome": facts.outcome,
        "party": name(facts.party),
        "txn": optional_name(facts.txn),
    }
    return Entry("event", record_id, timestamp(now), fields, is_durable=facts.outcome == "received")


def service(
    kind: Literal["start", "stop"], version: str, detail: str, record_id: str, now: datetime
) -> Entry:
    """Record that the service begins or ends."""
    return Entry(kind, record_id, timestamp(now), {"detail": sentence(detail), "version": name(version)})


def recovered(cut_bytes: int, cut_sha256: str, record_id: str, now: datetime) -> Entry:
    """Record that a crash left part of a line, on which nothing was answered, and that it was cut off."""
    fields: dict[str, Json] = {"cut_bytes": _count(cut_bytes), "cut_sha256": cut_sha256}
    return Entry("recovered", record_id, timestamp(now), fields)


def _decision(facts: DecisionFacts) -> dict[str, Json]:
    return {
        "action": {
            "method": optional_name(facts.method),
            "phase": optional_name(facts.phase),
            "protocol": optional_name(facts.protocol),
        },
        "agent": optional_name(facts.agent),
        "approval": optional_name(facts.approval),
        "args_hmac": optional_name(facts.args_hmac),
        "asker": optional_name(facts.asker),
        "autonomous": facts.autonomous,
        "binding": optional_name(facts.binding),
        "chain": [_hop(hop) for hop in facts.chain[:_MAX_CHAIN]],
        "code": name(facts.code),
        "codes": [name(code) for code in facts.codes[:_MAX_CODES]],
        "detail": sentence(facts.detail),
        "effect": facts.effect,
        "human": _human(facts.human),
        "latency_us": _count(facts.latency_us),
        "payload": [name(each) for each in facts.payload[:_MAX_CLASSES]],
        "peer": optional_name(facts.peer),
        "policy": optional_name(facts.policy),
        "request_id": optional_name(facts.request_id),
        "resource": {
            "name": optional_name(facts.resource_name),
            "service": optional_name(facts.service),
            "type": optional_name(facts.resource_type),
        },
        "rule": name(facts.rule),
        "task": optional_name(facts.task),
        "token_id": optional_name(facts.token_id),
        "txn": optional_name(facts.txn),
        "txn_jti": optional_name(facts.txn_jti),
    }


def _issued(issued: Issued | None) -> Json:
    if issued is None:
        return None
    return {
        "audience": optional_name(issued.audience),
        "expires_at": timestamp(issued.expires_at),
        "kind": issued.kind,
        "scopes": [name(scope) for scope in sorted(issued.scopes)[:_MAX_SCOPES]],
        "subject": name(issued.subject),
        "token_id": optional_name(issued.token_id),
    }


def _human(human: Human | None) -> Json:
    return None if human is None else {"issuer": name(human.issuer), "subject": name(human.subject)}


def _hop(hop: Hop) -> Json:
    return {"agent": name(hop.agent), "task": name(hop.task)}


def _count(number: int) -> int:
    return min(max(number, 0), MAX_INTEGER)


def _add(fields: dict[str, Json], member: str, value: str, room: int) -> int:
    """Set a member if there is room, cut if need be, and return how many bytes it takes."""
    limit = room - _AROUND - len(member)
    if not value or limit < MIN_LIMIT:
        return 0
    text = ascii_name(value, limit)
    if _json_bytes(text) > limit:
        # JSON doubles a quote and a backslash and nothing else of printable ASCII.
        text = ascii_name(value, limit // 2)
    fields[member] = text
    return _AROUND + len(member) + _json_bytes(text)


def _json_bytes(text: str) -> int:
    return len(text) + text.count('"') + text.count("\\")
