"""The protected resource metadata in place of a service: which question gets it, and what it tells."""

import json
from dataclasses import replace

import httpx2
import pytest
from mcp.client.auth import utils
from mcp.shared.auth import ProtectedResourceMetadata

from authz.broker.discovery import resource_metadata
from authz.codes import Code
from authz.pb import ext_authz_pb2 as pb
from authz.protected_resource import (
    WELL_KNOWN_RESOURCE,
    find_document,
    metadata_uri,
    resource_document,
    scopes_of,
)
from authz.protocols.route import Route
from authz.request import Request
from authz.response import metadata_response
from authz.services import Service
from identity.scopes import parse_scopes
from tests.broker_fakes import SETTINGS
from tests.check_requests import check_request
from tests.denials import lacks_scope, refuse, seen

ISSUER = "https://broker.mesh.example"
SERVICE = Service("tickets", "https://gw.mesh.example/tickets", Route("tickets", "mcp"))
HERE = f"{WELL_KNOWN_RESOURCE}/tickets/mcp"


def found(path: str, service: Service = SERVICE, method: str = "GET") -> dict[str, object] | None:
    message = check_request(path=path, method=method, headers=())
    return find_document(Request.parse(message.SerializeToString()), service, ISSUER)


def test_the_document_says_what_every_challenge_says() -> None:
    """RFC 9728 section 2."""
    document = found(HERE)
    assert document == resource_document(ISSUER, SERVICE.audience, scopes_of("tickets"))
    assert document is not None
    assert document["resource"] == "https://gw.mesh.example/tickets"
    assert document["authorization_servers"] == [ISSUER]
    assert document["scopes_supported"] == ["tickets:destroy", "tickets:read", "tickets:write"]
    assert document["bearer_methods_supported"] == ["header"]


def test_it_is_the_brokers_own_document() -> None:
    for audience, service in SETTINGS.audiences.items():
        ours = resource_document(SETTINGS.issuer, audience, scopes_of(service))
        assert resource_metadata(SETTINGS, audience) == ours


@pytest.mark.parametrize("service", ["tickets", "a", "0-9-z"])
def test_each_scope_is_one_that_can_be_asked_for(service: str) -> None:
    assert parse_scopes(" ".join(scopes_of(service)))


@pytest.mark.parametrize(
    "path", ["", "/", "/tickets", "/tickets/", "/tickets/mcp", "/tickets/mcp/", "/mcp", "/deep/er/mcp"]
)
def test_it_is_found_at_the_host_at_the_audience_and_at_the_endpoint(path: str) -> None:
    assert found(WELL_KNOWN_RESOURCE + path) is not None


@pytest.mark.parametrize(
    "path",
    [
        "/mcp",
        "/.well-known/oauth-authorization-server",
        f"{WELL_KNOWN_RESOURCE}s",
        f"{WELL_KNOWN_RESOURCE}.json",
        f"{WELL_KNOWN_RESOURCE}?resource=x",
        f"{HERE}?a=b",
        f"{WELL_KNOWN_RESOURCE}x/mcp",
        f"{WELL_KNOWN_RESOURCE}/billing",
        f"{WELL_KNOWN_RESOURCE}/tickets/x",
        f"{WELL_KNOWN_RESOURCE}//mcp",
        f"{WELL_KNOWN_RESOURCE}//evil.example/mcp",
        f"{WELL_KNOWN_RESOURCE}/../mcp",
        f"{WELL_KNOWN_RESOURCE}/a/..;/mcp",
        f"{WELL_KNOWN_RESOURCE}/a%2fmcp",
        f"{WELL_KNOWN_RESOURCE}/%6dcp",
        f"/x{HERE}",
        f"/tickets{WELL_KNOWN_RESOURCE}",
        HERE.upper(),
    ],
)
def test_nothing_else_is_answered_without_a_token(path: str) -> None:
    assert found(path) is None


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_get_is(method: str) -> None:
    assert found(HERE, method=method) is None


def test_only_the_paths_of_the_route_where_it_names_some() -> None:
    service = replace(SERVICE, route=Route("tickets", "mcp", paths=frozenset({"/v2/mcp"})))
    assert found(f"{WELL_KNOWN_RESOURCE}/v2/mcp", service) is not None
    assert found(f"{WELL_KNOWN_RESOURCE}/v1/mcp", service) is None


@pytest.mark.parametrize("protocol", ["a2a", "llm"])
def test_agents_and_models_have_it_at_their_audience(protocol: str) -> None:
    service = replace(SERVICE, route=Route("tickets", protocol))  # type: ignore[arg-type]  # as parametrized
    assert found(f"{WELL_KNOWN_RESOURCE}/tickets", service) is not None
    assert found(WELL_KNOWN_RESOURCE, service) is not None
    assert found(HERE, service) is None


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_plain_service_keeps_its_own_paths(protocol: str) -> None:
    service = replace(SERVICE, route=Route("tickets", protocol))  # type: ignore[arg-type]  # as parametrized
    assert found(WELL_KNOWN_RESOURCE, service) is None


def test_an_audience_that_is_no_url_has_it_at_the_host_only() -> None:
    service = replace(SERVICE, audience="urn:tickets")
    assert found(WELL_KNOWN_RESOURCE, service) is not None
    assert found(f"{WELL_KNOWN_RESOURCE}/tickets", service) is None
    assert found(f"{WELL_KNOWN_RESOURCE}tickets", service) is None


def test_no_refresh_token_is_among_the_scopes() -> None:
    """That is the client's to ask for, and a service has no use for it."""
    assert "offline_access" not in scopes_of("tickets")


# ---- as the official MCP client reads it


def test_the_client_finds_it_where_it_looks() -> None:
    urls = utils.build_protected_resource_metadata_discovery_urls(None, "https://gw.mesh.example/tickets/mcp")
    assert len(urls) == 2
    for url in urls:
        document = found(url.removeprefix("https://gw.mesh.example"))
        known = ProtectedResourceMetadata.model_validate(document)
        assert str(known.authorization_servers[0]).rstrip("/") == ISSUER
        assert known.scopes_supported == list(scopes_of("tickets"))


def test_the_client_reads_the_challenges() -> None:
    where = metadata_uri(ISSUER, SERVICE.audience)
    for deny, scope in (
        (Code.TOKEN_MISSING, " ".join(scopes_of("tickets"))),
        (Code.TOKEN_EXPIRED, " ".join(scopes_of("tickets"))),
        (lacks_scope(), "tickets:write"),
    ):
        refused = refuse(deny, scopes=scopes_of("tickets"), resource_metadata=where)
        response = httpx2.Response(refused.status, headers=refused.headers)
        assert utils.extract_scope_from_www_auth(response) == scope
        if refused.status == 401:
            assert utils.extract_resource_metadata_from_www_auth(response) == where
        else:
            assert utils.extract_field_from_www_auth(response, "error") == "insufficient_scope"


def test_to_the_proxy_it_is_a_denial_so_that_nothing_goes_upstream() -> None:
    document = resource_document(ISSUER, SERVICE.audience, scopes_of("tickets"))
    answer = metadata_response(document)
    assert seen(answer).status == 200
    assert json.loads(seen(answer).body) == document
    assert seen(answer).headers == {"content-type": "application/json", "cache-control": "no-store"}
    assert pb.CheckResponse.FromString(answer).WhichOneof("http_response") == "denied_response"
