"""Denials as clients see them, read back out of the bytes for Envoy."""

import json
from dataclasses import dataclass, replace
from typing import Any

from authz.approvals.prompt import Prompt
from authz.codes import Code
from authz.decision import Deny, denied
from authz.pb import ext_authz_pb2 as pb
from authz.protocols.operation import Operation
from authz.response import deny_response

DECISION = "01M7YJZ3ZXTHFP8WXJWA8RZ96G"
URL = "https://deputy.mesh.example/approvals/01M7YJZ3ZXTHFP8WXJWA8RZ96H"
PROMPT = Prompt("01M7YJZ3ZXTHFP8WXJWA8RZ96H", URL, "let triage close ticket T-1?")
CALL = Operation("mcp", "tools/call", "call", "tool", "close_ticket", {}, "0" * 64, rpc_id=2, wire="json_rpc")


@dataclass(frozen=True)
class Seen:
    """What a client gets of a denial."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


def seen(answer: bytes) -> Seen:
    """Read an answer, which must be a denial."""
    response = pb.CheckResponse.FromString(answer)
    assert response.status.code == 7
    denial = response.denied_response
    names = [option.header.key for option in denial.headers]
    assert len(set(names)) == len(names)
    headers = {option.header.key: option.header.value for option in denial.headers}
    return Seen(denial.status.code, headers, denial.body)


def refuse(
    deny: Deny | Code, operation: Operation | None = CALL, rpc_id: str | int | None = None, **how: Any
) -> Seen:
    """Refuse as the flow does."""
    made = denied(deny) if isinstance(deny, Code) else deny
    return seen(deny_response(made, DECISION, operation, rpc_id, **how))


def awaits_approval() -> Deny:
    """A call that waits for a person."""
    return replace(denied(Code.APPROVAL_REQUIRED), approval=PROMPT)


def lacks_scope() -> Deny:
    """A call that more scope alone would allow."""
    return replace(denied(Code.SCOPE_MISSING), needed_scopes=("tickets:write",))
