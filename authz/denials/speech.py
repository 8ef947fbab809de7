"""In which protocol's words the one who asks is answered.

- An operation that was read says it; before there is one, the operator's route does, and of the request only
  what makes a difference between the clients of one route. What a stranger writes there changes the form of
  the refusal of this one request, and nothing else.
- A request that says `application/grpc` is answered in gRPC on every route: Envoy turns whatever we say into
  that, and would guess the status (docs/reference/denials.md).
"""

import re
from typing import Final, Literal

from authz.protocols.mcp_era import MODERN_VERSIONS, VERSION_HEADER
from authz.protocols.operation import Operation, Protocol
from authz.request import Request

Speech = Literal["mcp", "mcp_modern", "a2a", "a2a_rest", "openai", "anthropic", "grpc", "http"]

_GRPC: Final = re.compile(rb"application/grpc(?:\+[a-z0-9.+-]+)?[ \t]*(?:;.*)?", re.IGNORECASE)
# A2A 1.0, section 11.3, and what 0.3 had; everything else under an A2A route is posted to as JSON-RPC.
_REST: Final = re.compile(r".*/(?:message:(?:send|stream)|tasks(?:/.*)?|extendedAgentCard|card)/?")
_ANTHROPIC_PATH: Final = "/messages"
_ANTHROPIC_HEADER: Final = "anthropic-version"


def spoken(operation: Operation | None, rpc_id: str | int | None = None) -> Speech:
    """Return the words for an operation, where nothing is known of how it came."""
    if operation is None:
        return "mcp" if rpc_id is not None else "http"
    if operation.wire == "grpc":
        return "grpc"
    match operation.protocol:
        case "a2a":
            return "a2a" if operation.is_json_rpc else "a2a_rest"
        case "llm":
            return "anthropic" if operation.method == "messages" else "openai"
        case _:
            return "mcp" if operation.is_json_rpc else "http"


def speech_of(protocol: Protocol, request: Request, operation: Operation | None = None) -> Speech:
    """Return the words for a request to a service whose route has this protocol."""
    headers = request.headers.last
    if _GRPC.fullmatch(headers.get("content-type", b"")):
        return "grpc"
    path = request.path.partition("?")[0]
    match protocol:
        case "mcp":
            version = headers.get(VERSION_HEADER, b"").decode("latin-1")
            return "mcp_modern" if version in MODERN_VERSIONS else "mcp"
        case "a2a":
            if operation is not None:
                return spoken(operation)
            return "a2a_rest" if request.method != "POST" or _REST.fullmatch(path) else "a2a"
        case "llm":
            is_anthropic = _ANTHROPIC_HEADER in headers or path.rstrip("/").endswith(_ANTHROPIC_PATH)
            return "anthropic" if is_anthropic else "openai"
        case "grpc":
            return "grpc"
        case _:
            return "http"
