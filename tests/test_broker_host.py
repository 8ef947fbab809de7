"""HTTP over TLS: whose certificate reaches the application, and what one client may take."""

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from authz.address import TcpAddress, UnixAddress
from authz.errors import ConfigError
from authz.hosts.http import (
    App,
    BodyTooLargeError,
    HttpHost,
    Limits,
    Receive,
    Scope,
    Send,
    peer_chain,
    read_body,
)
from authz.hosts.tls import TlsMaterial
from identity.authority import Authority
from identity.keys import SigningKey
from identity.x509_svid import leaf_spiffe_id
from tests.broker_fakes import MESH, RUNNER, Identity, serving, serving_tls, tls_material

NOW = datetime.now(UTC).replace(microsecond=0)


async def respond(send: Send, status: int, body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def whoami(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the SPIFFE ID of the certificate that the host passed on."""
    chain = peer_chain(scope)
    await respond(send, 200, str(leaf_spiffe_id(chain[0])).encode() if chain else b"nobody")


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the length of the body, of at most 100 bytes."""
    try:
        await respond(send, 200, str(len(await read_body(receive, 100))).encode())
    except BodyTooLargeError:
        await respond(send, 413)


def client_of(
    authority: Authority, now: datetime = NOW, ttl: int = 600, roots: Authority | None = None
) -> Identity:
    key = SigningKey.generate()
    der = authority.issue_workload_svid(RUNNER, key.private_key.public_key(), now, ttl)
    pem = (roots or authority).ca.certificate_pem().decode()
    return Identity.of(ssl.DER_cert_to_PEM_cert(der), key, pem)


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.ca.certificate_pem().decode())


async def get(url: str, tls: ssl.SSLContext) -> str:
    async with httpx2.AsyncClient(verify=tls, trust_env=False) as http:
        return (await http.get(url)).text


# ---------------------------------------------------------------- who is there


def test_the_verified_certificate_reaches_the_application() -> None:
    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW)
        async with serving_tls(whoami, authority, NOW) as base:
            assert await get(base, client_of(authority).tls) == str(RUNNER)

    asyncio.run(scenario())


def test_a_client_without_certificate_is_nobody() -> None:
    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW)
        async with serving_tls(whoami, authority, NOW) as base:
            assert await get(base, trusting(authority)) == "nobody"

    asyncio.run(scenario())


def test_each_connection_has_its_own_certificate() -> None:
    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW)
        async with serving_tls(whoami, authority, NOW) as base:
            client = client_of(authority)
            answers = await asyncio.gather(
                *(get(base, client.tls if number % 2 else trusting(authority)) for number in range(8))
            )
            assert answers == ["nobody", str(RUNNER)] * 4

    asyncio.run(scenario())


@pytest.mark.parametrize("case", ["other-authority", "expired"])
def test_refuses_in_the_handshake_a_certificate_of(case: str) -> None:
    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW - timedelta(hours=3))
        if case == "expired":
            client = client_of(authority, NOW - timedelta(hours=2), 60)
        else:
            client = client_of(Authority.generate(MESH, NOW), roots=authority)
        async with serving_tls(whoami, authority, NOW) as base:
            with pytest.raises(httpx2.TransportError):
                await get(base, client.tls)

    asyncio.run(scenario())


def test_headers_say_nothing_about_the_peer() -> None:
    """Threat 1: no forwarded header is believed."""

    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW)
        forged = {
            "x-forwarded-client-cert": f"URI={RUNNER}",
            "x-forwarded-for": "10.9.9.9",
            "x-forwarded-proto": "http",
        }
        seen: list[Scope] = []

        async def keep(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)
            await respond(send, 200)

        async with (
            serving_tls(keep, authority, NOW) as base,
            httpx2.AsyncClient(verify=trusting(authority), trust_env=False) as http,
        ):
            await http.get(base, headers=forged)
        assert peer_chain(seen[0]) == ()
        assert seen[0]["client"][0] == "127.0.0.1"
        assert seen[0]["scheme"] == "https"

    asyncio.run(scenario())


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_no_tls_before_1_2() -> None:
    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW)
        old = trusting(authority)
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        async with serving_tls(whoami, authority, NOW) as base:
            with pytest.raises(ssl.SSLError, match=r"EOF|PROTOCOL_VERSION"):
                await asyncio.to_thread(_session, base, old)

    asyncio.run(scenario())


def test_no_session_of_tls_1_3_is_resumed() -> None:
    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW)
        async with serving_tls(whoami, authority, NOW) as base:
            assert await asyncio.to_thread(_session, base, client_of(authority).tls) is False

    asyncio.run(scenario())


def _session(base: str, tls: ssl.SSLContext) -> bool:
    """Connect twice, the second time with the session of the first; tell whether it was resumed."""
    session = None
    reused = False
    for _ in range(2):
        with (
            socket.create_connection(("localhost", int(base.rpartition(":")[2]))) as plain,
            tls.wrap_socket(plain, server_hostname="localhost", session=session) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            while connection.recv(4096):
                pass
            session = connection.session
            reused = bool(connection.session_reused)
    return reused


# ---------------------------------------------------------------- certificates that change


def test_a_renewed_certificate_counts_from_the_next_handshake_on() -> None:
    async def scenario() -> None:
        old, new = Authority.generate(MESH, NOW), Authority.generate(MESH, NOW)
        material = tls_material(old, NOW)
        host = HttpHost(whoami, tls=lambda: material)
        address = await host.listen(TcpAddress("127.0.0.1", 0))
        base = f"https://{address}"
        assert await get(base, client_of(old).tls) == str(RUNNER)
        material = tls_material(new, NOW)
        assert await get(base, client_of(new).tls) == str(RUNNER)
        with pytest.raises(httpx2.TransportError):
            await get(base, client_of(old, roots=new).tls)
        await host.close(0.1)

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", ["raises", "garbage"])
def test_a_source_that_fails_keeps_the_last_certificate(failure: str) -> None:
    async def scenario() -> None:
        authority = Authority.generate(MESH, NOW)
        good = tls_material(authority, NOW)
        broken = replace(good, certificate_chain=b"garbage")
        is_broken = False

        def source() -> TlsMaterial:
            if not is_broken:
                return good
            if failure == "raises":
                raise ConfigError("cannot read")
            return broken

        host = HttpHost(whoami, tls=source)
        address = await host.listen(TcpAddress("127.0.0.1", 0))
        is_broken = True
        assert await get(f"https://{address}", client_of(authority).tls) == str(RUNNER)
        await host.close(0.1)

    asyncio.run(scenario())


def test_material_that_is_none_is_found_at_the_start() -> None:
    authority = Authority.generate(MESH, NOW)
    other = tls_material(authority, NOW)
    mixed = replace(tls_material(authority, NOW), private_key=other.private_key)

    with pytest.raises(ssl.SSLError):
        HttpHost(whoami, tls=lambda: mixed)


# ---------------------------------------------------------------- limits


def raw(base: str, data: bytes) -> bytes:
    """Send bytes over a plain connection and read until the other side ends it, in whatever way."""
    host, _, port = base.removeprefix("http://").partition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received += chunk
    return received


@pytest.mark.parametrize(("length", "status"), [(0, 200), (100, 200), (101, 413), (1 << 20, 413)])
def test_no_more_of_a_body_is_read_than_allowed(length: int, status: int) -> None:
    async def scenario() -> None:
        async with serving(count) as base, httpx2.AsyncClient(trust_env=False) as http:
            for _ in range(2):  # the connection is good for another request
                assert (await http.post(base, content=b"x" * length)).status_code == status

    asyncio.run(scenario())


def test_no_more_of_a_chunked_body_is_read_than_allowed() -> None:
    async def scenario() -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 10

        async with serving(count) as base, httpx2.AsyncClient(trust_env=False) as http:
            assert (await http.post(base, content=chunks())).status_code == 413

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 17_000,
        b"GET /?" + b"a" * 17_000 + b" HTTP/1.1\r\nhost: x",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"\r\n".join([b"x: y"] * 10_000),
    ],
    ids=["header", "query", "many headers"],
)
def test_refuses_a_long_head(request_head: bytes) -> None:
    async def scenario() -> None:
        async with serving(whoami) as base:
            answer = await asyncio.to_thread(raw, base, request_head + b"\r\n\r\n")
            assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_a_client_that_stalls_is_cut_off(sent: bytes) -> None:
    async def scenario() -> None:
        async with serving(count, Limits(request_seconds=0.2, idle_seconds=1000)) as base:
            assert await asyncio.to_thread(raw, base, sent) == b""

    asyncio.run(scenario())


def test_a_body_without_end_is_cut_off_after_the_answer() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, b"early")

    async def scenario() -> None:
        async with serving(early, Limits(request_seconds=0.2, idle_seconds=1000)) as base:
            request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nx"
            assert b"early" in await asyncio.to_thread(raw, base, request)

    asyncio.run(scenario())


def test_an_idle_connection_is_ended() -> None:
    async def scenario() -> None:
        async with serving(whoami, Limits(request_seconds=1000, idle_seconds=0)) as base:
            assert b"nobody" in await asyncio.to_thread(raw, base, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")

    asyncio.run(scenario())


def test_a_stalled_handshake_is_cut_off() -> None:
    async def scenario() -> None:
        limits = Limits(handshake_seconds=0.2)
        async with serving_tls(whoami, Authority.generate(MESH, NOW), NOW, limits) as base:
            assert await asyncio.to_thread(raw, base.removeprefix("https://"), b"") == b""

    asyncio.run(scenario())


def test_too_many_connections_are_turned_away() -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            base = await stack.enter_async_context(serving(whoami, Limits(connections=3)))
            statuses = []
            for _ in range(3):
                http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False))
                statuses.append((await http.get(base)).status_code)
            assert statuses == [200, 200, 503]

    asyncio.run(scenario())


def test_answers_name_no_software() -> None:
    async def scenario() -> None:
        async with serving(whoami) as base, httpx2.AsyncClient(trust_env=False) as http:
            headers = (await http.get(base)).headers
            assert "server" not in headers
            assert "date" in headers

    asyncio.run(scenario())


def test_garbage_is_answered_and_the_server_lives() -> None:
    async def scenario() -> None:
        async with serving(whoami) as base, httpx2.AsyncClient(trust_env=False) as http:
            for garbage in (b"\x16\x03\x01\x00", b"GET\r\n\r\n", os.urandom(64) + b"\r\n\r\n"):
                answer = await asyncio.to_thread(raw, base, garbage + b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 400 ")
            assert (await http.get(base)).text == "nobody"

    asyncio.run(scenario())


def test_an_application_that_fails_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("secret")

    async def scenario() -> None:
        async with serving(fail) as base, httpx2.AsyncClient(trust_env=False) as http:
            answer = await http.get(base)
            assert answer.status_code == 500
            assert "secret" not in answer.text

    asyncio.run(scenario())
    assert "secret" not in caplog.text


# ---------------------------------------------------------------- the way down, and Unix sockets


def test_a_request_under_way_is_answered_before_the_end() -> None:
    async def scenario() -> None:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            await go_on.wait()
            await respond(send, 200, b"done")

        host = HttpHost(slow)
        address = await host.listen(TcpAddress("127.0.0.1", 0))
        async with httpx2.AsyncClient(trust_env=False) as http:
            asked = asyncio.create_task(http.get(f"http://{address}"))
            await started.wait()
            closing = asyncio.create_task(host.close(10))
            await asyncio.sleep(0)
            go_on.set()
            assert (await asked).text == "done"
            await closing
            with pytest.raises(httpx2.ConnectError):
                await http.get(f"http://{address}")

    asyncio.run(scenario())


def test_a_request_that_never_ends_is_cut_at_the_end() -> None:
    async def scenario() -> None:
        started = asyncio.Event()

        async def hang(scope: Scope, receive: Receive, send: Send) -> None:
            started.set()
            await asyncio.Event().wait()

        host = HttpHost(hang)
        address = await host.listen(TcpAddress("127.0.0.1", 0))
        async with httpx2.AsyncClient(trust_env=False) as http:
            asked = asyncio.create_task(http.get(f"http://{address}"))
            await started.wait()
            await host.close(0.1)
            with pytest.raises(httpx2.TransportError):
                await asked

    asyncio.run(scenario())


async def over(path: Path, app: App) -> str:
    host = HttpHost(app)
    await host.listen(UnixAddress(str(path)))
    transport = httpx2.AsyncHTTPTransport(uds=str(path))
    try:
        async with httpx2.AsyncClient(transport=transport, trust_env=False) as http:
            return (await http.get("http://deputy/")).text
    finally:
        await host.close(0.1)


def test_a_unix_socket_is_private_from_its_birth(tmp_path: Path) -> None:
    path = tmp_path / "run" / "broker.sock"

    async def mode(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, f"{stat.S_IMODE(path.stat().st_mode):o}".encode())

    assert asyncio.run(over(path, mode)) == "660"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_unix_socket_has_no_certificate_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "broker.sock"
    path.parent.mkdir(mode=0o700)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    assert asyncio.run(over(path, whoami)) == "nobody"


def test_a_unix_socket_in_a_directory_of_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(ConfigError):
        asyncio.run(over(tmp_path / "broker.sock", whoami))
