"""What the broker says about itself and about the services that its tokens are for: what exists, and no more.

- The authorization server's document is that of RFC 8414 (DM-01); a service's is that of RFC 9728 (DM-02).
- The path of an issuer or a service comes after the well-known one.
- Of the actor profile nothing is claimed but that its tokens are what services take: our errors are those of
  RFC 8693, not the profile's.
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from authz.broker.deps import Settings
from authz.broker.introspection import SIGNING_ALGORITHMS
from authz.broker.target import normal_target
from authz.broker.token_request import GRANT_TYPE, ID_JAG
from authz.protected_resource import resource_document, scopes_of
from identity.authorization_details import TYPE
from identity.dpop import PROOF_ALGORITHMS

WELL_KNOWN: Final = "/.well-known/oauth-authorization-server"
# draft-ietf-oauth-spiffe-client-auth-02, which builds on RFC 7523 and RFC 8705.
_LOGINS: Final = ("spiffe_x509", "spiffe_jwt")


def metadata(settings: Settings) -> dict[str, object]:
    """Return the metadata document of the authorization server."""
    base = settings.base
    document: dict[str, object] = {
        "issuer": settings.issuer,
        "token_endpoint": settings.token_endpoint,
        "introspection_endpoint": f"{base}/introspect",
        "revocation_endpoint": f"{base}/revoke",
        "jwks_uri": f"{base}/jwks",
        "grant_types_supported": [GRANT_TYPE],
        # There is no authorization endpoint, so there is no response type.
        "response_types_supported": [],
        **{
            f"{endpoint}_endpoint_auth_methods_supported": list(_LOGINS)
            for endpoint in ("token", "introspection", "revocation")
        },
        "token_endpoint_auth_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "introspection_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
        "tls_client_certificate_bound_access_tokens": True,
        "authorization_details_types_supported": [TYPE],
        "protected_resources": sorted(settings.audiences),
    }
    if settings.assertion_targets:
        document["identity_chaining_requested_token_types_supported"] = [ID_JAG]
    return document


def resource_metadata(settings: Settings, audience: str) -> dict[str, object]:
    """Return the metadata document of a service."""
    return resource_document(settings.issuer, audience, scopes_of(settings.audiences[audience]))


def named_resource(settings: Settings, named: Sequence[str]) -> str | None:
    """Return the audience that a challenge named (authz/protected_resource.py)."""
    return named[0] if len(named) == 1 and named[0] in settings.audiences else None


def find_resource(settings: Settings, host: str, path: str) -> str | None:
    """Return the audience of the service at a path: the one of this host, or the only one with this path."""
    here = [audience for audience in settings.audiences if _path(audience) == path.rstrip("/")]
    asked = normal_target(f"https://{host}{path}")
    named = [audience for audience in here if normal_target(audience) == asked]
    found = named or here
    return found[0] if len(found) == 1 else None


def _path(audience: str) -> str:
    parts = urlsplit(audience)
    return parts.path.rstrip("/") if parts.scheme and parts.netloc else "-"
