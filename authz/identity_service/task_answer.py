"""The answers of the TaskService: a message, or a gRPC status with the reason code and what to do.

- A refusal's text is a sentence of ours, or that of its reason code; what the policy says about itself stays
  in the record, as over HTTP.
- No identity and no right is PermissionDenied; a person's token that does not count is Unauthenticated; what
  cannot be known now is Unavailable.
"""

from typing import Any, Final

from google.protobuf.message import Message
from grpclib.const import Status
from grpclib.server import Stream

from authz.audit.text import ascii_name
from authz.broker.refusal import RefusedError
from authz.broker.reply import Reply
from authz.broker.task_decision import TaskCase
from authz.codes import Code, find_code
from authz.form import Form
from authz.identity_service.task_delivery import Delivered
from identity.pb import task_pb2 as pb

_MESSAGE: Final = "message"
_MAX_TEXT: Final = 512

_STATUS: Final = {
    Form.MALFORMED: Status.INVALID_ARGUMENT,
    Form.TOKEN: Status.UNAUTHENTICATED,
    Form.UNAVAILABLE: Status.UNAVAILABLE,
}
_STATUS_OF_CODE: Final = {
    Code.TASK_UNKNOWN: Status.NOT_FOUND,
    Code.TASK_ENDED: Status.FAILED_PRECONDITION,
    # The caller is known, and may not.
    Code.PEER_MISSING: Status.PERMISSION_DENIED,
    Code.TASK_MISMATCH: Status.PERMISSION_DENIED,
    Code.NOT_BOUND: Status.PERMISSION_DENIED,
    Code.AGENT_HOST: Status.PERMISSION_DENIED,
    Code.AGENT_UNKNOWN: Status.PERMISSION_DENIED,
    Code.AGENT_EXPIRED: Status.PERMISSION_DENIED,
    Code.HUMAN_MISSING: Status.PERMISSION_DENIED,
    Code.OVERLOADED: Status.RESOURCE_EXHAUSTED,
    Code.INTERNAL: Status.INTERNAL,
}


def start_reply(delivered: Delivered, case: TaskCase) -> Reply:
    """Answer that a task has started."""
    return _given(
        pb.StartTaskResponse(
            task=delivered.task.id, identity=delivered.identity, decision_id=case.evidence.decision_id
        )
    )


def renew_reply(delivered: Delivered, case: TaskCase) -> Reply:
    """Answer that a task's identity is handed out anew."""
    return _given(pb.RenewTaskResponse(identity=delivered.identity, decision_id=case.evidence.decision_id))


def end_reply(case: TaskCase) -> Reply:
    """Answer that a task has ended."""
    return _given(pb.EndTaskResponse(decision_id=case.evidence.decision_id))


def refusal_reply(refusal: RefusedError, decision_id: str) -> Reply:
    """Answer that nothing is given: one sentence, its code, and what to do about it."""
    deny, code = refusal.deny, find_code(refusal.deny.code)
    status = _STATUS.get(deny.form, Status.PERMISSION_DENIED)
    body = {"error": refusal.description, "code": deny.code, "decision_id": decision_id}
    # A sentence of our own says what to do; to that of the code belongs the code's advice.
    if code is None or refusal.description == code.sentence:
        body["fix"] = deny.fix
    return Reply((_STATUS_OF_CODE.get(code, status) if code else status).value, body)


def is_given(reply: Reply) -> bool:
    """Say whether the answer is what was asked for."""
    return reply.status == Status.OK.value


async def send_reply(stream: Stream[Any, Any], reply: Reply) -> None:
    """Send an answer."""
    body = reply.body or {}
    if is_given(reply):
        await stream.send_message(body[_MESSAGE])
        return
    metadata = {
        f"deputy-{name.replace('_', '-')}": ascii_name(str(body[name]), _MAX_TEXT)
        for name in ("code", "fix", "decision_id")
        if name in body
    }
    text = f"{body['error']} ({body['code']})"
    if "fix" in body:
        text = f"{text}; {body['fix']}"
    await stream.send_trailing_metadata(status=Status(reply.status), status_message=text, metadata=metadata)


def _given(message: Message) -> Reply:
    return Reply(Status.OK.value, {_MESSAGE: message})
