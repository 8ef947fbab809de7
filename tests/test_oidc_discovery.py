"""OpenID Connect Discovery: a relying party that knows nothing of SPIFFE trusts a JWT-SVID of ours."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as jose
from joserfc.jwk import KeySet as JoseKeySet

from authz.address import TcpAddress
from authz.identity_service.bundle_app import BUNDLE_PATH, bundle_app
from authz.identity_service.bundle_host import BundleHost
from identity.delegation import issue_delegation_token
from identity.key_ring import KeyChange
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.oidc_discovery import IssuerError, OidcIssuer, svid_jwks
from identity.spiffe import SpiffeId
from tests.federation_world import NOW, OURS, WebCa
from tests.identity_world import delegation

WEB = WebCa.generate("localhost")
AGENT = SpiffeId.parse("spiffe://mesh.example/agent/triage/task/01JDD2W4Y0000000000000000A")
CLOUD = "https://sts.cloud.example"
WELL_KNOWN = "/.well-known/openid-configuration"


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=WEB.ca_pem.decode())


@asynccontextmanager
async def issuer(directory: Path, path: str) -> AsyncIterator[tuple[str, LiveAuthority]]:
    """Serve discovery below a path; gives the issuer's URL, which has the port in it."""
    found: list[LiveAuthority] = []

    async def late(scope: Any, receive: Any, send: Any) -> None:
        parsed = OidcIssuer.parse(str(found[0].settings.jwt_issuer))
        await bundle_app(lambda: found[0].current, parsed)(scope, receive, send)

    host = BundleHost(late, lambda: WEB.credential)
    address = await host.listen(TcpAddress("127.0.0.1", 0))
    assert isinstance(address, TcpAddress)
    url = f"https://localhost:{address.port}{path}"
    settings = AuthoritySettings(refresh_hint=120, jwt_issuer=url, wit=True)
    found.append(LiveAuthority.open(directory / "keys", OURS, settings, NOW))
    try:
        yield url, found[0]
    finally:
        found[0].close()
        await host.close(0.1)


async def get(url: str) -> httpx2.Response:
    async with httpx2.AsyncClient(verify=trusting(), trust_env=False) as http:
        return await http.get(url, follow_redirects=False)


def svid(live: LiveAuthority, audience: str = CLOUD) -> str:
    now = datetime.now(UTC)  # relying parties have their own clocks
    return live.current.issue_jwt_svid(AGENT, audience, now, 60, now + timedelta(hours=1))


def relying_party(url: str, token: str, audience: str = CLOUD) -> dict[str, Any]:
    """What a cloud does: discovery over HTTPS, the keys that it names, and then the token (PyJWT)."""
    with httpx2.Client(verify=trusting(), trust_env=False) as http:
        configuration = http.get(url.rstrip("/") + WELL_KNOWN).raise_for_status().json()
    assert configuration["issuer"] == url
    keys = jwt.PyJWKClient(configuration["jwks_uri"], ssl_context=trusting())
    claims: dict[str, Any] = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token).key,
        algorithms=configuration["id_token_signing_alg_values_supported"],
        audience=audience,
        issuer=url,
        options={"require": ["iss", "sub", "aud", "exp", "iat"]},
    )
    return claims


# ---------------------------------------------------------------- as a relying party sees it


@pytest.mark.parametrize("path", ["", "/", "/td/mesh", "/td/"])
def test_a_generic_relying_party_accepts_a_jwt_svid(tmp_path: Path, path: str) -> None:
    """The issuer is exactly the URL that is configured, with its path and its final slash."""

    async def scenario() -> None:
        async with issuer(tmp_path, path) as (url, live):
            claims = await asyncio.to_thread(relying_party, url, svid(live))
            assert (claims["iss"], claims["sub"], claims["aud"]) == (url, str(AGENT), [CLOUD])

    asyncio.run(scenario())


def test_a_second_client_of_another_make_accepts_it_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with issuer(tmp_path, "/td") as (url, live):
            configuration = (await get(url + WELL_KNOWN)).json()
            keys = JoseKeySet.import_key_set((await get(configuration["jwks_uri"])).json())
            token = jose.decode(svid(live), keys, algorithms=["ES256"])
            assert (token.claims["iss"], token.claims["sub"]) == (url, str(AGENT))

    asyncio.run(scenario())


def test_a_rotation_is_followed(tmp_path: Path) -> None:
    """B-5: the next key is published before it signs, so a relying party knows it in time."""

    async def scenario() -> None:
        async with issuer(tmp_path, "") as (url, live):
            old = svid(live)
            live.apply([KeyChange("prepare", "jwt")], NOW)
            keys = (await get(url + "/keys")).json()["keys"]
            live.apply([KeyChange("activate", "jwt")], NOW)
            assert live.current.jwt_key.kid in {key["kid"] for key in keys}
            for token in (old, svid(live)):
                assert (await asyncio.to_thread(relying_party, url, token))["sub"] == str(AGENT)

    asyncio.run(scenario())


def test_a_token_for_a_human_is_no_identity_of_a_workload(tmp_path: Path) -> None:
    """The `sub` conflict: the keys of delegation tokens are never at this issuer."""

    async def scenario() -> None:
        async with issuer(tmp_path, "") as (url, live):
            token = issue_delegation_token(live.current.token_key, delegation(issuer=url, audience=CLOUD))
            with pytest.raises(jwt.PyJWKClientError):
                await asyncio.to_thread(relying_party, url, token)

    asyncio.run(scenario())


def test_a_jwt_svid_for_another_audience_is_refused_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with issuer(tmp_path, "") as (url, live):
            with pytest.raises(jwt.InvalidAudienceError):
                await asyncio.to_thread(relying_party, url, svid(live, "https://other.example"))

    asyncio.run(scenario())


# ---------------------------------------------------------------- the documents


def test_keys_of_jwt_svids_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with issuer(tmp_path, "/td") as (url, live):
            live.apply([KeyChange("prepare", "jwt")], NOW)
            response = await get(url + "/keys")
            assert response.headers["cache-control"] == "public, max-age=120"
            assert response.headers["content-type"] == "application/json"
            document = response.json()
            assert list(document) == ["keys"]
            current = live.current
            assert {key["kid"] for key in document["keys"]} == set(current.svid_keys.keys)
            assert len(document["keys"]) == 2
            for key in document["keys"]:
                assert set(key) == {"kty", "crv", "x", "y", "alg", "kid", "use"}
                assert (key["use"], key["alg"]) == ("sig", "ES256")
            others = [current.token_key, current.ca.key, current.wit_key]
            assert not any(key is None or key.kid in response.text for key in others)
            # A SPIFFE client that would take it for a bundle finds nothing in it.
            assert svid_jwks(()) == {"keys": []}

    asyncio.run(scenario())


def test_the_configuration_names_what_exists_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with issuer(tmp_path, "/td") as (url, _):
            response = await get(url + WELL_KNOWN)
            assert response.headers["cache-control"] == "public, max-age=120"
            assert response.json() == {
                "issuer": url,
                "jwks_uri": f"{url}/keys",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "claims_supported": ["iss", "sub", "aud", "iat", "exp"],
            }
            base = url.removesuffix("/td")
            assert (await get(base + WELL_KNOWN)).status_code == 404
            assert (await get(base + "/keys")).status_code == 404
            assert (await get(base + BUNDLE_PATH)).status_code == 200
            # What an inspector of ours sees of the whole: strict JSON, no member twice.
            assert json.loads(response.content)["issuer"] == url

    asyncio.run(scenario())


def test_the_host_header_says_nothing_about_the_issuer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            issuer(tmp_path, "") as (url, _),
            httpx2.AsyncClient(verify=trusting(), trust_env=False) as http,
        ):
            headers = {"host": "evil.example", "x-forwarded-host": "evil.example"}
            response = await http.get(url + WELL_KNOWN, headers=headers)
            assert response.json()["issuer"] == url

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://oidc.example", ""),
        ("https://oidc.example/", ""),
        ("https://oidc.example:8443/a/b", "/a/b"),
        ("https://oidc.example/a/", "/a"),
        ("https://[::1]:8443", ""),
    ],
)
def test_an_issuer(url: str, path: str) -> None:
    parsed = OidcIssuer.parse(url)
    assert (parsed.url, parsed.path) == (url, path)
    assert parsed.configuration()["issuer"] == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "oidc.example",
        "http://oidc.example",
        "https://",
        "https://OIDC.example",
        "https://oidc.example?x",
        "https://oidc.example#x",
        "https://user@oidc.example",
        "https://oidc.example//",
        "https://oidc.example/a//b",
        "https://oidc.example/../a",
        "https://oidc.example/./a",
        "https://oidc.example/{task}",
        "https://oidc.example/a b",
        "https://oidc.example/%41",
        "https://oidc.example\n",
        "https://oidc.example/" + "a" * 512,
    ],
)
def test_no_issuer(url: str) -> None:
    """A path that a router or a relying party would read in another way than it stands in `iss`."""
    with pytest.raises(IssuerError):
        OidcIssuer.parse(url)


@given(st.text(max_size=50))
def test_any_text_is_an_issuer_or_our_error(text: str) -> None:
    try:
        parsed = OidcIssuer.parse(f"https://{text}")
    except IssuerError:
        return
    assert parsed.url == f"https://{text}"
