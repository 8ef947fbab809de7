"""Several trust domains at one listener, with real handshakes: no CA of one speaks for a name of another.

Each rule is tried at both servers: `Check` (gRPC) and the broker (HTTPS). "Shut out" is a handshake that
fails; "refused" is a peer that TLS let in, and that then counts for nobody.
"""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Literal, Protocol

import grpc
import httpx2
import pytest
from grpc.experimental.session_cache import ssl_session_cache_lru

from authz.address import TcpAddress
from authz.broker.app import broker_app
from authz.hosts.grpc import SERVICE, Denials, GrpcHost, Limits
from authz.hosts.http import HttpHost
from authz.hosts.tls import Credential, ListenerTls
from authz.pb.ext_authz_pb2 import CheckResponse, Status
from authz.peers import Peers, domains_of
from identity.bundle import Bundle
from identity.keys import SigningKey
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles
from tests.broker_fakes import World, agent, broker_alone, csr_of
from tests.hostile_ca import HostileCa, Peer

OURS, SPIRE, EAST = (TrustDomain.parse(name) for name in ("mesh.example", "spire.example", "east.example"))
GATEWAY = SpiffeId.parse("spiffe://mesh.example/ns/mesh/sa/gateway")
FOREIGN_GATEWAY = SpiffeId.parse("spiffe://spire.example/ns/mesh/sa/gateway")
EASTERN = SpiffeId.parse("spiffe://east.example/ns/mesh/sa/gateway")
ALLOWED = CheckResponse(status=Status()).SerializeToString()
NO = CheckResponse(status=Status(code=16)).SerializeToString()

Outcome = Literal["accepted", "refused", "shut out"]


class Mesh:
    """Three trust domains that know each other; a listener is for two of them."""

    def __init__(self) -> None:
        self.ours, self.spire, self.east = (HostileCa.root(each.name) for each in (OURS, SPIRE, EAST))
        self.roots: dict[TrustDomain, Sequence[HostileCa]] = {
            OURS: (self.ours,),
            SPIRE: (self.spire,),
            EAST: (self.east,),
        }
        serving = self.ours.issue("spiffe://mesh.example/deputy")
        self.credential = Credential(serving.chain, serving.key)

    def bundles(self) -> TrustBundles:
        def of(domain: TrustDomain) -> Bundle:
            roots = tuple(ca.certificate for ca in self.roots[domain])
            return replace(self.ours.bundle, trust_domain=domain, roots=roots)

        return TrustBundles(of(OURS), {domain: of(domain) for domain in self.roots if domain != OURS})

    @property
    def tls(self) -> ListenerTls:
        domains = domains_of([GATEWAY, FOREIGN_GATEWAY])
        return ListenerTls(lambda: self.credential, Peers(self.bundles, domains))


class Connection(Protocol):
    """A connection of one peer to one server."""

    async def call(self) -> Outcome:
        """Ask for something that every peer that is known gets."""


class Server(Protocol):
    """A running server."""

    def connect(self, peer: Peer) -> Any:
        """Return a connection, as a context."""


class CheckConnection:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def call(self) -> Outcome:
        method: Callable[..., Awaitable[bytes]] = self.channel.unary_unary(f"/{SERVICE}/Check")
        try:
            answer = await method(b"x", timeout=20)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return "shut out"
        return "accepted" if answer == ALLOWED else "refused"


class CheckServer:
    def __init__(self, port: int, roots: bytes, askers: list[SpiffeId | None]) -> None:
        self.port, self.roots, self.askers = port, roots, askers

    @asynccontextmanager
    async def connect(self, peer: Peer, **options: Any) -> AsyncIterator[CheckConnection]:
        credentials = grpc.ssl_channel_credentials(self.roots, peer.key, peer.chain)
        # Channels with equal arguments would share one connection.
        arguments = [("grpc.use_local_subchannel_pool", 1), *options.items()]
        async with grpc.aio.secure_channel(f"localhost:{self.port}", credentials, arguments) as channel:
            yield CheckConnection(channel)


class BrokerConnection:
    def __init__(self, http: httpx2.AsyncClient, world: World, base: str) -> None:
        self.http, self.world, self.base = http, world, base

    async def call(self) -> Outcome:
        csr = csr_of(SigningKey.generate().private_key)
        body = {"agent": "triage", "csr": csr, "subject_token": self.world.id_token()}
        try:
            answer = await self.http.post(f"{self.base}/tasks", json=body)
        except httpx2.TransportError:
            return "shut out"
        if answer.status_code == 401:
            assert answer.json()["code"] == "DPT-PEER-MISSING"
            # The next connection shows what the client has by then.
            assert answer.headers["connection"] == "close"
            return "refused"
        assert answer.status_code == 201, answer.text
        return "accepted"


class BrokerServer:
    def __init__(self, port: int, roots: bytes, world: World) -> None:
        self.base, self.roots, self.world = f"https://localhost:{port}", roots, world

    @asynccontextmanager
    async def connect(self, peer: Peer) -> AsyncIterator[BrokerConnection]:
        tls = ssl.create_default_context(cadata=self.roots.decode())
        with tempfile.NamedTemporaryFile() as file:
            file.write(peer.key + peer.chain)
            file.flush()
            tls.load_cert_chain(file.name)
        async with httpx2.AsyncClient(verify=tls, trust_env=False, timeout=20) as http:
            yield BrokerConnection(http, self.world, self.base)


@asynccontextmanager
async def check_server(mesh: Mesh) -> AsyncIterator[CheckServer]:
    async with check_server_of(mesh.tls) as server:
        server.roots = mesh.ours.pem
        yield server


@asynccontextmanager
async def check_server_of(tls: ListenerTls) -> AsyncIterator[CheckServer]:
    """Run Check; the server does not know with which roots its clients verify it."""
    askers: list[SpiffeId | None] = []

    async def check(_: bytes, asker: SpiffeId | None) -> bytes:
        askers.append(asker)
        return ALLOWED

    host = GrpcHost(
        check,
        denials=Denials(failed=NO, busy=NO, stranger=NO),
        listen=TcpAddress("127.0.0.1", 0),
        tls=tls,
        limits=Limits(drain_seconds=0, grace_seconds=1),
    )
    address = await host.start()
    assert isinstance(address, TcpAddress)
    try:
        yield CheckServer(address.port, b"", askers)
    finally:
        await host.stop()


@asynccontextmanager
async def broker_server(mesh: Mesh) -> AsyncIterator[BrokerServer]:
    world, tls = broker_alone(), mesh.tls
    hosts = frozenset({GATEWAY, FOREIGN_GATEWAY, EASTERN})
    world.fakes.tasks.agents["triage"] = agent("triage", hosts=hosts)
    world.broker = replace(world.broker, peers=tls.peers)
    host = HttpHost(broker_app(world.broker, lambda: True), tls=tls)
    address = await host.listen(TcpAddress("127.0.0.1", 0))
    assert isinstance(address, TcpAddress)
    try:
        yield BrokerServer(address.port, mesh.ours.pem, world)
    finally:
        await host.close(grace_seconds=0.1)


both = pytest.mark.parametrize("running", [check_server, broker_server], ids=["check", "broker"])
Running = Callable[[Mesh], Any]


def outcome_of(running: Running, mesh: Mesh, peer: Peer) -> Outcome:
    """Connect anew, and call once."""

    async def scenario() -> Outcome:
        async with running(mesh) as server:
            return await called(server, peer)

    return asyncio.run(scenario())


async def called(server: Server, peer: Peer) -> Outcome:
    async with server.connect(peer) as connection:
        outcome: Outcome = await connection.call()
        return outcome


# ---- who is accepted


@both
def test_x_7_a_peer_of_each_domain_of_the_listener_is_accepted(running: Running) -> None:
    """X-7: the roots of its own trust domain vouch for it."""
    mesh = Mesh()
    assert outcome_of(running, mesh, mesh.ours.issue(str(GATEWAY))) == "accepted"
    assert outcome_of(running, mesh, mesh.spire.issue(str(FOREIGN_GATEWAY))) == "accepted"


@both
def test_x_8_a_peer_behind_an_intermediate_is_accepted(running: Running) -> None:
    """X-8: as SPIRE's are below an UpstreamAuthority; the servers hand over the whole chain."""
    mesh = Mesh()
    assert outcome_of(running, mesh, mesh.spire.below().issue(str(FOREIGN_GATEWAY))) == "accepted"


def test_the_flow_learns_which_domain_the_asker_is_of() -> None:
    async def scenario() -> None:
        mesh = Mesh()
        async with check_server(mesh) as server:
            await called(server, mesh.spire.issue(str(FOREIGN_GATEWAY)))
            assert server.askers == [FOREIGN_GATEWAY]

    asyncio.run(scenario())


# ---- who is not


@both
@pytest.mark.parametrize("way", ["itself", "a CA below it that calls itself ours", "our root beside it"])
def test_x_7_the_ca_of_a_federated_domain_cannot_name_our_gateway(running: Running, way: str) -> None:
    """X-7: TLS lets it in, because all roots lie in one pool; the roots of our domain do not."""
    mesh = Mesh()
    signer = mesh.spire.below(OURS.name) if "below" in way else mesh.spire
    peer = signer.issue(str(GATEWAY))
    if "beside" in way:
        peer = Peer(peer.chain + mesh.ours.pem, peer.key)
    assert outcome_of(running, mesh, peer) == "refused"


@both
def test_x_7_our_own_ca_cannot_name_a_gateway_of_a_federated_domain(running: Running) -> None:
    """X-7: the other way round."""
    mesh = Mesh()
    assert outcome_of(running, mesh, mesh.ours.issue(str(FOREIGN_GATEWAY))) == "refused"


@both
def test_a_federated_domain_that_the_listener_does_not_name_is_shut_out(running: Running) -> None:
    mesh = Mesh()
    assert outcome_of(running, mesh, mesh.east.issue(str(EASTERN))) == "shut out"


@both
def test_a_domain_that_the_listener_does_not_name_is_refused_though_another_vouches_for_it(
    running: Running,
) -> None:
    mesh = Mesh()
    crossed = mesh.east.vouched_for_by(mesh.spire)
    assert outcome_of(running, mesh, crossed.issue(str(EASTERN))) == "refused"


def test_a_name_of_an_agents_task_of_another_domain_is_no_task_of_ours() -> None:
    """The path is the same, and the other domain's CA may sign it: it is somebody else's task."""

    async def scenario() -> None:
        mesh = Mesh()
        async with broker_server(mesh) as server:
            async with server.connect(mesh.spire.issue(str(FOREIGN_GATEWAY))) as host:
                assert await host.call() == "accepted"
            (task,) = server.world.tasks.tasks
            path = f"/agent/triage/task/{task}"
            async with server.connect(mesh.spire.issue(f"spiffe://spire.example{path}")) as impostor:
                for place in (f"/tasks/{task}/jwt-svid", f"/tasks/{task}/svid", "/tasks", "/token"):
                    answer = await impostor.http.post(server.base + place, json={})
                    said = answer.json()
                    assert answer.status_code == 401, place
                    assert said.get("code", said.get("deputy_code")) == "DPT-PEER-MISSING"
                answer = await impostor.http.delete(f"{server.base}/tasks/{task}")
                assert (answer.status_code, answer.json()["code"]) == (401, "DPT-PEER-MISSING")
            assert server.world.tasks.tasks[task].ended_at is None

    asyncio.run(scenario())


@both
@pytest.mark.parametrize("names_its_key", [True, False])
def test_a_root_of_a_federated_domain_that_looks_like_ours_shuts_none_of_ours_out(
    running: Running, names_its_key: bool
) -> None:
    """A TLS library finds a root by its name, and tries no second one when a signature is wrong."""
    mesh = Mesh()
    double = HostileCa.lookalike(SPIRE.name, mesh.ours, names_its_key=names_its_key)
    mesh.roots[SPIRE] = (double, mesh.spire)
    assert outcome_of(running, mesh, mesh.ours.issue(str(GATEWAY))) == "accepted"
    assert outcome_of(running, mesh, mesh.spire.issue(str(FOREIGN_GATEWAY))) == "accepted"


# ---- roots that change


@both
def test_a_root_that_is_removed_shuts_the_next_connection_out_and_refuses_the_open_one(
    running: Running,
) -> None:
    async def scenario() -> None:
        mesh = Mesh()
        peer = mesh.spire.issue(str(FOREIGN_GATEWAY))
        async with running(mesh) as server, server.connect(peer) as open_one:
            assert await open_one.call() == "accepted"
            mesh.roots[SPIRE] = (HostileCa.root(SPIRE.name),)
            assert await called(server, peer) == "shut out"
            assert await open_one.call() == "refused"
            assert await called(server, mesh.ours.issue(str(GATEWAY))) == "accepted"

    asyncio.run(scenario())


@both
def test_a_root_that_is_published_is_accepted_before_it_signs_for_us(running: Running) -> None:
    """A prepared key of a federated SPIRE, or of ours, signs from one moment to the next."""

    async def scenario() -> None:
        mesh, fresh = Mesh(), HostileCa.root(SPIRE.name)
        peer = fresh.issue(str(FOREIGN_GATEWAY))
        async with running(mesh) as server:
            assert await called(server, peer) == "shut out"
            mesh.roots[SPIRE] = (mesh.spire, fresh)
            assert await called(server, peer) == "accepted"

    asyncio.run(scenario())


@both
def test_b_1_without_any_root_nobody_comes_in(running: Running) -> None:
    """B-1: an empty bundle is "everything revoked", never the roots of the system or those of before."""

    async def scenario() -> None:
        mesh = Mesh()
        peers = [mesh.ours.issue(str(GATEWAY)), mesh.spire.issue(str(FOREIGN_GATEWAY))]
        async with running(mesh) as server, AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(server.connect(peer)) for peer in peers]
            assert [await each.call() for each in connections] == ["accepted", "accepted"]
            mesh.roots = {OURS: (), SPIRE: ()}
            assert [await called(server, peer) for peer in peers] == ["shut out", "shut out"]
            assert [await each.call() for each in connections] == ["refused", "refused"]

    asyncio.run(scenario())


@both
def test_a_server_starts_without_roots_and_lets_in_who_gets_some(running: Running) -> None:
    """A federated bundle may come minutes after the start."""

    async def scenario() -> None:
        mesh = Mesh()
        roots, mesh.roots = mesh.roots, {OURS: (), SPIRE: ()}
        peer = mesh.spire.issue(str(FOREIGN_GATEWAY))
        async with running(mesh) as server:
            assert await called(server, peer) == "shut out"
            mesh.roots = roots
            assert await called(server, peer) == "accepted"

    asyncio.run(scenario())


def test_a_resumed_session_is_refused_once_its_root_is_gone() -> None:
    """TLS does not verify a resumed session again; gRPC's tickets live two days."""

    async def scenario() -> list[Outcome]:
        mesh = Mesh()
        peer = mesh.spire.below().issue(str(FOREIGN_GATEWAY))
        cache = ssl_session_cache_lru(4)  # type: ignore[no-untyped-call]  # no stubs
        outcomes: list[Outcome] = []
        async with check_server(mesh) as server:
            for _ in range(2):
                async with server.connect(peer, **{"grpc.ssl_session_cache": cache}) as connection:
                    outcomes.append(await connection.call())
            mesh.roots[SPIRE] = ()
            async with server.connect(peer, **{"grpc.ssl_session_cache": cache}) as connection:
                outcomes.append(await connection.call())
        return outcomes

    *before, after = asyncio.run(scenario())
    assert before == ["accepted", "accepted"]
    assert after in {"refused", "shut out"}


def test_a_stranger_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that TLS lets in may ask ten thousand times a second."""

    async def scenario() -> None:
        mesh = Mesh()
        async with check_server(mesh) as server, server.connect(mesh.spire.issue(str(GATEWAY))) as forger:
            for _ in range(200):
                assert await forger.call() == "refused"

    asyncio.run(scenario())
    lines = [line for line in caplog.messages if "does not count" in line]
    assert 1 <= len(lines) < 100


# ---- our own certificate


@both
def test_a_new_certificate_of_ours_counts_from_the_next_handshake_and_one_that_fails_stays(
    running: Running,
) -> None:
    async def scenario() -> None:
        mesh = Mesh()
        peer = mesh.ours.issue(str(GATEWAY))
        async with running(mesh) as server:
            renewed = HostileCa.root(OURS.name)
            serving = renewed.issue("spiffe://mesh.example/deputy")
            mesh.credential = Credential(serving.chain, serving.key)
            assert await called(server, peer) == "shut out"  # by the client, that has not heard of the root
            server.roots = renewed.pem
            assert await called(server, peer) == "accepted"
            del mesh.credential  # the source fails from now on
            assert await called(server, peer) == "accepted"
            # And roots are followed on, whatever became of the certificate.
            mesh.roots[OURS] = ()
            assert await called(server, peer) == "shut out"

    asyncio.run(scenario())
