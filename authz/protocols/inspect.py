"""What a request asks for, read by the protocol of its route.

- The route comes from the operator; no request chooses how it is read.
- A request that asks to be another one is refused for every protocol: a header by which some servers take
  another method or path than the request line has, and an upgrade, after which nobody asks us any more.
- A body that did not arrive whole is refused for every protocol: what was cut off could say anything.
- Whatever the bytes are, the result is an `Operation` or an `InspectionError`.
"""

from collections.abc import Callable, Mapping

from authz.codes import Code
from authz.errors import InspectionError, RequestError
from authz.protocols.http import inspect_http
from authz.protocols.mcp import inspect_mcp
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.request import Request

_READERS: Mapping[str, Callable[[Request, Route], Operation]] = {
    "mcp": inspect_mcp,
    "http": lambda request, _: inspect_http(request),
}

_TURNING = frozenset(
    {
        "upgrade",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-url",
        "x-rewrite-url",
    }
)


def inspect(request: Request, route: Route) -> Operation:
    """Read what a request asks for.

    Raises:
        InspectionError: if it is unknown, or if two readers could read two things.
    """
    if not _TURNING.isdisjoint(request.headers.last):
        turning = ", ".join(sorted(_TURNING & request.headers.names()))
        raise InspectionError(Code.REQUEST_MALFORMED, f"a request that asks to be another one: {turning}")
    if request.partial:
        raise InspectionError(Code.BODY_TRUNCATED, f"{len(request.body)} of {request.size} bytes arrived")
    reader = _READERS.get(route.protocol)
    if reader is None:
        raise InspectionError(Code.SERVICE_UNKNOWN, f"no reader for the protocol {route.protocol!r}")
    try:
        return reader(request, route)
    except RequestError as error:
        raise InspectionError(error.code, error.detail) from error
