"""CheckRequest: every part bounded, one form of each, and nobody else reads it."""

import base64
import hashlib
from collections.abc import Callable

import pytest

from authz.codes import Code
from authz.errors import RequestError
from authz.headers import MAX_HEADERS
from authz.pb import ext_authz_pb2 as pb
from authz.request import (
    MAX_BODY_BYTES,
    MAX_EXTENSIONS,
    MAX_MESSAGE_BYTES,
    MAX_METADATA_FIELDS,
    MAX_PATH_CHARS,
    Request,
)
from identity.spiffe import SpiffeId
from tests.check_requests import MCP_HEADERS, PEER, PROXY, check_request, request

DER = bytes(range(256)) + b"certificate"
PEM = "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n"
Change = Callable[[pb.CheckRequest], object]


def pem_of(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    return PEM.format("".join(f"{text[at : at + 64]}\n" for at in range(0, len(text), 64)))


def url_encoded(pem: str) -> str:
    """Encode as Envoy does."""
    for char, escape in (("\n", "%0A"), (" ", "%20"), ("+", "%2B"), ("/", "%2F"), ("=", "%3D")):
        pem = pem.replace(char, escape)
    return pem


def refusal(message: pb.CheckRequest) -> RequestError:
    with pytest.raises(RequestError) as refused:
        Request.parse(message.SerializeToString())
    return refused.value


def changed(change: Change) -> pb.CheckRequest:
    message = check_request(b"{}")
    change(message)
    return message


def http(message: pb.CheckRequest) -> pb.AttributeContext.HttpRequest:
    return message.attributes.request.http


def test_reads_every_part() -> None:
    facts = {
        "envoy.filters.http.mcp": {
            "method": "ping",
            "id": 1,
            "ok": True,
            "params": {"name": "a", "_meta": {}},
        }
    }
    read = request(
        b"{}",
        path="/mcp?a=b",
        host="Tickets.Mesh.example:8443",
        certificate=url_encoded(pem_of(DER)),
        extensions={"service": "tickets", "route": "r"},
        metadata={**facts, "other": {"a": "b"}},
    )
    assert read.http_id == "9371478719990202781"
    assert read.peer == SpiffeId.parse(PEER)
    assert read.peer_thumbprint == base64.urlsafe_b64encode(hashlib.sha256(DER).digest()).decode().rstrip("=")
    assert read.destination == PROXY
    assert read.extensions == {"service": "tickets", "route": "r"}
    assert (read.method, read.path, read.host, read.port) == (
        "POST",
        "/mcp?a=b",
        "tickets.mesh.example",
        8443,
    )
    assert read.headers.one("content-type") == "application/json"
    assert (read.body, read.size, read.partial) == (b"{}", 2, False)
    assert read.metadata == {
        "envoy.filters.http.mcp": {"method": "ping", "id": 1.0, "ok": True, "params": {"name": "a"}}
    }


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff" * 40, b"{}", b"\x0a\xff\xff\xff\x7f"])
def test_refuses_what_is_no_check_request(data: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        Request.parse(data)
    assert refused.value.code == Code.REQUEST_MALFORMED


def test_refuses_a_message_of_more_than_4_mib_unread() -> None:
    with pytest.raises(RequestError) as refused:
        Request.parse(bytes(MAX_MESSAGE_BYTES + 1))
    assert refused.value.code == Code.REQUEST_MALFORMED


def test_refuses_a_check_request_without_http() -> None:
    assert refusal(pb.CheckRequest(attributes={"source": {"principal": PEER}})).code == Code.REQUEST_MALFORMED


def test_skips_fields_that_it_does_not_know() -> None:
    # tls_session (12), and a field that no Envoy has yet.
    data = check_request(b"{}").SerializeToString() + b"\x0a\x05\x62\x03\x0a\x01a" + b"\xaa\x06\x01x"
    assert Request.parse(data).body == b"{}"


# --- the peer


def test_empty_principal_is_nobody() -> None:
    assert request(principal="").peer is None


@pytest.mark.parametrize(
    "principal",
    [
        "spiffe://MESH.example/a",
        "spiffe://mesh.example/a\n",
        "spiffe://mesh.example/../a",
        "CN=triage",
        "-",
        "x" * 5000,
    ],
)
def test_refuses_a_principal_that_is_no_spiffe_id(principal: str) -> None:
    assert refusal(check_request(principal=principal)).code == Code.REQUEST_MALFORMED


def test_peer_is_never_read_from_a_header() -> None:
    read = request(principal="", headers=(("x-forwarded-client-cert", f"URI={PEER}"), ("x-spiffe-id", PEER)))
    assert read.peer is None


def test_no_certificate_has_no_thumbprint() -> None:
    assert request().peer_thumbprint is None


@pytest.mark.parametrize(
    "pem",
    [
        pem_of(DER) + pem_of(DER),
        "\n" + pem_of(DER),
        pem_of(DER) + "\n\n",
        pem_of(DER).replace("CERTIFICATE", "PRIVATE KEY"),
        pem_of(DER)[:-30],
        pem_of(b""),
        PEM.format("AA\n"),
        PEM.format("AB==\n"),
        PEM.format("A===\n"),
        PEM.format("AA==AA==\n"),
        PEM.format("AA-_\n"),
        PEM.format("A A=\n"),
        PEM.format("AAAA\nAAAA\n"),
        PEM.format("A" * 68 + "\n"),
        "AAAA",
        " ",
    ],
)
def test_refuses_what_is_not_exactly_one_certificate(pem: str) -> None:
    assert refusal(check_request(certificate=url_encoded(pem))).code == Code.REQUEST_MALFORMED


@pytest.mark.parametrize("suffix", ["%", "%0", "%zz", "\n", "é", "%00"])
def test_refuses_a_certificate_that_is_not_url_encoded(suffix: str) -> None:
    assert (
        refusal(check_request(certificate=url_encoded(pem_of(DER)) + suffix)).code == Code.REQUEST_MALFORMED
    )


def test_refuses_a_certificate_of_more_than_32_kib() -> None:
    assert (
        refusal(check_request(certificate=url_encoded(pem_of(bytes(30_000))))).code == Code.REQUEST_MALFORMED
    )


# --- method, path, host


@pytest.mark.parametrize(
    "method", ["", "get", "Post", "CONNECT", "TRACE", "GET ", "GET\n", "PROPFIND", "X" * 5000]
)
def test_refuses_a_method_that_is_not_on_the_list(method: str) -> None:
    assert refusal(check_request(method=method)).code == Code.REQUEST_MALFORMED


@pytest.mark.parametrize(
    "path",
    ["", "mcp", "*", "http://a/b", "/a b", "/a\x00", "/a\n", "/a\x7f", "/é", "/a#b", "/a?b#c", "\\a", "?a"],
)
def test_refuses_a_path_that_is_not_printable_or_has_a_fragment(path: str) -> None:
    assert refusal(check_request(path=path)).code == Code.PATH


def test_refuses_a_path_of_more_than_8_kib() -> None:
    assert request(path="/" + "a" * (MAX_PATH_CHARS - 1)).path
    assert refusal(check_request(path="/" + "a" * MAX_PATH_CHARS)).code == Code.PATH


@pytest.mark.parametrize(
    ("authority", "host", "port"),
    [
        ("h", "h", None),
        ("Tickets.MESH.Example", "tickets.mesh.example", None),
        ("a_b.c-d:0", "a_b.c-d", 0),
        ("127.0.0.1:65535", "127.0.0.1", 65535),
        ("[::1]", "[::1]", None),
        ("[2001:DB8:0:0::1]:8080", "[2001:db8::1]", 8080),
        ("a" * 253, "a" * 253, None),
    ],
)
def test_host_is_folded_and_split_from_its_port(authority: str, host: str, port: int | None) -> None:
    read = request(host=authority)
    assert (read.host, read.port) == (host, port)


@pytest.mark.parametrize(
    "authority",
    [
        "",
        "u@h",
        "h:",
        "h:65536",
        "h:123456",
        "h:-1",
        "h:8 0",
        "h h",
        "h\n",
        "a/b",
        "a,b",
        "::1",
        "[::1",
        "[::1]x",
        "[fe80::1%25eth0]",
        "[:::]",
        "[1]",
        "\u212a.example",
        "münchen.example",
        "a" * 254,
        "x" * 5000,
        "h:٣",
    ],
)
def test_refuses_what_is_no_host(authority: str) -> None:
    assert refusal(check_request(host=authority)).code == Code.REQUEST_MALFORMED


# --- headers


def test_reads_headers_of_a_proxy_that_sends_a_map() -> None:
    message = check_request(b"{}")
    del http(message).header_map.headers[:]
    http(message).headers.update({"content-type": "application/json", "x-envoy-auth-partial-body": "false"})
    assert Request.parse(message.SerializeToString()).headers.one("content-type") == "application/json"


def test_reads_values_that_a_proxy_sends_as_text() -> None:
    message = check_request(b"{}", headers=())
    http(message).header_map.headers.add(key="x-a", value="1")
    assert Request.parse(message.SerializeToString()).headers.one("x-a") == "1"


def test_keeps_bytes_that_nobody_asks_for() -> None:
    assert ("x-a", b"\xff\xfe") in request(headers=(("x-a", b"\xff\xfe"),)).headers.fields


def _both_header_forms(message: pb.CheckRequest) -> None:
    http(message).headers["x-a"] = "1"


def _both_values(message: pb.CheckRequest) -> None:
    http(message).header_map.headers.add(key="x-a", value="1", raw_value=b"2")


def _both_bodies(message: pb.CheckRequest) -> None:
    http(message).body = "{}"


def _many_headers(message: pb.CheckRequest) -> None:
    for number in range(MAX_HEADERS):
        http(message).header_map.headers.add(key=f"x-{number}", raw_value=b"1")


def _many_extensions(message: pb.CheckRequest) -> None:
    message.attributes.context_extensions.update({f"x{number}": "" for number in range(MAX_EXTENSIONS)})


def _long_extension(message: pb.CheckRequest) -> None:
    message.attributes.context_extensions["service"] = "x" * 1025


def _strange_extension(message: pb.CheckRequest) -> None:
    message.attributes.context_extensions["ser\nvice"] = "x"


def _long_id(message: pb.CheckRequest) -> None:
    http(message).id = "1" * 129


def _strange_id(message: pb.CheckRequest) -> None:
    http(message).id = "1\n2"


def _long_destination(message: pb.CheckRequest) -> None:
    message.attributes.destination.principal = "x" * 1025


def _much_metadata(message: pb.CheckRequest) -> None:
    facts = {f"x{number}": number for number in range(MAX_METADATA_FIELDS + 1)}
    message.attributes.metadata_context.filter_metadata["mcp_proxy"].update(facts)


def _much_nested_metadata(message: pb.CheckRequest) -> None:
    facts = {f"x{number}": number for number in range(MAX_METADATA_FIELDS + 1)}
    message.attributes.metadata_context.filter_metadata["mcp_proxy"].update({"params": facts})


@pytest.mark.parametrize(
    "change",
    [
        _both_header_forms,
        _both_values,
        _both_bodies,
        _many_headers,
        _many_extensions,
        _long_extension,
        _strange_extension,
        _long_id,
        _strange_id,
        _long_destination,
        _much_metadata,
        _much_nested_metadata,
    ],
)
def test_refuses_two_forms_of_one_part_and_parts_without_bounds(change: Change) -> None:
    assert refusal(changed(change)).code == Code.REQUEST_MALFORMED


# --- the body


def test_reads_a_body_that_a_gateway_sends_as_text() -> None:
    message = check_request(size=4)
    http(message).body = "é12"
    read = Request.parse(message.SerializeToString())
    assert (read.body, read.partial) == ("é12".encode(), False)


def test_refuses_a_body_of_more_than_1_mib() -> None:
    assert request(bytes(MAX_BODY_BYTES)).size == MAX_BODY_BYTES
    assert refusal(check_request(bytes(MAX_BODY_BYTES + 1))).code == Code.BODY_TOO_LARGE


@pytest.mark.parametrize(
    ("body", "size", "partial", "expected"),
    [
        (b"{}", 2, "false", False),
        (b"{}", 2, None, False),
        (b"{}", 2, "true", True),
        (b"{}", 2, "TRUE", True),
        (b"{}", 2, "0", True),
        (b"{}", 2, "", True),
        (b"{}", 3, "false", True),
        (b"{}", 1, "false", True),
        (b"{}", 0, "false", True),
        (b"{}", -1, "false", True),
        (b"{}", -2, "false", True),
        (b"", 1, None, True),
        (b"", 0, None, False),
        (b"", -1, None, False),
    ],
)
def test_body_is_partial_unless_all_of_it_is_there(
    body: bytes, size: int, partial: str | None, expected: bool
) -> None:
    assert request(body, size=size, partial=partial).partial is expected


@pytest.mark.parametrize("header", [("content-length", "1"), ("transfer-encoding", "chunked")])
def test_unknown_size_of_a_request_that_announces_a_body_is_partial(header: tuple[str, str]) -> None:
    assert request(size=-1, headers=(header,)).partial


def test_unknown_size_of_a_request_that_announces_no_body_is_not_partial() -> None:
    assert not request(size=-1, headers=(("content-length", "0"),)).partial


def test_refuses_two_flags_that_contradict_each_other() -> None:
    headers = (*MCP_HEADERS, ("x-envoy-auth-partial-body", "true"))
    assert refusal(check_request(b"{}", headers=headers)).code == Code.HEADER_DUPLICATE


def test_representation_shows_no_header_and_no_body() -> None:
    shown = repr(request(b"hunter2", headers=(("authorization", "Bearer hunter2"),)))
    assert "hunter2" not in shown
    assert PEER.rpartition("/")[2] in shown
