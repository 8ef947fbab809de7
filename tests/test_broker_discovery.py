"""What the broker publishes: DM-01, DM-02, two key sets that never mix, and nothing that does not exist."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from authz.broker.deps import AssertionTarget, audiences_of
from authz.broker.discovery import find_resource, metadata
from authz.broker_parts import broker_settings
from authz.config import Config
from authz.errors import ConfigError
from authz.policy.grants_service import CLASSES
from authz.protected_resource import WELL_KNOWN_RESOURCE, metadata_uri
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.bundle import Bundle
from identity.key_ring import KeyLife
from identity.keys import KeySet
from tests.broker_fakes import BILLING, BROKER, MESH, RUNNER, SERVICES, SETTINGS, TICKETS, World, run

ALGORITHMS = ["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
LOGINS = ["spiffe_x509", "spiffe_jwt"]


def test_dm01_the_metadata_names_what_exists() -> None:
    """DM-01: the members of RFC 8414 for what is there, and no others."""

    async def act(world: World) -> None:
        response = await world.send("GET", "/.well-known/oauth-authorization-server", None)
        assert response.headers["cache-control"] == "no-store"
        assert response.json() == {
            "issuer": BROKER,
            "token_endpoint": f"{BROKER}/token",
            "introspection_endpoint": f"{BROKER}/introspect",
            "revocation_endpoint": f"{BROKER}/revoke",
            "jwks_uri": f"{BROKER}/jwks",
            "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": LOGINS,
            "introspection_endpoint_auth_methods_supported": LOGINS,
            "revocation_endpoint_auth_methods_supported": LOGINS,
            "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "introspection_signing_alg_values_supported": ["ES256"],
            "dpop_signing_alg_values_supported": ALGORITHMS,
            "tls_client_certificate_bound_access_tokens": True,
            "authorization_details_types_supported": ["mcp_tool_call"],
            "protected_resources": [BILLING, TICKETS],
        }

    run(act)


def test_dm01_assertions_are_named_where_a_server_takes_them() -> None:
    """DM-01: identity chaining exists where a target is configured."""
    target = AssertionTarget("https://as.example", "tickets", {})
    document = metadata(replace(SETTINGS, assertion_targets={target.issuer: target}))
    types = ["urn:ietf:params:oauth:token-type:id-jag"]
    assert document["identity_chaining_requested_token_types_supported"] == types


def test_dm01_each_endpoint_that_is_named_is_there() -> None:
    """DM-01: an address that answers 404 is no endpoint."""

    async def act(world: World) -> None:
        document = (await world.send("GET", "/.well-known/oauth-authorization-server", None)).json()
        for name in ("token_endpoint", "introspection_endpoint", "revocation_endpoint", "jwks_uri"):
            method = "GET" if name == "jwks_uri" else "POST"
            response = await world.send(method, document[name].removeprefix(BROKER), world.runner)
            assert response.status_code not in {404, 405}

    run(act)


def test_dm02_each_service_has_its_document() -> None:
    """DM-02: by the host where services share a path, and `resource` is exactly the audience."""

    async def act(world: World) -> None:
        for audience in (TICKETS, BILLING):
            headers = {"host": audience.removeprefix("https://")}
            response = await world.send("GET", "/.well-known/oauth-protected-resource", None, headers=headers)
            assert response.json() == {
                "resource": audience,
                "authorization_servers": [BROKER],
                "scopes_supported": [f"{SETTINGS.audiences[audience]}:{each}" for each in CLASSES],
                "bearer_methods_supported": ["header"],
                "dpop_signing_alg_values_supported": ALGORITHMS,
                "tls_client_certificate_bound_access_tokens": True,
                "authorization_details_types_supported": ["mcp_tool_call"],
                "actor_profile_required": True,
            }
        for path in ("", "/", "/x", "/..", "//tickets.mesh.example"):
            response = await world.send("GET", f"/.well-known/oauth-protected-resource{path}", None)
            assert response.status_code == 404

    run(act)


@pytest.mark.parametrize(
    ("host", "path", "found"),
    [
        ("broker.example", "/mcp", "https://a.example/mcp"),
        ("a.example", "/mcp", "https://a.example/mcp"),
        ("a.example", "/mcp/", "https://a.example/mcp"),
        ("a.example", "/mcp/x", None),
        ("a.example", "/MCP", None),
        ("a.example", "/m", None),
        ("a.example:443", "/two", "https://a.example/two"),
        ("b.example", "/two", "https://b.example/two"),
        ("broker.example", "/two", None),
        ("a.example", "", None),
        ("a.example", "/urn", None),
        ("", "/mcp", "https://a.example/mcp"),
        ("€", "/mcp", "https://a.example/mcp"),
    ],
)
def test_dm02_the_path_of_a_service_comes_after_the_well_known_one(
    host: str, path: str, found: str | None
) -> None:
    """DM-02: RFC 9728 section 3.1; which of two is meant is not guessed."""
    audiences = ["https://a.example/mcp", "https://a.example/two", "https://b.example/two", "urn:x"]
    assert find_resource(replace(SETTINGS, audiences=dict.fromkeys(audiences, "s")), host, path) == found


def test_dm02_the_address_in_a_challenge_is_that_of_the_document() -> None:
    """DM-02: RFC 9728 section 5.1; whatever the host is, and one service at a time."""

    async def act(world: World) -> None:
        for audience in (TICKETS, BILLING):
            asked = metadata_uri(BROKER, audience).removeprefix(BROKER.removesuffix(urlsplit(BROKER).path))
            response = await world.send("GET", asked, None)
            assert response.json()["resource"] == audience
        well_known = WELL_KNOWN_RESOURCE
        for query in (
            "resource=x",
            "resource=",
            f"resource={TICKETS}/",
            f"resource={TICKETS}&resource={BILLING}",
        ):
            assert (await world.send("GET", f"{well_known}?{query}", None)).status_code == 404
        assert (await world.send("GET", f"{well_known}/x?resource={TICKETS}", None)).status_code == 404

    run(act)


def test_jw08_the_keys_are_kept_for_less_time_than_they_are_published_before_they_sign() -> None:
    """JW-08: whoever keeps the key set for as long as it says knows each key before it signs."""

    async def act(world: World) -> None:
        response = await world.send("GET", "/jwks", None)
        assert response.headers["cache-control"] == "public, max-age=60"
        assert timedelta(seconds=world.broker.settings.jwks_max_age) < KeyLife().lead
        assert (await world.send("GET", "/bundle", None)).headers["cache-control"] == "no-store"

    run(act)


@pytest.mark.parametrize(("lead", "max_age"), [(180, 60), (3600, 300), (2, 0)])
def test_jw08_the_lead_of_the_configuration_bounds_it(lead: int, max_age: int, tmp_path: Path) -> None:
    """JW-08: the configured lead, not the default one."""
    config = Config.model_validate(
        {
            "trust_domain": "mesh.example",
            "data_dir": str(tmp_path),
            "broker": {"issuer": BROKER},
            "services": {"tickets": {"audience": TICKETS}},
            "check": {"callers": [{"id": str(RUNNER), "may_ask": ["tickets"]}]},
            "identity": {"publish_seconds": lead},
        }
    )
    assert broker_settings(config, SERVICES).jwks_max_age == max_age


def test_dm01_the_issuers_path_comes_after_the_well_known_one() -> None:
    """DM-01: RFC 8414 section 3.1."""

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
        ("GET", "/introspect", 405),
        ("POST", "/introspect/", 404),
        ("GET", "/revoke", 405),
        ("GET", "/tasks/../jwks", 200),
        ("GET", "//jwks", 404),
    ],
)
def test_what_does_not_exist(method: str, path: str, status: int) -> None:
    async def act(world: World) -> None:
        response = await world.send(method, path, world.runner)
        assert response.status_code == status
        kept = "public, max-age=60" if status == 200 else "no-store"
        assert response.headers["cache-control"] == kept
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
