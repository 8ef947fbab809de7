"""What the broker publishes: DM-01, two key sets that never mix, and nothing that does not exist."""

from dataclasses import replace

import pytest

from authz.broker.deps import audiences_of
from authz.errors import ConfigError
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.bundle import Bundle
from identity.keys import KeySet
from tests.broker_fakes import BROKER, MESH, SETTINGS, World, run


def test_dm_01_the_metadata_names_what_exists() -> None:
    async def act(world: World) -> None:
        response = await world.send("GET", "/.well-known/oauth-authorization-server", None)
        assert response.headers["cache-control"] == "no-store"
        assert response.json() == {
            "issuer": BROKER,
            "token_endpoint": f"{BROKER}/token",
            "jwks_uri": f"{BROKER}/jwks",
            "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["spiffe_x509"],
            "tls_client_certificate_bound_access_tokens": True,
        }

    run(act)


def test_dm_01_the_issuers_path_comes_after_the_well_known_one() -> None:
    async def act(world: World) -> None:
        base = world.base.removesuffix("/a/b")
        world.base = base
        metadata = await world.send("GET", "/.well-known/oauth-authorization-server/a/b", None)
        assert metadata.json()["issuer"] == f"{BROKER}/a/b"
        assert metadata.json()["token_endpoint"] == f"{BROKER}/a/b/token"
        assert (await world.send("GET", "/a/b/jwks", None)).status_code == 200
        assert (await world.send("GET", "/.well-known/oauth-authorization-server", None)).status_code == 404
        assert (await world.send("GET", "/jwks", None)).status_code == 404
        world.base = f"{base}/a/b"
        token = await world.token(await world.start())
        assert world.verified(token).issuer == f"{BROKER}/a/b"

    run(act, settings=replace(SETTINGS, issuer=f"{BROKER}/a/b"))


def test_the_two_key_sets_never_mix() -> None:
    async def act(world: World) -> None:
        jwks = (await world.send("GET", "/jwks", None)).content
        bundle = (await world.send("GET", "/bundle", None)).content
        authority = world.broker.authority
        tokens = KeySet.parse_jwks(jwks, use=None)
        assert set(tokens.keys) == {authority.token_key.kid}
        svids = Bundle.parse(bundle, MESH)
        assert set(svids.jwt_keys.keys) == {authority.jwt_key.kid}
        assert svids.roots == authority.roots
        assert authority.token_key.kid.encode() not in bundle
        assert not KeySet.parse_jwks(jwks, use="jwt-svid").keys

    run(act)


def test_health() -> None:
    async def act(world: World) -> None:
        response = await world.send("GET", "/healthz", None)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        world.fakes.policy_ready = False
        response = await world.send("GET", "/healthz", None)
        assert (response.status_code, response.json()) == (503, {"status": "not ready"})

    run(act)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/tasks", 405),
        ("PUT", "/tasks", 405),
        ("GET", "/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV", 405),
        ("POST", "/jwks", 405),
        ("GET", "/token/", 404),
        ("POST", "/tasks/", 404),
        ("POST", "/introspect", 404),
        ("GET", "/tasks/../jwks", 200),
        ("GET", "//jwks", 404),
    ],
)
def test_what_does_not_exist(method: str, path: str, status: int) -> None:
    async def act(world: World) -> None:
        response = await world.send(method, path, world.runner)
        assert response.status_code == status
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["content-type"] == "application/json"
        assert "location" not in response.headers
        assert not world.sink.entries

    run(act)


def test_two_services_with_one_audience_are_found_at_the_start() -> None:
    def service(name: str) -> Service:
        return Service(name, "https://one.mesh.example", Route(name, "mcp", ""))

    with pytest.raises(ConfigError, match="two services"):
        audiences_of(Services.of((service("a"), service("b")), (), None))
    assert audiences_of(Services.of((service("a"),), (), None)) == {"https://one.mesh.example": "a"}
