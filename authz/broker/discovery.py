"""What the broker says about itself (RFC 8414): what exists, and nothing else (DM-01)."""

from authz.broker.deps import Settings
from authz.broker.token_request import GRANT_TYPE

WELL_KNOWN = "/.well-known/oauth-authorization-server"


def metadata(settings: Settings) -> dict[str, object]:
    """Return the metadata document of the authorization server."""
    base = settings.issuer.rstrip("/")
    return {
        "issuer": settings.issuer,
        "token_endpoint": f"{base}/token",
        "jwks_uri": f"{base}/jwks",
        "grant_types_supported": [GRANT_TYPE],
        # There is no authorization endpoint, so there is no response type.
        "response_types_supported": [],
        # draft-ietf-oauth-spiffe-client-auth-02, which builds on RFC 8705.
        "token_endpoint_auth_methods_supported": ["spiffe_x509"],
        "tls_client_certificate_bound_access_tokens": True,
    }
