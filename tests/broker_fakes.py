"""People, providers and clocks for the broker's tests: real keys, fakes of our own ports only."""

import asyncio
import hashlib
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from joserfc import jwt

from authz.address import TcpAddress
from authz.audit.entry import Entry
from authz.audit.record import GENESIS, canonical
from authz.audit.sink import Receipt
from authz.audit.strangers import Strangers
from authz.broker.app import broker_app
from authz.broker.deps import Broker, Settings
from authz.broker.fetch import Fetched, FetchError
from authz.broker.form import Form
from authz.broker.human import OpenIdPeople
from authz.broker.id_token import IdentityProvider
from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN, JWT
from authz.codes import Code
from authz.demo.provider import Account, Key, Provider
from authz.errors import AuditError, StoreError
from authz.hosts.http import App, HttpHost, Limits
from authz.hosts.tls import TlsMaterial
from authz.peers import Peers
from authz.policy.port import Query
from authz.policy.schema import problems
from authz.policy.verdict import Reason, Verdict
from authz.protocols.route import Route
from authz.replay import ReplayMemory
from authz.services import Service, Services
from identity.authority import Authority
from identity.caller import Agent, OidcClient, Task
from identity.consent import Consent
from identity.delegation import DelegationToken, verify_delegation_token
from identity.jws import UnverifiedToken
from identity.keys import SigningKey
from identity.live_authority import LiveAuthority
from identity.names import new_ulid
from identity.spiffe import SpiffeId, TrustDomain
from identity.transaction import TransactionIssuer
from identity.trust_bundles import TrustBundles
from identity.withdrawal import Withdrawal, Withdrawals
from identity.x509_svid import leaf_spiffe_id, thumbprint

NOW = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)
ISSUER = "https://idp.example"
CLIENT = "agent-runner"
# Where people sign in for themselves; no agent has it.
CONSOLE = "console"
# Made once: a test that needs a key of its own makes one.
RS256 = Key.generate("RS256")
ES256 = Key.generate("ES256")
PASSWORD = "correct horse"


def provider_of(issuer: str = ISSUER, key: Key = ES256) -> Provider:
    """The demo's provider, with people whose passwords the tests know."""
    accounts = {
        "lead": Account("lead", ("lead",), PASSWORD),
        "clerk": Account("clerk", ("clerk",), PASSWORD),
    }
    return Provider(issuer, key, accounts, {CLIENT: 600, "short-lived": 3, "other": 600, CONSOLE: 600})


def id_token(provider: Provider, person: str = "lead", now: datetime = NOW, client: str = CLIENT) -> str:
    body = f"grant_type=password&client_id={client}&username={person}&password={PASSWORD.replace(' ', '+')}"
    return str(provider.sign_in(Form.parse(body.encode()), now)["id_token"])


def id_token_with(provider: Provider, **claims: object) -> str:
    """An ID token with claims added, changed, or (with a value of None) left out; `typ_` is the header's."""
    plain = {
        "iss": provider.issuer,
        "sub": "lead",
        "aud": CLIENT,
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 600,
    }
    header = {
        "alg": provider.key.algorithm,
        "kid": provider.key.public["kid"],
        "typ": claims.pop("typ_", "JWT"),
    }
    header = {name: value for name, value in header.items() if value is not None}
    body = {name: value for name, value in {**plain, **claims}.items() if value is not None}
    return jwt.encode(header, body, provider.key.private, algorithms=[provider.key.algorithm])


@dataclass
class Web:
    """Documents by URL; counts what was asked for."""

    documents: dict[str, Fetched | FetchError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    @classmethod
    def of(cls, provider: Provider, max_age: int | None = None) -> "Web":
        web = cls()
        web.publish(provider, max_age)
        return web

    def publish(self, provider: Provider, max_age: int | None = None) -> None:
        discovery, jwks = json.dumps(provider.discovery()), json.dumps(provider.jwks())
        self.documents[f"{provider.issuer}/.well-known/openid-configuration"] = Fetched(
            discovery.encode(), None
        )
        self.documents[f"{provider.issuer}/jwks"] = Fetched(jwks.encode(), max_age)

    def break_down(self) -> None:
        self.documents = {url: FetchError("down") for url in self.documents}

    @property
    def fetches(self) -> int:
        """How often the key set was asked for."""
        return sum(url.endswith("openid-configuration") for url in self.asked)

    async def fetch(self, url: str) -> Fetched:
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        found = self.documents.get(url, FetchError("not found"))
        if isinstance(found, FetchError):
            raise found
        return found


@dataclass
class Ticks:
    """A monotonic clock that moves when it is told to."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@asynccontextmanager
async def serving(app: App, limits: Limits | None = None) -> AsyncIterator[str]:
    """Serve an application on a port of the loopback, without TLS; gives its base URL."""
    host = HttpHost(app, limits=limits)
    address = await host.listen(TcpAddress("127.0.0.1", 0))
    try:
        yield f"http://{address}"
    finally:
        await host.close(grace_seconds=0.1)


# ---------------------------------------------------------------- our ports, in memory


class FakePolicy:
    """Allows, with the scopes that it is told; keeps the questions."""

    def __init__(self) -> None:
        self.revision = "policy.data"
        self.scopes: tuple[str, ...] = ("tickets:read", "tickets:write", "billing:read")
        self.verdict: Verdict | Exception | None = None
        self.queries: list[Mapping[str, object]] = []
        self.meanwhile: Callable[[], object] = lambda: None
        self.payload: frozenset[str] = frozenset()

    def payload_classes(self, service: str) -> frozenset[str]:
        del service
        return self.payload

    async def decide(self, query: Query) -> Verdict:
        assert problems("input", query) == ()
        self.queries.append(query)
        self.meanwhile()
        if isinstance(self.verdict, Exception):
            raise self.verdict
        if self.verdict is not None:
            return self.verdict
        service = query["resource"]["service"]  # type: ignore[index] # the schema says that it is there
        scopes = tuple(scope for scope in self.scopes if scope.startswith(f"{service}:"))
        return Verdict("allow", (), {"scopes": scopes} if query["phase"] == "exchange" else {}, self.revision)

    async def visible(self, query: Query) -> frozenset[str]:
        raise AssertionError(f"no list was answered: {query}")

    def deny(self, code: Code, effect: Literal["deny", "approve"] = "deny") -> None:
        reason = Reason(code.value, "the insides of the policy", "some.rule", "look inside", "agent")
        self.verdict = Verdict(effect, (reason,), {}, self.revision)


class FakeSink:
    """Keeps records; fails when it is told to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.broken = False
        self.meanwhile: Callable[[], object] = lambda: None

    async def append(self, entry: Entry) -> Receipt:
        if self.broken:
            raise AuditError("the disk is full")
        canonical(entry.members(1, GENESIS))
        self.entries.append(entry)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return Receipt(len(self.entries), entry.id)

    @property
    def last(self) -> Mapping[str, object]:
        return self.entries[-1].members(1, GENESIS)


SCOPES = frozenset({"tickets:read", "tickets:write", "billing:read"})


def consent(agent: str, human: str = f"{ISSUER}#lead", **fields: Any) -> Consent:
    """A grant of everything that the policy here gives, to be handed on to nobody."""
    number = int.from_bytes(hashlib.sha256(f"{agent} {human}".encode()).digest()[:10])
    plain: dict[str, Any] = {
        "id": new_ulid(NOW, number.to_bytes(10)),
        "scopes": SCOPES,
        "tools": None,
        "delegates_to": frozenset[str](),
        "created_at": NOW - timedelta(days=3650),
        "expires_at": NOW + timedelta(days=3650),
    }
    return Consent.parse(human=human, agent=agent, **{**plain, **fields})


class FakeTasks:
    """The registry and the tasks."""

    def __init__(self, agents: tuple[Agent, ...]) -> None:
        self.agents = {agent.name: agent for agent in agents}
        self.tasks: dict[str, Task] = {}
        self.epoch = 1
        self.broken = False
        self.withdrawals = Withdrawals()
        # What the people of the tests granted; a test that is about grants makes its own list.
        self.consents = [consent(agent.name) for agent in agents]

    def agent(self, name: str) -> Agent | None:
        return self.agents.get(name)

    def task(self, task_id: str) -> Task | None:
        return self.tasks.get(task_id)

    def consent(self, consent_id: str) -> Consent | None:
        return next((each for each in self.consents if each.id == consent_id), None)

    def consents_of(self, human: str) -> tuple[Consent, ...]:
        return tuple(each for each in self.consents if each.human == human)

    def start_task(self, task: Task, now: datetime) -> None:
        self._write()
        self.tasks[task.id] = task

    def set_thumbprint(self, task_id: str, thumbprint: str) -> None:
        self._write()
        self.tasks[task_id] = replace(self.tasks[task_id], thumbprint=thumbprint)

    def set_thumbprints(self, thumbprints: Mapping[str, str]) -> frozenset[str]:
        self._write()
        running = {each for each in thumbprints if each in self.tasks and self.tasks[each].ended_at is None}
        for task_id in running:
            self.tasks[task_id] = replace(self.tasks[task_id], thumbprint=thumbprints[task_id])
        return frozenset(thumbprints) - running

    def end_task(self, task_id: str, now: datetime) -> Task | None:
        self._write()
        self.epoch += 1
        self.tasks[task_id] = replace(self.tasks[task_id], ended_at=now)
        return self.tasks[task_id]

    def withdraw(self, withdrawal: Withdrawal, now: datetime) -> int:
        self._write()
        self.epoch += 1
        self.withdrawals = self.withdrawals.plus(withdrawal)
        return self.epoch

    def another_ends(self) -> None:
        """A task of somebody else ends, which moves the epoch for all."""
        self.epoch += 1

    def retire(self, name: str) -> None:
        del self.agents[name]
        self.epoch += 1

    def change(self, name: str, **fields: Any) -> None:
        self.agents[name] = replace(self.agents[name], **fields)

    def _write(self) -> None:
        if self.broken:
            raise StoreError("the disk is full")


# ---------------------------------------------------------------- a broker on a port

MESH = TrustDomain.parse("mesh.example")
BROKER = "https://broker.mesh.example"
TICKETS, BILLING = "https://tickets.mesh.example", "https://billing.mesh.example"
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
STRANGER = SpiffeId.parse("spiffe://mesh.example/ns/web/sa/frontend")
TICKETS_SERVER = SpiffeId.parse("spiffe://mesh.example/ns/tickets/sa/server")
BILLING_SERVER = SpiffeId.parse("spiffe://mesh.example/ns/billing/sa/server")
SETTINGS = Settings(issuer=BROKER, audiences={TICKETS: "tickets", BILLING: "billing"})
SERVICES = Services.of(
    (
        Service("tickets", TICKETS, Route("tickets", "mcp", ""), workloads=frozenset({TICKETS_SERVER})),
        Service("billing", BILLING, Route("billing", "mcp", ""), workloads=frozenset({BILLING_SERVER})),
    ),
    (),
    None,
)


def agent(name: str, **fields: Any) -> Agent:
    plain: dict[str, Any] = {"owner": "team", "sponsor": "head", "purpose": "tests", "ceiling": "contributor"}
    plain |= {"hosts": frozenset({RUNNER}), "clients": frozenset({OidcClient(ISSUER, CLIENT)})}
    return Agent(name=name, **{**plain, **fields})


AGENTS = (agent("triage"), agent("resolver"), agent("nightly-report", autonomous=True))


@dataclass(frozen=True, slots=True)
class Identity:
    """An X.509-SVID and its key, with a client context that presents it."""

    spiffe_id: SpiffeId
    der: bytes
    key: SigningKey = field(repr=False)
    tls: ssl.SSLContext

    @property
    def thumbprint(self) -> str:
        return thumbprint(self.der)

    @classmethod
    def of(cls, chain: str, key: SigningKey, roots: str) -> "Identity":
        tls = ssl.create_default_context(cadata=roots)
        with tempfile.NamedTemporaryFile() as file:
            file.write(key.reveal_pem() + chain.encode())
            file.flush()
            tls.load_cert_chain(file.name)
        der = ssl.PEM_cert_to_DER_cert(chain)
        return cls(leaf_spiffe_id(der), der, key, tls)


@dataclass(frozen=True, slots=True)
class Started:
    """A task that the broker started, and what its runner keeps of it."""

    id: str
    identity: Identity
    answer: Mapping[str, Any]


def json_of(value: object) -> bytes:
    return json.dumps(value).encode()


def csr_of(key: Any) -> str:
    """A certificate request with a name in it, which must not count."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    uri = x509.UniformResourceIdentifier("spiffe://mesh.example/ns/admin/sa/root")
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class World:
    """A broker behind a real TLS server, and the ones who talk to it."""

    def __init__(self, base: str, broker: Broker, fakes: "Fakes", web: Web) -> None:
        self.base = base
        self.web = web
        self.broker = broker
        self.policy, self.sink, self.tasks = fakes.policy, fakes.sink, fakes.tasks
        self.provider = provider_of()
        self.clock, self.fakes = fakes.clock, fakes
        self.runner = self.workload(RUNNER)

    @property
    def roots(self) -> str:
        return self.broker.authority.ca.certificate_pem().decode()

    def workload(self, spiffe_id: SpiffeId, authority: Authority | None = None, ttl: int = 600) -> Identity:
        key = SigningKey.generate()
        signer = authority or self.broker.authority
        der = signer.issue_workload_svid(spiffe_id, key.private_key.public_key(), self.clock.now, ttl)
        return Identity.of(ssl.DER_cert_to_PEM_cert(der), key, self.roots)

    def id_token(self, person: str = "lead") -> str:
        return id_token(self.provider, person, self.clock.now)

    async def send(self, method: str, path: str, client: Identity | None, **options: Any) -> httpx2.Response:
        tls = client.tls if client else ssl.create_default_context(cadata=self.roots)
        async with httpx2.AsyncClient(verify=tls, trust_env=False, timeout=20) as http:
            return await http.request(method, self.base + path, **options)

    async def start(self, agent_name: str = "triage", person: str | None = "lead", **more: object) -> Started:
        key = SigningKey.generate()
        body: dict[str, object] = {"agent": agent_name, "csr": csr_of(key.private_key), **more}
        if person is not None:
            body["subject_token"] = self.id_token(person)
        response = await self.send("POST", "/tasks", self.runner, json=body)
        assert response.status_code == 201, response.text
        answer = response.json()
        return Started(
            answer["task"], Identity.of(answer["certificate_chain"], key, answer["bundle"]), answer
        )

    async def renew(self, task: Started, client: Identity | None = None) -> Started:
        key = SigningKey.generate()
        body = {"csr": csr_of(key.private_key)}
        response = await self.send("POST", f"/tasks/{task.id}/svid", client or task.identity, json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        identity = Identity.of(answer["certificate_chain"], key, answer["bundle"])
        return Started(task.id, identity, answer)

    async def exchange(self, task: Started, subject: str | None = None, **more: str) -> httpx2.Response:
        form = {
            "grant_type": GRANT_TYPE,
            "subject_token": self.id_token() if subject is None else subject,
            "subject_token_type": ID_TOKEN,
            "audience": TICKETS,
            **more,
        }
        return await self.send("POST", "/token", task.identity, data=form)

    async def token(self, task: Started, **more: str) -> str:
        response = await self.exchange(task, **more)
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    async def jwt_svid(self, task: Started, audience: str = BROKER) -> str:
        response = await self.send(
            "POST", f"/tasks/{task.id}/jwt-svid", task.identity, json={"audience": audience}
        )
        assert response.status_code == 200, response.text
        return str(response.json()["jwt_svid"])

    async def delegate(self, own: Started, token: str, actor: Started, **more: str) -> httpx2.Response:
        return await self.exchange(
            own,
            token,
            subject_token_type=ACCESS_TOKEN,
            actor_token=await self.jwt_svid(actor),
            actor_token_type=JWT,
            **more,
        )

    def verified(self, token: str, audience: str = TICKETS) -> DelegationToken:
        return verify_delegation_token(
            UnverifiedToken.parse(token),
            self.broker.authority.token_keys,
            issuer=self.broker.settings.issuer,
            audience=audience,
            now=self.clock.now,
            leeway=0,
            max_depth=8,
        )


@dataclass
class Clock:
    """The wall clock. Certificates are checked by TLS too, so it starts at the machine's time."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Fakes:
    """The ports of one broker."""

    def __init__(self) -> None:
        self.policy, self.sink, self.tasks, self.clock = FakePolicy(), FakeSink(), FakeTasks(AGENTS), Clock()
        self.policy_ready = True


def broker_alone(settings: Settings = SETTINGS) -> World:
    """A broker without a connection."""
    fakes = Fakes()
    web = Web.of(provider_of())
    known = IdentityProvider(ISSUER, frozenset({CLIENT, CONSOLE}))
    live = LiveAuthority.fixed(Authority.generate(MESH, fakes.clock.now))
    broker = Broker(
        settings=settings,
        live=live,
        people=OpenIdPeople(
            [known], settings.leeway, audience=settings.issuer, fetch=lambda _: web.fetch, monotonic=Ticks()
        ),
        policy=fakes.policy,
        sink=fakes.sink,
        strangers=Strangers(),
        tasks=fakes.tasks,
        clock=fakes.clock,
        entropy=os.urandom,
        peers=Peers(lambda: TrustBundles(live.trust_bundle()), frozenset({MESH})),
        transactions=TransactionIssuer(lambda: live.current.token_key, settings.issuer, MESH, 60),
        replay=ReplayMemory(),
        services=SERVICES,
    )
    return World("", broker, fakes, web)


@asynccontextmanager
async def broker_world(settings: Settings = SETTINGS) -> AsyncIterator[World]:
    """Run a broker on a port of the loopback, with TLS and real certificates."""
    world = broker_alone(settings)
    app = broker_app(world.broker, lambda: world.fakes.policy_ready)
    async with serving_tls(app, world.broker.authority, world.clock.now) as base:
        world.base = base + settings.path
        yield world


@asynccontextmanager
async def serving_tls(
    app: App, authority: Authority, now: datetime, limits: Limits | None = None
) -> AsyncIterator[str]:
    material = tls_material(authority, now)
    host = HttpHost(app, tls=lambda: material, limits=limits)
    address = await host.listen(TcpAddress("127.0.0.1", 0))
    try:
        yield f"https://localhost:{address.port}" if isinstance(address, TcpAddress) else ""
    finally:
        await host.close(grace_seconds=1.0)


def tls_material(authority: Authority, now: datetime) -> TlsMaterial:
    key = SigningKey.generate()
    spiffe_id = SpiffeId.parse("spiffe://mesh.example/ns/deputy/sa/broker")
    public_key = key.private_key.public_key()
    der = authority.issue_workload_svid(spiffe_id, public_key, now, 3600, ["localhost", "127.0.0.1"])
    return TlsMaterial(
        ssl.DER_cert_to_PEM_cert(der).encode(), key.reveal_pem(), authority.ca.certificate_pem()
    )


Act = Callable[[World], Awaitable[None]]


def run(act: Act, **options: Any) -> None:
    """Run one scenario against a broker of its own."""

    async def scenario() -> None:
        async with broker_world(**options) as world:
            await act(world)

    asyncio.run(scenario())


async def refused(
    world: World, task: Started, error: str, code: Code, subject: str | None = None, **form: str
) -> None:
    """Ask for a token, and see one refusal: its OAuth error, its code, its record, and nothing issued."""
    before = len(world.sink.entries)
    response = await world.exchange(task, subject, **form)
    check_refused(world, response, before, error, code)


def check_refused(world: World, response: Any, before: int, error: str, code: Code) -> None:
    body = response.json()
    status = {"invalid_client": 401, "temporarily_unavailable": 503}.get(error, 400)
    assert (response.status_code, body["error"], body["deputy_code"]) == (status, error, code.value)
    assert set(body) == {"error", "error_description", "deputy_code", "decision_id"}
    assert "inside" not in body["error_description"]
    assert all(" " <= letter <= "~" and letter not in '"\\' for letter in body["error_description"])
    assert response.headers["cache-control"] == "no-store"
    (entry,) = world.sink.entries[before:]
    record = entry.members(1, "")
    assert (record["kind"], record["effect"], record["code"]) == ("exchange", "deny", code.value)
    assert record["id"] == body["decision_id"]
    assert record["issued"] is None
