"""The answer to Envoy, written in one place.

- `status` is always set: an empty CheckResponse is an allow in Envoy.
- On an allow the caller's credential and every header of ours that the client sent are removed, and one
  fresh transaction token is set, never appended.
- A denial has the form that agents' clients survive (docs/reference/denials.md): a policy denial of
  an MCP call is HTTP 200 with a JSON-RPC error that echoes the id; a missing or bad token is 401; what is
  malformed is 400; what we cannot know is 503, never 403, so that a client knows to try again.
- The caller sees code, sentence, fix and decision id; the detail stays in the record.
"""

import json
from collections.abc import Collection

from google.protobuf.struct_pb2 import Struct

from authz.codes import Code, find_code
from authz.decision import Allow, Deny, denied
from authz.form import Form
from authz.pb import ext_authz_pb2 as pb
from authz.protocols.operation import Operation
from identity.dpop import PROOF_ALGORITHMS
from identity.workload_proof import PROOF_HEADER, WIT_HEADER

DECISION_HEADER = "x-deputy-decision"
REASON_HEADER = "x-deputy-reason"
OUR_PREFIX = "x-deputy-"
TRANSACTION_HEADER = "txn-token"
CREDENTIAL_HEADERS = (
    "authorization",
    "proxy-authorization",
    "dpop",
    WIT_HEADER,
    PROOF_HEADER,
)

# A client that gets one of these makes a proof, and another one for each request (RFC 9449 section 7.1).
_PROOF_CODES = {
    Code.DPOP_MISSING: "invalid_token",
    Code.DPOP_INVALID: "invalid_dpop_proof",
    Code.REPLAYED: "invalid_dpop_proof",
}

# gRPC codes (google.rpc.Code).
_OK = 0
_PERMISSION_DENIED = 7
# MCP asks for codes outside JSON-RPC's own range; the number follows ToolHive's precedent.
_RPC_DENIED = 403
_RPC_INVALID_REQUEST = -32600
_RPC_PARSE_ERROR = -32700

_STATUS = {
    Form.MALFORMED: 400,
    Form.REFUSED: 403,
    Form.TOKEN: 401,
    Form.SCOPE: 403,
    Form.POLICY: 403,
    Form.UNAVAILABLE: 503,
}
_UNREADABLE = frozenset({Code.JSON_MALFORMED, Code.BODY_ENCODING, Code.JSON_SURROGATE})
_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def allow_response(allow: Allow, transaction_token: str, header_names: Collection[str]) -> bytes:
    """Let the request pass with a transaction token in place of the caller's credential."""
    response = pb.CheckResponse()
    response.CopyFrom(_ALLOWED)
    response.ok_response.headers[0].header.value = transaction_token
    response.ok_response.headers_to_remove.extend(_ours(header_names))
    response.ok_response.response_headers_to_add[0].header.value = allow.grant.decision_id
    _name_decision(response.dynamic_metadata, allow.grant.decision_id, allow.code)
    return response.SerializeToString()


def deny_response(
    deny: Deny,
    decision_id: str,
    operation: Operation | None = None,
    rpc_id: str | int | None = None,
    *,
    resource_metadata: str = "",
) -> bytes:
    """Refuse the request in the form that its client can handle; a challenge says where tokens come from."""
    is_mcp = operation is not None and operation.is_json_rpc
    if rpc_id is None and operation is not None:
        rpc_id = operation.rpc_id
    status = _STATUS[deny.form]
    if deny.form is Form.POLICY and is_mcp and rpc_id is not None:
        status = 200
    response = pb.CheckResponse(status=pb.Status(code=_PERMISSION_DENIED, message=deny.code))
    denied_response = response.denied_response
    denied_response.status.code = status
    for name, value in _headers(deny, decision_id, resource_metadata):
        _set_header(denied_response.headers.add(), name, value)
    denied_response.body = _body(deny, decision_id, rpc_id, is_rpc=is_mcp or rpc_id is not None)
    _name_decision(response.dynamic_metadata, decision_id, deny.code)
    return response.SerializeToString()


def fallback_response() -> bytes:
    """Refuse without knowing anything: what a host answers when even the flow cannot."""
    return deny_response(denied(Code.INTERNAL), decision_id="")


def stranger_response() -> bytes:
    """Refuse a proxy that TLS let in but that has no SPIFFE ID."""
    return deny_response(denied(Code.ASKER_UNKNOWN), decision_id="")


def overloaded_response() -> bytes:
    """Refuse because too much is asked at once."""
    return deny_response(denied(Code.OVERLOADED), decision_id="")


def _ours(header_names: Collection[str]) -> list[str]:
    # One look at all of them: hardly a request has such a name.
    if OUR_PREFIX not in "\n".join(header_names):
        return []
    return sorted({name for name in header_names if name.startswith(OUR_PREFIX)})


def _headers(deny: Deny, decision_id: str, resource_metadata: str) -> list[tuple[str, str]]:
    headers = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        (REASON_HEADER, deny.code),
    ]
    if decision_id:
        headers.append((DECISION_HEADER, decision_id))
    match deny.form:
        case Form.TOKEN:
            headers.append(("www-authenticate", _challenge(*_unclear(deny), resource_metadata)))
        case Form.SCOPE:
            needed = " ".join(deny.needed_scopes)
            known = f'error="insufficient_scope", scope="{needed}"'
            headers.append(("www-authenticate", _challenge("Bearer", known, resource_metadata)))
        case Form.UNAVAILABLE:
            headers.append(("retry-after", "1"))
        case _:
            pass
    return headers


def _challenge(scheme: str, known: str, resource_metadata: str) -> str:
    """RFC 9728 section 5.1: a client that has no token, or not the right one, is told where to read on."""
    where = f'resource_metadata="{resource_metadata}"' if resource_metadata else ""
    return f"{scheme} {', '.join(filter(None, (known, where)))}".rstrip()


def _unclear(deny: Deny) -> tuple[str, str]:
    """RFC 6750 section 3.1: without a credential the challenge names no error."""
    if deny.code in {Code.TOKEN_MISSING, Code.PEER_MISSING}:
        return "Bearer", ""
    # Our own sentence, not the denial's: a policy's text may hold quotes and line ends.
    known = find_code(deny.code) or Code.TOKEN_CLAIMS
    if known in _PROOF_CODES:
        algorithms = " ".join(PROOF_ALGORITHMS)
        text = f'error="{_PROOF_CODES[known]}", error_description="{known.sentence}", algs="{algorithms}"'
        return "DPoP", text
    return "Bearer", f'error="invalid_token", error_description="{known.sentence}"'


def _body(deny: Deny, decision_id: str, rpc_id: str | int | None, *, is_rpc: bool) -> str:
    data = {"reason": deny.code, "fix": deny.fix, "decision_id": decision_id}
    if not is_rpc and deny.form is not Form.MALFORMED:
        return json.dumps({"error": deny.message, **data})
    error = {"code": _rpc_code(deny), "message": deny.message, "data": data}
    return json.dumps({"jsonrpc": "2.0", "id": rpc_id, "error": error})


def _rpc_code(deny: Deny) -> int:
    if deny.form is not Form.MALFORMED:
        return _RPC_DENIED
    return _RPC_PARSE_ERROR if deny.code in _UNREADABLE else _RPC_INVALID_REQUEST


# Fields are set where they are: a message that is made by keywords, then copied, costs three times as much.
def _set_header(option: pb.HeaderValueOption, name: str, value: str) -> None:
    option.append_action = _OVERWRITE
    option.header.key = name
    option.header.value = value


def _name_decision(metadata: Struct, decision_id: str, code: str) -> None:
    """Name the decision for access logs: a client can forge x-request-id, but not this."""
    if decision_id:
        metadata.fields["decision_id"].string_value = decision_id
    metadata.fields["reason"].string_value = code


def _allowed() -> pb.CheckResponse:
    """Make what every allow has in common."""
    response = pb.CheckResponse(status=pb.Status(code=_OK))
    _set_header(response.ok_response.headers.add(), TRANSACTION_HEADER, "")
    response.ok_response.headers_to_remove.extend(CREDENTIAL_HEADERS)
    # The caller can name the decision when it asks why, also for what was allowed.
    _set_header(response.ok_response.response_headers_to_add.add(), DECISION_HEADER, "")
    return response


_ALLOWED = _allowed()
