"""Administration as it runs: real state, shipped policy, real keys, over TLS and on a private socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from authz.address import UnixAddress
from authz.administration.agents import Registry
from authz.administration.app import Administration, admin_routes
from authz.administration.approval_page import page_route
from authz.administration.approvals import Inbox
from authz.administration.order import Desk
from authz.administration.pins import PinDesk
from authz.administration.place import ADMIN
from authz.approvals.key import Asked
from authz.audit.record import GENESIS
from authz.broker.app import broker_app, gone, read_arrival, unknown
from authz.errors import PolicyUnavailableError
from authz.hosts.http import BodyMissingError, HttpHost
from authz.pins.port import PinMode
from authz.policy.port import Query
from authz.policy.verdict import Verdict
from authz.store.approvals import ApprovalFile
from authz.store.approvals_database import APPROVALS_FILE
from authz.store.snapshot import State
from authz.store.sqlite import Store
from identity.caller import Agent, OidcClient
from identity.spiffe import SpiffeId
from identity.unix_socket import PRIVATE
from tests.admin_world import AGENT, policy, uri
from tests.broker_fakes import (
    BROKER,
    CLIENT,
    CONSOLE,
    ISSUER,
    SETTINGS,
    FakeSink,
    Identity,
    broker_alone,
    id_token_with,
    serving_tls,
)
from tests.broker_fakes import World as BrokerWorld
from tests.pins_world import PinBook

DEPLOY = SpiffeId.parse("spiffe://mesh.example/ns/ci/sa/deploy")
# The services of the tests, each with what counts of its tools.
MODES: Mapping[str, PinMode] = {"billing": "learn", "tickets": "require", "notes": "off"}
LISTED = replace(AGENT, name="listed", expires_at=None)
# What deputy.yaml says of an agent, and an order of the same.
BODY: Mapping[str, Any] = {
    "name": "travel",
    "owner": uri("oona"),
    "sponsor": uri("sid"),
    "purpose": "books flights",
    "ceiling": "helper",
    "hosts": ["spiffe://mesh.example/ns/agents/sa/runner"],
    "clients": [{"issuer": ISSUER, "id": CLIENT}],
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who signed in; `claims` are added to their token."""

    name: str
    groups: tuple[str, ...] = ()
    claims: Mapping[str, object] = field(default_factory=dict)


class Local:
    """This machine's operator."""


class Nobody:
    """Who shows nothing."""


OLGA, OMAR, OONA, ADA, ALICE = (Person(name) for name in ("olga", "omar", "oona", "ada", "alice"))
PLATFORM = Person("pat", ("platform",))
LOCAL, NOBODY = Local(), Nobody()
Who = Person | Local | Nobody | Identity


class OpenPolicy:
    """The shipped policy, until it cannot be asked; `meanwhile` runs once, after a decision."""

    def __init__(self) -> None:
        self.is_down = False
        self.meanwhile: Callable[[], object] = lambda: None
        self.revision = policy().revision

    def payload_classes(self, service: str) -> frozenset[str]:
        return policy().payload_classes(service)

    async def decide(self, query: Query) -> Verdict:
        if self.is_down:
            raise PolicyUnavailableError("the engine is gone")
        verdict = await policy().decide(query)
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return verdict

    async def visible(self, query: Query) -> frozenset[str]:
        return await policy().visible(query)


class Barrier:
    """Replicas that obey at once; `error` is raised, or `answer` asked, in their place."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.error: Exception | None = None
        self.answer: Callable[[int], Awaitable[Mapping[str, object]]] | None = None

    async def __call__(self, epoch: int) -> Mapping[str, object]:
        if self.error is not None:
            raise self.error
        self.epochs.append(epoch)
        if self.answer is not None:
            return await self.answer(epoch)
        return {"everywhere": True, "replicas": {}, "expired": [], "behind": [], "malformed": []}


@dataclass
class World:
    """The service, and those who order."""

    brokers: BrokerWorld
    state: State
    policy: OpenPolicy
    sink: FakeSink
    barrier: Barrier
    socket: Path
    approvals: ApprovalFile
    pins: PinBook
    base: str = ""
    reloads: int = 0

    @property
    def records(self) -> list[Mapping[str, Any]]:
        return [entry.members(1, GENESIS) for entry in self.sink.entries]

    @property
    def last(self) -> Mapping[str, Any]:
        return self.records[-1]

    def workload(self, spiffe_id: SpiffeId) -> Identity:
        return self.brokers.workload(spiffe_id)

    def token(self, person: Person) -> str:
        now = int(self.brokers.clock.now.timestamp())
        plain = {
            "aud": CONSOLE,
            "iat": now,
            "exp": now + 300,
            "sub": person.name,
            "groups": list(person.groups),
        }
        return id_token_with(self.brokers.provider, **{**plain, **person.claims})

    async def call(self, who: Who, method: str, path: str, **request: Any) -> httpx2.Response:
        """Send one request as somebody; `json`, `content`, `headers` and `params` are httpx's."""
        headers = dict(request.pop("headers", {}))
        if isinstance(who, Local):
            transport = httpx2.AsyncHTTPTransport(uds=str(self.socket))
            client = httpx2.AsyncClient(transport=transport, base_url="http://deputy", trust_env=False)
        else:
            tls = who.tls if isinstance(who, Identity) else self.trusting()
            client = httpx2.AsyncClient(verify=tls, base_url=self.base, trust_env=False, timeout=20)
        if isinstance(who, Person):
            headers["authorization"] = f"Bearer {self.token(who)}"
        async with client:
            return await client.request(method, ADMIN + path, headers=headers, **request)

    async def get(self, who: Who, path: str, **request: Any) -> httpx2.Response:
        return await self.call(who, "GET", path, **request)

    async def post(self, who: Who, path: str, body: object, **request: Any) -> httpx2.Response:
        return await self.call(who, "POST", path, json=body, **request)

    async def put(self, who: Who, path: str, body: object) -> httpx2.Response:
        return await self.call(who, "PUT", path, json=body)

    async def register(self, **more: object) -> Agent:
        """Register the agent of BODY, by this machine's operator."""
        body = {**BODY, **more}
        response = await self.post(LOCAL, "/agents", body)
        assert response.status_code == 201, response.text
        agent = self.state.agent(str(body["name"]))
        assert agent is not None
        return agent

    async def grant(self, person: Person = ALICE, **more: object) -> str:
        response = await self.post(person, "/grants", {"agent": "listed", "scopes": ["tickets:read"], **more})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    def ask(self, asked: Asked) -> str:
        """Let an agent ask for approval, by the policy that counts now."""
        now = self.brokers.clock.now
        of = replace(asked, key=replace(asked.key, revision=self.policy.revision))
        return self.approvals.request(of, now, lambda: self.brokers.broker.new_id(now))

    def trusting(self) -> Any:
        import ssl

        return ssl.create_default_context(cadata=self.brokers.roots)


@asynccontextmanager
async def administration_world(directory: Path) -> AsyncIterator[World]:
    """Serve both doors."""
    brokers = broker_alone(SETTINGS)
    store = Store.open(directory / "state.db")
    state = State.load(store, brokers.clock.now)
    state.register_agents([LISTED], brokers.clock.now)
    open_policy, barrier = OpenPolicy(), Barrier()
    broker = replace(brokers.broker, policy=open_policy, tasks=state)
    brokers.broker = broker
    approvals = ApprovalFile.open(directory / APPROVALS_FILE)
    pins = PinBook(directory)
    pin_desk = PinDesk(pins.file, MODES, lambda: brokers.clock.now)
    inbox = Inbox(approvals, state, lambda: open_policy.revision, lambda: brokers.clock.now)
    socket = directory / "api.sock"
    world = World(brokers, state, open_policy, brokers.sink, barrier, socket, approvals, pins)

    async def reload() -> None:
        world.reloads += 1

    def routes(path: str, *, is_local: bool) -> list[Any]:
        desk = Desk(broker, state.agents, barrier, is_local, frozenset({ISSUER}))
        registry = Registry(state, frozenset({OidcClient(ISSUER, CLIENT)}))
        return admin_routes(
            Administration(desk, state, registry, reload, inbox, pin_desk), path, read_arrival
        )

    page = page_route(SETTINGS.path, SETTINGS.issuer)
    app = broker_app(broker, lambda: True, [*routes(SETTINGS.path, is_local=False), page])
    private = Starlette(
        routes=routes("", is_local=True), exception_handlers={HTTPException: unknown, BodyMissingError: gone}
    )
    private.router.redirect_slashes = False
    host = HttpHost(private)
    await host.listen(UnixAddress(str(world.socket)), PRIVATE)
    try:
        async with serving_tls(app, broker.authority, brokers.clock.now) as base:
            world.base = base + SETTINGS.path
            yield world
    finally:
        await host.close(grace_seconds=0.2)
        with contextlib.suppress(OSError):
            world.socket.unlink()
        approvals.close()
        pins.file.close()
        store.close()


Act = Callable[[World], Awaitable[None]]
Play = Callable[[Act], None]


def play_in(directory: Path) -> Play:
    """Return what runs a scenario in a world of its own."""

    def play(act: Act) -> None:
        async def scenario() -> None:
            async with administration_world(directory) as world:
                await act(world)

        asyncio.run(scenario())

    return play


__all__ = ["BROKER", "Play", "World"]
