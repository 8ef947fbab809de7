"""What a person is shown of a call: all of it that the names in the key do not say.

- Of an MCP call these are its arguments. What else it was sent with is shown beside them: a query, what its
  client answered to a question of the server, the state by which the server goes on, and what `_meta` holds
  of anybody's own making. Nothing that is shown beside arguments reads like arguments of such names.
- Left out is what cannot change what is done: what the protocol itself puts into `_meta`, and the bare word
  of the agent's client that it showed our URL: by that the retry would be another call.
- Of agents and models it is their whole message, and the headers that ask for extensions.
- Where nobody reads arguments it is the request as it came: its whole target, its content type, whatever
  encoding it says that its body has (letters may be a compressed text), and its body. A body that the proxy
  kept to itself is approved by nobody.
"""

import base64
from collections.abc import Mapping
from typing import Final

from authz.approvals.prompt import INPUT
from authz.codes import Code
from authz.errors import ApprovalError, InspectionError
from authz.headers import Headers
from authz.protocols.operation import Operation
from authz.request import Request
from identity.canonical import CanonicalJsonError, canonical_json
from identity.strict_json import StrictJsonError, loads

MAX_ARGUMENTS: Final = 16 * 1024
# Before it is known what of a body is shown: a message has room for its own envelope, and not for much more.
_MAX_BODY: Final = 4 * MAX_ARGUMENTS
# What stands in the key already.
_LEFT_OUT: Final = frozenset({"name", "uri", "taskId"})
# What says nothing of what is done, and may be another each time (specification 2026-07-28).
_OF_THE_PROTOCOL: Final = frozenset(
    {
        "io.modelcontextprotocol/protocolVersion",
        "io.modelcontextprotocol/clientCapabilities",
        "io.modelcontextprotocol/clientInfo",
        "io.modelcontextprotocol/logLevel",
        "progressToken",
        "traceparent",
        "tracestate",
        "baggage",
    }
)
# All that is ever shown beside arguments, or in their place: the members of params, and the query.
_BESIDE: Final = frozenset(
    {
        *("arguments", "task", "inputResponses", "requestState", "_meta", "query"),
        *("ref", "argument", "context", "notifications"),
    }
)
_ANSWERS: Final = "inputResponses"
_META: Final = "_meta"
# What is shown without what says nothing, if there is anything else.
_THINNED: Final = frozenset({_ANSWERS, _META})
_KINDS: Final = ("content-type", "content-encoding", "grpc-encoding")
# What agents and models are asked for besides, in headers.
_EXTENSIONS: Final = ("a2a-extensions", "x-a2a-extensions", "anthropic-beta", "openai-beta")
_SENDS_A_BODY: Final = frozenset({"PATCH", "POST", "PUT"})


def shown(operation: Operation, request: Request) -> bytes:
    """Return it as canonical JSON, or nothing.

    Raises:
        ApprovalError: with APPROVAL_SIZE, if it is too long, or we have not seen it all.
        InspectionError: if it cannot be written so that all read the same.
    """
    if len(request.body) > _MAX_BODY:
        raise ApprovalError(Code.APPROVAL_SIZE, f"a body of {len(request.body)} bytes")
    try:
        found = _shown(operation, request)
    except (CanonicalJsonError, StrictJsonError) as error:
        raise InspectionError(Code.JSON_NUMBER, str(error), operation.rpc_id) from error
    if len(found) > MAX_ARGUMENTS:
        raise ApprovalError(Code.APPROVAL_SIZE, f"{len(found)} bytes, where {MAX_ARGUMENTS} can be shown")
    return found


def _shown(operation: Operation, request: Request) -> bytes:
    if operation.protocol == "mcp":
        beside = _beside(request)
        if beside.keys() <= {"arguments"} and _BESIDE.isdisjoint(operation.arguments or {}):
            return operation.canonical_arguments or b""
        return canonical_json(beside)
    if operation.canonical_arguments is not None:
        asked = _said(request.headers, _EXTENSIONS)
        if not asked:
            return operation.canonical_arguments
        return canonical_json({"arguments": loads(operation.canonical_arguments), "headers": asked})
    _require_body(operation, request)
    kind = {name.replace("-", "_"): value for name, value in _said(request.headers, _KINDS).items()}
    return canonical_json({"target": request.path, **kind, **_body(request.body)})


def _beside(request: Request) -> Mapping[str, object]:
    """Return what an MCP message was sent with."""
    query = request.path.partition("?")[2]
    found: dict[str, object] = {"query": query} if query else {}
    message = loads(request.body) if request.body else None
    params = message.get("params") if isinstance(message, dict) else None
    members = params if isinstance(params, dict) else {}
    for name in members.keys() - _LEFT_OUT:
        value = members[name]
        if name not in _THINNED:
            found[name] = value
        elif left := _without_noise(name, value):
            found[name] = left
    return found


def _without_noise(of: str, members: object) -> Mapping[str, object]:
    if not isinstance(members, dict):
        return {}
    if of == _META:
        return {name: value for name, value in members.items() if name not in _OF_THE_PROTOCOL}
    return {name: value for name, value in members.items() if not _is_bare_word(name, value)}


def _is_bare_word(name: str, answer: object) -> bool:
    """Say whether an answer is that of a client that was shown our URL, and nothing more."""
    return name == INPUT and isinstance(answer, dict) and answer.keys() <= {"action", "_meta"}


def _said(headers: Headers, names: tuple[str, ...]) -> dict[str, str]:
    values = {name: headers.one(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _require_body(operation: Operation, request: Request) -> None:
    """Refuse what was sent with a body that we were not given.

    Raises:
        ApprovalError: with APPROVAL_SIZE.
    """
    if request.body:
        return
    length = request.headers.one("content-length")
    is_said_to_be_empty = length is not None and not length.strip("0")
    may_have_one = operation.wire == "grpc" or request.method in _SENDS_A_BODY
    if (may_have_one and not is_said_to_be_empty) or not (length is None or is_said_to_be_empty):
        raise ApprovalError(Code.APPROVAL_SIZE, "a body that the proxy did not send along")


def _body(body: bytes) -> dict[str, object]:
    if not body:
        return {}
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode("ascii")}
