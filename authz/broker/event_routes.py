"""Security events over HTTP: where they are pushed to, and what we say about ourselves as a transmitter.

- The endpoint is there only where somebody may use it; the metadata always.
- Nothing of an answer is kept (`Cache-Control: no-store`).
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from authz.broker.arrival import Arrival
from authz.broker.deps import Broker
from authz.broker.event_discovery import WELL_KNOWN_EVENTS, event_metadata
from authz.broker.events_endpoint import Inbox, receive_event

_NO_STORE: Final = {"Cache-Control": "no-store"}
_RETRY: Final = {"Retry-After": "1"}


Read = Callable[[Request], Awaitable[Arrival]]


def event_routes(broker: Broker, inbox: Inbox | None, read: Read) -> list[Route]:
    """Return the routes; `read` makes an arrival of a request."""

    async def metadata(_: Request) -> Response:
        return JSONResponse(event_metadata(broker.settings), headers=_NO_STORE)

    path = broker.settings.path
    routes = [Route(f"{WELL_KNOWN_EVENTS}{path}", metadata)]
    if inbox is not None:
        routes.append(Route(f"{path}/events", _endpoint(broker, inbox, read), methods=["POST"]))
    return routes


def _endpoint(broker: Broker, inbox: Inbox, read: Read) -> Callable[[Request], Awaitable[Response]]:
    async def events(request: Request) -> Response:
        reply = await receive_event(await read(request), broker, inbox)
        headers = _NO_STORE | (_RETRY if reply.status == 503 else {}) | dict(reply.headers)
        if reply.body is None:
            return Response(status_code=reply.status, headers=headers)
        return JSONResponse(dict(reply.body), reply.status, headers)

    return events
