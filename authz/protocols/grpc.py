"""Plain gRPC: the method is the operation; the messages are not read.

- One decision is made for one call, also where it is a stream of messages.
- Reflection and health are methods like any other: a policy that lists neither allows neither.
"""

from authz.protocols.grpc_call import check_grpc_call
from authz.protocols.http_path import HttpPath
from authz.protocols.operation import Operation
from authz.request import Request


def inspect_grpc(request: Request) -> Operation:
    """Read a gRPC request.

    Raises:
        InspectionError: with PATH, GRPC_PATH, CONTENT_TYPE or BODY_ENCODING.
        RequestError: if a header stands twice or is not text.
    """
    target = HttpPath.parse(request.path)
    check_grpc_call(request, target)
    return Operation(
        protocol="grpc",
        method="rpc",
        phase="call",
        resource_type="rpc",
        resource_name=target.path,
        wire="grpc",
    )
