"""Real Envoys with every secret from our socket: rotation under load, and who is let in by which roots."""

import json
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPSConnection
from typing import Any, Self

import pytest

from authz.address import TcpAddress
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER as AGENTS
from authz.mesh.envoy_process import EnvoyProcess
from identity.bundle import Bundle
from identity.keys import KeySet
from identity.spiffe import TrustDomain
from tests.e2e.ca import Leaf, TestCa
from tests.e2e.envoy_world import world as envoy_world
from tests.e2e.sds_envoys import LISTENER, Domain, SdsWorld, SecretSocket, get, sds_world, stats, until

pytestmark = pytest.mark.e2e

SERVER, CLIENT = "/ns/demo/sa/server", "/ns/demo/sa/client"
ANYBODY = {"prefix": "spiffe://"}
OUR_SERVER = {"exact": f"spiffe://mesh.example{SERVER}"}
ROTATIONS = 10


@pytest.fixture
def world() -> Iterator[SdsWorld]:
    with sds_world() as made:
        yield made


@dataclass(frozen=True, slots=True)
class Pair:
    """A client Envoy before a server Envoy, each with a socket of its own."""

    mesh: Domain
    server_socket: SecretSocket
    client_socket: SecretSocket
    server: EnvoyProcess
    client: EnvoyProcess

    @property
    def port(self) -> int:
        return self.client.port(LISTENER)


def pair(world: SdsWorld, *, delta: bool = False) -> Pair:
    mesh = world.domain("mesh.example")
    ends = world.socket(mesh, SERVER), world.socket(mesh, CLIENT)
    server = world.start_server(ends[0], "ALL", ANYBODY, delta=delta)
    client = world.start_client(ends[1], server.port(LISTENER), "ROOTCA", OUR_SERVER, delta=delta)
    return Pair(mesh, *ends, server, client)


def rotate(world: SdsWorld, made: Pair, load: "Load | None" = None) -> None:
    """A new CA: its root is everywhere before it signs, and the old one goes when nothing of it is in use."""
    old = made.mesh.signer
    made.mesh.step("prepare")
    world.wait_for_push(made.server_socket, "ALL", made.server)
    world.wait_for_push(made.client_socket, "ROOTCA", made.client)
    made.mesh.step("activate")
    world.wait_for_push(made.server_socket, "default", made.server)
    world.wait_for_push(made.client_socket, "default", made.client)
    if load is not None:
        load.wait_for_more()  # no handshake of before is under way any more
    made.mesh.step("taint", old)
    made.mesh.step("revoke", old)
    world.wait_for_push(made.server_socket, "ALL", made.server)
    world.wait_for_push(made.client_socket, "ROOTCA", made.client)


class Load:
    """Requests without a pause, from several threads, each with a handshake between the Envoys."""

    def __init__(self, port: int, threads: int = 4) -> None:
        self._port = port
        self._is_over = threading.Event()
        self.passed = [0] * threads
        self.failed: list[object] = []
        self._threads = [threading.Thread(target=self._ask, args=(one,)) for one in range(threads)]

    def _ask(self, number: int) -> None:
        while not self._is_over.is_set():
            try:
                status = get(self._port)
            except OSError as error:
                self.failed.append(error)
                continue
            if status == 200:
                self.passed[number] += 1
            else:
                self.failed.append(status)

    def wait_for_more(self) -> None:
        before = list(self.passed)
        until(lambda: all(now > then + 1 for now, then in zip(self.passed, before, strict=True)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(30)


# ---- rotation


@pytest.mark.parametrize("delta", [False, True], ids=["state of the world", "delta"])
def test_ten_rotations_under_load_lose_no_handshake(world: SdsWorld, delta: bool) -> None:
    made = pair(world, delta=delta)
    signers = {made.mesh.signer}
    with Load(made.port) as load:
        load.wait_for_more()
        for _ in range(ROTATIONS):
            rotate(world, made, load)
            signers.add(made.mesh.signer)
            load.wait_for_more()
    requests = sum(load.passed)
    print(f"{requests} requests, each with a handshake, over {ROTATIONS} rotations of the CA")
    assert load.failed == []
    assert len(signers) == ROTATIONS + 1
    assert len(made.mesh.bundle.roots) == 1
    handshakes = stats(made.server, "listener.", "ssl.handshake")
    assert max(handshakes.values()) >= requests
    for envoy in (made.server, made.client):
        assert sum(stats(envoy, "ssl.fail_verify").values()) == 0
        assert sum(stats(envoy, "ssl.connection_error").values()) == 0
        assert sum(stats(envoy, "update_rejected").values()) == 0
    assert sum(stats(made.client, "cluster.server.upstream_cx_connect_fail").values()) == 0


def test_envoys_serve_on_while_the_authority_restarts_and_take_up_what_is_new(world: SdsWorld) -> None:
    made = pair(world)
    with Load(made.port, threads=1) as load:
        world.shut(made.server_socket)
        world.shut(made.client_socket)
        made.mesh.step("prepare")
        load.wait_for_more()
        world.open(made.server_socket)
        world.open(made.client_socket)
        world.wait_for_push(made.server_socket, "ALL", made.server)
        world.wait_for_push(made.client_socket, "ROOTCA", made.client)
        load.wait_for_more()
    assert load.failed == []


def test_an_identity_that_is_lost_and_given_back_is_pushed_again(world: SdsWorld) -> None:
    """A stream that ended with PermissionDenied is opened again by Envoy, and costs nobody a request."""
    made = pair(world)
    given = made.client_socket.entitlements.given
    with Load(made.port, threads=1) as load:
        made.client_socket.entitlements.given = ()
        made.mesh.federate()
        load.wait_for_more()
        made.client_socket.entitlements.given = given
        made.mesh.federate()
        rotate(world, made, load)
        load.wait_for_more()
    assert load.failed == []


# ---- who is let in


def bundle_of(ca: TestCa, name: str) -> Bundle:
    return Bundle(TrustDomain.parse(name), (ca.certificate,), KeySet.of(()), sequence=1, refresh_hint=60)


@dataclass(frozen=True, slots=True)
class Gates:
    """One server Envoy for each kind of roots, in a domain that federates with other.example."""

    world: SdsWorld
    mesh: Domain
    other: TestCa
    servers: dict[str, EnvoyProcess]


@pytest.fixture(scope="module")
def gates() -> Iterator[Gates]:
    with sds_world() as made:
        mesh, other = made.domain("mesh.example"), TestCa.create("other.example")
        mesh.federate(bundle_of(other, "other.example"))
        ours = made.socket(mesh, SERVER)
        names = ("ALL", "ROOTCA", "spiffe://mesh.example", "spiffe://other.example")
        yield Gates(made, mesh, other, {name: made.start_server(ours, name, ANYBODY) for name in names})


def own_leaf(mesh: Domain, path: str = CLIENT) -> Leaf:
    """What a workload of the mesh has."""
    ca = mesh.live.current.ca
    return TestCa(ca.key.private_key, ca.certificate).issue(mesh.id(path))


def enters(envoy: EnvoyProcess, leaf: Leaf | None, roots: bytes, listener: str = LISTENER) -> bool:
    """Whether somebody with this certificate passes the handshake of an Envoy and is answered."""
    context = ssl.create_default_context(cadata=roots.decode())
    if leaf is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(leaf.certificate + leaf.key)
            file.flush()
            context.load_cert_chain(file.name)
    try:
        with (
            socket.create_connection(("127.0.0.1", envoy.port(listener)), timeout=20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            return connection.recv(1024).startswith(b"HTTP/1.1 ")
    except (ssl.SSLError, ConnectionError):
        return False


def roots_pem(mesh: Domain) -> bytes:
    return mesh.live.current.ca.certificate_pem()


# Who comes, and the roots by which Envoy lets them in.
CALLERS = {
    "a workload of ours": {"ALL", "ROOTCA", "spiffe://mesh.example"},
    "a workload of the federated domain": {"ALL", "spiffe://other.example"},
    "a workload of a domain that we do not know": set(),
    "an ID of ours that a federated CA signed": set(),
    "an ID of a third domain that a federated CA signed": set(),
    "an ID of ours that an unknown CA signed": set(),
    # Plain roots say nothing of IDs: there, a matcher has to. No authority of ours signs such a thing.
    "a federated ID that our CA signed": {"ROOTCA"},
    "a look-alike domain": set(),
    "two IDs, ours and theirs, that a federated CA signed": set(),
    # Envoy looks at the first one, and so does what it tells Deputy: it is theirs, as is the CA.
    "two IDs, theirs and ours, that a federated CA signed": {"ALL", "spiffe://other.example"},
    "no ID": set(),
    "nobody": set(),
}


def caller(kind: str, gates: Gates) -> Leaf | None:
    ours = gates.mesh.live.current.ca
    our_ca, stranger = TestCa(ours.key.private_key, ours.certificate), TestCa.create("third.example")
    return {
        "a workload of ours": own_leaf(gates.mesh),
        "a workload of the federated domain": gates.other.issue("spiffe://other.example/agent/x"),
        "a workload of a domain that we do not know": stranger.issue("spiffe://third.example/agent/x"),
        "an ID of ours that a federated CA signed": gates.other.issue(gates.mesh.id(CLIENT)),
        "an ID of a third domain that a federated CA signed": gates.other.issue("spiffe://third.example/x"),
        "an ID of ours that an unknown CA signed": TestCa.create().issue(gates.mesh.id(CLIENT)),
        "a federated ID that our CA signed": our_ca.issue("spiffe://other.example/agent/x"),
        "a look-alike domain": gates.other.issue("spiffe://mesh.example.other.example/x"),
        "two IDs, ours and theirs, that a federated CA signed": gates.other.issue(
            gates.mesh.id(CLIENT), "spiffe://other.example/agent/x"
        ),
        "two IDs, theirs and ours, that a federated CA signed": gates.other.issue(
            "spiffe://other.example/agent/x", gates.mesh.id(CLIENT)
        ),
        "no ID": our_ca.issue(dns=("localhost",)),
        "nobody": None,
    }[kind]


@pytest.mark.parametrize("roots", ["ALL", "ROOTCA", "spiffe://mesh.example", "spiffe://other.example"])
@pytest.mark.parametrize("kind", CALLERS)
def test_each_ca_lets_in_ids_of_its_own_trust_domain_only(gates: Gates, kind: str, roots: str) -> None:
    leaf = caller(kind, gates)
    assert enters(gates.servers[roots], leaf, roots_pem(gates.mesh)) == (roots in CALLERS[kind])


def test_a_domain_that_is_federated_no_more_is_refused_at_once(world: SdsWorld) -> None:
    mesh, other = world.domain("mesh.example"), TestCa.create("other.example")
    mesh.federate(bundle_of(other, "other.example"))
    ours = world.socket(mesh, SERVER)
    servers = {name: world.start_server(ours, name, ANYBODY) for name in ("ALL", "spiffe://other.example")}
    leaf = other.issue("spiffe://other.example/agent/x")
    for server in servers.values():
        assert enters(server, leaf, roots_pem(mesh))
    mesh.federate()
    until(lambda: not any(enters(server, leaf, roots_pem(mesh)) for server in servers.values()))


@contextmanager
def impostor(leaf: Leaf, client_roots: bytes) -> Iterator[int]:
    """A server that shows what it likes; gives its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=client_roots.decode())
    with tempfile.NamedTemporaryFile() as file:
        file.write(leaf.certificate + leaf.key)
        file.flush()
        context.load_cert_chain(file.name)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listening.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(1024)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            except OSError:
                raw.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


@pytest.mark.parametrize("roots", ["ROOTCA", "ALL"])
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("the server", 200),
        ("the server's ID by a federated CA", 503),
        ("two IDs, the server's first, by a federated CA", 503),
        ("another workload of ours", 503),
        ("a server of the federated domain", 503),
    ],
)
def test_a_client_believes_the_one_server_that_it_names(
    gates: Gates, kind: str, status: int, roots: str
) -> None:
    """As Envoy asks Deputy."""
    leaf = {
        "the server": own_leaf(gates.mesh, SERVER),
        "the server's ID by a federated CA": gates.other.issue(gates.mesh.id(SERVER)),
        "two IDs, the server's first, by a federated CA": gates.other.issue(
            gates.mesh.id(SERVER), "spiffe://other.example/x"
        ),
        "another workload of ours": own_leaf(gates.mesh),
        "a server of the federated domain": gates.other.issue(f"spiffe://other.example{SERVER}"),
    }[kind]
    ours = gates.world.sockets[0]
    with impostor(leaf, roots_pem(gates.mesh)) as port:
        client = gates.world.start_client(ours, port, roots, OUR_SERVER)
        assert get(client.port(LISTENER)) == status
        client.stop()


# ---- what was found out about Envoy, and is relied on


def matched(gates: Gates, roots: str, expected: str, san_type: str = "URI") -> EnvoyProcess:
    """A server Envoy that lets in one name only."""
    return gates.world.start_server(gates.world.sockets[0], roots, {"exact": expected}, san_type=san_type)


def test_a_matcher_of_ids_narrows_a_spiffe_validator(gates: Gates) -> None:
    server = matched(gates, "ALL", gates.mesh.id(CLIENT))
    assert enters(server, own_leaf(gates.mesh), roots_pem(gates.mesh))
    assert not enters(server, own_leaf(gates.mesh, "/another"), roots_pem(gates.mesh))
    assert not enters(server, gates.other.issue("spiffe://other.example/x"), roots_pem(gates.mesh))


@pytest.mark.parametrize(
    ("roots", "is_fooled"), [("ALL", True), ("ROOTCA", False), ("spiffe://mesh.example", False)]
)
def test_who_names_one_id_must_name_its_roots_too(gates: Gates, roots: str, is_fooled: bool) -> None:
    """Roots are chosen by the first ID of a leaf, a matcher is content with any: a federated CA uses that.

    So Deputy is asked with ROOTCA, and the README says not to use ALL where one ID is meant.
    """
    forged = gates.other.issue("spiffe://other.example/x", gates.mesh.id(CLIENT))
    server = matched(gates, roots, gates.mesh.id(CLIENT))
    assert enters(server, own_leaf(gates.mesh), roots_pem(gates.mesh))
    assert enters(server, forged, roots_pem(gates.mesh)) == is_fooled


@pytest.mark.parametrize(("roots", "is_heard"), [("ALL", False), ("ROOTCA", True)])
def test_a_matcher_of_dns_names_does_nothing_beside_a_spiffe_validator(
    gates: Gates, roots: str, is_heard: bool
) -> None:
    """The README says so; an Envoy that begins to honour it is news to write there."""
    server = matched(gates, roots, "nobody.example", "DNS")
    assert enters(server, own_leaf(gates.mesh), roots_pem(gates.mesh)) != is_heard


def test_an_unknown_name_costs_one_line_and_is_pushed_when_it_is_known(
    world: SdsWorld, caplog: pytest.LogCaptureFixture
) -> None:
    mesh, other = world.domain("mesh.example"), TestCa.create("other.example")
    ours = world.socket(mesh, SERVER)
    server = world.start_server(ours, "spiffe://other.example", ANYBODY, fetch_timeout="1s")
    leaf = other.issue("spiffe://other.example/agent/x")
    assert not enters(server, leaf, roots_pem(mesh))
    assert not enters(server, own_leaf(mesh), roots_pem(mesh))
    mesh.federate(bundle_of(other, "other.example"))
    until(lambda: enters(server, leaf, roots_pem(mesh)))
    lines = [record.getMessage() for record in caplog.records if record.name == "identity.sds"]
    assert lines == ["secret discovery: left out, not a secret of this caller: 'spiffe://other.example'"]


def test_the_shipped_configuration_takes_its_secrets_from_the_socket_and_fails_closed(
    world: SdsWorld,
) -> None:
    """Deputy is not there: who has an identity, ours or federated, gets 503; who has none, no handshake."""
    mesh, other = world.domain("mesh.example"), TestCa.create("other.example")
    mesh.federate(bundle_of(other, "other.example"))
    settings = world.settings(world.socket(mesh, "/ns/gateway/sa/envoy"))
    settings = replace(settings, listen=TcpAddress("127.0.0.1", 0), run_directory=world.directory / "shipped")
    envoy = EnvoyProcess.start(render(settings), settings.run_directory)
    world.envoys.append(envoy)
    for leaf in (own_leaf(mesh), other.issue("spiffe://other.example/agent/x")):
        assert enters(envoy, leaf, roots_pem(mesh), AGENTS)
    assert not enters(envoy, other.issue(mesh.id(CLIENT)), roots_pem(mesh), AGENTS)


def test_deputy_is_asked_about_the_id_whose_roots_were_used(world: SdsWorld) -> None:
    """The shipped Envoy and a real Check: of two IDs, Deputy and the service hear of the signer's own."""
    mesh, other = world.domain("mesh.example"), TestCa.create("other.example")
    mesh.federate(bundle_of(other, "other.example"))
    theirs = "spiffe://other.example/agent/x"
    ours = TestCa(mesh.live.current.ca.key.private_key, mesh.live.current.ca.certificate)
    with envoy_world() as deputies:
        deputy = deputies.start_deputy(own_leaf(mesh, "/deputy"), roots=ours)
        gateway = world.socket(mesh, "/ns/gateway/sa/envoy")
        settings = replace(deputies.settings(deputy), sds_socket=gateway.path)
        envoy = EnvoyProcess.start(render(settings), settings.run_directory)
        world.envoys.append(envoy)
        for leaf, expected in (
            (own_leaf(mesh), mesh.id(CLIENT)),
            (other.issue(theirs), theirs),
            (other.issue(theirs, mesh.id(CLIENT)), theirs),
        ):
            context = deputies.tls(leaf, ours)
            connection = HTTPSConnection("localhost", envoy.port(AGENTS), context=context, timeout=30)
            connection.request("GET", "/tickets/x")
            assert connection.getresponse().status == 200
            connection.close()
            assert deputies.checks()[-1].attributes.source.principal == expected
            seen = dict(deputies.upstream.requests[-1]["headers"])["x-forwarded-client-cert"]
            assert f"URI={expected}" in seen
        assert deputies.askers()[-1] == mesh.id("/ns/gateway/sa/envoy")


def test_an_envoy_shows_no_key_on_its_admin_socket(gates: Gates) -> None:
    dump: Any = json.loads(gates.servers["ALL"].admin("/config_dump?resource=dynamic_active_secrets"))
    text = json.dumps(dump)
    assert "default" in text
    assert "PRIVATE" not in text
