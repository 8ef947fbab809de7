"""The bundle endpoint on a real TLS server: rules/spiffe.md B-1 to B-7, as a foreign client sees them."""

import asyncio
import json
import socket
import ssl
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx2
import pytest

from authz.errors import ConfigError
from authz.hosts.http import Limits
from authz.hosts.tls import Credential
from authz.identity_service.bundle_app import BUNDLE_PATH, bundle_app
from authz.identity_service.bundle_host import BundleHost, credential_files
from identity.authority import Authority
from identity.bundle import Bundle
from identity.federation import Relationship, SpiffeProfile
from identity.federation_client import BundleClient
from identity.key_ring import KeyChange
from identity.keys import SigningKey
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.spiffe import SpiffeId
from tests.federation_world import ENDPOINT, NOW, OURS, THEIRS, Answers, WebCa, credential, endpoint

WEB = WebCa.generate("localhost", "127.0.0.1")
OUR_ENDPOINT = SpiffeId.parse("spiffe://mesh.example/deputy")


@dataclass
class Served:
    """The endpoint of an authority whose keys change, and clients of it."""

    live: LiveAuthority
    base: str

    async def get(self, path: str = BUNDLE_PATH, **options: Any) -> httpx2.Response:
        return await self.ask("GET", path, **options)

    async def ask(
        self, method: str, path: str = BUNDLE_PATH, tls: ssl.SSLContext | None = None, **options: Any
    ) -> httpx2.Response:
        async with httpx2.AsyncClient(verify=tls or trusting(WEB), trust_env=False) as http:
            return await http.request(method, self.base + path, **options)

    async def document(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get()).json()
        return found


def trusting(web: WebCa) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=web.ca_pem.decode())


@asynccontextmanager
async def served(
    directory: Path,
    presented: Credential | Callable[[], Credential] = WEB.credential,
    limits: Limits | None = None,
) -> AsyncIterator[Served]:
    live = LiveAuthority.open(directory / "keys", OURS, AuthoritySettings(refresh_hint=300, wit=True), NOW)
    try:
        async with endpoint(bundle_app(lambda: live.current), presented, limits) as base:
            yield Served(live, base)
    finally:
        live.close()


# ---------------------------------------------------------------- the document


def test_b_1_a_jwk_set_that_may_be_empty(tmp_path: Path) -> None:
    """B-1: `keys` is there; empty, it revokes everything."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            document = await found.document()
            assert isinstance(document["keys"], list)
            assert Bundle.parse(json.dumps(document).encode(), OURS) == found.live.current.trust_bundle()

    asyncio.run(scenario())


def test_b_2_the_sequence_changes_with_the_content_and_only_grows(tmp_path: Path) -> None:
    """B-2: a client that keeps the bundle follows a whole rotation."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            kept = Relationship.parse(OURS.name, "https://localhost/bundle", "https_web")
            documents = []
            for action in ("prepare", "activate", "prepare"):
                documents.append((await found.get()).content)
                found.live.apply([KeyChange(action, "x509"), KeyChange(action, "jwt")], NOW)
            documents.append((await found.get()).content)
            for data in documents:
                kept = kept.fetched(data, NOW)
                assert kept.problem == ""
            sequences = [json.loads(data)["spiffe_sequence"] for data in documents]
            assert sequences == sorted(sequences)
            for one, other in pairwise(documents):
                first, second = json.loads(one), json.loads(other)
                grows = first["spiffe_sequence"] < second["spiffe_sequence"]
                assert grows or first["keys"] == second["keys"]
            assert json.loads(documents[0])["spiffe_refresh_hint"] == 300

    asyncio.run(scenario())


def test_b_3_each_use_has_its_form_and_tokens_are_not_in_it(tmp_path: Path) -> None:
    """B-3: x5c without kid, kids for JWT- and WIT-SVIDs; the keys that name humans are nowhere."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            keys = (await found.document())["keys"]
            by_use = {key["use"]: key for key in keys}
            assert sorted(by_use) == ["jwt-svid", "wit-svid", "x509-svid"]
            assert len(by_use["x509-svid"]["x5c"]) == 1
            assert "kid" not in by_use["x509-svid"]
            current = found.live.current
            assert by_use["jwt-svid"]["kid"] == current.jwt_key.kid
            assert current.token_key.kid not in json.dumps(keys)
            assert not any("d" in key for key in keys)

    asyncio.run(scenario())


def test_b_4_application_json_in_utf_8_for_everybody(tmp_path: Path) -> None:
    """B-4: HTTPS GET without any authentication."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            response = await found.get()
            assert response.status_code == 200
            assert response.headers["content-type"] == "application/json"
            assert response.headers["cache-control"] == "no-cache"
            response.content.decode("utf-8")
            assert "server" not in response.headers
            head = await found.ask("HEAD")
            assert (head.status_code, head.content) == (200, b"")

    asyncio.run(scenario())


def test_b_4_no_client_certificate_is_asked_for(tmp_path: Path) -> None:
    """B-4: who would offer one of any trust domain is served like everybody."""

    async def scenario() -> None:
        theirs = credential(Authority.generate(THEIRS, NOW).ca, ENDPOINT)
        (tmp_path / "client.pem").write_bytes(theirs.private_key + theirs.certificate_chain)
        tls = trusting(WEB)
        tls.load_cert_chain(tmp_path / "client.pem")
        async with served(tmp_path) as found:
            assert (await found.get(tls=tls)).status_code == 200
            assert (await found.get(headers={"authorization": "Bearer x"})).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_b_4_get_only(tmp_path: Path, method: str) -> None:
    """B-4: nobody changes anything here."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            response = await found.ask(method)
            assert response.status_code == 405
            assert response.headers["allow"] == "GET, HEAD"
            assert response.headers["cache-control"] == "no-store"

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/", "/bundle/", "/Bundle", "/bundle/x", "//bundle", "/keys", "/%62undlee"])
def test_b_4_no_redirect_and_no_other_document(tmp_path: Path, path: str) -> None:
    """B-4: no other path is answered, and none is sent elsewhere by its Host header."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            response = await found.get(path, headers={"host": "evil.example"}, follow_redirects=False)
            assert response.status_code == 404
            assert "location" not in response.headers
            assert "evil" not in response.text

    asyncio.run(scenario())


def test_b_5_a_new_key_is_published_before_it_signs(tmp_path: Path) -> None:
    """B-5: what is prepared stands in the bundle, and signs nothing yet."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            before = await found.document()
            signs = found.live.current.jwt_key.kid
            found.live.apply([KeyChange("prepare", "jwt")], NOW)
            after = await found.document()
            (new,) = [key for key in after["keys"] if key not in before["keys"]]
            assert found.live.current.jwt_key.kid == signs
            found.live.apply([KeyChange("activate", "jwt")], NOW)
            assert found.live.current.jwt_key.kid == new["kid"]

    asyncio.run(scenario())


def test_what_is_revoked_is_gone_from_the_next_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as found:
            old = found.live.current.jwt_key.kid
            for action in ("prepare", "activate"):
                found.live.apply([KeyChange(action, "jwt")], NOW)
            assert old in (await found.get()).text
            found.live.apply(
                [KeyChange("taint", "jwt", old), KeyChange("revoke", "jwt", old)], NOW, force=True
            )
            assert old not in (await found.get()).text

    asyncio.run(scenario())


def test_b_6_a_failure_is_answered_so_that_clients_keep_what_they_have() -> None:
    """B-6: never an empty bundle, which would revoke everything."""

    def broken() -> Authority:
        raise RuntimeError("secret words")

    async def scenario() -> None:
        async with (
            endpoint(bundle_app(broken), WEB.credential) as base,
            httpx2.AsyncClient(verify=trusting(WEB), trust_env=False) as http,
        ):
            response = await http.get(base + BUNDLE_PATH)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            assert "secret" not in response.text
            assert "keys" not in response.json()

    asyncio.run(scenario())


def test_b_7_no_member_is_named_twice(tmp_path: Path) -> None:
    """B-7: what we serve is read by the strictest reader."""

    async def scenario() -> None:
        async with served(tmp_path) as found:
            pairs: list[list[tuple[str, object]]] = []
            json.loads((await found.get()).content, object_pairs_hook=pairs.append)
            assert all(len(dict(members)) == len(members) for members in pairs)

    asyncio.run(scenario())


# ---------------------------------------------------------------- both profiles


def test_b_4_https_spiffe_with_our_own_svid(tmp_path: Path) -> None:
    """B-4: a client that has our bundle fetches the next one."""

    async def scenario() -> None:
        source: list[Callable[[], Credential]] = []
        async with served(tmp_path, lambda: source[0]() if source else WEB.credential) as found:
            source.append(lambda: credential(found.live.current.ca, OUR_ENDPOINT))
            profile = SpiffeProfile(OUR_ENDPOINT)
            roots = found.live.current.roots
            data = await BundleClient().fetch(found.base + BUNDLE_PATH, profile, roots)
            bundle = Bundle.parse(data, OURS)
            assert bundle.roots == roots
            # The endpoint goes over to a new CA; who has the bundle of before knows it already (B-5).
            found.live.apply([KeyChange("prepare", "x509")], NOW)
            roots = Bundle.parse(
                await BundleClient().fetch(found.base + BUNDLE_PATH, profile, roots), OURS
            ).roots
            found.live.apply([KeyChange("activate", "x509")], NOW)
            assert await BundleClient().fetch(found.base + BUNDLE_PATH, profile, roots)

    asyncio.run(scenario())


def test_the_certificate_of_the_web_is_renewed_while_it_serves(tmp_path: Path) -> None:
    """Files that change, and for a moment do not fit together."""
    names = tmp_path / "tls.crt", tmp_path / "tls.key"

    def write(presented: Credential) -> None:
        names[0].write_bytes(presented.certificate_chain)
        names[1].write_bytes(presented.private_key)

    async def scenario() -> None:
        new = WebCa.generate("localhost")
        write(WEB.credential)
        async with served(tmp_path, credential_files(*names)) as found:
            assert (await found.get()).status_code == 200
            names[0].write_bytes(new.credential.certificate_chain)
            assert (await found.get()).status_code == 200
            names[0].unlink()
            assert (await found.get()).status_code == 200
            write(new.credential)
            assert (await found.get(tls=trusting(new))).status_code == 200
            with pytest.raises(httpx2.TransportError):
                await found.get()

    asyncio.run(scenario())


@pytest.mark.parametrize("case", ["no file", "no certificate", "another key"])
def test_without_a_certificate_it_does_not_start(tmp_path: Path, case: str) -> None:
    presented = WEB.credential
    if case == "no certificate":
        presented = replace(presented, certificate_chain=b"x")
    elif case == "another key":
        presented = replace(presented, private_key=SigningKey.generate().reveal_pem())
    files = credential_files(tmp_path / "tls.crt", tmp_path / "tls.key")
    with pytest.raises(ConfigError) as raised:
        BundleHost(Answers(), files if case == "no file" else lambda: presented)
    assert "PRIVATE" not in str(raised.value)


@pytest.mark.parametrize("profile", ["web", "spiffe"])
def test_go_spiffe_fetches_the_bundle_by_both_profiles(
    tmp_path: Path, spiffe_client: Path, profile: str
) -> None:
    """B-3, B-4: the reference client, with its own rules about every entry."""

    async def scenario() -> None:
        source: list[Callable[[], Credential]] = [lambda: WEB.credential]

        def presented() -> Credential:
            return source[0]()

        async with served(tmp_path, presented) as found:
            current = found.live.current
            found.live.apply([KeyChange("prepare", "x509"), KeyChange("prepare", "jwt")], NOW)
            (tmp_path / "bundle.json").write_bytes(json.dumps(current.bundle()).encode())
            if profile == "spiffe":
                source[0] = lambda: credential(current.ca, OUR_ENDPOINT)
                how = ["spiffe", str(OUR_ENDPOINT), str(tmp_path / "bundle.json")]
            else:
                how = ["web", WEB.file(tmp_path)]
            process = await asyncio.create_subprocess_exec(
                spiffe_client,
                *("bundle", OURS.name, found.base + BUNDLE_PATH, *how),
                stdout=PIPE,
                stderr=PIPE,
            )
            answer, problem = await process.communicate()
            assert process.returncode == 0, problem
            assert json.loads(answer) == {
                "trust_domain": OURS.name,
                "roots": 2,
                "jwt_keys": 2,
                "sequence": found.live.current.sequence,
                "refresh_hint": 300,
            }

    asyncio.run(scenario())


# ---------------------------------------------------------------- TLS and limits


def connect(base: str, tls: ssl.SSLContext) -> str | None:
    port = int(base.rpartition(":")[2])
    with (
        socket.create_connection(("localhost", port)) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"GET /bundle HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        while connection.recv(4096):
            pass
        cipher = connection.cipher()
        return cipher[0] if cipher else None


VERSIONS: Mapping[str, tuple[ssl.TLSVersion, str, bool]] = MappingProxyType(
    {
        "TLS 1.1": (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
        "TLS 1.2": (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", True),
        "TLS 1.2, CBC": (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        "TLS 1.2, RSA key exchange": (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256", False),
        "TLS 1.2, no encryption": (ssl.TLSVersion.TLSv1_2, "eNULL:@SECLEVEL=0", False),
        "TLS 1.3": (ssl.TLSVersion.TLSv1_3, "ALL", True),
    }
)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("case", VERSIONS)
def test_b_4_tls_as_mozilla_has_it(tmp_path: Path, case: str) -> None:
    """B-4: the intermediate compatibility of Mozilla; nothing older, nothing weaker."""
    version, ciphers, is_served = VERSIONS[case]

    async def scenario() -> None:
        tls = trusting(WEB)
        tls.set_ciphers(ciphers)
        tls.minimum_version = tls.maximum_version = version
        async with served(tmp_path) as found:
            if is_served:
                assert await asyncio.to_thread(connect, found.base, tls)
            else:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await asyncio.to_thread(connect, found.base, tls)

    asyncio.run(scenario())


def test_no_plain_http(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as found, httpx2.AsyncClient(trust_env=False) as http:
            with pytest.raises(httpx2.TransportError):
                await http.get(found.base.replace("https", "http") + BUNDLE_PATH)

    asyncio.run(scenario())


def test_a_stranger_sizes_nothing(tmp_path: Path) -> None:
    """A head that is too long, a body that nobody asked for, one that never comes."""

    async def scenario() -> None:
        limits = Limits(head_bytes=4096, request_seconds=0.5, shutdown_seconds=0.1)
        async with served(tmp_path, limits=limits) as found:
            assert (await found.get(headers={"x": "y" * 5000})).status_code in {400, 431}
            assert (await found.get(params={"q": "y" * 2000})).status_code == 200
            assert (await found.ask("GET", content=b"x" * 100_000)).status_code == 200
            port = int(found.base.rpartition(":")[2])
            reader, writer = await asyncio.open_connection("localhost", port, ssl=trusting(WEB))
            writer.write(b"GET /bundle HTTP/1.1\r\nhost: x\r\n")
            async with asyncio.timeout(10):
                assert await reader.read() == b""
            writer.close()
            assert (await found.get()).status_code == 200

    asyncio.run(scenario())


def test_nothing_of_a_request_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as found:
            await found.get("/secret-path", headers={"authorization": "Bearer secret-token"})

    caplog.set_level("DEBUG", "authz")
    asyncio.run(scenario())
    assert "secret" not in caplog.text
    assert "PRIVATE" not in repr(WEB.credential)
