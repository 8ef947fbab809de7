"""Plain HTTP: the method and the path are the operation; the body is not read."""

from authz.protocols.http_path import HttpPath
from authz.protocols.operation import Operation
from authz.request import Request


def inspect_http(request: Request) -> Operation:
    """Read a plain HTTP request.

    Raises:
        InspectionError: with PATH if the path is ambiguous.
    """
    return Operation(
        protocol="http",
        method=request.method,
        phase="call",
        resource_type="path",
        resource_name=HttpPath.parse(request.path).path,
    )
