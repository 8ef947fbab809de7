"""Plain HTTP: the method and the path are the operation, on the host that the request names.

- The path has one spelling (authz/protocols/http_path.py). The query and the body are not read, but a policy
  sees the query in `request.path`, and the host in `request.host`.
- What makes a server run another method than the request has is refused, in the body too.
"""

from authz.protocols.http_path import HttpPath
from authz.protocols.operation import Operation
from authz.protocols.turning import refuse_turning_body
from authz.request import Request


def inspect_http(request: Request) -> Operation:
    """Read a plain HTTP request.

    Raises:
        InspectionError: with PATH if the path is ambiguous, with REQUEST_MALFORMED if it asks to be another.
        RequestError: if a header stands twice or is not text.
    """
    refuse_turning_body(request)
    return Operation(
        protocol="http",
        method=request.method,
        phase="call",
        resource_type="path",
        resource_name=HttpPath.parse(request.path).path,
    )
