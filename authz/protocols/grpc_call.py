"""A gRPC call: its path and its content type (gRPC over HTTP/2, "Requests").

- POST to `/package.Service/Method`, each part an identifier of Protocol Buffers; nothing encoded, no query,
  no slash more or less (CVE-2026-33186).
- Content type `application/grpc`, `+proto` or `+json`, exactly so: servers route by that prefix, and gRPC-Web
  is another protocol, whose bodies a proxy rewrites.
"""

import re

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.http_path import HttpPath
from authz.request import Request

MAX_PATH_CHARS = 256

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_PATH = re.compile(rf"/{_NAME}(?:\.{_NAME})*/{_NAME}")
_PROTO = frozenset({"application/grpc", "application/grpc+proto"})
_CONTENT_TYPES = _PROTO | {"application/grpc+json"}


def check_grpc_call(request: Request, target: HttpPath) -> None:
    """Check that this is one gRPC call.

    Raises:
        InspectionError: with GRPC_PATH or CONTENT_TYPE.
        RequestError: if a header stands twice or is not text.
    """
    if request.method != "POST" or target.query or "?" in request.path:
        raise InspectionError(Code.GRPC_PATH, f"{request.method} with a query, or not POST")
    if len(target.path) > MAX_PATH_CHARS or not _PATH.fullmatch(target.path):
        raise InspectionError(Code.GRPC_PATH, f"not the path of a gRPC method: {target.path[:255]!r}")
    if request.headers.one("content-type") not in _CONTENT_TYPES:
        raise InspectionError(Code.CONTENT_TYPE, "another content-type than application/grpc")
    if request.headers.one("content-encoding") is not None:
        raise InspectionError(Code.BODY_ENCODING, "a content-encoding, which gRPC does not have")


def one_message(request: Request) -> bytes:
    """Return the one message of a call whose body was sent whole.

    Raises:
        InspectionError: with BODY_ENCODING if it is none, more than one, compressed, or not Protocol Buffers.
        RequestError: if a header stands twice or is not text.
    """
    if request.headers.one("content-type") not in _PROTO:
        raise InspectionError(Code.CONTENT_TYPE, "another message format than Protocol Buffers")
    prefix, message = request.body[:5], request.body[5:]
    if len(prefix) != 5 or prefix[0] != 0 or int.from_bytes(prefix[1:]) != len(message):
        raise InspectionError(Code.BODY_ENCODING, "not one whole, uncompressed gRPC message")
    return message
