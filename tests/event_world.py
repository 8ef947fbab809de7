"""Security events for tests: right ones, and what a forger makes of them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from identity.caller import Human
from identity.keys import KeySet, SigningKey
from identity.security_event import SESSION_REVOKED, SecurityEvent
from tests.identity_world import NOW, forge, header_of

TRANSMITTER = "https://idp.example"
OTHER_PARTY = "https://idp.other.example"
EVENTS_AUDIENCE = "https://broker.mesh.example"
EVENT_KEY = SigningKey.generate()
EVENT_KEYS = KeySet.of([EVENT_KEY.public])
LEAD = Human.parse(TRANSMITTER, "lead")
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification"


def iss_sub(subject: str = "lead", issuer: str = TRANSMITTER) -> dict[str, object]:
    return {"format": "iss_sub", "iss": issuer, "sub": subject}


def event_claims(
    type_uri: str = SESSION_REVOKED,
    payload: Mapping[str, object] | None = None,
    now: datetime = NOW,
    **changes: object,
) -> dict[str, Any]:
    """The claims of an event that is right but for the changes; a change to None leaves a claim out."""
    seconds = int(now.timestamp())
    claims: dict[str, object] = {
        "iss": TRANSMITTER,
        "aud": EVENTS_AUDIENCE,
        "jti": "event-1",
        "iat": seconds,
        "txn": "8675309",
        "sub_id": iss_sub(),
        "events": {type_uri: {"event_timestamp": seconds - 5} if payload is None else dict(payload)},
    }
    return {name: value for name, value in (claims | changes).items() if value is not None}


def event_token(
    type_uri: str = SESSION_REVOKED,
    payload: Mapping[str, object] | None = None,
    *,
    key: SigningKey = EVENT_KEY,
    typ: str | None = "secevent+jwt",
    now: datetime = NOW,
    header: Mapping[str, object] | None = None,
    **changes: object,
) -> str:
    head = header_of(key, typ) | dict(header or {})
    return forge(key, head, event_claims(type_uri, payload, now, **changes))


def event(**changes: Any) -> SecurityEvent:
    """An event of ours that is right but for the changes."""
    seconds = int(NOW.timestamp())
    plain: dict[str, Any] = {
        "jti": "J" * 22,
        "issuer": TRANSMITTER,
        "issued_at": seconds,
        "kind": "session-revoked",
        "type_uri": SESSION_REVOKED,
        "person": LEAD,
        "event_timestamp": seconds - 5,
    }
    return SecurityEvent(**(plain | changes))
