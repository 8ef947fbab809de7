"""What goes into a record, by kind: typed facts in, an entry out.

- One entry a decision, issuance, exchange, withdrawal, security event, order of an administrator, start and
  stop, and a change of policy, registry, keys, federation and tools; one a second for the refusals of a
  stranger that are counted only.
- Every text is made fit here (authz/audit/text.py), so whatever a caller sends, the entry can be written.
- A refusal of a caller whom nobody authenticated is at most 512 bytes with its newline, whatever they sent:
  members are taken in a fixed order while there is room.
- The log adds `seq` and `prev`. Time and ids are arguments; the id of a decision's entry is its
  `decision_id`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Final, Literal

from authz.audit.facts import (
    AdminFacts,
    DecisionFacts,
    DriftFacts,
    EventFacts,
    FederationFacts,
    Issued,
    KeyFacts,
    PolicyFacts,
    RegistryFacts,
    Summary,
)
from authz.audit.record import GENESIS, MAX_INTEGER, VERSION, Json, canonical, timestamp
from authz.audit.text import MIN_LIMIT, are_names, ascii_name, name, optional_name, sentence
from identity.caller import Human
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
    "drift",
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
# All texts of a decision that are names, taken at once: there are dozens, and mostly all are fit as they are.
_NAMES: Final[Callable[[DecisionFacts], tuple[str | None, ...]]] = attrgetter(
    *(each.name for each in fields(DecisionFacts) if each.type in {str, str | None} and each.name != "detail")
)


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


def drift(facts: DriftFacts, record_id: str, now: datetime) -> Entry:
    """Record that a server declares something else of a tool than what counts, or does no more.

    It is a stranger's record: how often a tool changes is for its server to say.
    """
    fields: dict[str, Json] = {
        "accepted_sha256": name(facts.accepted),
        "change": facts.change,
        "resource": {"name": name(facts.tool), "service": name(facts.service), "type": "tool"},
        "seen_at": timestamp(facts.seen_at),
        "seen_sha256": name(facts.seen),
    }
    if facts.code:
        fields |= {"code": name(facts.code), "effect": "deny"}
    return Entry("drift", record_id, timestamp(now), fields, of_stranger=True)


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
    human, chain = facts.human, facts.chain[:_MAX_CHAIN]
    codes, payload = facts.codes[:_MAX_CODES], facts.payload[:_MAX_CLASSES]
    made: dict[str, Json] = {
        "action": {"method": facts.method, "phase": facts.phase, "protocol": facts.protocol},
        "agent": facts.agent,
        "approval": facts.approval,
        "args_hmac": facts.args_hmac,
        "asker": facts.asker,
        "autonomous": facts.autonomous,
        "binding": facts.binding,
        "chain": [{"agent": hop.agent, "task": hop.task} for hop in chain],
        "code": facts.code,
        "codes": list(codes),
        "detail": "",
        "effect": facts.effect,
        "human": None if human is None else {"issuer": human.issuer, "subject": human.subject},
        "latency_us": _count(facts.latency_us),
        "payload": list(payload),
        "peer": facts.peer,
        "policy": facts.policy,
        "request_id": facts.request_id,
        "resource": {
            "name": facts.resource_name,
            "service": facts.service,
            "type": facts.resource_type,
        },
        "rule": facts.rule,
        "task": facts.task,
        "token_id": facts.token_id,
        "txn": facts.txn,
        "txn_jti": facts.txn_jti,
    }
    texts = [*_NAMES(facts), *codes, *payload]
    for hop in chain:
        texts += (hop.agent, hop.task)
    if human is not None:
        texts += (human.issuer, human.subject)
    if not are_names(texts):
        made = {member: _fit(value) for member, value in made.items()}
    made["detail"] = sentence(facts.detail)
    return made


def _fit(value: Json) -> Json:
    match value:
        case str():
            return name(value)
        case list():
            return [_fit(part) for part in value]
        case dict():
            return {member: _fit(part) for member, part in value.items()}
        case _:
            return value


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
