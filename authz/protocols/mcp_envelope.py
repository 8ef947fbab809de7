"""The JSON-RPC envelope of one MCP message (JSON-RPC 2.0 sections 4 and 5).

- The body is strict JSON with a bounded number of values (hashing the arguments looks at each one), and its
  top level an object: a batch is refused, because it hides a second call.
- `jsonrpc` is "2.0"; the message is a request, a notification or a response, and only one of them.
- An id is a text of 1 to 255 characters or an integer within ±(2^53-1): never null, a float or a boolean,
  which parsers echo in different ways.
- The id of a request is told apart early, so that a refusal can answer it; the id of anything else never is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.mcp_members import MemberNames
from identity.strict_json import MAX_SAFE_INTEGER, Reason, StrictJsonError, loads

MAX_ID_CHARS = 255
MAX_METHOD_CHARS = 128

Params = Mapping[str, object]

_ENVELOPE = MemberNames.of("jsonrpc", "id", "method", "params", "result", "error")
_ERROR = MemberNames.of("code", "message", "data")
_JSON_CODES: Mapping[Reason, Code] = {
    "malformed": Code.JSON_MALFORMED,
    "duplicate-key": Code.JSON_DUPLICATE_KEY,
    "number": Code.JSON_NUMBER,
    "depth": Code.JSON_DEPTH,
    "surrogate": Code.JSON_SURROGATE,
    "keys": Code.JSON_KEYS,
    "encoding": Code.BODY_ENCODING,
}


@dataclass(frozen=True, slots=True)
class RpcRequest:
    """A call that waits for an answer."""

    id: str | int
    method: str
    params: Params = field(repr=False)


@dataclass(frozen=True, slots=True)
class RpcNotification:
    """A message that nobody answers."""

    method: str
    params: Params = field(repr=False)


@dataclass(frozen=True, slots=True)
class RpcResponse:
    """A client's answer to what the server asked of it."""

    id: str | int


Message = RpcRequest | RpcNotification | RpcResponse


def decode(body: bytes) -> Mapping[str, object]:
    """Read the body as one JSON object.

    Raises:
        InspectionError: if it is not strict JSON, or its top level is not an object.
    """
    try:
        document = loads(body)
    except StrictJsonError as error:
        raise InspectionError(_JSON_CODES[error.reason], str(error)) from error
    if isinstance(document, list):
        raise InspectionError(Code.MCP_BATCH, f"a batch of {len(document)}")
    if not isinstance(document, dict):
        raise InspectionError(Code.MCP_ENVELOPE, "a message that is not an object")
    _ENVELOPE.check(document, Code.MCP_ENVELOPE, "a message")
    return document


def readable_id(document: Mapping[str, object]) -> str | int | None:
    """Return the id that a refusal of this message can echo: that of a request, or none."""
    rpc_id = document.get("id")
    return rpc_id if "method" in document and is_id(rpc_id) else None


def read_message(document: Mapping[str, object]) -> Message:
    """Tell request, notification and response apart.

    Raises:
        InspectionError: with MCP_ENVELOPE or MCP_ID.
    """
    if document.get("jsonrpc") != "2.0":
        raise InspectionError(Code.MCP_ENVELOPE, 'a message without jsonrpc "2.0"')
    rpc_id = document.get("id")
    if "id" in document and not is_id(rpc_id):
        raise InspectionError(Code.MCP_ID, "an id that is neither a short text nor a safe integer")
    if "method" not in document:
        return _read_response(document)
    method = document["method"]
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_CHARS:
        raise InspectionError(
            Code.MCP_ENVELOPE, f"a method that is not a text of at most {MAX_METHOD_CHARS} characters"
        )
    if "result" in document or "error" in document:
        raise InspectionError(Code.MCP_ENVELOPE, "a request that is a response as well")
    params = document.get("params", {})
    if not isinstance(params, dict):
        raise InspectionError(Code.MCP_PARAMS, "params that are not an object")
    return RpcRequest(rpc_id, method, params) if is_id(rpc_id) else RpcNotification(method, params)


def is_id(value: object) -> TypeGuard[str | int]:
    """Say whether every JSON-RPC library reads and echoes this id alike."""
    # By exact type: a boolean is an integer to Python.
    if type(value) is int:
        return abs(value) <= MAX_SAFE_INTEGER
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS


def _read_response(document: Mapping[str, object]) -> RpcResponse:
    rpc_id = document.get("id")
    if not is_id(rpc_id):
        raise InspectionError(Code.MCP_ID, "a response without id")
    if "params" in document or ("result" in document) == ("error" in document):
        raise InspectionError(Code.MCP_ENVELOPE, "neither a request nor one response")
    if "result" in document:
        if not isinstance(document["result"], dict):
            raise InspectionError(Code.MCP_ENVELOPE, "a result that is not an object")
    else:
        _check_error(document["error"])
    return RpcResponse(rpc_id)


def _check_error(error: object) -> None:
    if not isinstance(error, dict):
        raise InspectionError(Code.MCP_ENVELOPE, "an error that is not an object")
    _ERROR.check(error, Code.MCP_ENVELOPE, "an error")
    if type(error.get("code")) is not int or not isinstance(error.get("message"), str):
        raise InspectionError(Code.MCP_ENVELOPE, "an error without code and message")
