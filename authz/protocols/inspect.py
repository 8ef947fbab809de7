"""What a request asks for, read by the protocol of its route.

- The route comes from the operator; no request chooses how it is read.
- A request that asks to be another one is refused for every protocol (authz/protocols/turning.py).
- A body that did not arrive whole is refused for every protocol: what was cut off could say anything.
- Whatever the bytes are, the result is an `Operation` or an `InspectionError`.
"""

from collections.abc import Callable, Mapping

from authz.codes import Code
from authz.errors import InspectionError, RequestError
from authz.protocols.a2a import inspect_a2a
from authz.protocols.grpc import inspect_grpc
from authz.protocols.http import inspect_http
from authz.protocols.llm import inspect_llm
from authz.protocols.mcp import inspect_mcp
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.protocols.turning import refuse_turning
from authz.request import Request

_READERS: Mapping[str, Callable[[Request, Route], Operation]] = {
    "mcp": inspect_mcp,
    "a2a": inspect_a2a,
    "llm": inspect_llm,
    "grpc": lambda request, _: inspect_grpc(request),
    "http": lambda request, _: inspect_http(request),
}


def inspect(request: Request, route: Route) -> Operation:
    """Read what a request asks for.

    Raises:
        InspectionError: if it is unknown, or if two readers could read two things.
    """
    refuse_turning(request)
    if request.partial:
        raise InspectionError(Code.BODY_TRUNCATED, f"{len(request.body)} of {request.size} bytes arrived")
    reader = _READERS.get(route.protocol)
    if reader is None:
        raise InspectionError(Code.SERVICE_UNKNOWN, f"no reader for the protocol {route.protocol!r}")
    try:
        return reader(request, route)
    except RequestError as error:
        raise InspectionError(error.code, error.detail) from error
