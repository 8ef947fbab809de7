"""The broker over HTTP: each endpoint reads bytes, calls the core, and maps the result.

- All endpoints are below the issuer's path; the metadata is where RFC 8414 section 3.1 puts it.
- An answer is JSON that nobody keeps (`Cache-Control: no-store`), but the public keys: these are kept for
  less time than a key is published before it signs (JW-08).
- What the core does not answer (no such path, no such method) is answered here, without a word about why.
- Requests for tokens, which are nearly all, do not go through the layers of the framework: these take as long
  as the signatures do.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.broker.arrival import MAX_BODY, Arrival
from authz.broker.deps import Broker
from authz.broker.discovery import WELL_KNOWN, find_resource, metadata, named_resource, resource_metadata
from authz.broker.introspection import SIGNED, introspect_token
from authz.broker.reply import Reply
from authz.broker.revocation import revoke_token
from authz.broker.task_endpoint import end_task, issue_jwt_svid, renew_svid, start_task
from authz.broker.token_endpoint import exchange_token
from authz.codes import Code
from authz.hosts.http import (
    App,
    BodyMissingError,
    BodyTooLargeError,
    Receive,
    Scope,
    Send,
    peer_chain,
    read_body,
)
from authz.protected_resource import PARAMETER, WELL_KNOWN_RESOURCE

_NO_STORE = {"Cache-Control": "no-store"}
# Of an answer that gives something out: the headers before its length, as the framework has them.
_GIVEN: Final = ((b"cache-control", b"no-store"), (b"content-type", b"application/json"))
# What is read of a request's headers, with all its values.
_READ: Final = (b"content-type", b"authorization", b"dpop", b"accept")
_RETRY = {"Retry-After": "1"}
_CLOSE = {"Connection": "close"}
# The certificate of this connection is not the newest, or its CA was revoked; the next connection presents
# what the client has now.
_OF_THE_CONNECTION = (Code.NOT_BOUND.value, Code.PEER_MISSING.value)
# Another method is a malformed token request, not an unknown endpoint (TX-01).
_ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

Endpoint = Callable[[Request], Awaitable[Response]]


def broker_app(broker: Broker, is_ready: Callable[[], bool], more: Sequence[Route] = ()) -> App:
    """Make the ASGI application of a broker; `is_ready` says whether the policy would answer."""

    async def token(request: Request) -> Response:
        return _response(await exchange_token(await read_arrival(request), broker))

    async def introspect(request: Request) -> Response:
        return _response(await introspect_token(await read_arrival(request), broker))

    async def revoke(request: Request) -> Response:
        return _response(await revoke_token(await read_arrival(request), broker))

    async def start(request: Request) -> Response:
        return _response(await start_task(await read_arrival(request), broker))

    async def renew(request: Request) -> Response:
        return _response(await renew_svid(request.path_params["task"], await read_arrival(request), broker))

    async def jwt_svid(request: Request) -> Response:
        return _response(
            await issue_jwt_svid(request.path_params["task"], await read_arrival(request), broker)
        )

    async def end(request: Request) -> Response:
        return _response(await end_task(request.path_params["task"], await read_arrival(request), broker))

    async def resource(request: Request) -> Response:
        host, place = request.headers.get("host", ""), request.path_params.get("path", "")
        named = request.query_params.getlist(PARAMETER)
        if named and not place:
            audience = named_resource(broker.settings, named)
        else:
            audience = find_resource(broker.settings, host, place)
        if audience is None:
            raise HTTPException(404)
        return JSONResponse(resource_metadata(broker.settings, audience), headers=_NO_STORE)

    path = broker.settings.path
    app = Starlette(
        routes=[
            Route(f"{path}/token", token, methods=_ANY_METHOD),
            Route(f"{path}/introspect", introspect, methods=["POST"]),
            Route(f"{path}/revoke", revoke, methods=["POST"]),
            Route(f"{path}/tasks", start, methods=["POST"]),
            Route(f"{path}/tasks/{{task}}/svid", renew, methods=["POST"]),
            Route(f"{path}/tasks/{{task}}/jwt-svid", jwt_svid, methods=["POST"]),
            Route(f"{path}/tasks/{{task}}", end, methods=["DELETE"]),
            Route(f"{path}/jwks", _document(broker.token_jwks, _kept(broker.settings.jwks_max_age))),
            Route(f"{path}/bundle", _document(broker.bundle)),
            Route(f"{WELL_KNOWN}{path}", _document(lambda: metadata(broker.settings))),
            Route(WELL_KNOWN_RESOURCE, resource),
            Route(WELL_KNOWN_RESOURCE + "{path:path}", resource),
            Route("/healthz", _health(is_ready)),
            *more,
        ],
        exception_handlers={HTTPException: unknown, BodyMissingError: gone},
    )
    # A redirect would send a token to wherever the Host header says.
    app.router.redirect_slashes = False
    return _token_first(f"{path}/token", broker, app)


def _token_first(path: str, broker: Broker, others: App) -> App:
    """Answer a POST to the token endpoint as its route would, and leave everything else to the others."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["type"], scope.get("method"), scope.get("path")) != ("http", "POST", path):
            await others(scope, receive, send)
            return
        try:
            reply = await exchange_token(await _arrival(scope, receive), broker)
        except BodyMissingError:
            await _nobody()(scope, receive, send)
            return
        if reply.status != 200 or reply.body is None or reply.headers:
            await _response(reply)(scope, receive, send)
        else:
            await _give(reply.body, send)

    return app


async def _give(members: Mapping[str, object], send: Send) -> None:
    """Answer with what is given out, as `_response` would."""
    body = to_json(members)
    headers = [*_GIVEN, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def read_arrival(request: Request) -> Arrival:
    """Read what an endpoint takes of a request."""
    return await _arrival(request.scope, request.receive)


async def _arrival(scope: Scope, receive: Receive) -> Arrival:
    try:
        body = await read_body(receive, MAX_BODY)
    except BodyTooLargeError:
        body = None
    found: dict[bytes, tuple[str, ...]] = dict.fromkeys(_READ, ())
    for name, value in scope["headers"]:
        if name in found:
            found[name] = (*found[name], value.decode("latin-1"))
    content_types, client = found[b"content-type"], scope["client"]
    return Arrival(
        method=scope["method"],
        source=client[0] if client else "local",
        chain=peer_chain(scope),
        body=body,
        content_type=content_types[0] if len(content_types) == 1 else None,
        has_query=bool(scope["query_string"]),
        authorization=found[b"authorization"],
        proofs=found[b"dpop"],
        accept=",".join(found[b"accept"]),
    )


def _response(reply: Reply) -> Response:
    headers = _NO_STORE | (_RETRY if reply.status == 503 else {}) | dict(reply.headers)
    if reply.body is not None and any(code in reply.body.values() for code in _OF_THE_CONNECTION):
        headers |= _CLOSE
    if reply.signed is not None:
        return Response(reply.signed, reply.status, headers, media_type=f"application/{SIGNED}")
    if reply.body is None:
        return Response(status_code=reply.status, headers=headers)
    return JSONResponse(dict(reply.body), reply.status, headers)


def _kept(seconds: int) -> Mapping[str, str]:
    return {"Cache-Control": f"public, max-age={seconds}"}


def _document(
    content: Callable[[], Mapping[str, object]], headers: Mapping[str, str] = _NO_STORE
) -> Endpoint:
    async def document(_: Request) -> Response:
        return JSONResponse(dict(content()), headers=headers)

    return document


def _health(is_ready: Callable[[], bool]) -> Endpoint:
    async def health(_: Request) -> Response:
        ready = is_ready()
        return JSONResponse({"status": "ok" if ready else "not ready"}, 200 if ready else 503, _NO_STORE)

    return health


async def unknown(_: Request, error: Exception) -> Response:
    """Answer what no endpoint answers."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    code, sentence = Code.REQUEST_MALFORMED.value, "there is no such endpoint, or not with this method"
    return JSONResponse({"error": sentence, "code": code}, status, _NO_STORE)


async def gone(_: Request, _error: Exception) -> Response:
    """Answer a client that went away."""
    return _nobody()


def _nobody() -> Response:
    """Return an answer that nobody reads."""
    return Response(status_code=400, headers=_NO_STORE)
