"""MCP over HTTP: which one thing a message asks for, or a refusal.

The steps, each in a file of its own:
0. The path: unambiguous, and that of the MCP endpoint. Beside it a server may have anything, and there GET
   and DELETE are no streams and sessions, but reads and deletions that no policy was asked about.
1. The HTTP method: POST carries a message; GET opens a stream, DELETE ends a session: actions of their own.
2. Transport: media type, charset, content encoding.
3. Strict JSON, an object, no look-alikes of the envelope's members.
4. Envelope: request, notification or response, and its id.
5. Era: known version; headers that repeat the body equal it (what repeats an argument: after step 6).
6. Method: known, with its params and nothing else; what it is aimed at.
7. What Envoy's MCP filter read, where there is one, is what we read.

- What the client calls itself, its session and its era are no facts about who it is; nothing here decides.
- A client's response passes as lifecycle, in the legacy era and inside a session only.
"""

from authz.codes import Code
from authz.errors import InspectionError, RequestError
from authz.protocols.http_path import HttpPath
from authz.protocols.json_body import check_json_headers
from authz.protocols.json_rpc import Message, RpcRequest, RpcResponse, decode, read_message, readable_id
from authz.protocols.mcp_era import (
    SESSION_HEADER,
    Era,
    check_routing_headers,
    header_era,
    message_era,
)
from authz.protocols.mcp_metadata import check_metadata
from authz.protocols.mcp_methods import read_target
from authz.protocols.mcp_param_headers import check_param_headers
from authz.protocols.mcp_params import shows_urls
from authz.protocols.operation import Operation
from authz.protocols.reader_codes import MCP
from authz.protocols.route import Route
from authz.request import Request

STREAM_OPEN = "stream_open"
SESSION_END = "session_end"
CLIENT_RESPONSE = "client_response"

# Where every SDK puts it, behind whatever prefix a proxy has.
_ENDPOINT = "/mcp"


def inspect_mcp(request: Request, route: Route) -> Operation:
    """Read an MCP request.

    Raises:
        InspectionError: with the code of the step that refused, and the id that an answer can echo.
        RequestError: if a header stands twice or is not text, before there is an id.
    """
    _check_endpoint(HttpPath.parse(request.path).path, route)
    match request.method:
        case "POST":
            return _inspect_post(request, route)
        case "GET":
            return _inspect_bodiless(request, route, STREAM_OPEN)
        case "DELETE":
            return _inspect_bodiless(request, route, SESSION_END)
        case _:
            raise InspectionError(Code.MCP_HTTP_METHOD, f"{request.method} on an MCP route")


def _check_endpoint(path: str, route: Route) -> None:
    # Servers answer with and without the last slash, or redirect from one to the other.
    path = path.removesuffix("/")
    is_endpoint = path in route.paths if route.paths else path.endswith(_ENDPOINT)
    if not is_endpoint:
        raise InspectionError(Code.SERVICE_UNKNOWN, f"a path that is no MCP endpoint: {path[:255]!r}")


def _inspect_bodiless(request: Request, route: Route, method: str) -> Operation:
    request.headers.one(SESSION_HEADER)
    if request.body:
        raise InspectionError(Code.MCP_HTTP_METHOD, f"{request.method} with a body")
    if header_era(request.headers) is Era.MODERN:
        raise InspectionError(Code.MCP_HTTP_METHOD, f"{request.method}, which this era does not have")
    return Operation("mcp", method, "lifecycle", "server", route.service, wire="json_rpc")


def _inspect_post(request: Request, route: Route) -> Operation:
    check_json_headers(request.headers)
    request.headers.one(SESSION_HEADER)
    document = decode(request.body, MCP)
    try:
        return _inspect_message(read_message(document, MCP), request, route)
    except (InspectionError, RequestError) as error:
        raise InspectionError(error.code, error.detail, readable_id(document)) from error


def _inspect_message(message: Message, request: Request, route: Route) -> Operation:
    era = message_era(message, request.headers)
    if isinstance(message, RpcResponse):
        check_metadata(request.metadata, message, None)
        return Operation(
            "mcp",
            CLIENT_RESPONSE,
            "lifecycle",
            "server",
            route.service,
            wire="json_rpc",
            payload=message.answer,
        )
    target = read_target(message, route, era)
    check_routing_headers(message, target, era, request.headers)
    check_param_headers(request.headers, target.arguments if target.resource_type == "tool" else None)
    check_metadata(request.metadata, message, target.wire_name)
    return Operation(
        protocol="mcp",
        method=message.method,
        phase=target.phase,
        resource_type=target.resource_type,
        resource_name=target.name,
        arguments=target.arguments,
        arguments_sha256=target.arguments_sha256,
        rpc_id=message.id if isinstance(message, RpcRequest) else None,
        canonical_arguments=target.canonical_arguments,
        wire="json_rpc",
        # Whatever a method is aimed at, data can leave in all of its params.
        payload=message.params,
        elicits_urls=era is Era.MODERN and shows_urls(message.params),
    )
