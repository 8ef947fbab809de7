"""Fetching what a provider publishes: JW-07, threat 18 (SSRF), and all that a provider could answer."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from authz.broker.fetch import MAX_BYTES, Fetched, Fetcher, FetchError
from authz.broker.fetch_address import is_allowed
from authz.broker.human import OpenIdPeople
from authz.broker.id_token import IdentityProvider
from authz.broker.provider_keys import ProviderKeys, ProviderUnavailableError
from authz.demo.provider import Provider, provider_app
from authz.hosts.http import App, Message, Receive, Scope, Send
from identity.authority import Authority
from identity.jws import UnverifiedToken
from tests.broker_fakes import CLIENT, ES256, MESH, NOW, Ticks, id_token, provider_of, serving, serving_tls

LOCAL = Fetcher(allow_loopback=True)
PUBLIC = Fetcher(allow_loopback=False)


def answering(status: int, headers: dict[str, str], body: bytes) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        start: Message = {"type": "http.response.start", "status": status, "headers": raw}
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


def fetched(app: App, fetcher: Fetcher = LOCAL, path: str = "/jwks") -> Fetched:
    async def scenario() -> Fetched:
        async with serving(app) as base:
            return await fetcher.fetch(base + path)

    return asyncio.run(scenario())


def test_fetches_what_a_real_provider_publishes() -> None:
    async def scenario() -> None:
        holder: list[Provider] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await provider_app(holder[0], lambda: NOW)(scope, receive, send)

        async with serving(app) as base:
            holder.append(provider_of(base))
            known = IdentityProvider(base, frozenset({CLIENT}), allow_loopback=True)
            people = OpenIdPeople([known], 30)
            token = UnverifiedToken.parse(id_token(holder[0]))
            signed_in = await people.verify(token, "id_token", NOW)
            assert signed_in.human.uri == f"{base}#lead"

    asyncio.run(scenario())


def test_reads_max_age() -> None:
    assert fetched(answering(200, {"Cache-Control": "public, max-age=77"}, b"{}")) == Fetched(b"{}", 77)
    assert fetched(answering(200, {"Cache-Control": "no-store"}, b"{}")).max_age == 0
    assert fetched(answering(200, {}, b"{}")).max_age is None


# ---------------------------------------------------------------- what a provider could answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest", "https://evil.example/jwks", "/elsewhere", "//evil.example"]
)
def test_jw07_refuses_redirect(status: int, location: str) -> None:
    """JW-07: no redirects to another host; none to the same one either."""
    with pytest.raises(FetchError, match=str(status)):
        fetched(answering(status, {"Location": location}, b""))


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 500, 503])
def test_jw07_refuses_status(status: int) -> None:
    """JW-07: only a plain 200 is an answer."""
    with pytest.raises(FetchError):
        fetched(answering(status, {}, b""))


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity"])
def test_jw07_refuses_compressed_answer(encoding: str) -> None:
    """JW-07: what nobody unpacks cannot be a bomb."""
    with pytest.raises(FetchError):
        fetched(answering(200, {"Content-Encoding": encoding}, b"{}"))


def test_jw07_refuses_answer_of_5_mb() -> None:
    """JW-07: size at most 256 kB."""
    with pytest.raises(FetchError, match=str(MAX_BYTES)):
        fetched(answering(200, {}, b" " * 5_000_000))


def test_jw07_size_is_exact() -> None:
    """JW-07: size at most 256 kB, and one byte more is refused."""
    assert len(fetched(answering(200, {}, b" " * MAX_BYTES)).body) == MAX_BYTES
    with pytest.raises(FetchError, match=str(MAX_BYTES)):
        fetched(answering(200, {}, b" " * (MAX_BYTES + 1)))


def test_jw07_refuses_headers_of_a_megabyte() -> None:
    """JW-07: what is not the body is bounded too."""
    with pytest.raises(FetchError):
        fetched(answering(200, {"X-Long": "x" * (1 << 20)}, b"{}"))


def test_jw07_gives_up_on_a_provider_that_hangs() -> None:
    """JW-07: timeout; the answer never begins."""

    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    with pytest.raises(FetchError, match=r"within 0\.1 s"):
        fetched(hang, Fetcher(allow_loopback=True, timeout_seconds=0.1))


def test_jw07_gives_up_on_a_provider_that_drips() -> None:
    """JW-07: the timeout is of the whole; a byte now and then does not lengthen it (slow loris)."""

    async def drip(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.02)

    with pytest.raises(FetchError, match=r"within 0\.2 s"):
        fetched(drip, Fetcher(allow_loopback=True, timeout_seconds=0.2))


def test_jw07_the_timeout_is_two_seconds() -> None:
    """JW-07: timeout 2 s."""
    assert PUBLIC.timeout_seconds == 2.0


async def speaking(lines: Iterable[bytes], fetcher: Fetcher = LOCAL, scheme: str = "http") -> Fetched:
    """Fetch from somebody who says something of their own, whatever they are asked."""

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        return await fetcher.fetch(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks")


@pytest.mark.parametrize(
    "lines",
    [
        [b"SSH-2.0-x\r\n"],
        [],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"],
        [b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000],
    ],
    ids=["ssh", "silence", "cut-short", "two-lengths", "negative", "chunk", "endless-headers"],
)
def test_jw07_refuses_a_provider_that_speaks_no_http(lines: list[bytes]) -> None:
    """JW-07: whatever comes is a document or our error."""
    with pytest.raises(FetchError):
        asyncio.run(speaking(lines))


def test_jw07_refuses_a_provider_that_speaks_no_tls() -> None:
    """JW-07: https; plain HTTP on its port is none."""
    with pytest.raises(FetchError):
        asyncio.run(speaking([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"], scheme="https"))


def test_jw07_refuses_a_certificate_that_nobody_vouches_for() -> None:
    """JW-07: https, by the system's CAs or the one that is configured."""
    now = datetime.now(UTC)

    async def scenario() -> None:
        authority = Authority.generate(MESH, now)
        async with serving_tls(answering(200, {}, b"{}"), authority, now) as base:
            with pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"):
                await LOCAL.fetch(f"{base}/jwks")

    asyncio.run(scenario())


# ---------------------------------------------------------------- where a connection goes


@pytest.mark.parametrize(
    "url",
    [
        "http://idp.example/jwks",
        "http://127.0.0.1:1/jwks",
        "HTTP://idp.example/jwks",
        "ftp://idp.example/jwks",
        "file:///etc/passwd",
        "https://user:password@idp.example/jwks",
        "https://idp.example/jwks#x",
        "https://",
        "https:///jwks",
        "//idp.example/jwks",
        "jwks",
        "",
        "https://[::1",
        "https://idp.example:99999/jwks",
        "https://idp.example\r\nX: y/jwks",
        "https://" + "a" * 70_000,
    ],
)
def test_jw07_refuses_url(url: str) -> None:
    """JW-07: https, without credentials."""
    with pytest.raises(FetchError):
        asyncio.run(PUBLIC.fetch(url))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "localhost", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:127.0.0.1]",
     "[::ffff:169.254.169.254]", "224.0.0.1", "240.0.0.1", "127.1", "2130706433", "0x7f000001",
     "017700000001", "10.0.0.1", "192.168.0.1", "172.16.0.1", "[fd00::1]", "[::ffff:10.0.0.1]"],
)  # fmt: skip
def test_jw07_refuses_address(host: str) -> None:
    """JW-07, threat 18: the address is checked, whatever the name says."""
    with pytest.raises(FetchError, match=r"not allowed|InvalidUrlClientError"):
        asyncio.run(PUBLIC.fetch(f"https://{host}:1/jwks"))


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "0.0.0.0", "224.0.0.1", "10.0.0.1"])
def test_jw07_a_local_provider_opens_the_loopback_only(host: str) -> None:
    """JW-07: what is allowed for development opens nothing else."""
    with pytest.raises(FetchError, match="not allowed"):
        asyncio.run(LOCAL.fetch(f"https://{host}:1/jwks"))


NEVER = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1",
    "240.0.0.1", "255.255.255.255", "::ffff:169.254.169.254", "::ffff:0.0.0.0", "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1", "::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001:0:a9fe:a9fe:0:0:5601:5601",
    # Metadata services that are not link-local.
    "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254",
]  # fmt: skip
LOOPBACK = ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
PRIVATE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
    "100.64.0.1", "100.127.255.255", "192.0.0.8", "198.18.0.1", "192.0.2.1", "fc00::1", "fd12:3456::1",
    "fec0::1", "2001:db8::1", "::ffff:10.0.0.1", "::ffff:192.168.1.1", "64:ff9b::a00:1", "2002:a00:1::",
    "::10.0.0.1",
]  # fmt: skip
GLOBAL = [
    "8.8.8.8", "172.15.255.255", "172.32.0.1", "11.0.0.1", "192.167.255.255", "192.169.0.1", "100.63.255.255",
    "100.128.0.1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::",
]  # fmt: skip


@pytest.mark.parametrize(
    ("addresses", "when"),
    [
        (NEVER, lambda loopback, private: False),
        (LOOPBACK, lambda loopback, private: loopback),
        (PRIVATE, lambda loopback, private: private),
        (GLOBAL, lambda loopback, private: True),
    ],
    ids=["never", "loopback", "private", "global"],
)
def test_jw07_addresses_of_each_kind(addresses: list[str], when: object) -> None:
    """JW-07: loopback, link-local, 169.254.169.254, RFC 1918; also where an IPv6 address holds them."""
    assert callable(when)
    for text in addresses:
        for loopback in (False, True):
            for private in (False, True):
                allowed = is_allowed(ipaddress.ip_address(text), loopback=loopback, private=private)
                assert allowed == when(loopback, private), (text, loopback, private)


class Names(AbstractResolver):
    """A DNS whose owner answers what they like: each question takes the next answer."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.answers.pop(0)
        ]

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_jw07_a_public_name_of_a_private_address(address: str) -> None:
    """JW-07, threat 18: the name is the stranger's to point anywhere."""
    with pytest.raises(FetchError, match="not allowed"):
        asyncio.run(
            Fetcher(allow_loopback=False, resolver=Names([address])).fetch("https://idp.example/jwks")
        )


def test_jw07_every_address_of_a_name_is_checked() -> None:
    """JW-07, threat 18: a good address before or behind a bad one opens nothing."""
    names = Names(["10.0.0.1", "127.0.0.1", "169.254.169.254", "fe80::1"])
    with pytest.raises(FetchError, match="not allowed"):
        asyncio.run(Fetcher(allow_loopback=False, resolver=names).fetch("https://idp.example/jwks"))


def test_jw07_dns_rebinding() -> None:
    """JW-07, threat 18: resolved once; what was checked is what is connected to, at each fetch anew."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(str(scope["path"]))
        await answering(200, {}, b"{}")(scope, receive, send)

    async def scenario() -> None:
        async with serving(app) as base:
            port = base.rpartition(":")[2]
            names = Names(["127.0.0.1"], ["169.254.169.254"])
            fetcher = Fetcher(allow_loopback=True, resolver=names)
            assert (await fetcher.fetch(f"http://localhost:{port}/first")).body == b"{}"
            with pytest.raises(FetchError, match=r"not allowed.*169\.254"):
                await fetcher.fetch(f"http://localhost:{port}/second")
            assert names.answers == []

    asyncio.run(scenario())
    assert seen == ["/first"]


@pytest.mark.parametrize("address", ["203.0.113.1", "10.0.0.1", "2001:db8::1"])
def test_jw07_plain_http_goes_to_this_machine_only(address: str) -> None:
    """JW-07: https; also where somebody else says what `localhost` is."""
    fetcher = Fetcher(allow_loopback=True, allow_private=True, resolver=Names([address]))
    with pytest.raises(FetchError, match="not allowed"):
        asyncio.run(fetcher.fetch("http://localhost:1/jwks"))


def test_jw07_discovery_cannot_send_us_inside() -> None:
    """JW-07, threat 18: the key set's address, which the provider says, is checked like the issuer's."""
    for inside in (
        "http://127.0.0.1:1/jwks",
        "https://127.0.0.1:1/jwks",
        "https://10.0.0.1/jwks",
        "file:///x",
    ):
        with pytest.raises(FetchError):
            asyncio.run(_keys_at(inside))


async def _keys_at(jwks_uri: str) -> None:
    issuer = "https://idp.example"

    async def fetch(url: str) -> Fetched:
        if url.startswith(f"{issuer}/.well-known/"):
            return Fetched(f'{{"issuer":"{issuer}","jwks_uri":"{jwks_uri}"}}'.encode(), None)
        return await PUBLIC.fetch(url)

    keys = ProviderKeys(issuer, fetch, Ticks())
    try:
        await keys.key_set(str(ES256.public["kid"]))
    except ProviderUnavailableError as error:
        assert "not an https URL" in str(error) or "not allowed" in str(error)
        raise FetchError("as it should be") from error


def test_jw07_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """JW-07: what checks addresses must be what connects to them."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert fetched(answering(200, {}, b"{}")).body == b"{}"


def test_no_error_holds_what_the_other_side_sent() -> None:
    """What a provider, or somebody in its place, says goes into no log."""
    with pytest.raises(FetchError) as raised:
        asyncio.run(speaking([b"HTTP/1.1 2oo secret-of-theirs\r\nX-secret-of-theirs\r\n\r\n"]))
    assert "secret-of-theirs" not in str(raised.value)
