"""A tripwire: what Envoy's MCP filter read of the same body, where it ran before us.

- The filter is no source of facts (Envoy says that its threat model does not cover it); we only compare.
- Another method, name or id than ours, or a body that the filter could not read: one of two parsers is wrong,
  and the upstream may side with either.
- A filter that gave up at its size limit has read less, not something else.
"""

from collections.abc import Mapping

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.json_rpc import Message, RpcNotification, RpcResponse

# Seen with Envoy 1.39.3.
_OK = "mcp_ok"
_RESPONSE_METHOD = "__jsonrpc_response"
_NAMES = ("name", "uri", "taskId")


def check_metadata(
    metadata: Mapping[str, Mapping[str, object]], message: Message, wire_name: str | None
) -> None:
    """Compare the filters' reading with ours.

    Raises:
        InspectionError: with PARSER_DISAGREEMENT.
    """
    for facts in metadata.values():
        what = _disagreement(facts, message, wire_name)
        if what is not None:
            raise InspectionError(Code.PARSER_DISAGREEMENT, f"the MCP filter and we differ in {what}")


def _disagreement(facts: Mapping[str, object], message: Message, wire_name: str | None) -> str | None:
    if (
        facts.get("status", _OK) != _OK
        or facts.get("passthrough_reason")
        or facts.get("is_mcp_request") is False
    ):
        return "whether this is MCP"
    method = _RESPONSE_METHOD if isinstance(message, RpcResponse) else message.method
    if facts.get("method") != method and not (facts.get("is_exceeding_limit") and "method" not in facts):
        return "the method"
    rpc_id = None if isinstance(message, RpcNotification) else message.id
    if "id" in facts and facts["id"] != rpc_id:
        return "the id"
    params = facts.get("params")
    if wire_name is None or not isinstance(params, Mapping):
        return None
    return None if all(params.get(name, wire_name) == wire_name for name in _NAMES) else "the name"
