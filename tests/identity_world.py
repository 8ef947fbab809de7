"""A small world for tests of identities: one trust domain, a few keys, and a forger who signs anything."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from identity.base64url import encode_base64url
from identity.caller import Agent, Caller, Hop, Human, KeyBinding, Task
from identity.delegation import Delegation
from identity.grant import Grant
from identity.keys import KeySet, SigningKey
from identity.names import new_ulid
from identity.spiffe import SpiffeId, TrustDomain

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
LEEWAY = 30
TD = TrustDomain.parse("mesh.example")
OTHER_TD = TrustDomain.parse("other.example")
ISSUER = "https://broker.mesh.example"
AUDIENCE = "tickets"
TOKEN_KEY = SigningKey.generate()
SVID_KEY = SigningKey.generate()
STRANGER_KEY = SigningKey.generate()
TOKEN_KEYS = KeySet.of([TOKEN_KEY.public])
SVID_KEYS = {TD: KeySet.of([SVID_KEY.public])}
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
THUMBPRINT = encode_base64url(bytes(range(32)))
LEAD = Human.parse("https://idp.example", "lead", ("lead", "staff"), "urn:example:mfa", SECONDS - 60)
ARGS_SHA256 = "ab" * 32


def ulid(number: int) -> str:
    """Make the ULID of a test, different for each number."""
    return new_ulid(NOW, number.to_bytes(10))


def hop(agent: str, number: int = 1) -> Hop:
    """Make a hop of a chain."""
    return Hop(agent, ulid(number))


def delegation(**changes: Any) -> Delegation:
    """Make a delegation that is right, but for the changes."""
    right = Delegation(
        issuer=ISSUER,
        trust_domain=TD,
        human=LEAD,
        audience=AUDIENCE,
        scopes=frozenset({"tickets:read", "tickets:write"}),
        chain=(hop("triage", 1),),
        binding=KeyBinding(THUMBPRINT),
        txn="T" * 22,
        jti="J" * 22,
        issued_at=SECONDS,
        expires_at=SECONDS + 300,
    )
    return replace(right, **changes)


def forge(key: SigningKey, header: Mapping[str, object], claims: object) -> str:
    """Sign whatever a forger who has a key could sign."""
    return forge_bytes(key, json.dumps(dict(header)).encode(), json.dumps(claims).encode())


def forge_bytes(key: SigningKey, header: bytes, claims: bytes) -> str:
    """Sign bytes that need not be JSON."""
    signing_input = f"{encode_base64url(header)}.{encode_base64url(claims)}"
    return f"{signing_input}.{encode_base64url(key.sign(signing_input.encode()))}"


def header_of(key: SigningKey, typ: str | None, **more: object) -> dict[str, object]:
    """Make the header that belongs to a key."""
    header: dict[str, object] = {"alg": "ES256", "kid": key.kid}
    return header | ({} if typ is None else {"typ": typ}) | more


def task(agent: str = "triage", number: int = 1, **changes: Any) -> Task:
    """Make a live task for LEAD."""
    live = Task(
        id=ulid(number),
        agent=agent,
        human=LEAD.uri,
        workload=RUNNER,
        started_at=NOW - timedelta(minutes=1),
        deadline=NOW + timedelta(hours=1),
    )
    return replace(live, **changes)


def agent(name: str = "triage", **changes: Any) -> Agent:
    """Make a registered agent."""
    return replace(Agent(name, "owner", "sponsor", "purpose", "observer"), **changes)


def caller(**changes: Any) -> Caller:
    """Make a caller: triage for LEAD."""
    right = Caller(
        human=LEAD,
        agent=agent(),
        task=task(),
        chain=(hop("triage", 1),),
        chain_agents=(agent(),),
        peer=RUNNER,
        binding="key",
        scopes=frozenset({"tickets:read"}),
        token_id="0" * 64,
        txn="T" * 22,
        expires_at=2**33,
    )
    return replace(right, **changes)


def grant(**changes: Any) -> Grant:
    """Make the evidence that one call of that caller was allowed."""
    right = Grant(  # a test may stand for the decision
        decision_id=ulid(9),
        human=LEAD.uri,
        agent="triage",
        task=ulid(1),
        service="tickets",
        action="tools/call",
        resource="read_ticket",
        arguments_sha256=ARGS_SHA256,
        scopes=frozenset({"tickets:read"}),
        granted_at=NOW,
    )
    return replace(right, **changes)
