"""The bundle endpoint and the documents of OpenID Connect Discovery (SPIFFE Federation section 5.2).

- GET only, for everybody: no client authentication of any kind (B-4). No redirects.
- The answer is made of the authority's keys of this moment: what was revoked is gone from the next answer on.
- The bundle is not cached (`no-cache`): its refresh hint says how often to ask. The documents of discovery
  may be kept for as long as that hint, since their readers know no other.
- Nothing of a request but its method and path is read, so nothing that a stranger sends is kept or shown.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from identity.authority import Authority
from identity.oidc_discovery import KEYS, WELL_KNOWN, OidcIssuer, svid_jwks

BUNDLE_PATH = "/bundle"

_LOG = logging.getLogger(__name__)
_FRESH = {"Cache-Control": "no-cache"}
_NO_STORE = {"Cache-Control": "no-store"}

Endpoint = Callable[[Request], Awaitable[Response]]


def bundle_app(authority: Callable[[], Authority], issuer: OidcIssuer | None = None) -> Starlette:
    """Make the ASGI application; `authority` gives the one of the moment, and `issuer` turns discovery on."""

    def keys() -> Mapping[str, object]:
        return svid_jwks(authority().svid_keys)

    def kept() -> Mapping[str, str]:
        return {"Cache-Control": f"public, max-age={authority().refresh_hint}"}

    routes = [Route(BUNDLE_PATH, _document(lambda: authority().bundle(), lambda: _FRESH), methods=["GET"])]
    if issuer is not None:
        routes += [
            Route(f"{issuer.path}{WELL_KNOWN}", _document(issuer.configuration, kept), methods=["GET"]),
            Route(f"{issuer.path}{KEYS}", _document(keys, kept), methods=["GET"]),
        ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    # A redirect would send the reader to wherever the Host header says.
    app.router.redirect_slashes = False
    return app


def _document(
    content: Callable[[], Mapping[str, object]], headers: Callable[[], Mapping[str, str]]
) -> Endpoint:
    async def document(_: Request) -> Response:
        try:
            body, extra = content(), headers()
        except Exception as error:  # noqa: BLE001 - a stranger learns that it failed, the log by what
            _LOG.warning("no public document: %s", type(error).__name__)
            return _json({"error": "not available now"}, 503, {**_NO_STORE, "Retry-After": "5"})
        return _json(body, 200, extra)

    return document


async def _refuse(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    allow = {"Allow": "GET, HEAD"} if status == 405 else {}
    return _json({"error": "there is no such document, or not with this method"}, status, _NO_STORE | allow)


def _json(content: Mapping[str, object], status: int, headers: Mapping[str, str]) -> Response:
    # ASCII is UTF-8, whatever the reader takes it for.
    return Response(json.dumps(content), status, dict(headers), "application/json")
