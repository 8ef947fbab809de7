"""The JSON-RPC envelope of one message (JSON-RPC 2.0 sections 4 and 5), as MCP and A2A use it.

- No member beside those of the envelope, and none that looks like one of them.
- `jsonrpc` is "2.0"; the message is a request, a notification or a response, and only one of them.
- An id is a text of 1 to 255 characters or an integer within ±(2^53-1): never null, a float or a boolean,
  which parsers echo in different ways.
- The id of a request is told apart early, so that a refusal can answer it; the id of anything else never is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from authz.errors import InspectionError
from authz.protocols.json_body import decode_object
from authz.protocols.members import MemberNames
from authz.protocols.reader_codes import ReaderCodes
from identity.quick_init import quick_init
from identity.strict_json import MAX_SAFE_INTEGER

MAX_ID_CHARS = 255
MAX_METHOD_CHARS = 128

Params = Mapping[str, object]

_ENVELOPE = MemberNames.of("jsonrpc", "id", "method", "params", "result", "error")
_ERROR = MemberNames.of("code", "message", "data")


@quick_init
@dataclass(frozen=True, slots=True)
class RpcRequest:
    """A call that waits for an answer."""

    id: str | int
    method: str
    params: Params = field(repr=False)


@quick_init
@dataclass(frozen=True, slots=True)
class RpcNotification:
    """A message that nobody answers."""

    method: str
    params: Params = field(repr=False)


@quick_init
@dataclass(frozen=True, slots=True)
class RpcResponse:
    """A client's answer to what the server asked of it."""

    id: str | int
    # The result or the error, whatever it holds.
    answer: object = field(default=None, repr=False)


Message = RpcRequest | RpcNotification | RpcResponse


def decode(body: bytes, codes: ReaderCodes) -> Mapping[str, object]:
    """Read the body as the object that an envelope is.

    Raises:
        InspectionError: if it is not strict JSON, its top level is not an object, or has unknown members.
    """
    document = decode_object(body, codes)
    _ENVELOPE.check(document, codes, "a message", unknown=codes.envelope)
    return document


def readable_id(document: Mapping[str, object]) -> str | int | None:
    """Return the id that a refusal of this message can echo: that of a request, or none."""
    rpc_id = document.get("id")
    return rpc_id if "method" in document and is_id(rpc_id) else None


def read_message(document: Mapping[str, object], codes: ReaderCodes) -> Message:
    """Tell request, notification and response apart.

    Raises:
        InspectionError: with the code of the envelope, of the id or of params.
    """
    if document.get("jsonrpc") != "2.0":
        raise InspectionError(codes.envelope, 'a message without jsonrpc "2.0"')
    rpc_id = document.get("id")
    if "id" in document and not is_id(rpc_id):
        raise InspectionError(codes.id, "an id that is neither a short text nor a safe integer")
    if "method" not in document:
        return _read_response(document, codes)
    method = document["method"]
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD_CHARS:
        raise InspectionError(
            codes.envelope, f"a method that is not a text of at most {MAX_METHOD_CHARS} characters"
        )
    if "result" in document or "error" in document:
        raise InspectionError(codes.envelope, "a request that is a response as well")
    params = document.get("params", {})
    if not isinstance(params, dict):
        raise InspectionError(codes.params, "params that are not an object")
    return RpcRequest(rpc_id, method, params) if is_id(rpc_id) else RpcNotification(method, params)


def is_id(value: object) -> TypeGuard[str | int]:
    """Say whether every JSON-RPC library reads and echoes this id alike."""
    # By exact type: a boolean is an integer to Python.
    if type(value) is int:
        return abs(value) <= MAX_SAFE_INTEGER
    return isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS


def _read_response(document: Mapping[str, object], codes: ReaderCodes) -> RpcResponse:
    rpc_id = document.get("id")
    if not is_id(rpc_id):
        raise InspectionError(codes.id, "a response without id")
    if "params" in document or ("result" in document) == ("error" in document):
        raise InspectionError(codes.envelope, "neither a request nor one response")
    if "result" in document:
        if not isinstance(document["result"], dict):
            raise InspectionError(codes.envelope, "a result that is not an object")
    else:
        _check_error(document["error"], codes)
    return RpcResponse(rpc_id, document.get("result", document.get("error")))


def _check_error(error: object, codes: ReaderCodes) -> None:
    if not isinstance(error, dict):
        raise InspectionError(codes.envelope, "an error that is not an object")
    _ERROR.check(error, codes, "an error", unknown=codes.envelope)
    if type(error.get("code")) is not int or not isinstance(error.get("message"), str):
        raise InspectionError(codes.envelope, "an error without code and message")
