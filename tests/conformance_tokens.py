"""Tokens, names and keys of the small server that the conformance runner is tried on."""

import secrets
from collections.abc import Mapping
from typing import Any

from authz.conformance.signer import Signer
from authz.conformance.situation import TOKEN_TYPE
from identity.errors import IdentityError
from identity.jws import UnverifiedToken, sign, verify
from identity.keys import KeySet, SigningKey

ISSUER = "http://127.0.0.1"
TICKETS, BILLING = "https://tickets.example", "https://billing.example"
PARTNER, MESH = "https://as.partner.example", "mesh.example"
SCOPES = frozenset({"tickets:read", "tickets:write", "tickets:admin"})
OWN, OTHER, ACTOR, FIRST, SERVICE = "agent-a", "agent-b", "agent-c", "agent-first", "tickets-server"
SECRETS = {OWN: "correct horse & battery", OTHER: "battery staple", SERVICE: "staple the correct horse"}
THUMBPRINTS = {OWN: "o" * 43, OTHER: "p" * 43}
JWT = f"{TOKEN_TYPE}jwt"
TXN_TOKEN, ID_JAG = f"{TOKEN_TYPE}txn_token", f"{TOKEN_TYPE}id-jag"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY = SigningKey.generate()
# The key by which a client signs its logins, and the one of its proofs.
CLIENT_KEY, PROOF_KEY = SigningKey.generate(), Signer.generate()
NOW = 1_800_000_000
DETAIL = {"type": "conformance_call", "locations": [TICKETS], "tool": "close"}
Claims = Mapping[str, Any]


def signer_of(key: SigningKey) -> Signer:
    return Signer(key.private_key, "ES256")


def jwt(typ: str = "at+jwt", **claims: object) -> str:
    plain = {"iss": ISSUER, "iat": NOW - 10, "exp": NOW + 600, "jti": secrets.token_urlsafe(16)}
    return sign(KEY, typ, {name: value for name, value in (plain | claims).items() if value is not None})


def subject_token(*hops: str, **claims: object) -> str:
    """A person's token; `hops` are its actors, the presenter first."""
    act: dict[str, object] | None = None
    for name in reversed(hops):
        instance = f"run-of-{name}"
        act = {"iss": ISSUER, "sub": name, "agent_instance": instance} | ({"act": act} if act else {})
    plain: dict[str, Any] = {
        "sub": "alice",
        "sub_profile": "user",
        "aud": "https://front.example",
        "client_id": hops[0] if hops else OWN,
        "txn": "t-1",
    }
    return jwt(**{**plain, "scope": "tickets:read tickets:write", "act": act, **claims})


def actor_token(**claims: object) -> str:
    return jwt("JWT", **{"sub": ACTOR, "aud": ISSUER, "use": "actor", **claims})


def assertion(client: str = OWN, audience: str = ISSUER) -> str:
    return jwt("JWT", iss=client, sub=client, aud=audience)


def verified(text: str, typ: str, key: SigningKey = KEY) -> Claims | None:
    try:
        return verify(UnverifiedToken.parse(text), KeySet.of([key.public]), typ=frozenset({typ})).claims
    except IdentityError:
        return None


def counts_at(claims: Claims, now: int) -> bool:
    """Whether the times of a token are of now."""
    times = [claims.get(name, now) for name in ("nbf", "iat")]
    end = claims.get("exp")
    return (
        isinstance(end, int)
        and end > now
        and all(isinstance(each, int) and each <= now + 60 for each in times)
    )
