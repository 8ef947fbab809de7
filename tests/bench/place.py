"""Deputy's own parts in a directory of their own, wired as `deputy serve` wires them, and calls to ask about.

- Real keys, a real registry on SQLite, a real audit log, the shipped policy; nothing stands in for a part.
- The calls are CheckRequests as Envoy writes them: one agent for one human, other arguments each time.
"""

import json
import os
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from authz.check import check
from authz.config import Config, parse_config
from authz.parts import Parts, open_parts
from authz.store.private import private_directory
from authz.store.sessions import SESSIONS_FILE, SessionFile
from authz.store.sessions_shared import SharedSessions
from identity.caller import MAX_DEPTH, Hop, Human, KeyBinding, Task
from identity.delegation import Delegation, issue_delegation_token
from identity.keys import SigningKey
from identity.names import new_ulid
from identity.spiffe import SpiffeId, TrustDomain, agent_task_id
from identity.x509_svid import thumbprint
from tests.bench.grants import AGENTS, SERVICE, TOOL, grants_yaml
from tests.check_requests import check_request

DOMAIN = TrustDomain.parse("mesh.example")
ISSUER = "https://broker.mesh.example"
AUDIENCE = f"https://{SERVICE}.mesh.example"
GATEWAY = SpiffeId.parse("spiffe://mesh.example/ns/mesh/sa/gateway")
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
PROVIDER = "https://idp.example"
CLIENT = "agent-runner"
LEAD = Human.parse(PROVIDER, "lead", ("lead",))
SCOPES = frozenset({f"{SERVICE}:read", f"{SERVICE}:write"})
HOUR = 3600
# So many calls before one is repeated; nothing is remembered of a call, so that is enough.
CALLS = 512

NOTE = "The customer wrote again: the invoice shows the old address, and the new one is in the CRM. " * 9

SESSION = "3f0c1cf4a1f14a7d8a3f0c1cf4a1f14a"


@dataclass(frozen=True, slots=True)
class Presenter:
    """A running task with its certificate, and its delegation token."""

    spiffe_id: SpiffeId
    certificate: bytes
    key: SigningKey
    delegation: Delegation
    token: str


@dataclass(frozen=True, slots=True)
class Place:
    """The open parts, and what calls them."""

    directory: Path
    parts: Parts

    @property
    def config(self) -> Config:
        return self.parts.config

    def presenter(self, depth: int = 1) -> Presenter:
        """Start a chain of tasks, and issue what its presenter shows."""
        now = self.parts.clock()
        hops = tuple(self.start(agent, now) for agent in AGENTS[:depth])
        task = self.parts.state.task(hops[0].task)
        if task is None:
            raise LookupError("a task that was just started")
        key = SigningKey.generate()
        der = self.parts.authority.current.issue_task_svid(task, key.private_key.public_key(), now, HOUR)
        seconds = int(now.timestamp())
        delegation = Delegation(
            issuer=ISSUER,
            trust_domain=DOMAIN,
            human=LEAD,
            audience=AUDIENCE,
            scopes=SCOPES,
            chain=hops,
            binding=KeyBinding(thumbprint(der)),
            txn="t" * 22,
            jti="j" * 22,
            issued_at=seconds,
            expires_at=seconds + HOUR,
        )
        token = issue_delegation_token(self.parts.authority.current.token_key, delegation)
        spiffe_id = agent_task_id(DOMAIN, task.agent, task.id)
        return Presenter(spiffe_id, ssl.DER_cert_to_PEM_cert(der).encode(), key, delegation, token)

    def calls(self, presenter: Presenter, count: int = CALLS) -> list[bytes]:
        """Write CheckRequests of one presenter."""
        return [call(presenter, body(number)) for number in range(count)]

    async def check(self, request: bytes, asker: SpiffeId | None) -> bytes:
        """Decide, as `deputy serve` does; a Unix socket stands for the gateway."""
        return await check(request, asker or GATEWAY, self.parts.flow)

    async def without_waiting(self) -> "Place":
        """Return it with a flow that waits for no file: what is read from one was read, and stays known."""
        sessions = SharedSessions(SessionFile.open(self.directory / SESSIONS_FILE), timedelta(seconds=HOUR))
        flow = replace(self.parts.flow, sessions=sessions)
        (first,) = self.calls(self.presenter(), 1)
        await check(first, GATEWAY, flow)
        return Place(self.directory, replace(self.parts, flow=flow))

    def start(self, agent: str, now: datetime) -> Hop:
        """Start a task of an agent for the lead."""
        task_id = new_ulid(now, os.urandom(10))
        task = Task(task_id, agent, LEAD.uri, RUNNER, now, now + timedelta(seconds=HOUR))
        self.parts.state.start_task(task, now)
        return Hop(agent, task_id)


@asynccontextmanager
async def open_place(directory: Path, *, scale: int = 1, opa_url: str | None = None) -> AsyncIterator[Place]:
    """Open all parts in a new directory."""
    config = _prepare(directory, scale, opa_url)
    async with open_parts(config, lambda: datetime.now(UTC), os.urandom) as parts:
        yield Place(directory, parts)


def _prepare(directory: Path, scale: int, opa_url: str | None) -> Config:
    private_directory(directory)
    (directory / "grants.yaml").write_bytes(grants_yaml(scale))
    return parse_config(json.dumps(configuration(opa_url)).encode(), directory)


def body(number: int) -> bytes:
    """Write the body of a tools/call with arguments of its own, about 1.1 kB."""
    arguments = {
        "ticket": f"T-{number}",
        "note": f"{number}: {NOTE}",
        "fields": ["subject", "body", "customer"],
        "limit": number % 50,
        "filter": {"state": "open", "since": f"2026-11-{1 + number % 28:02}", "tags": ["billing", "crm"]},
    }
    params = {"name": TOOL, "arguments": arguments, "_meta": {"progressToken": number}}
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    return json.dumps(message).encode()


def headers(token: str) -> list[tuple[str, str | bytes]]:
    """Return the headers of an MCP client of today, as Envoy passes them on."""
    return [
        ("accept", "application/json, text/event-stream"),
        ("accept-encoding", "gzip, deflate"),
        ("content-type", "application/json"),
        ("user-agent", "python-httpx/0.28.1"),
        ("mcp-protocol-version", "2025-11-25"),
        ("mcp-session-id", SESSION),
        ("x-forwarded-for", "10.0.3.17"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", f"URI={RUNNER}"),
        ("authorization", f"Bearer {token}"),
    ]


def call(
    presenter: Presenter,
    data: bytes,
    *,
    token: str | None = None,
    more: Sequence[tuple[str, str | bytes]] = (),
) -> bytes:
    """Write the CheckRequest of a call."""
    message = check_request(
        data,
        path="/mcp",
        headers=[*headers(token or presenter.token), *more],
        principal=str(presenter.spiffe_id),
        certificate=urllib.parse.quote(presenter.certificate.decode()),
        extensions={"service": SERVICE},
    )
    return message.SerializeToString()


def configuration(opa_url: str | None = None) -> dict[str, object]:
    """Return the configuration as `deputy.yaml` has it."""
    policy: dict[str, object] = {"engine": "embedded"}
    if opa_url is not None:
        policy = {"engine": "opa", "opa": {"url": opa_url}}
    return {
        "trust_domain": DOMAIN.name,
        "data_dir": "data",
        "check": {"callers": [{"id": str(GATEWAY), "may_ask": [SERVICE]}]},
        "broker": {"issuer": ISSUER},
        "policy": policy,
        "services": {SERVICE: {"audience": AUDIENCE}},
        "providers": [{"issuer": PROVIDER, "audiences": [CLIENT]}],
        "agents": [
            {
                "name": name,
                "owner": "support",
                "sponsor": "support",
                "purpose": "answers tickets",
                "ceiling": "contributor",
                "hosts": [str(RUNNER)],
                "max_depth": MAX_DEPTH,
                "clients": [{"issuer": PROVIDER, "id": CLIENT}],
            }
            for name in AGENTS
        ],
        "limits": {"delegation_depth": MAX_DEPTH},
    }
