"""What a person is shown of a call: all of it that the names in the key do not say.

- Of an MCP call these are its arguments. What else it was sent with is shown beside them, such as what its
  client answered to a question of the server.
- Left out is what cannot change what is done: what the client calls itself (`_meta`), the server's own state,
  and the bare word of the agent's client that it showed our URL: by that the retry would be another call.
- Where nobody reads arguments it is the request as it came: its whole target, its content type and its body.
"""

import base64
from collections.abc import Mapping
from typing import Final

from authz.approvals.prompt import INPUT
from authz.codes import Code
from authz.errors import ApprovalError, InspectionError
from authz.protocols.operation import Operation
from authz.request import Request
from identity.canonical import CanonicalJsonError, canonical_json
from identity.strict_json import StrictJsonError, loads

MAX_ARGUMENTS: Final = 16 * 1024
# Before it is known what of a body is shown: a message has room for its own envelope, and not for much more.
_MAX_BODY: Final = 4 * MAX_ARGUMENTS
# What says nothing of what is done, and what stands in the key already.
_LEFT_OUT: Final = frozenset({"_meta", "requestState", "name", "uri", "taskId"})
_ANSWERS: Final = "inputResponses"
_CONTENT_TYPE: Final = "content-type"


def shown(operation: Operation, request: Request) -> bytes:
    """Return it as canonical JSON, or nothing.

    Raises:
        ApprovalError: with APPROVAL_SIZE, if it is too long.
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
        beside = _beside(request.body)
        if not beside.keys() - {"arguments"}:
            return operation.canonical_arguments or b""
        return canonical_json(beside)
    if operation.canonical_arguments is not None:
        return operation.canonical_arguments
    content_type = request.headers.one(_CONTENT_TYPE)
    kind = {} if content_type is None else {"content_type": content_type}
    return canonical_json({"target": request.path, **kind, **_body(request.body)})


def _beside(body: bytes) -> Mapping[str, object]:
    """Return what an MCP message was sent with."""
    if not body:
        return {}
    message = loads(body)
    params = message.get("params") if isinstance(message, dict) else None
    members = params.items() if isinstance(params, dict) else ()
    beside = {name: value for name, value in members if name not in _LEFT_OUT}
    answers = beside.pop(_ANSWERS, None)
    if isinstance(answers, dict):
        told = {name: value for name, value in answers.items() if not _is_bare_word(name, value)}
        return {**beside, _ANSWERS: told} if told else beside
    return beside


def _is_bare_word(name: str, answer: object) -> bool:
    """Say whether an answer is that of a client that was shown our URL, and nothing more."""
    return name == INPUT and isinstance(answer, dict) and answer.keys() <= {"action", "_meta"}


def _body(body: bytes) -> dict[str, object]:
    if not body:
        return {}
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode("ascii")}
