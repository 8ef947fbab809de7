"""JSON-RPC 2.0, as MCP and A2A have it: results and errors that echo the id.

- A string stays a string and a number a number, whatever its size.
- A refusal that a client waits for with an id is HTTP 200: it is an answer to this call, and a status of 4xx
  ends the whole session of older clients. Where the caller is not known, or nothing can be known, or the
  message was no JSON-RPC, the status says so.
- The code is 403: the numbers of JSON-RPC, MCP and A2A (-32768 to -32000) mean something else to clients.
"""

from typing import Final

from authz.denials.told import Answer, Json, Told, dump
from authz.form import Form

RpcId = str | int | None

DENIED: Final = 403
_INVALID_REQUEST: Final = -32600
_PARSE_ERROR: Final = -32700

_OF_THE_CALL: Final = frozenset({Form.POLICY, Form.REFUSED})


def is_waited_for(told: Told, rpc_id: RpcId) -> bool:
    """Say whether the refusal is the answer to one call of an authenticated caller."""
    return rpc_id is not None and told.form in _OF_THE_CALL


def error_code(told: Told) -> int:
    """Return the code of an error."""
    if told.form is not Form.MALFORMED:
        return DENIED
    return _PARSE_ERROR if told.is_unreadable else _INVALID_REQUEST


def rpc_result(rpc_id: RpcId, result: Json) -> Answer:
    """Answer with a result."""
    return Answer(200, dump({"jsonrpc": "2.0", "id": rpc_id, "result": result}))


def rpc_error(status: int, rpc_id: RpcId, code: int, message: str, data: object) -> Answer:
    """Answer with an error."""
    error = {"code": code, "message": message, "data": data}
    return Answer(status, dump({"jsonrpc": "2.0", "id": rpc_id, "error": error}))
