"""Every kind of token that something here reads, each with one that is right and the function that reads it.

A rule of JOSE is a rule for all of them: tests/test_jose_rules.py asks each reader each question.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from authz.broker.access_token import verify_person_access_token
from authz.broker.id_token import IdentityProvider, verify_id_token
from identity.caller import MAX_DEPTH
from identity.delegation import verify_delegation_token
from identity.dpop import DpopProof
from identity.http_uri import HttpUri
from identity.jws import UnverifiedToken
from identity.jwt_svid import verify_jwt_svid
from identity.keys import SigningKey
from identity.security_event import SESSION_REVOKED, verify_security_event
from identity.transaction import TransactionIssuer, verify_transaction_token
from identity.wit_svid import issue_wit_svid, verify_wit_svid
from identity.workload_proof import issue_workload_proof, verify_workload_proof
from tests.identity_world import (
    AUDIENCE,
    ISSUER,
    LEEWAY,
    NOW,
    RUNNER,
    SECONDS,
    SVID_KEY,
    SVID_KEYS,
    TD,
    TOKEN_KEY,
    TOKEN_KEYS,
    caller,
    delegation,
    forge,
    forge_bytes,
    grant,
    header_of,
)

PROVIDER = IdentityProvider("https://idp.example", frozenset({"agent-runner"}))
HOLDER = SigningKey.generate()
URI = "https://broker.mesh.example/token"
FAR = datetime.fromtimestamp(SECONDS + 3000, NOW.tzinfo)


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of one kind of token; it accepts `typs`; the right token has the first of them."""

    name: str
    read: Callable[[str, datetime], object] = field(repr=False)
    key: SigningKey
    typs: tuple[str | None, ...]
    claims: Mapping[str, Any]
    # What the header has besides alg, kid and typ.
    header_more: Mapping[str, object] = field(default_factory=dict)
    # Whether the token's kid chooses the key.
    has_kid: bool = True

    def header(self, **changes: object) -> dict[str, object]:
        right = header_of(self.key, self.typs[0], **self.header_more)
        return {**right, **changes}

    def token(self, header: Mapping[str, object] | None = None, **claims: object) -> str:
        """A token that is right, but for the changes."""
        return forge(self.key, self.header() if header is None else header, {**self.claims, **claims})

    def token_of(self, claims: bytes, header: bytes | None = None) -> str:
        """A token of bytes that need not be JSON."""
        right = json.dumps(self.header()).encode()
        return forge_bytes(self.key, right if header is None else header, claims)


def _unverified(text: str) -> UnverifiedToken:
    return UnverifiedToken.parse(text)


def _claims_of(text: str) -> Mapping[str, Any]:
    return dict(_unverified(text).unverified_claims)


def _transaction() -> str:
    issuer = TransactionIssuer(lambda: TOKEN_KEY, ISSUER, TD, 60)
    return issuer.issue(grant(), caller(), NOW, bytes).token


WIT = issue_wit_svid(SVID_KEY, RUNNER, HOLDER.private_key.public_key(), now=NOW, ttl=3000, not_after=FAR)
PROOF = issue_workload_proof(HOLDER, WIT, audience=AUDIENCE, now=NOW, ttl=60, entropy=bytes(16))


def _proven(text: str, now: datetime) -> object:
    wit = verify_wit_svid(_unverified(WIT), SVID_KEYS, now=now, leeway=LEEWAY)
    return verify_workload_proof(wit, text, audience=AUDIENCE, now=now)


_TIMES = {"iat": SECONDS, "exp": SECONDS + 60}
_PERSON = {"iss": PROVIDER.issuer, "sub": "lead", **_TIMES}

READERS = [
    Reader(
        "delegation token",
        lambda text, now: verify_delegation_token(
            _unverified(text),
            TOKEN_KEYS,
            issuer=ISSUER,
            audience=AUDIENCE,
            now=now,
            leeway=LEEWAY,
            max_depth=MAX_DEPTH,
        ),
        TOKEN_KEY,
        ("at+jwt",),
        {**delegation().to_claims(), **_TIMES},
    ),
    Reader(
        "transaction token",
        lambda text, now: verify_transaction_token(
            text, TOKEN_KEYS, issuer=ISSUER, trust_domain=TD, service="tickets", now=now, leeway=LEEWAY
        ),
        TOKEN_KEY,
        ("txntoken+jwt",),
        {**_claims_of(_transaction()), **_TIMES},
    ),
    Reader(
        "JWT-SVID",
        lambda text, now: verify_jwt_svid(
            _unverified(text), SVID_KEYS, audience=ISSUER, now=now, leeway=LEEWAY
        ),
        SVID_KEY,
        ("jwt", "jose", None),
        {"sub": str(RUNNER), "aud": [ISSUER], **_TIMES},
    ),
    Reader(
        "WIT-SVID",
        lambda text, now: verify_wit_svid(_unverified(text), SVID_KEYS, now=now, leeway=LEEWAY),
        SVID_KEY,
        ("wit+jwt",),
        {**_claims_of(WIT), **_TIMES},
    ),
    Reader("workload proof", _proven, HOLDER, ("wpt+jwt",), _claims_of(PROOF), has_kid=False),
    Reader(
        "ID token",
        lambda text, now: verify_id_token(_unverified(text), TOKEN_KEYS, PROVIDER, now, LEEWAY),
        TOKEN_KEY,
        ("jwt", None),
        {**_PERSON, "aud": "agent-runner"},
    ),
    Reader(
        "access token of a person",
        lambda text, now: verify_person_access_token(
            _unverified(text), TOKEN_KEYS, PROVIDER, audience=ISSUER, now=now, leeway=LEEWAY
        ),
        TOKEN_KEY,
        ("at+jwt", "jwt"),
        {**_PERSON, "aud": ISSUER, "azp": "agent-runner", "sid": "s", "typ": "Bearer"},
    ),
    Reader(
        "DPoP proof",
        lambda text, now: DpopProof.verify(text, method="POST", targets=[HttpUri.parse(URI)], now=now),
        HOLDER,
        ("dpop+jwt",),
        {"htm": "POST", "htu": URI, "jti": "J" * 22, "iat": SECONDS},
        header_more={
            "jwk": {name: value for name, value in HOLDER.public.jwk().items() if name not in {"kid", "alg"}}
        },
        has_kid=False,
    ),
    Reader(
        "security event",
        lambda text, now: verify_security_event(
            _unverified(text),
            TOKEN_KEYS,
            issuer=PROVIDER.issuer,
            audience=ISSUER,
            now=now,
            leeway=LEEWAY,
        ),
        TOKEN_KEY,
        ("secevent+jwt",),
        {
            "iss": PROVIDER.issuer,
            "aud": ISSUER,
            "jti": "J" * 22,
            "iat": SECONDS,
            "sub_id": {"format": "iss_sub", "iss": PROVIDER.issuer, "sub": "lead"},
            "events": {SESSION_REVOKED: {}},
        },
    ),
]
