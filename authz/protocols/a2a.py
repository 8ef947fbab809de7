"""A2A: which one operation of an agent a request asks for, or a refusal.

- The agent's path is that of the route; without one it is the root of its host. JSON-RPC is a POST to that
  path itself; below it only the paths of the HTTP+JSON binding and the agent's card are known. Beside them a
  server may have anything, so a JSON-RPC body makes no other path harmless.
- gRPC has its own paths, at the root; where the agent is elsewhere, they are another agent's.
- JSON-RPC: strict JSON, one request with an id, no batch; the method and its params are those of the version
  that the client names; no query.
- An operation has its name of version 1.0 and is aimed at the agent: the tenant, where one is named, else
  the service. A tenant with the service's name is refused, since the two would be one to a policy.
- The public card is lifecycle: it is made for everybody. The extended one is a call.
- The wire does not say which skill is meant; the text of a message decides that, in the agent.
"""

from authz.codes import Code
from authz.errors import InspectionError, RequestError
from authz.protocols.a2a_grpc import is_grpc_path, read_grpc
from authz.protocols.a2a_headers import Version, check_extensions, read_version
from authz.protocols.a2a_methods import GET_AGENT_CARD, METHODS, OLD_METHODS
from authz.protocols.a2a_rest import Called, read_rest
from authz.protocols.http_path import HttpPath
from authz.protocols.json_body import check_json_headers
from authz.protocols.json_rpc import RpcRequest, decode, read_message, readable_id
from authz.protocols.operation import Operation, Wire
from authz.protocols.reader_codes import A2A
from authz.protocols.route import Route
from authz.request import Request
from identity.canonical import canonical_arguments, sha256_hex

CARD_PATHS = ("/.well-known/agent-card.json", "/.well-known/agent.json")


def inspect_a2a(request: Request, route: Route) -> Operation:
    """Read an A2A request.

    Raises:
        InspectionError: with the code of what refused, and the id that an answer can echo.
        RequestError: if a header stands twice or is not text, before there is an id.
    """
    target = HttpPath.parse(request.path)
    version = read_version(request.headers)
    check_extensions(request.headers)
    if is_grpc_path(target.path) and "" in (route.paths or {""}):
        return _operation(read_grpc(request, target, version), route, "grpc")
    path = _below(target.path, route)
    if request.method == "POST" and path in {"", "/"}:
        _refuse_query(target)
        return _inspect_rpc(request, route, version)
    if path in CARD_PATHS:
        return _inspect_card(request, route, target)
    return _operation(read_rest(request, path, target.query, version), route, "http")


def _below(path: str, route: Route) -> str:
    """Return the path below the agent's own: the longest one that fits, where there are several."""
    for base in sorted(route.paths or {""}, key=len, reverse=True):
        if path == base or path.startswith(f"{base}/"):
            return path.removeprefix(base)
    raise InspectionError(Code.A2A_METHOD_UNKNOWN, f"a path that is not the agent's: {path[:255]!r}")


def _refuse_query(target: HttpPath) -> None:
    if target.query:
        raise InspectionError(Code.A2A_PARAMS, "a query where there is none")


def _inspect_card(request: Request, route: Route, target: HttpPath) -> Operation:
    _refuse_query(target)
    if request.method != "GET" or request.body:
        raise InspectionError(Code.A2A_METHOD_UNKNOWN, f"{request.method} of an agent's card, or with a body")
    return Operation("a2a", GET_AGENT_CARD, "lifecycle", "agent", route.service)


def _inspect_rpc(request: Request, route: Route, version: Version) -> Operation:
    check_json_headers(request.headers)
    document = decode(request.body, A2A)
    try:
        message = read_message(document, A2A)
        if not isinstance(message, RpcRequest):
            raise InspectionError(Code.A2A_ENVELOPE, "a message without id, or a response by the client")
        return _operation(_read_call(message, version), route, "json_rpc", message.id)
    except (InspectionError, RequestError) as error:
        raise InspectionError(error.code, error.detail, readable_id(document)) from error


def _read_call(message: RpcRequest, version: Version) -> Called:
    known, other = (METHODS, OLD_METHODS) if version is Version.NEW else (OLD_METHODS, METHODS)
    method = known.get(message.method)
    if method is None and message.method in other:
        raise InspectionError(Code.A2A_VERSION, f"{message.method!r} in version {version.value}")
    if method is None:
        raise InspectionError(Code.A2A_METHOD_UNKNOWN, f"method {message.method!r}")
    shape = method.params if version is Version.NEW else method.old_params or method.params
    arguments = shape.check(message.params)
    return Called(method, arguments, str(arguments.get("tenant", "")))


def _operation(called: Called, route: Route, wire: Wire, rpc_id: str | int | None = None) -> Operation:
    if called.tenant == route.service:
        raise InspectionError(Code.A2A_PARAMS, f"a tenant with the name of the service: {called.tenant!r}")
    canonical = canonical_arguments(called.arguments)
    return Operation(
        protocol="a2a",
        method=called.method.name,
        phase="call",
        resource_type="agent",
        resource_name=called.tenant or route.service,
        arguments=called.arguments,
        arguments_sha256=sha256_hex(canonical),
        rpc_id=rpc_id,
        canonical_arguments=canonical,
        wire=wire,
    )
