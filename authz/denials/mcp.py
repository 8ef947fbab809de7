"""MCP: an error by default, or what the operator chose for the service.

- `tool_error`: the refusal of a tool call is its result, with `isError`; the model reads it as it reads every
  tool's failure. Other methods have no such result and get the error.
- `unknown_tool`: what may not be used does not exist. Every refusal of a named thing reads alike, whether the
  thing is there or not, names no reason in body or headers, and asks for no more scope: a scope that would
  help says that there is something. The decision id stays, so that an operator can find it. What a person may
  approve, or denied, is not hidden from their agent: it was asked about that very call.
- `http`: the refusal is HTTP's, status and body.
- A method that the era of 2026-07-28 does not have is 404 with JSON-RPC's "method not found", as servers of
  that era answer it. To older clients 404 ends the session, so they get what every refusal is.
- A call that waits for a person is answered with a request to show them the URL (2026-07-28, elicitation in
  URL mode), where the client says that it can. We never send `requestState`: the server behind us would get
  it back and refuse it. What the client answers proves nothing and is not read.
"""

from typing import Final

from authz.approvals.prompt import INPUT, Prompt
from authz.codes import Code
from authz.denials.json_rpc import RpcId, error_code, is_waited_for, rpc_error, rpc_result
from authz.denials.told import Answer, Json, Told, plain_answer
from authz.form import DenialForm, Form
from authz.protocols.mcp_era import KNOWN_VERSIONS
from authz.protocols.operation import Operation

# JSON-RPC's "invalid params", which MCP has for a tool, a prompt or a resource that there is not as well.
_UNKNOWN: Final = -32602
_METHOD_NOT_FOUND: Final = -32601
# Specification 2026-07-28: HeaderMismatchError and UnsupportedProtocolVersionError.
_HEADER_MISMATCH: Final = -32020
_VERSION: Final = -32022

_TOOL_CALL: Final = "tools/call"
# Whose result may be `input_required` (schema 2026-07-28).
_MAY_ELICIT: Final = frozenset({_TOOL_CALL, "prompts/get", "resources/read"})
_HIDDEN: Final = frozenset({Form.POLICY, Form.REFUSED, Form.SCOPE})
# They are said only of what the policy allows with an approval.
_OF_APPROVAL: Final = frozenset({Code.APPROVAL_DENIED, Code.APPROVAL_LIMIT, Code.APPROVAL_SIZE})
_NAMED: Final = {"tool": "Unknown tool", "prompt": "Unknown prompt", "resource": "Resource not found"}


def mcp_answer(
    told: Told, operation: Operation | None, rpc_id: RpcId, denials: DenialForm, *, is_modern: bool = False
) -> Answer:
    """Answer a client of MCP; a modern one says in a header of each request that it is."""
    if denials == "http" or (rpc_id is None and told.form is not Form.MALFORMED):
        return plain_answer(told)
    if operation is not None:
        if denials == "unknown_tool" and _is_hidden(told, operation):
            return _unknown(told, operation, rpc_id)
        if is_waited_for(told, rpc_id):
            if told.approval is not None and operation.elicits_urls and operation.method in _MAY_ELICIT:
                return _input_required(told.approval, rpc_id)
            if denials == "tool_error" and operation.method == _TOOL_CALL:
                return _tool_error(told, rpc_id)
    if is_modern and told.reason == Code.MCP_METHOD_UNKNOWN:
        return rpc_error(404, rpc_id, _METHOD_NOT_FOUND, told.message, told.facts())
    status = 200 if is_waited_for(told, rpc_id) else told.status
    match told.reason:
        case Code.MCP_VERSION:
            # Clients speak a version of these then; what they asked for is theirs to know.
            data = {"supported": sorted(KNOWN_VERSIONS, reverse=True), "requested": "unknown", **told.facts()}
            return rpc_error(status, rpc_id, _VERSION, told.message, data)
        case Code.MCP_PARAMS:
            return rpc_error(status, rpc_id, _UNKNOWN, told.message, told.facts())
        case Code.MCP_HEADER_MISMATCH:
            return rpc_error(status, rpc_id, _HEADER_MISMATCH, told.message, told.facts())
        case _:
            return rpc_error(status, rpc_id, error_code(told), told.message, told.facts())


def _is_hidden(told: Told, operation: Operation) -> bool:
    if told.approval is not None or told.reason in _OF_APPROVAL:
        return False
    return operation.phase == "call" and told.form in _HIDDEN


def _unknown(told: Told, operation: Operation, rpc_id: RpcId) -> Answer:
    text = f"{_NAMED.get(operation.resource_type, 'Not found')}: {operation.resource_name}"
    answer = rpc_error(200, rpc_id, _UNKNOWN, text, {"decision_id": told.decision_id})
    return Answer(answer.status, answer.body, is_hiding=True)


def _tool_error(told: Told, rpc_id: RpcId) -> Answer:
    content = [{"type": "text", "text": told.sentence()}]
    # `resultType` is of the modern era; to the older ones it is one member more.
    return rpc_result(rpc_id, {"resultType": "complete", "content": content, "isError": True})


def _input_required(approval: Prompt, rpc_id: RpcId) -> Answer:
    # No elicitationId: that was of 2025-11-25, where a client does not say in each request what it can.
    params = {"mode": "url", "url": approval.url, "message": approval.message}
    asked: Json = {INPUT: {"method": "elicitation/create", "params": params}}
    return rpc_result(rpc_id, {"resultType": "input_required", "inputRequests": asked})
