"""What we tell others of a withdrawal: a CAEP session-revoked of one person, or nothing.

- A withdrawal of a person is told as that person; one of a task, a grant or a lineage that names a person as
  one session of theirs, and one of a token as the JWT that it is, so that a receiver need not end the others.
- A revoked token is a session-revoked, too: CAEP 1.0 has no event of its own for it. token-claims-change says
  that a token counts on with other claims, credential-change is of what a person signs in with.
- What came to us as an event is not sent on. Who is concerned hears it from the one who said it first; and
  two brokers that told each other what they heard would never end.
- What anybody may revoke (their own tokens) is told apart from the rest: no agent holds up what an operator
  ordered, however much it revokes. A token that is over by itself is not worth telling of.
- One token or lineage of another broker is no sign-in here: an agent may revoke its own tokens, and none
  signs its person out everywhere else by that.
- The reason is the operator's text, with tokens in it replaced, and short.
- One withdrawal has one `jti` for each receiver, however often it is sent: a receiver can tell.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from authz.audit.text import sentence
from authz.store.withdrawal_log import Written
from identity.base64url import encode_base64url
from identity.caller import Human
from identity.errors import HumanError
from identity.event_subject import MAX_SESSION, JwtId
from identity.security_event import MAX_REASON, SESSION_REVOKED, Initiator, SecurityEvent
from identity.withdrawal import OF_SOMEBODY, Withdrawal

# Each is told in its own order, and waits for no other.
Lane = Literal["people", "tokens"]
LANES: Final[tuple[Lane, ...]] = ("people", "tokens")

_BY_EVENT: Final = "event "
_BY_MACHINE: Final = "spiffe://"
_JTI_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Signal:
    """A withdrawal in its place in the order of all, and the person whom it concerns, where one is known."""

    number: int
    withdrawal: Withdrawal
    human: Human | None
    txn: str | None = None

    @property
    def lane(self) -> Lane:
        """Which others it waits for."""
        return "tokens" if self.withdrawal.kind in OF_SOMEBODY else "people"

    def is_over(self, now: datetime) -> bool:
        """Say whether nothing of a token can be alive any more, withdrawn or not."""
        expires_at = self.withdrawal.expires_at
        return self.lane == "tokens" and expires_at is not None and expires_at <= now


def signal_of(written: Written) -> Signal:
    """Return the signal of a withdrawal that was read; one of somebody whom we cannot name is of nobody."""
    try:
        human = None if written.human is None else Human.parse_uri(written.human)
    except HumanError:
        human = None
    txn = written.withdrawal.subject if written.withdrawal.kind == "txn" else None
    return Signal(written.number, written.withdrawal, human, txn)


def by_event(issuer: str) -> str:
    """Return who ordered a withdrawal that came as an event of that transmitter."""
    return f"{_BY_EVENT}{issuer}"


def is_told(signal: Signal, issuers: frozenset[str] | None) -> bool:
    """Say whether a receiver is told of it: one that hears of the people of these issuers, or of all."""
    if signal.human is None or signal.withdrawal.by.startswith(_BY_EVENT):
        return False
    return issuers is None or signal.human.issuer in issuers


def event_of(signal: Signal, issuer: str, audience: str, issued_at: int) -> SecurityEvent:
    """Return what one receiver is told.

    Raises:
        ValueError: if it concerns nobody whom we know.
    """
    withdrawal, human = signal.withdrawal, signal.human
    if human is None:
        raise ValueError("a signal about nobody")
    at = int(withdrawal.at.timestamp())
    return SecurityEvent(
        jti=_jti(signal, issuer, audience),
        issuer=issuer,
        issued_at=issued_at,
        kind="session-revoked",
        type_uri=SESSION_REVOKED,
        person=human,
        event_timestamp=at if withdrawal.before is None else min(withdrawal.before, at),
        session=_session(withdrawal, issuer),
        txn=signal.txn,
        initiating_entity=_initiator(withdrawal, human),
        reason=sentence(withdrawal.reason, MAX_REASON),
    )


def ends_sign_ins(event: SecurityEvent) -> bool:
    """Say whether an event can be about what a person signed in to here."""
    match event.session:
        case JwtId(issuer=issuer):
            return event.person is not None and issuer == event.person.issuer
        case str(name):
            # As brokers such as this one name a lineage.
            return event.txn is None or name != f"txn:{event.txn}"
        case None:
            return True


def _session(withdrawal: Withdrawal, issuer: str) -> str | JwtId | None:
    match withdrawal.kind:
        case "human":
            return None
        case "token":
            return JwtId(issuer, withdrawal.subject)
        case kind:
            return f"{kind}:{withdrawal.subject}"[:MAX_SESSION]


def _initiator(withdrawal: Withdrawal, human: Human) -> Initiator:
    if withdrawal.by == human.uri:
        return "user"
    return "system" if withdrawal.by.startswith(_BY_MACHINE) else "admin"


def _jti(signal: Signal, issuer: str, audience: str) -> str:
    withdrawal = signal.withdrawal
    named = (
        issuer,
        audience,
        str(signal.number),
        withdrawal.at.isoformat(),
        withdrawal.kind,
        withdrawal.subject,
    )
    return encode_base64url(hashlib.sha256("\0".join(named).encode()).digest()[:_JTI_BYTES])
