"""The answer to Envoy, written in one place.

- `status` is always set: an empty CheckResponse is an allow in Envoy.
- On an allow the caller's credential and every header of ours that the client sent are removed, and one
  fresh transaction token is set, never appended. A service outside gets none, and nothing else of ours
  (authz/outside.py).
- A denial has the form that agents' clients survive (docs/reference/denials.md); what it says in which
  protocol is for authz/denials. A missing or bad token is 401 with a challenge; what we cannot know is 503,
  never 403, so that a client knows to try again.
- The caller sees code, sentence, fix and decision id; the detail stays in the record. Where the operator
  hides what a caller may not use, the caller does not see the code either.
"""

import json
from collections.abc import Collection, Mapping

from google.protobuf.struct_pb2 import Struct

from authz.answers.passage import PASSAGE_FIELD, Passage
from authz.codes import Code, find_code
from authz.decision import Allow, Deny, denied
from authz.denials.answer import answer_of
from authz.denials.speech import Speech, spoken
from authz.denials.told import JSON_TYPE, Answer, Told
from authz.form import DenialForm, Form
from authz.outside import (
    CREDENTIAL_HEADERS,
    NAMES_HEADER,
    OUR_PREFIX,
    TRANSACTION_HEADER,
    names_kept_inside,
)
from authz.pb import ext_authz_pb2 as pb
from authz.protocols.operation import Operation
from identity.dpop import PROOF_ALGORITHMS

DECISION_HEADER = "x-deputy-decision"
REASON_HEADER = "x-deputy-reason"
# A client that gets one of these makes a proof, and another one for each request (RFC 9449 section 7.1).
_PROOF_CODES = {
    Code.DPOP_MISSING: "invalid_token",
    Code.DPOP_INVALID: "invalid_dpop_proof",
    Code.REPLAYED: "invalid_dpop_proof",
}

# gRPC codes (google.rpc.Code).
_OK = 0
_PERMISSION_DENIED = 7

# What would have the answer come in another encoding, in part, or not at all.
_ASKING_FOR_LESS = (
    "accept-encoding",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
)
_NO_STORE = ("cache-control", "no-store")
_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def allow_response(
    allow: Allow,
    transaction_token: str,
    header_names: Collection[str],
    passage: Passage | None = None,
    signed_names: str | None = None,
) -> bytes:
    """Let the request pass with a transaction token in place of the caller's credential.

    `signed_names` is for a gateway that makes lists (authz/kuadrant); what a client sent in its place goes.
    """
    response = pb.CheckResponse()
    response.CopyFrom(_ALLOWED)
    response.ok_response.headers[0].header.value = transaction_token
    response.ok_response.headers_to_remove.extend(_ours(header_names))
    response.ok_response.response_headers_to_add[0].header.value = allow.grant.decision_id
    _name_decision(response.dynamic_metadata, allow.grant.decision_id, allow.code)
    if signed_names is None:
        response.ok_response.headers_to_remove.append(NAMES_HEADER)
    else:
        _set_header(response.ok_response.headers.add(), NAMES_HEADER, signed_names)
    if passage is not None:
        _guard_answer(response, passage)
    return response.SerializeToString()


def outside_response(allow: Allow, header_names: Collection[str], passage: Passage | None = None) -> bytes:
    """Let the request leave the mesh: all that is ours is taken out, and nothing is put in."""
    response = pb.CheckResponse(status=pb.Status(code=_OK))
    response.ok_response.headers_to_remove.extend(names_kept_inside(header_names))
    # This one goes back to the caller, who can name the decision when it asks why.
    _set_header(response.ok_response.response_headers_to_add.add(), DECISION_HEADER, allow.grant.decision_id)
    _name_decision(response.dynamic_metadata, allow.grant.decision_id, allow.code)
    if passage is not None:
        _guard_answer(response, passage)
    return response.SerializeToString()


def deny_response(
    deny: Deny,
    decision_id: str,
    operation: Operation | None = None,
    rpc_id: str | int | None = None,
    *,
    speech: Speech | None = None,
    denials: DenialForm = "json_rpc",
    resource_metadata: str = "",
    scopes: Collection[str] = (),
) -> bytes:
    """Refuse the request in the form that its client can handle.

    `speech` says in which words, where more is known than the operation. A challenge says where tokens come
    from, and which scopes there are; it is for those who have no token, so it does not depend on the call.
    """
    if rpc_id is None and operation is not None:
        rpc_id = operation.rpc_id
    if speech is None:
        # What is malformed came as JSON-RPC, as far as anybody knows.
        speech = "mcp" if deny.form is Form.MALFORMED and operation is None else spoken(operation, rpc_id)
    answer = answer_of(Told.of(deny, decision_id), speech, operation, rpc_id, denials)
    response = pb.CheckResponse(status=pb.Status(code=_PERMISSION_DENIED, message=deny.code))
    denied_response = response.denied_response
    denied_response.status.code = answer.status
    challenge = _challenge(deny, resource_metadata, scopes)
    for name, value in _headers(deny, decision_id, answer, challenge):
        _set_header(denied_response.headers.add(), name, value)
    denied_response.body = answer.body
    _name_decision(response.dynamic_metadata, decision_id, deny.code)
    return response.SerializeToString()


def metadata_response(document: Mapping[str, object]) -> bytes:
    """Answer with a public document in place of the service (authz/protected_resource.py).

    To the proxy it is a denial, with the status that the client sees: nothing goes upstream.
    """
    response = pb.CheckResponse(status=pb.Status(code=_PERMISSION_DENIED))
    response.denied_response.status.code = 200
    for name, value in (JSON_TYPE, _NO_STORE):
        _set_header(response.denied_response.headers.add(), name, value)
    response.denied_response.body = json.dumps(document)
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


def _headers(deny: Deny, decision_id: str, answer: Answer, challenge: str) -> list[tuple[str, str]]:
    headers = [*answer.headers, _NO_STORE]
    if not answer.is_hiding:
        headers.append((REASON_HEADER, deny.code))
    if decision_id:
        headers.append((DECISION_HEADER, decision_id))
    if challenge and not answer.is_hiding:
        headers.append(("www-authenticate", challenge))
    if deny.form is Form.UNAVAILABLE:
        headers.append(("retry-after", "1"))
    return headers


def _challenge(deny: Deny, resource_metadata: str, scopes: Collection[str]) -> str:
    """RFC 9728 section 5.1: a client that has no token, or not the right one, is told where to read on."""
    where = f'resource_metadata="{resource_metadata}"' if resource_metadata else ""
    match deny.form:
        case Form.TOKEN:
            scheme, known = _unclear(deny)
            scope = f'scope="{" ".join(sorted(scopes))}"' if scopes else ""
            return f"{scheme} {', '.join(filter(None, (known, where, scope)))}".rstrip()
        case Form.SCOPE:
            known = f'error="insufficient_scope", scope="{" ".join(deny.needed_scopes)}"'
            return f"Bearer {', '.join(filter(None, (known, where)))}"
        case _:
            return ""


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


def _guard_answer(response: pb.CheckResponse, passage: Passage) -> None:
    """Say whose answer comes back, and ask for the whole of it, as it is."""
    response.dynamic_metadata.fields[PASSAGE_FIELD].string_value = passage.encode()
    response.ok_response.headers_to_remove.extend(_ASKING_FOR_LESS)


def _allowed() -> pb.CheckResponse:
    """Make what every allow has in common."""
    response = pb.CheckResponse(status=pb.Status(code=_OK))
    _set_header(response.ok_response.headers.add(), TRANSACTION_HEADER, "")
    response.ok_response.headers_to_remove.extend(CREDENTIAL_HEADERS)
    # The caller can name the decision when it asks why, also for what was allowed.
    _set_header(response.ok_response.response_headers_to_add.add(), DECISION_HEADER, "")
    return response


_ALLOWED = _allowed()
