"""docs/reference/denials.md: each example is what authz/response.py writes."""

import re
from dataclasses import dataclass, replace
from typing import get_args

import pytest

from authz.approvals.prompt import Prompt
from authz.codes import Code
from authz.decision import Deny, denied
from authz.denials.speech import Speech
from authz.form import DenialForm, Form
from authz.pb.ext_authz_pb2 import CheckResponse
from authz.protected_resource import metadata_uri, resource_document, scopes_of
from authz.protocols.operation import Operation
from authz.response import deny_response, metadata_response
from tests.docs.blocks import ROOT, Block, blocks_of

PAGE = "docs/reference/denials.md"
DECISION = "01M7YJZ3ZXTHFP8WXJWA8RZ96G"
ISSUER, AUDIENCE = "https://broker.mesh.example", "https://tickets.mesh.example"
CALL = Operation("mcp", "tools/call", "call", "tool", "close_ticket", {}, "0" * 64, rpc_id=2, wire="json_rpc")
SEND = Operation("a2a", "SendMessage", "call", "agent", "travel", {}, rpc_id="m-1", wire="json_rpc")
PUT = Operation("http", "PUT", "call", "path", "/files/hours.txt")
CHAT = Operation("llm", "chat.completions", "call", "model", "gpt-5", {})
RPC = Operation("grpc", "rpc", "call", "rpc", "/ledger.v1.Ledger/Get", wire="grpc")


@dataclass(frozen=True)
class Case:
    """A denial, and how it was asked for."""

    deny: Deny
    operation: Operation | None = None
    rpc_id: int | None = None
    speech: Speech | None = None
    denials: DenialForm = "json_rpc"

    def answer(self) -> bytes:
        return deny_response(
            self.deny,
            DECISION,
            self.operation,
            self.rpc_id,
            speech=self.speech,
            denials=self.denials,
            resource_metadata=metadata_uri(ISSUER, AUDIENCE),
            scopes=scopes_of("tickets"),
        )


def said(code: Code, message: str, fix: str, form: Form | None = None) -> Deny:
    """A denial in the words of the shipped policy."""
    return replace(denied(code), message=message, fix=fix, form=form or code.form)


TIER = said(
    Code.AGENT_TIER,
    "the agent triage does not reach write on tickets",
    "use an agent that reaches it, or the owner of this one asks an operator to let it reach further",
)
SCOPE = replace(
    said(
        Code.SCOPE_MISSING,
        "the token has no scope for write on tickets",
        "get a token for write on tickets at the broker",
    ),
    needed_scopes=("tickets:write",),
)
WAITS = replace(
    denied(Code.APPROVAL_REQUIRED),
    approval=Prompt(
        "01M7YK2D7Q0V4C1S8H5R3E6ABX",
        "https://deputy.mesh.example/approvals/01M7YK2D7Q0V4C1S8H5R3E6ABX",
        "resolver wants to delete customer C-7 at billing",
    ),
)
ANSWERS = {
    "policy": Case(TIER, CALL),
    "policy-http": Case(
        said(
            Code.HUMAN_NOT_GRANTED,
            "the person has no grant of write on files, so nobody may do it for them",
            "an operator grants write on files to one of the person's groups in grants.yaml",
        ),
        PUT,
    ),
    "tool-error": Case(TIER, CALL, denials="tool_error"),
    "unknown-tool": Case(TIER, CALL, denials="unknown_tool"),
    "http": Case(TIER, CALL, denials="http"),
    "elicitation": Case(WAITS, replace(CALL, elicits_urls=True)),
    "approval": Case(WAITS, CALL),
    "scope": Case(SCOPE, CALL),
    "token": Case(denied(Code.TOKEN_EXPIRED), speech="mcp"),
    "no-token": Case(denied(Code.TOKEN_MISSING), speech="mcp"),
    "malformed": Case(denied(Code.JSON_DUPLICATE_KEY), speech="mcp"),
    "refused": Case(denied(Code.MCP_METHOD_UNKNOWN), rpc_id=7),
    "unavailable": Case(denied(Code.POLICY_UNAVAILABLE), CALL),
    "a2a": Case(TIER, SEND),
    "a2a-rest": Case(TIER, replace(SEND, rpc_id=None, wire="http")),
    "openai": Case(TIER, CHAT),
    "anthropic": Case(TIER, replace(CHAT, method="messages")),
    "grpc": Case(TIER, RPC),
}
EXAMPLES = [block for block in blocks_of(PAGE) if block.instruction == "case"]


def as_http(answer: bytes) -> str:
    denial = CheckResponse.FromString(answer).denied_response
    headers = [f"{option.header.key}: {option.header.value}" for option in denial.headers]
    body = [denial.body] if denial.body else []
    return "\n".join([f"HTTP/1.1 {denial.status.code}", *headers, "", *body, ""])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: block.argument)
def test_example_is_what_the_code_writes(example: Block) -> None:
    if example.argument == "metadata":
        document = resource_document(ISSUER, AUDIENCE, scopes_of("tickets"))
        assert example.text == as_http(metadata_response(document))
    else:
        assert example.text == as_http(ANSWERS[example.argument].answer())


def test_there_is_an_example_of_every_form() -> None:
    assert {example.argument for example in EXAMPLES} == ANSWERS.keys() | {"metadata"}
    assert {case.deny.form for case in ANSWERS.values()} == set(Form) - {Form.ALLOWED}
    assert {case.denials for case in ANSWERS.values()} == set(get_args(DenialForm))


def test_the_codes_that_agents_are_told_about_exist() -> None:
    """The table of docs/how-to/agent-tokens.md."""
    page = (ROOT / "docs/how-to/agent-tokens.md").read_text("utf-8")
    named = set(re.findall(r"DPT-[A-Z-]+", page))
    assert {"DPT-CONSENT-MISSING", "DPT-REVOKED", "DPT-CONTAINED"} <= named
    assert named <= {code.value for code in Code}
