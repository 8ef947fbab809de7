"""The shipped configuration on a real Envoy, asking our host over mTLS."""

import hashlib
import json
import signal
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from authz.address import TcpAddress
from authz.pb.ext_authz_pb2 import CheckRequest
from tests.e2e.ca import TestCa
from tests.e2e.check_server import DECISION
from tests.e2e.envoy_world import AGENT, ENVOY, Answer, Header, World, world

pytestmark = pytest.mark.e2e
KIB = 1024


@dataclass(frozen=True, slots=True)
class Mesh:
    """One world with one Envoy, which tests share as long as they leave it as it was."""

    world: World
    deputy: TcpAddress
    port: int

    def ask(self, path: str, *headers: Header, method: str = "GET", body: bytes | None = None) -> Answer:
        return self.world.request(self.port, path, method=method, headers=headers, body=body)

    def last_check(self) -> CheckRequest:
        return self.world.checks()[-1]

    def counts(self) -> tuple[int, int]:
        return len(self.world.checks()), len(self.world.upstream.requests)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with world() as made:
        deputy = made.start_deputy()
        yield Mesh(made, deputy, made.start_envoy(deputy))


@pytest.fixture
def own_world() -> Iterator[World]:
    with world() as made:
        yield made


def values(headers: list[list[str]], name: str) -> list[str]:
    return [value for key, value in headers if key == name]


# ---- what passes


def test_an_allowed_call_reaches_the_service_without_the_callers_credential(mesh: Mesh) -> None:
    answer = mesh.ask("/tickets/mcp?x=1", ("Authorization", "Bearer secret"))
    assert answer.status == 200
    seen = answer.json
    assert seen["path"] == "/mcp"
    assert values(seen["headers"], "txn-token") == ["from-deputy"]
    assert values(seen["headers"], "authorization") == []
    assert values(seen["headers"], "host") == ["tickets.local"]


@pytest.mark.parametrize(("path", "status"), [("deny", 403), ("deny200", 200)])
def test_a_denial_arrives_in_the_form_that_deputy_chose(mesh: Mesh, path: str, status: int) -> None:
    _, upstream = mesh.counts()
    answer = mesh.ask(f"/tickets/{path}")
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body)
    assert mesh.counts()[1] == upstream


def test_a_request_for_no_service_is_404_and_deputy_is_not_asked(mesh: Mesh) -> None:
    before = mesh.counts()
    for path in ("/", "/tickets", "/Tickets/x", "/other/x", "/tickets;a=b/x", "/ticketsx/x"):
        assert mesh.ask(path).status == 404
    assert mesh.counts() == before


# ---- what deputy learns


def test_deputy_learns_the_asker_from_envoys_certificate(mesh: Mesh) -> None:
    mesh.ask("/tickets/x")
    assert mesh.world.askers()[-1] == ENVOY


def test_every_part_of_the_request_arrives_where_it_is_read(mesh: Mesh) -> None:
    body = b'{"jsonrpc":"2.0","id":1}\xff'
    leaf = mesh.world.ca.issue(AGENT)
    headers: list[Header] = [("X-Two", "1"), ("X-Two", "2"), ("x-bytes", b"\xc3\x28")]
    mesh.world.request(mesh.port, "/billing/x?q=%20", method="POST", headers=headers, body=body, leaf=leaf)
    attributes = mesh.last_check().attributes
    http = attributes.request.http
    assert attributes.source.principal == AGENT
    assert attributes.source.address.socket_address.address == "127.0.0.1"
    assert attributes.source.address.socket_address.port_value > 0
    assert attributes.destination.principal == ENVOY
    assert attributes.destination.address.socket_address.port_value == mesh.port
    assert dict(attributes.context_extensions) == {"service": "billing"}
    assert attributes.tls_session.sni == "localhost"
    assert attributes.request.HasField("time")
    assert (http.method, http.path, http.scheme, http.protocol) == (
        "POST",
        "/billing/x?q=%20",
        "https",
        "HTTP/1.1",
    )
    assert http.host == f"localhost:{mesh.port}"
    assert (http.raw_body, http.body, http.size) == (body, "", len(body))
    assert (http.query, http.fragment) == ("", "")
    assert http.id
    assert not http.headers
    sent = [(header.key, header.raw_value) for header in http.header_map.headers]
    assert [value for key, value in sent if key == "x-two"] == [b"1", b"2"]
    assert ("x-bytes", b"\xc3\x28") in sent
    pem = unquote(attributes.source.certificate).encode()
    theirs, ours = x509.load_pem_x509_certificate(pem), x509.load_pem_x509_certificate(leaf.certificate)
    assert theirs == ours
    digest = hashlib.sha256(ours.public_bytes(Encoding.DER)).hexdigest()
    (xfcc,) = [value.decode() for key, value in sent if key == "x-forwarded-client-cert"]
    assert xfcc == f"By={ENVOY};Hash={digest};URI={AGENT}"


def unknown(message: Message, at: str = "") -> set[str]:
    fields = UnknownFieldSet(message)  # its stub knows `len` and the index only
    found = {f"{at}{fields[index].field_number}" for index in range(len(fields))}
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
            continue
        for part in value if descriptor.is_repeated else [value]:
            found |= unknown(part, f"{at}{descriptor.name}.")
    return found


def test_envoy_sends_no_field_that_we_do_not_know(mesh: Mesh) -> None:
    mesh.ask("/tickets/x", method="POST", body=b"{}")
    assert unknown(mesh.last_check()) == set()


def test_envoy_joins_some_repeated_headers_and_keeps_others_apart(mesh: Mesh) -> None:
    """A reader must refuse a comma in these; that there were two headers is not to be seen any more."""
    names = (b"host", b"authorization", b"content-type", b"mcp-session-id", b"txn-token-x", b"dpop")
    twice = b"".join(b"%s: a\r\n%s: b\r\n" % (name, name) for name in names)
    assert b" 200 " in raw(mesh, b"GET /tickets/x HTTP/1.1\r\n" + twice + b"\r\n")
    http = mesh.last_check().attributes.request.http
    sent = [(header.key, header.raw_value) for header in http.header_map.headers]
    assert http.host == "a,b"
    for name in ("authorization", "content-type"):
        assert [value for key, value in sent if key == name] == [b"a,b"]
    for name in ("mcp-session-id", "txn-token-x", "dpop"):
        assert [value for key, value in sent if key == name] == [b"a", b"b"]


def test_a_body_of_unknown_length_has_a_known_size_when_it_is_seen(mesh: Mesh) -> None:
    head = b"POST /tickets/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    assert b" 200 " in raw(mesh, head + b"5\r\nhello\r\n0\r\n\r\n")
    http = mesh.last_check().attributes.request.http
    print(http)
    assert (http.raw_body, http.size) == (b"hello", 5)


# ---- what clients cannot say

SPOOFED: tuple[Header, ...] = (
    ("X-Forwarded-Client-Cert", "By=spiffe://mesh.example/x;URI=spiffe://mesh.example/agent/root"),
    ("Txn-Token", "forged"),
    ("X-Deputy-Human", "forged"),
    ("x-deputy-anything", "forged"),
    ("L5d-Client-Id", "forged"),
    ("X-Envoy-Auth-Partial-Body", "forged"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-original-path", "/billing/forged"),
    ("x-forwarded-for", "forged"),
    ("X-Forwarded-Host", "forged"),
    ("forwarded", "for=forged"),
    ("x-real-ip", "forged"),
)


def test_headers_that_speak_in_our_name_are_removed_before_anyone_reads_them(mesh: Mesh) -> None:
    seen = mesh.ask("/tickets/x", *SPOOFED, *SPOOFED).json["headers"]
    asked = mesh.last_check().attributes.request.http.header_map.headers
    for name, value in seen + [[header.key, header.raw_value.decode()] for header in asked]:
        assert "forged" not in value, name
        assert "agent/root" not in value, name
        assert not name.startswith("x-deputy-")
    assert values(seen, "txn-token") == ["from-deputy"]
    assert len(values(seen, "x-forwarded-client-cert")) == 1
    assert not [header.key for header in asked if header.key == "txn-token"]


@pytest.mark.parametrize("name", ["x_deputy_human", "txn_token", "X-Deputy_Agent"])
def test_a_header_with_an_underscore_is_refused_because_servers_may_read_it_as_a_dash(
    mesh: Mesh, name: str
) -> None:
    before = mesh.counts()
    assert mesh.ask("/tickets/x", (name, "forged")).status == 400
    assert mesh.counts() == before


def test_the_clients_request_id_is_replaced(mesh: Mesh) -> None:
    mesh.ask("/tickets/x", ("x-request-id", "forged"))
    assert mesh.last_check().attributes.request.http.id not in {"", "forged"}


# ---- paths have one reading


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("//tickets//a", "/tickets/a"),
        ("/tickets/./a", "/tickets/a"),
        ("/billing/../tickets/a", "/tickets/a"),
        ("/billing/%2e%2e/tickets/a", "/tickets/a"),
        ("/billing/%2E./tickets/a", "/tickets/a"),
        ("/tickets/b/../a", "/tickets/a"),
        ("/tickets/%61", "/tickets/a"),
        ("http://evil.example/tickets/a", "/tickets/a"),
    ],
)
def test_deputy_sees_the_path_that_the_route_saw(mesh: Mesh, sent: str, seen: str) -> None:
    answer = mesh.ask(sent)
    assert answer.status == 200
    check = mesh.last_check().attributes
    assert check.request.http.path == seen
    assert check.context_extensions["service"] == "tickets"
    assert answer.json["path"] == seen.removeprefix("/tickets")
    assert values(answer.json["headers"], "host") == ["tickets.local"]


@pytest.mark.parametrize(
    "path",
    [
        "/tickets/..%2fbilling/a",
        "/tickets/%2Fa",
        "/tickets/..%5cbilling/a",
        "/tickets%2fa",
        "/tickets/a%00",
        "/tickets/a#/../../billing",
        "tickets/a",
        "/../../tickets/../../x",
        "/tickets/../x",
    ],
)
def test_a_path_of_two_readings_is_refused_and_nobody_is_asked(mesh: Mesh, path: str) -> None:
    before = mesh.counts()
    assert mesh.ask(path).status in {400, 404}
    assert mesh.counts() == before


def test_a_backslash_is_a_slash_for_everyone_or_refused(mesh: Mesh) -> None:
    answer = mesh.ask("/tickets\\..\\billing\\a")
    if answer.status == 200:
        assert mesh.last_check().attributes.context_extensions["service"] == "billing"
        assert values(answer.json["headers"], "host") == ["billing.local"]
    else:
        assert answer.status in {400, 404}


# ---- bodies are seen whole


def test_a_body_of_256_kib_is_seen_whole(mesh: Mesh) -> None:
    answer = mesh.ask("/tickets/x", method="POST", body=bytes(256 * KIB))
    assert answer.json["size"] == 256 * KIB
    http = mesh.last_check().attributes.request.http
    assert (len(http.raw_body), http.size) == (256 * KIB, 256 * KIB)


@pytest.mark.parametrize("size", [256 * KIB + 1, 2 * KIB * KIB])
def test_a_larger_body_is_413_and_nobody_is_asked(mesh: Mesh, size: int) -> None:
    before = mesh.counts()
    # Envoy may answer and close before all is sent; what counts is that nobody is asked.
    with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
        assert mesh.ask("/tickets/x", method="POST", body=bytes(size)).status == 413
    assert mesh.counts() == before


def test_a_larger_body_of_unknown_length_is_413_too(mesh: Mesh) -> None:
    before = mesh.counts()
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    head = b"POST /tickets/x HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    assert b" 413 " in raw(mesh, head + chunk * 9 + b"0\r\n\r\n").splitlines()[0]
    assert mesh.counts() == before


@contextmanager
def connected(port: int, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def raw(mesh: Mesh, data: bytes) -> bytes:
    """The first bytes of the answer to bytes that no client library would send."""
    with connected(mesh.port, mesh.world.tls(mesh.world.ca.issue(AGENT))) as connection:
        connection.sendall(data)
        return connection.recv(64 * KIB)


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost:1\r\n\r\n",
        b"GET /tickets/x HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"POST /tickets/x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /tickets/x HTTP/1.0\r\n\r\n",
        b"GET /tickets/x HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"GET /tickets/x HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 33 * KIB + b"\r\n\r\n",
    ],
    ids=["connect", "upgrade", "smuggling", "http/1.0", "many headers", "large headers"],
)
def test_a_request_outside_of_plain_http_is_refused_and_nobody_is_asked(mesh: Mesh, head: bytes) -> None:
    before = mesh.counts()
    status = raw(mesh, head).split(b" ")[1]
    assert status.startswith(b"4")
    assert mesh.counts() == before


# ---- what deputy cannot do


@pytest.mark.parametrize("path", ["reroute", "rehost", "split"])
def test_an_answer_that_would_send_the_request_elsewhere_is_an_error(mesh: Mesh, path: str) -> None:
    _, upstream = mesh.counts()
    assert mesh.ask(f"/tickets/{path}").status >= 500
    assert mesh.counts()[1] == upstream


def test_only_the_text_of_a_header_counts_in_an_answer(mesh: Mesh) -> None:
    assert values(mesh.ask("/tickets/raw").json["headers"], "x-raw") == [""]


def test_what_an_answer_removes_is_gone_even_if_the_same_answer_sets_it(mesh: Mesh) -> None:
    """So a route that exchanges the credential must not list `authorization` among the removed ones."""
    seen = mesh.ask("/tickets/set-and-remove", ("Authorization", "Bearer secret")).json["headers"]
    assert values(seen, "authorization") == []
    assert values(seen, "txn-token") == ["from-deputy"]


def test_what_an_answer_sets_stands_in_place_of_all_that_a_client_sent(mesh: Mesh) -> None:
    """Kuadrant's broker shows nothing if its header stands twice, and all if it is a client's own."""
    forged = ("X-MCP-Authorized", "forged")
    seen = mesh.ask("/tickets/names", forged, forged).json["headers"]
    assert values(seen, "x-mcp-authorized") == ["from-deputy"]


# ---- deny by default


@pytest.mark.parametrize("path", ["raise", "hang", "empty"])
def test_a_check_that_fails_is_503(mesh: Mesh, path: str) -> None:
    _, upstream = mesh.counts()
    assert mesh.ask(f"/tickets/{path}").status == 503
    assert mesh.counts()[1] == upstream


def test_an_empty_answer_allows_in_envoy_which_is_why_the_host_never_sends_one(own_world: World) -> None:
    port = own_world.start_envoy(own_world.start_deputy(None, "--unguarded"))
    assert own_world.request(port, "/tickets/x").status == 200
    assert len(own_world.upstream.requests) == 1


def test_deputy_down_is_503_and_calls_flow_again_when_it_is_back(own_world: World) -> None:
    deputy = own_world.start_deputy()
    port = own_world.start_envoy(deputy)
    assert own_world.request(port, "/tickets/x").status == 200
    own_world.deputies[0].kill()
    own_world.deputies[0].wait()
    assert [own_world.request(port, "/tickets/x").status for _ in range(3)] == [503] * 3
    assert len(own_world.upstream.requests) == 1
    own_world.start_deputy(None, "--listen", str(deputy))
    assert until_allowed(own_world, port)


def test_a_frozen_deputy_is_503_and_calls_flow_again_when_it_thaws(own_world: World) -> None:
    port = own_world.start_envoy(own_world.start_deputy())
    assert own_world.request(port, "/tickets/x").status == 200
    own_world.deputies[0].send_signal(signal.SIGSTOP)
    try:
        assert [own_world.request(port, "/tickets/x").status for _ in range(3)] == [503] * 3
    finally:
        own_world.deputies[0].send_signal(signal.SIGCONT)
    assert len(own_world.upstream.requests) == 1
    assert until_allowed(own_world, port)


def until_allowed(own_world: World, port: int) -> bool:
    return until(lambda: own_world.request(port, "/tickets/x").status == 200)


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Try again and again; each try is a connection of its own, so it does not spin."""
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end:
        pass
    return met


@pytest.mark.parametrize("kind", ["another ID", "an ID below", "no ID", "another root"])
def test_a_server_in_deputys_place_is_not_asked(own_world: World, kind: str) -> None:
    match kind:
        case "another ID":
            leaf = own_world.ca.issue("spiffe://mesh.example/deputies")
        case "an ID below":
            leaf = own_world.ca.issue("spiffe://mesh.example/deputy/x")
        case "no ID":
            leaf = own_world.ca.issue(dns=("localhost",))
        case _:
            leaf = TestCa.create().issue("spiffe://mesh.example/deputy")
    port = own_world.start_envoy(own_world.start_deputy(leaf))
    assert own_world.request(port, "/tickets/x").status == 503
    assert own_world.checks() == []
    assert own_world.upstream.requests == []


# ---- who may connect


@pytest.mark.parametrize(
    "kind", ["none", "another root", "another trust domain", "a look-alike domain", "no ID"]
)
def test_a_client_without_an_identity_of_the_trust_domain_fails_the_handshake(mesh: Mesh, kind: str) -> None:
    ca = mesh.world.ca
    leaf = {
        "none": None,
        "another root": TestCa.create().issue(AGENT),
        "another trust domain": ca.issue("spiffe://other.example/agent/x"),
        "a look-alike domain": ca.issue("spiffe://mesh.example.evil/agent/x"),
        "no ID": ca.issue(dns=("mesh.example",)),
    }[kind]
    before = mesh.counts()
    context = mesh.world.tls(leaf)
    assert not answered(mesh.port, context, "/tickets/x")
    assert mesh.counts() == before


def answered(port: int, context: ssl.SSLContext, path: str) -> bool:
    try:
        with connected(port, context) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            return connection.recv(KIB).startswith(b"HTTP/1.1 ")
    except (ssl.SSLError, ConnectionError):
        return False


def test_tls_1_2_and_session_resumption_are_refused(mesh: Mesh) -> None:
    context = mesh.world.tls(mesh.world.ca.issue(AGENT))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert not answered(mesh.port, context, "/none")
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    with connected(mesh.port, context) as connection:
        connection.sendall(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 404 " in connection.recv(KIB)
        assert connection.session is None or not connection.session.has_ticket


def test_new_certificates_and_roots_are_taken_while_it_runs(own_world: World) -> None:
    port = own_world.start_envoy(own_world.start_deputy())
    other = TestCa.create()
    assert serves(own_world, port, own_world.ca)
    own_world.write_secrets(other)
    assert until(lambda: serves(own_world, port, other))
    assert not serves(own_world, port, own_world.ca)


def serves(own_world: World, port: int, ca: TestCa) -> bool:
    """Whether Envoy's certificate leads to this root, and ours of the same root is accepted."""
    return answered(port, own_world.tls(ca.issue(AGENT), ca), "/none")


# ---- what is left behind


def test_the_access_log_carries_the_decision_id_but_no_query_and_no_credential(own_world: World) -> None:
    port = own_world.start_envoy(own_world.start_deputy())
    own_world.request(port, "/tickets/x?code=secret", headers=[("Authorization", "Bearer secret")])
    own_world.request(port, "/tickets/deny")
    own_world.envoys[0].stop()
    text = (own_world.directory / "envoy0" / "access.log").read_text()
    line, denied = [json.loads(line) for line in text.splitlines()]
    assert line["decision_id"] == denied["decision_id"] == DECISION
    assert denied["path"] == "/tickets/deny"
    assert (line["peer"], line["service"], line["status"], line["path"]) == (
        AGENT,
        "tickets",
        200,
        "/tickets/x",
    )
    assert "secret" not in text


def test_the_admin_interface_is_a_socket_for_this_user_only_and_cannot_change_behaviour(mesh: Mesh) -> None:
    envoy = mesh.world.envoys[0]
    status = Path(envoy.admin_socket).stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    with pytest.raises(Exception, match="says 503"):
        envoy.admin("/runtime_modify?a=b", "POST")


def test_envoy_starts_without_a_warning(mesh: Mesh) -> None:
    assert not [
        line for line in mesh.world.envoys[0].log.read_text().splitlines() if "deprecated" in line.lower()
    ]


def test_only_the_process_that_was_started_is_stopped(own_world: World) -> None:
    own_world.start_envoy(own_world.start_deputy())
    envoy = own_world.envoys[0]
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        envoy.stop()
        envoy.stop()
        assert envoy.process.poll() is not None
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
