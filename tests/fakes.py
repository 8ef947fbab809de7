"""In-memory implementations of our own ports, for the flow's tests: real keys, real tokens, no I/O."""

import asyncio
import json
import ssl
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from authz.audit.arguments import ArgumentsKey
from authz.audit.entry import Entry
from authz.audit.sink import Receipt
from authz.audit.strangers import Strangers
from authz.check import check
from authz.errors import AuditError
from authz.flow import Flow
from authz.live_trust import LiveTrust
from authz.pb import ext_authz_pb2 as pb
from authz.pins.port import Pins
from authz.policy.port import Query
from authz.policy.verdict import Verdict
from authz.protocols.route import Route
from authz.replay import Replay, ReplayMemory
from authz.reused_tokens import ReusedTokens
from authz.services import Asker, Service, Services
from authz.sessions.port import Sessions
from authz.store.spending import spender
from authz.token_cache import VerifiedTokens
from identity.authority import Authority
from identity.bundle import Bundle
from identity.caller import Agent, Binding, Hop, Human, KeyBinding, Task
from identity.delegation import Delegation, issue_delegation_token
from identity.keys import SigningKey
from identity.names import new_ulid
from identity.spiffe import SpiffeId, TrustDomain, agent_task_id
from identity.transaction import TransactionIssuer
from identity.withdrawal import Withdrawals
from identity.x509_svid import thumbprint
from tests.check_requests import MCP_HEADERS, check_request

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
DOMAIN = TrustDomain.parse("mesh.example")
ISSUER = "https://broker.mesh.example"
TICKETS = "https://tickets.mesh.example"
GATEWAY = SpiffeId.parse("spiffe://mesh.example/ns/mesh/sa/gateway")
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
WEB = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/web")
LEAD = Human.parse("https://idp.example", "lead", ("lead",))
SCOPES = frozenset({"tickets:read", "tickets:write"})
READ_TICKET = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "read_ticket", "arguments": {"ticket": "T-1"}},
    }
).encode()

ALLOW: dict[str, object] = {"effect": "allow", "reasons": [], "obligations": {}}
DENY: dict[str, object] = {
    "effect": "deny",
    "reasons": [
        {"code": "DPT-AGENT-TIER", "msg": "too high", "rule": "tier", "fix": "ask", "audience": "agent"}
    ],
    "obligations": {},
}
APPROVE: dict[str, object] = {
    "effect": "approve",
    "reasons": [
        {"code": "DPT-APPROVAL-REQUIRED", "msg": "ask", "rule": "approval", "fix": "ask", "audience": "agent"}
    ],
    "obligations": {},
}


@dataclass
class FakePolicy:
    """Answers what it is told to; `act` runs while it decides, as a revocation or a fault would."""

    answer: object = field(default_factory=lambda: ALLOW)
    act: Callable[[], None] = lambda: None
    revision: str = "policy.data"
    asked: list[Query] = field(default_factory=list)
    payload: frozenset[str] = frozenset()
    hidden: frozenset[str] = frozenset()

    def payload_classes(self, service: str) -> frozenset[str]:
        del service
        return self.payload

    async def decide(self, query: Query) -> Verdict:
        self.asked.append(query)
        self.act()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return Verdict.parse(self.answer, self.revision)

    async def visible(self, query: Query) -> frozenset[str]:
        self.asked.append(query)
        self.act()
        if isinstance(self.answer, BaseException):
            raise self.answer
        return frozenset(names_of(query)) - self.hidden


def names_of(query: Query) -> list[str]:
    """Return the names that a question about a list is about."""
    match query:
        case {"phase": "visible", "resource": {"names": [*names]}}:
            return names
        case _:
            raise AssertionError("no question about a list")


@dataclass
class MemorySink:
    """Keeps entries; full when told so."""

    entries: list[Entry] = field(default_factory=list)
    full_after: int | None = None
    act: Callable[[], None] = lambda: None

    async def append(self, entry: Entry) -> Receipt:
        if self.full_after is not None and len(self.entries) >= self.full_after:
            raise AuditError("no space")
        self.entries.append(entry)
        self.act()
        return Receipt(len(self.entries), entry.id)


@dataclass
class FakeRights:
    """The registry and the tasks."""

    agents: dict[str, Agent] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    epoch: int = 1
    withdrawals: Withdrawals = field(default_factory=Withdrawals)

    def agent(self, name: str) -> Agent | None:
        return self.agents.get(name)

    def task(self, task_id: str) -> Task | None:
        return self.tasks.get(task_id)


@dataclass(frozen=True)
class Run:
    """A running task and its certificate."""

    agent: str
    task: Task
    certificate: bytes

    @property
    def hop(self) -> Hop:
        return Hop(self.agent, self.task.id)

    @property
    def spiffe_id(self) -> SpiffeId:
        return agent_task_id(DOMAIN, self.agent, self.task.id)

    @property
    def binding(self) -> KeyBinding:
        return KeyBinding(thumbprint(self.certificate))


def agent(name: str, **more: object) -> Agent:
    """A registered agent."""
    made = Agent(name, "owner", "sponsor", "purpose", "contributor", hosts=frozenset({RUNNER}))
    return replace(made, **more)  # type: ignore[arg-type]  # the tests name real fields


class World:
    """One authority, one flow, and whatever the test wants to be true."""

    def __init__(self) -> None:
        self.authority = Authority.generate(DOMAIN, NOW)
        self.federated: Mapping[TrustDomain, Bundle] = {}
        self.trust = LiveTrust(lambda: self.authority, lambda: self.federated, ISSUER, 30, 4)
        self.rights = FakeRights()
        self.policy = FakePolicy()
        self.sink = MemorySink()
        self.strangers = Strangers()
        self.now = NOW
        self.replay: Replay = ReplayMemory()
        self.known, self.reused = VerifiedTokens(), ReusedTokens()
        self.pins: Pins | None = None
        self.sessions: Sessions | None = None
        self._numbers = count(1)
        self.services = Services.of(
            (
                Service("tickets", TICKETS, Route("tickets", "mcp")),
                Service("billing", "https://billing.mesh.example", Route("billing", "mcp")),
            ),
            (Asker(GATEWAY, frozenset({"tickets"})),),
            None,
        )
        for name in ("triage", "resolver", "nightly-report"):
            self.rights.agents[name] = agent(name, autonomous=name == "nightly-report")

    def entropy(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size)

    def run(self, name: str, human: Human | None = LEAD, **more: object) -> Run:
        """Start a task."""
        task_id = new_ulid(NOW, self.entropy(10))
        uri = human.uri if human else None
        task = Task(task_id, name, uri, RUNNER, NOW, NOW + timedelta(hours=1))
        self.rights.tasks[task_id] = task = replace(task, **more)  # type: ignore[arg-type]  # real fields
        key = SigningKey.generate().private_key.public_key()
        return Run(name, task, self.authority.issue_task_svid(replace(task, ended_at=None), key, NOW, 600))

    def token(self, *chain: Run, binding: Binding | None = None, **more: object) -> str:
        """Issue a delegation token; the presenter is the first of the chain."""
        delegation = Delegation(
            issuer=ISSUER,
            trust_domain=DOMAIN,
            human=LEAD,
            audience=TICKETS,
            scopes=SCOPES,
            chain=tuple(run.hop for run in chain),
            binding=binding or chain[0].binding,
            txn="t" * 22,
            jti="j" * 22,
            issued_at=int(NOW.timestamp()),
            expires_at=int(NOW.timestamp()) + 300,
        )
        return issue_delegation_token(self.authority.token_key, replace(delegation, **more))  # type: ignore[arg-type]  # real fields

    def svid(self, run: Run, audience: str = TICKETS) -> str:
        """Issue a JWT-SVID of a task."""
        return self.authority.issue_jwt_svid(run.spiffe_id, audience, NOW, 60, NOW + timedelta(hours=1))

    def flow(self) -> Flow:
        """Return the flow with what the test made true."""
        return Flow(
            services=self.services,
            trust=self.trust,
            rights=self.rights,
            policy=self.policy,
            sink=self.sink,
            strangers=self.strangers,
            transactions=TransactionIssuer(lambda: self.authority.token_key, ISSUER, DOMAIN, 60),
            spend=spender(self.replay),
            arguments_key=ArgumentsKey(bytes(32)),
            clock=lambda: self.now,
            entropy=self.entropy,
            pins=self.pins,
            sessions=self.sessions,
            known=self.known,
            reused=self.reused,
        )

    def request(self, bearer: str | None, run: Run | None = None, **parts: object) -> bytes:
        """Write the CheckRequest of a call, as Envoy would."""
        headers = [*MCP_HEADERS]
        if bearer is not None:
            headers.append(("authorization", f"Bearer {bearer}"))
        given: dict[str, object] = {"body": READ_TICKET, "headers": headers}
        if run is not None:
            pem = urllib.parse.quote(ssl.DER_cert_to_PEM_cert(run.certificate))
            given |= {"principal": str(run.spiffe_id), "certificate": pem}
        return check_request(**(given | parts)).SerializeToString()  # type: ignore[arg-type]  # as check_request takes

    def check(self, data: bytes, asker: SpiffeId | None = GATEWAY) -> pb.CheckResponse:
        """Run the flow."""
        return pb.CheckResponse.FromString(asyncio.run(check(data, asker, self.flow())))

    def records(self) -> list[Mapping[str, object]]:
        """Return all records, as their fields."""
        return [{"kind": entry.kind, **entry.fields} for entry in self.sink.entries]


def reason(response: pb.CheckResponse) -> str:
    """Return the code of a denial; empty for an allow."""
    names = {option.header.key: option.header.value for option in response.denied_response.headers}
    return names.get("x-deputy-reason", "")
