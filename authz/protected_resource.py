"""Where a client reads how to get a token for a service: the protected resource metadata of RFC 9728.

- A challenge names the address (section 5.1). It is one of the broker's, for the broker exists already: no
  gateway has to lead there first. The service is named in the query by its audience, exactly: services on one
  host are never confused.
- A client that got no challenge, or does not read it, asks the service's own host (section 3). Where the
  proxy asks us about that, we answer in the service's place, before anybody is authenticated: only GET, only
  without a query, only for a path at which this route has something.
- The document says what every challenge says, and nothing about grants, tools, agents or people.
"""

from typing import Final
from urllib.parse import urlencode, urlsplit

from authz.errors import InspectionError
from authz.policy.grants_service import CLASSES
from authz.protocols.http_path import HttpPath
from authz.request import Request
from authz.services import Service
from identity.authorization_details import TYPE
from identity.dpop import PROOF_ALGORITHMS

WELL_KNOWN_RESOURCE: Final = "/.well-known/oauth-protected-resource"
PARAMETER: Final = "resource"

# Who speaks these looks for the document by itself; to a plain HTTP service the path is one of its own.
_PROTOCOLS: Final = frozenset({"mcp", "a2a", "llm"})
_MCP_ENDPOINT: Final = "/mcp"


def metadata_uri(issuer: str, audience: str) -> str:
    """Return the address of a service's document; nothing in it ends a quoted string."""
    broker = urlsplit(issuer)
    query = urlencode({PARAMETER: audience})
    return f"{broker.scheme}://{broker.netloc}{WELL_KNOWN_RESOURCE}?{query}"


def scopes_of(service: str) -> tuple[str, ...]:
    """Return the scopes of a service in the words of the shipped policy.

    The broker gives of them what person and agents have in common, so to ask for all asks for no more.
    """
    return tuple(f"{service}:{each}" for each in CLASSES)


def resource_document(issuer: str, audience: str, scopes: tuple[str, ...]) -> dict[str, object]:
    """Return the document of a service (RFC 9728 section 2)."""
    return {
        "resource": audience,
        "authorization_servers": [issuer],
        "scopes_supported": list(scopes),
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": True,
        "authorization_details_types_supported": [TYPE],
        "actor_profile_required": True,
    }


def find_document(request: Request, service: Service, issuer: str) -> dict[str, object] | None:
    """Return the document that a request asks for, None if it asks for something else."""
    if request.method != "GET" or not request.path.startswith(WELL_KNOWN_RESOURCE):
        return None
    place = request.path.removeprefix(WELL_KNOWN_RESOURCE).removesuffix("/")
    if service.route.protocol not in _PROTOCOLS or not _is_here(place, service):
        return None
    return resource_document(issuer, service.audience, scopes_of(service.name))


def _is_here(place: str, service: Service) -> bool:
    """Say whether the service has something at a path."""
    if not place:
        return True
    try:
        path = HttpPath.parse(place).path
    except InspectionError:
        return False
    if place != path:
        return False
    if path == urlsplit(service.audience).path.removesuffix("/"):
        return True
    if service.route.paths or service.route.protocol != "mcp":
        return path in service.route.paths
    return path.endswith(_MCP_ENDPOINT)
