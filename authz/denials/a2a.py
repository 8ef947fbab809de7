"""A2A: the error model of its specification, in JSON-RPC (section 9.5) and in REST (section 11.6).

- The details are a list of typed objects: `google.rpc.ErrorInfo` in a domain of ours, for the reasons of the
  domain of A2A are those of its own errors, and `google.rpc.Help` with the URL where a person decides.
- A task in the state `TASK_STATE_AUTH_REQUIRED` is nothing that we could answer with: a task is the agent's,
  and the client would go on to ask the agent for one that it never heard of.
- REST answers are `application/json`, as every client reads them; `application/a2a+json` is newer than some.
"""

from typing import Final

from authz.denials.json_rpc import RpcId, error_code, is_waited_for, rpc_error
from authz.denials.told import Answer, Json, Told, dump
from authz.form import DenialForm, Form

_DOMAIN: Final = "deputy"
_TYPE: Final = "type.googleapis.com/google.rpc."
# google.rpc.Code by the status that it has in HTTP.
_NAMES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    503: "UNAVAILABLE",
}


def a2a_answer(told: Told, rpc_id: RpcId, denials: DenialForm) -> Answer:
    """Answer a client of A2A that speaks JSON-RPC."""
    if denials == "http" or (rpc_id is None and told.form is not Form.MALFORMED):
        return a2a_rest_answer(told)
    status = 200 if is_waited_for(told, rpc_id) else told.status
    return rpc_error(status, rpc_id, error_code(told), told.message, _details(told))


def a2a_rest_answer(told: Told) -> Answer:
    """Answer a client of A2A that speaks REST: the JSON of google.rpc.Status."""
    error = {
        "code": told.status,
        "status": _NAMES[told.status],
        "message": told.message,
        "details": _details(told),
    }
    return Answer(told.status, dump({"error": error}))


def _details(told: Told) -> list[Json]:
    metadata = {"code": told.reason, "fix": told.fix, "decision_id": told.decision_id}
    if told.approval is not None:
        metadata |= {"approval_id": told.approval.id, "approval_url": told.approval.url}
    # A reason of ErrorInfo has no hyphens.
    reason = told.reason.replace("-", "_")
    info: Json = {
        "@type": f"{_TYPE}ErrorInfo",
        "reason": reason,
        "domain": _DOMAIN,
        "metadata": metadata,
    }
    if told.approval is None:
        return [info]
    links = [{"description": told.approval.message, "url": told.approval.url}]
    return [info, {"@type": f"{_TYPE}Help", "links": links}]
