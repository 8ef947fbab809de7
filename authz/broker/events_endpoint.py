"""Where security events are pushed to (RFC 8935): bytes in, 202 or an error out.

- `session-revoked` takes back what the person had, and what they signed in to, at or before it; an account
  that was disabled or purged stops the person until an operator releases them. Everything else is recorded
  and has no effect; the sender learns no difference.
- Part of a session is all of it: what we do not know the parts of is taken back whole. One token of another
  broker is no part of it, and is recorded only.
- The order is record, effect, 202. An event is remembered only after its effect: one that was not
  acknowledged has it when it comes again; one that was acknowledged never has it twice, so nobody who kept
  one can stop a person again whom an operator released.
- An event that comes again is a stranger's: whoever kept one can send it for ever, and fills no log with it.
- An error has the form of RFC 8935 section 2.3, the decision's id beside it; what we cannot know is 503, so
  that it is sent again.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal, Protocol

from authz.audit.entry import Entry, security_event
from authz.audit.facts import EventFacts, EventOutcome
from authz.audit.strangers import Admission
from authz.audit.text import sentence
from authz.broker.arrival import Arrival
from authz.broker.deps import Broker
from authz.broker.event_signal import by_event, ends_sign_ins
from authz.broker.event_transmitters import Transmitters
from authz.broker.evidence import Evidence
from authz.broker.refusal import RefusedError, malformed, refuse
from authz.broker.reply import Outcome, Reply, answer
from authz.codes import Code, find_code
from authz.form import Form
from identity.jws import UnverifiedToken
from identity.security_event import MAX_AGE_SECONDS, SecurityEvent
from identity.withdrawal import MAX_REASON, Withdrawal

MAX_EVENT_BODY: Final = 16 * 1024
# Nothing that a person signed in to lives longer, so what was taken back need not be remembered for longer.
SESSION_MEMORY: Final = timedelta(days=30)

ErrorCode = Literal[
    "invalid_request",
    "invalid_key",
    "invalid_issuer",
    "invalid_audience",
    "authentication_failed",
    "access_denied",
]

_CONTENT_TYPE: Final = re.compile(r"application/secevent\+jwt", re.IGNORECASE)
_TOKEN_TEXT: Final = re.compile(rb"[A-Za-z0-9._-]+")
_ENGLISH: Final = {"Content-Language": "en"}  # RFC 8935 section 2.3
_ERRORS: Final[dict[Code, ErrorCode]] = {
    Code.TOKEN_ALG: "invalid_key",
    Code.TOKEN_KEY: "invalid_key",
    Code.TOKEN_SIGNATURE: "invalid_key",
    Code.TOKEN_ISSUER: "invalid_issuer",
    Code.TOKEN_AUDIENCE: "invalid_audience",
    Code.TOKEN_MISSING: "authentication_failed",
    Code.NOT_PERMITTED: "access_denied",
}


class Withdraws(Protocol):
    """Takes back what people have; it may block for the disk."""

    def withdraw(self, withdrawal: Withdrawal, now: datetime) -> object:
        """Take back what is described.

        Raises:
            StoreError: if that cannot be made durable.
        """


class Memory(Protocol):
    """Remembers which events had their effect."""

    def is_known(self, key: str) -> bool:
        """Say whether an event had its effect; this never blocks."""

    def remember(self, key: str, until: int, *, durable: bool) -> None:
        """Remember an event until a second; `durable`, also over a start. This may block for the disk.

        Raises:
            StoreError: if it cannot be remembered so.
        """


@dataclass(frozen=True, slots=True)
class Inbox:
    """What the endpoint takes besides the broker."""

    transmitters: Transmitters
    state: Withdraws
    memory: Memory


async def receive_event(arrival: Arrival, broker: Broker, inbox: Inbox) -> Reply:
    """Answer one push of a security event; this never raises."""
    now = broker.clock()
    evidence = Evidence("exchange", "events", broker.new_id(now), now, arrival.source)

    async def decide() -> Outcome:
        event = await inbox.transmitters.verify(_parse(arrival), arrival.authorization, now)
        evidence.human, evidence.txn = event.person, event.txn
        return _decide(event, broker, evidence, inbox)

    return await answer(decide, evidence, broker, error_reply)


def error_reply(refusal: RefusedError, decision_id: str) -> Reply:
    """Return the error (RFC 8935 section 2.3)."""
    described = {"description": refusal.description, "decision_id": decision_id}
    if refusal.deny.form is Form.UNAVAILABLE:
        return Reply(503, described, _ENGLISH)
    code = find_code(refusal.deny.code)
    status = 413 if code is Code.BODY_TOO_LARGE else 400
    err = _ERRORS.get(code, "invalid_request") if code is not None else "invalid_request"
    return Reply(status, {"err": err, **described}, _ENGLISH)


def _parse(arrival: Arrival) -> UnverifiedToken:
    if arrival.content_type is None or not _CONTENT_TYPE.fullmatch(arrival.content_type):
        raise malformed("the content type is not application/secevent+jwt")
    body = arrival.bounded_body()
    if len(body) > MAX_EVENT_BODY:
        text = f"the body is longer than {MAX_EVENT_BODY} bytes"
        raise refuse(Code.BODY_TOO_LARGE, text, description=text)
    if not _TOKEN_TEXT.fullmatch(body):
        raise malformed("the body is not a security event token")
    return UnverifiedToken.parse(body.decode("ascii"))


def _decide(event: SecurityEvent, broker: Broker, evidence: Evidence, inbox: Inbox) -> Outcome:
    key = hashlib.sha256(f"{event.issuer}\0{event.jti}".encode()).hexdigest()
    if inbox.memory.is_known(key):
        return _repeated(event, broker, evidence)
    withdrawal = _withdrawal(event, evidence.started)
    outcome: EventOutcome = "ignored" if withdrawal is None and event.kind != "verification" else "received"
    entry = _entry(event, outcome, evidence)
    change = partial(_take_effect, event, withdrawal, key, inbox, evidence.started)
    return Outcome(entry, Reply(202, None), change, withdraws=True)


def _repeated(event: SecurityEvent, broker: Broker, evidence: Evidence) -> Outcome:
    if broker.strangers.admit(evidence.source, evidence.started) is not Admission.RECORD:
        raise refuse(Code.OVERLOADED, "an event that comes again and again")
    entry = replace(_entry(event, "repeated", evidence), of_stranger=True)
    return Outcome(entry, Reply(202, None), withdraws=True)


def _take_effect(
    event: SecurityEvent, withdrawal: Withdrawal | None, key: str, inbox: Inbox, now: datetime
) -> None:
    if withdrawal is not None:
        inbox.state.withdraw(withdrawal, now)
    # It is refused as too old from then on, whether we remember it or not.
    until = event.issued_at + MAX_AGE_SECONDS + 1
    inbox.memory.remember(key, until, durable=withdrawal is not None and withdrawal.is_containment)


def _withdrawal(event: SecurityEvent, now: datetime) -> Withdrawal | None:
    """Return what an event takes back; None, if it has no effect here."""
    if event.person is None:
        return None
    match event.kind:
        case "session-revoked":
            if not ends_sign_ins(event):
                return None
            before: int | None = event.event_timestamp
            expires_at: datetime | None = now + SESSION_MEMORY
        case "account-disabled" | "account-purged":
            before = expires_at = None
        case _:
            return None
    reason = sentence(": ".join(filter(None, (event.kind, event.reason.strip()))), MAX_REASON)
    return Withdrawal("human", event.person.uri, before, reason, by_event(event.issuer), now, expires_at)


def _entry(event: SecurityEvent, outcome: EventOutcome, evidence: Evidence) -> Entry:
    told = {
        "at": str(event.event_timestamp),
        "session": str(event.session or ""),
        "by": event.initiating_entity or "",
        "reason": event.reason,
    }
    facts = EventFacts(
        outcome=outcome,
        event=event.type_uri,
        party=event.issuer,
        jti=event.jti,
        human=event.person,
        txn=event.txn,
        detail="; ".join(f"{name} {value}" for name, value in told.items() if value),
    )
    return security_event(facts, evidence.decision_id, evidence.started)
