"""Security events: what another party says has happened to a person, and what we say (RFC 8417).

- The profile is Shared Signals Framework 1.0 (SSF), the event types are those of CAEP 1.0 and RISC 1.0.
- `typ` is `secevent+jwt` (SSF section 4.1.1), so no other kind of token is an event, and no event another.
- `exp` and `sub` are refused (SSF sections 4.1.7 and 4.1.2 forbid both): an ID token, an access token or a
  logout token has at least one of them.
- Exactly one event a token. SSF section 4.2.1 allows alternative names of one event; the CAEP
  interoperability profile does not, and a reader who must decide which of two counts can be led astray.
- An event is of the past: not after `now` and the leeway, and said within the last week, so that the memory
  of what was heard already is bounded. What it tells of may be of any age.
- Members that we do not know are ignored (SSF section 4.2.3), unlike in our own tokens.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import floor
from typing import Final, Literal

from identity.caller import Human
from identity.claims import integer_claim, text_claim
from identity.errors import (
    TokenAudienceError,
    TokenClaimsError,
    TokenExpiredError,
    TokenIssuerError,
    TokenNotYetValidError,
)
from identity.event_subject import JwtId, encode_subject, person_of, session_of
from identity.jws import MAX_LEEWAY, UnverifiedToken, sign, verify
from identity.keys import KeySet, SigningKey

EVENT_TYP: Final = "secevent+jwt"
MAX_AGE_SECONDS: Final = 7 * 24 * 3600
MAX_REASON: Final = 256

Kind = Literal[
    "session-revoked", "credential-change", "account-disabled", "account-purged", "verification", "other"
]
Initiator = Literal["admin", "user", "policy", "system"]

SESSION_REVOKED: Final = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
_KINDS: Final[Mapping[str, Kind]] = {
    SESSION_REVOKED: "session-revoked",
    # RISC 1.0 section 2.11: deprecated for the one above, with the same meaning.
    "https://schemas.openid.net/secevent/risc/event-type/sessions-revoked": "session-revoked",
    "https://schemas.openid.net/secevent/caep/event-type/credential-change": "credential-change",
    "https://schemas.openid.net/secevent/risc/event-type/account-disabled": "account-disabled",
    "https://schemas.openid.net/secevent/risc/event-type/account-purged": "account-purged",
    "https://schemas.openid.net/secevent/ssf/event-type/verification": "verification",
}
_INITIATORS: Final[Mapping[object, Initiator]] = {
    "admin": "admin", "user": "user", "policy": "policy", "system": "system"
}  # fmt: skip
_OF_OTHER_TOKENS: Final = ("exp", "sub")
_MAX_AUDIENCES: Final = 16
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """What has happened to a person, says `issuer`; times are in seconds since 1970.

    `person` is None where the subject is nobody whom we could know. `session` is the part of what the person
    does that is meant; None, if all of it is.
    """

    jti: str
    issuer: str
    issued_at: int
    kind: Kind
    type_uri: str
    person: Human | None
    event_timestamp: int
    session: str | JwtId | None = None
    txn: str | None = None
    initiating_entity: Initiator | None = None
    reason: str = ""

    def to_claims(self, audience: str) -> dict[str, object]:
        """Return the claims of the token that says so to one receiver.

        Raises:
            ValueError: if it is about nobody.
        """
        if self.person is None:
            raise ValueError("an event of ours is about a person")
        payload: dict[str, object] = {"event_timestamp": self.event_timestamp}
        if self.initiating_entity is not None:
            payload["initiating_entity"] = self.initiating_entity
        if self.reason:
            payload["reason_admin"] = {"en": self.reason[:MAX_REASON]}
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": audience,
            "jti": self.jti,
            "iat": self.issued_at,
            "sub_id": encode_subject(self.person, self.session),
            "events": {self.type_uri: payload},
        }
        return claims if self.txn is None else claims | {"txn": self.txn}


def issue_security_event(key: SigningKey, event: SecurityEvent, audience: str) -> str:
    """Sign an event for one receiver.

    Raises:
        TokenMalformedError: if the token would be longer than we accept ourselves.
    """
    return sign(key, EVENT_TYP, event.to_claims(audience))


def verify_security_event(
    token: UnverifiedToken, keys: KeySet, *, issuer: str, audience: str, now: datetime, leeway: int
) -> SecurityEvent:
    """Verify an event; of whom its issuer may speak is the caller's to check.

    Raises:
        TokenError: the child that says which rule spoke, in the order type, key, algorithm, signature, claims
            of other tokens, issuer, audience, time, claims.
    """
    claims = verify(token, keys, typ=frozenset({EVENT_TYP}), header_members=None).claims
    if any(name in claims for name in _OF_OTHER_TOKENS):
        raise TokenClaimsError("a security event with exp or sub, which are of other tokens")
    if claims.get("iss") != issuer:
        raise TokenIssuerError("a security event of another issuer")
    _check_audience(claims.get("aud"), audience)
    issued_at = _issued_at(claims, now, leeway)
    type_uri, payload = _event(claims.get("events"))
    sub_id = claims.get("sub_id")
    return SecurityEvent(
        jti=_name(claims, "jti"),
        issuer=issuer,
        issued_at=issued_at,
        kind=_KINDS.get(type_uri, "other"),
        type_uri=type_uri,
        person=person_of(sub_id),
        event_timestamp=_event_timestamp(payload, issued_at, now, leeway),
        session=session_of(sub_id),
        txn=_name(claims, "txn") if "txn" in claims else None,
        initiating_entity=_initiator(payload.get("initiating_entity")),
        reason=_reason(payload.get("reason_admin")),
    )


def _check_audience(named: object, audience: str) -> None:
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or len(audiences) > _MAX_AUDIENCES or audience not in audiences:
        raise TokenAudienceError("a security event for another audience")


def _issued_at(claims: Mapping[str, object], now: datetime, leeway: int) -> int:
    if not 0 <= leeway <= MAX_LEEWAY:
        raise ValueError(f"a leeway that is not between 0 and {MAX_LEEWAY} s: {leeway}")
    issued_at, seconds = integer_claim(claims, "iat"), now.timestamp()
    if issued_at > seconds + leeway:
        raise TokenNotYetValidError("a security event whose iat is still to come")
    if issued_at <= seconds - MAX_AGE_SECONDS:
        raise TokenExpiredError(f"a security event that was issued more than {MAX_AGE_SECONDS} s ago")
    return issued_at


def _event(events: object) -> tuple[str, Mapping[str, object]]:
    if not isinstance(events, dict) or len(events) != 1:
        raise TokenClaimsError("a security event token without exactly one event")
    type_uri, payload = next(iter(events.items()))
    if not isinstance(type_uri, str) or not _NAME.fullmatch(type_uri) or not isinstance(payload, dict):
        raise TokenClaimsError("a security event without a name of at most 255 characters and an object")
    return type_uri, payload


def _event_timestamp(payload: Mapping[str, object], issued_at: int, now: datetime, leeway: int) -> int:
    """Return when it happened; where nobody says so, when it was said (CAEP section 2)."""
    value = payload.get("event_timestamp", issued_at)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise TokenClaimsError("a security event whose event_timestamp is not a number of seconds")
    if value > now.timestamp() + leeway:
        raise TokenNotYetValidError("a security event that is still to come")
    return floor(value)


def _initiator(value: object) -> Initiator | None:
    return _INITIATORS.get(value) if isinstance(value, str) else None


def _reason(value: object) -> str:
    """Return one of the texts for people. A malformed reason does not keep an event from counting."""
    texts = value if isinstance(value, dict) else {}
    text = texts.get("en", next(iter(texts.values()), ""))
    return text[:MAX_REASON] if isinstance(text, str) else ""


def _name(claims: Mapping[str, object], name: str) -> str:
    value = text_claim(claims, name)
    if not _NAME.fullmatch(value):
        raise TokenClaimsError(f"a security event whose {name} is not 1 to 255 characters")
    return value
