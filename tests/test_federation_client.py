"""Fetching a bundle from real TLS servers: whom we speak to, and what of an answer we take."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from authz.hosts.http import Limits, Receive, Scope, Send
from authz.hosts.tls import Credential
from identity.authority import Authority
from identity.certificate_authority import BACKDATE, SIGNS_CERTIFICATES, CertificateAuthority
from identity.errors import FederationError
from identity.federation import MAX_BUNDLE, SpiffeProfile, WebProfile
from identity.federation_client import BundleClient, _Places
from identity.keys import SigningKey
from identity.spiffe import SpiffeId
from tests.federation_world import (
    ENDPOINT,
    NOW,
    OURS,
    THEIRS,
    Answers,
    WebCa,
    bundle_bytes,
    credential,
    endpoint,
)

OUR_AUTHORITY = Authority.generate(OURS, NOW)
THEIR_AUTHORITY = Authority.generate(THEIRS, NOW)
BUNDLE = bundle_bytes(THEIR_AUTHORITY)
OUR_ID = SpiffeId.parse("spiffe://mesh.example/bundle-endpoint")
WEB = WebCa.generate("localhost")
CLIENT = BundleClient()


async def spiffe_fetch(
    base: str,
    roots: Sequence[x509.Certificate] = THEIR_AUTHORITY.roots,
    endpoint_id: SpiffeId = ENDPOINT,
    path: str = "/bundle",
) -> bytes:
    return await CLIENT.fetch(base + path, SpiffeProfile(endpoint_id), roots)


# ---------------------------------------------------------------- https_web


def test_b_4_https_web_with_a_file_of_cas(tmp_path: Path) -> None:
    """B-4: a client supports https_web; no client certificate, and nothing about us but the path."""

    async def scenario() -> None:
        answers = Answers().document(BUNDLE, "/a/b.json")
        async with endpoint(answers, WEB.credential) as base:
            profile = WebProfile(WEB.file(tmp_path))
            assert await CLIENT.fetch(f"{base}/a/b.json?v=1", profile) == BUNDLE
        (asked,) = answers.asked
        assert (asked["method"], asked["query_string"]) == ("GET", b"v=1")
        names = {name for name, _ in asked["headers"]}
        assert not names & {b"authorization", b"cookie", b"referer"}

    asyncio.run(scenario())


@pytest.mark.parametrize("case", ["system CAs", "another CA", "another host"])
def test_b_4_https_web_refuses_a_certificate_of(case: str, tmp_path: Path) -> None:
    """B-4, RFC 6125: of a CA that is not trusted here, or for another host."""

    async def scenario() -> None:
        web = WebCa.generate("elsewhere.example") if case == "another host" else WEB
        ca = WebCa.generate("localhost") if case == "another CA" else web
        profile = WebProfile(None if case == "system CAs" else ca.file(tmp_path))
        answers = Answers().document(BUNDLE)
        async with endpoint(answers, web.credential) as base:
            with pytest.raises(FederationError, match="not the endpoint"):
                await CLIENT.fetch(f"{base}/bundle", profile)
        assert answers.asked == []

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_of_cas_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(FederationError, match="cannot read the CAs"):
        asyncio.run(CLIENT.fetch("https://localhost:1/", WebProfile(str(tmp_path / "ca.pem"))))


def test_an_svid_is_no_certificate_of_the_web(tmp_path: Path) -> None:
    """Section 7.2: the two profiles are never tried one after the other."""

    async def scenario() -> None:
        (tmp_path / "ca.pem").write_bytes(THEIR_AUTHORITY.ca.certificate_pem())
        async with endpoint(Answers().document(BUNDLE), credential(THEIR_AUTHORITY.ca, ENDPOINT)) as base:
            with pytest.raises(FederationError):
                await CLIENT.fetch(f"{base}/bundle", WebProfile(str(tmp_path / "ca.pem")))
        async with endpoint(Answers().document(BUNDLE), WEB.credential) as base:
            roots = [x509.load_pem_x509_certificate(WEB.ca_pem)]
            with pytest.raises(FederationError, match="not the endpoint"):
                await spiffe_fetch(base, roots)

    asyncio.run(scenario())


# ---------------------------------------------------------------- https_spiffe


def test_b_4_https_spiffe_knows_the_endpoint_by_its_id() -> None:
    """B-4: a client supports https_spiffe; the host name says nothing."""

    async def scenario() -> None:
        async with endpoint(Answers().document(BUNDLE), credential(THEIR_AUTHORITY.ca, ENDPOINT)) as base:
            assert await spiffe_fetch(base) == BUNDLE
            assert await spiffe_fetch(base.replace("localhost", "127.0.0.1")) == BUNDLE

    asyncio.run(scenario())


FORGERIES = {
    "their CA signs an ID of ours": (credential(THEIR_AUTHORITY.ca, OUR_ID), THEIR_AUTHORITY, ENDPOINT),
    "their CA signs our endpoint's ID": (credential(THEIR_AUTHORITY.ca, OUR_ID), OUR_AUTHORITY, OUR_ID),
    "our CA signs an ID of theirs": (credential(OUR_AUTHORITY.ca, ENDPOINT), THEIR_AUTHORITY, ENDPOINT),
    "another workload of theirs": (
        credential(THEIR_AUTHORITY.ca, SpiffeId.parse("spiffe://other.example/agent/x")),
        THEIR_AUTHORITY,
        ENDPOINT,
    ),
    "an ID that begins alike": (
        credential(THEIR_AUTHORITY.ca, SpiffeId.parse(f"{ENDPOINT}/more")),
        THEIR_AUTHORITY,
        ENDPOINT,
    ),
    "another CA of that name": (
        credential(CertificateAuthority.generate(THEIRS, NOW), ENDPOINT),
        THEIR_AUTHORITY,
        ENDPOINT,
    ),
    "the CA itself": (
        Credential(THEIR_AUTHORITY.ca.certificate_pem(), THEIR_AUTHORITY.ca.key.reveal_pem()),
        THEIR_AUTHORITY,
        ENDPOINT,
    ),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_x_7_https_spiffe_speaks_to_nobody_else(case: str) -> None:
    """X-7: roots of the endpoint's own trust domain, exactly its ID, and not a byte to anybody else."""
    presented, authority, endpoint_id = FORGERIES[case]

    async def scenario() -> None:
        answers = Answers().document(BUNDLE)
        async with endpoint(answers, presented) as base:
            with pytest.raises(FederationError, match="not the endpoint"):
                await spiffe_fetch(base, authority.roots, endpoint_id)
        assert answers.asked == []

    asyncio.run(scenario())


def test_https_spiffe_without_roots_is_refused() -> None:
    """B-1: a trust domain that revoked everything has no endpoint either, until an operator adds it again."""

    async def scenario() -> None:
        async with endpoint(Answers().document(BUNDLE), credential(THEIR_AUTHORITY.ca, ENDPOINT)) as base:
            with pytest.raises(FederationError, match="no roots"):
                await spiffe_fetch(base, ())

    asyncio.run(scenario())


def signed_by(ca: CertificateAuthority, name: str, lifetime: timedelta) -> CertificateAuthority:
    """A CA below a CA, as SPIRE's servers have one below an upstream authority."""
    key = SigningKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)])
    uri = x509.UniformResourceIdentifier(str(ca.trust_domain.spiffe_id))
    public_key = key.private_key.public_key()
    ca_key = ca.key.private_key.public_key()
    certificate = (
        x509.CertificateBuilder(ca.certificate.subject, subject, public_key, x509.random_serial_number())
        .not_valid_before(NOW - BACKDATE - timedelta(hours=2))
        .not_valid_after(NOW + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key), critical=False)
        .sign(ca.key.private_key, hashes.SHA256())
    )
    return CertificateAuthority(ca.trust_domain, certificate, key)


def unbounded_root() -> CertificateAuthority:
    """A root that may have CAs below it; those of ours may not."""
    plain = CertificateAuthority.generate(THEIRS, NOW)
    bare = CertificateAuthority(THEIRS, plain.certificate, plain.key)
    return signed_by(bare, "Upstream", timedelta(hours=2))


@pytest.mark.parametrize("case", ["valid", "expired", "not sent"])
def test_https_spiffe_with_a_ca_in_between(case: str) -> None:
    """A chain as SPIRE sends it; its root stands in the bundle, self-signed or not."""

    async def scenario() -> None:
        root = unbounded_root()
        lifetime = timedelta(hours=-1) if case == "expired" else timedelta(hours=1)
        middle = signed_by(root, "Server", lifetime)
        sent = [middle.certificate.public_bytes(serialization.Encoding.DER)] if case != "not sent" else []
        signer = middle if case != "expired" else CertificateAuthority(THEIRS, root.certificate, middle.key)
        async with endpoint(Answers().document(BUNDLE), credential(signer, ENDPOINT, *sent)) as base:
            if case == "valid":
                assert await spiffe_fetch(base, [root.certificate]) == BUNDLE
            else:
                with pytest.raises(FederationError, match="not the endpoint"):
                    await spiffe_fetch(base, [root.certificate])

    asyncio.run(scenario())


# ---------------------------------------------------------------- redirects


Act = Callable[[Answers, str, str], Awaitable[None]]


def with_two_servers(act: Act) -> None:
    """One server redirects, the other one has the bundle; both are the endpoint."""

    async def scenario() -> None:
        first, second = Answers(), Answers().document(BUNDLE, "/moved")
        presented = credential(THEIR_AUTHORITY.ca, ENDPOINT)
        async with endpoint(first, presented) as one, endpoint(second, presented) as two:
            await act(first, one, two)

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [302, 303, 307])
def test_b_4_a_temporary_redirect_is_followed(status: int) -> None:
    """B-4, section 5.2.2.4."""

    async def act(first: Answers, one: str, two: str) -> None:
        first.redirect(f"{two}/moved", status)
        assert await spiffe_fetch(one) == BUNDLE
        first.redirect("/here", status).document(b"here", "/here")
        assert await spiffe_fetch(one) == b"here"

    with_two_servers(act)


@pytest.mark.parametrize("status", [301, 308])
def test_b_4_a_permanent_redirect_is_for_the_operator(status: int) -> None:
    """B-4, section 7.5.1: it would turn one moment's compromise into a lasting one."""

    async def act(first: Answers, one: str, two: str) -> None:
        first.redirect(f"{two}/moved", status)
        with pytest.raises(FederationError, match="permanent redirect"):
            await spiffe_fetch(one)

    with_two_servers(act)


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost/moved",
        "https://user:pw@localhost/moved",
        "//evil@localhost/moved",
        "file:///etc/passwd",
        "https://localhost/#x",
    ],
)
def test_b_4_a_redirect_goes_where_a_url_could_go(target: str) -> None:
    """B-4: https only, no userinfo, no fragment."""

    async def act(first: Answers, one: str, two: str) -> None:
        first.redirect(target)
        with pytest.raises(FederationError, match="not the URL of a bundle endpoint"):
            await spiffe_fetch(one)

    with_two_servers(act)


@pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0", "[::ffff:169.254.169.254]", "[ff02::1]"])
def test_nobody_makes_us_ask_the_metadata_service_of_a_cloud(host: str) -> None:
    """SSRF: neither by a redirect nor by the URL itself."""

    async def act(first: Answers, one: str, two: str) -> None:
        first.redirect(f"https://{host}/")
        for base in (one, f"https://{host}"):
            with pytest.raises(FederationError, match="an address that is not allowed"):
                await spiffe_fetch(base)

    with_two_servers(act)


def test_b_4_a_redirect_to_another_id_is_refused() -> None:
    """B-4, section 5.2.2.4: the new server has a valid SVID of the same ID."""

    async def scenario() -> None:
        second = Answers().document(BUNDLE)
        other = credential(THEIR_AUTHORITY.ca, SpiffeId.parse("spiffe://other.example/cdn"))
        first = Answers()
        async with (
            endpoint(first, credential(THEIR_AUTHORITY.ca, ENDPOINT)) as one,
            endpoint(second, other) as two,
        ):
            first.redirect(f"{two}/bundle")
            with pytest.raises(FederationError, match="not the endpoint"):
                await spiffe_fetch(one)
        assert second.asked == []

    asyncio.run(scenario())


def test_b_4_redirects_end() -> None:
    """B-4: a loop, and one more than three."""

    async def act(first: Answers, one: str, two: str) -> None:
        first.redirect("/bundle")
        with pytest.raises(FederationError, match="more than 3 redirects"):
            await spiffe_fetch(one)
        assert len(first.asked) == 4
        for number in range(3):
            first.redirect(f"/{number + 1}", path=f"/{number}")
        first.document(BUNDLE, "/3")
        assert await spiffe_fetch(one, path="/0") == BUNDLE

    with_two_servers(act)


def test_a_redirect_reaches_this_machine_only_if_the_url_did() -> None:
    """SSRF: an endpoint of somebody else cannot make us ask our own services."""

    def connect(places: _Places, address: str) -> None:
        places.socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443))).close()

    far, near = _Places(), _Places()
    connect(far, "10.0.0.1")
    connect(near, "127.0.0.1")
    far.is_redirected = near.is_redirected = True
    connect(near, "127.0.0.1")
    connect(far, "10.0.0.2")
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "169.254.169.254", "240.0.0.1"):
        with pytest.raises(OSError, match="not allowed"):
            connect(far, address)


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 500])
def test_an_answer_that_is_not_200(status: int) -> None:
    async def act(first: Answers, one: str, two: str) -> None:
        first.by_path["/bundle"] = (
            status,
            {},
            b"" if status in {204, 304} else b"secret words of the other side",
        )
        with pytest.raises(FederationError, match=f"answer {status}") as raised:
            await spiffe_fetch(one)
        assert "secret" not in str(raised.value)

    with_two_servers(act)


def test_a_document_is_bounded() -> None:
    async def act(first: Answers, one: str, two: str) -> None:
        first.document(b"x" * MAX_BUNDLE)
        assert len(await spiffe_fetch(one)) == MAX_BUNDLE
        first.document(b"x" * (MAX_BUNDLE + 1))
        with pytest.raises(FederationError, match="longer than"):
            await spiffe_fetch(one)

    with_two_servers(act)


def test_a_compressed_document_is_refused() -> None:
    """A kilobyte may be a gigabyte."""

    async def act(first: Answers, one: str, two: str) -> None:
        first.by_path["/bundle"] = (200, {"content-encoding": "gzip"}, b"\x1f\x8b")
        with pytest.raises(FederationError, match="not a plain 200"):
            await spiffe_fetch(one)

    with_two_servers(act)


@pytest.mark.parametrize("where", ["before the answer", "within the body"])
def test_a_slow_endpoint_ends_with_the_timeout(where: str) -> None:
    async def drip(scope: Scope, receive: Receive, send: Send) -> None:
        if where == "within the body":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                await asyncio.sleep(0.01)
        await asyncio.Event().wait()

    async def scenario() -> None:
        limits = Limits(shutdown_seconds=0.1)
        async with endpoint(drip, credential(THEIR_AUTHORITY.ca, ENDPOINT), limits) as base:
            with pytest.raises(FederationError, match=r"no answer within 0\.3 s"):
                await BundleClient(timeout_seconds=0.3).fetch(
                    f"{base}/bundle", SpiffeProfile(ENDPOINT), THEIR_AUTHORITY.roots
                )

    asyncio.run(scenario())


def test_an_answer_that_is_not_http(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"secret words of the other side\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        (tmp_path / "server.pem").write_bytes(WEB.credential.private_key + WEB.credential.certificate_chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "server.pem")
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(FederationError, match="cannot fetch") as raised:
            await CLIENT.fetch(f"https://localhost:{port}/", WebProfile(WEB.file(tmp_path)))
        assert "secret" not in str(raised.value)
        server.close()

    asyncio.run(scenario())


def test_nobody_there() -> None:
    with pytest.raises(FederationError, match="cannot connect"):
        asyncio.run(spiffe_fetch("https://127.0.0.1:1"))


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_a_server_of_old_tls_is_refused() -> None:
    async def scenario() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(FederationError):
            await spiffe_fetch(f"https://localhost:{port}")
        server.close()

    asyncio.run(scenario())
