"""docs/reference/denials.md: each example is what authz/response.py writes."""

import re
from dataclasses import replace

import pytest

from authz.codes import Code
from authz.decision import Deny, denied
from authz.form import Form
from authz.pb.ext_authz_pb2 import CheckResponse
from authz.protected_resource import metadata_uri
from authz.protocols.operation import Operation
from authz.response import deny_response
from tests.docs.blocks import ROOT, Block, blocks_of

PAGE = "docs/reference/denials.md"
DECISION = "01M7YJZ3ZXTHFP8WXJWA8RZ96G"
CALL = Operation("mcp", "tools/call", "call", "tool", "close_ticket", {}, "0" * 64, rpc_id=2, wire="json_rpc")
PUT = Operation("http", "PUT", "call", "path", "/files/hours.txt")


def said(code: Code, message: str, fix: str, form: Form | None = None) -> Deny:
    """A denial in the words of the shipped policy."""
    return replace(denied(code), message=message, fix=fix, form=form or code.form)


ANSWERS = {
    "policy": (
        said(
            Code.AGENT_TIER,
            "the agent triage does not reach write on tickets",
            "use an agent of a higher tier, or its owner asks an operator to raise tier and ceiling",
        ),
        CALL,
        None,
    ),
    "policy-http": (
        said(
            Code.HUMAN_NOT_GRANTED,
            "the person has no grant of write on files, so nobody may do it for them",
            "an operator grants write on files to one of the person's groups in grants.yaml",
        ),
        PUT,
        None,
    ),
    "scope": (
        replace(
            said(
                Code.SCOPE_MISSING,
                "the token has no scope for write on tickets",
                "get a token for write on tickets at the broker",
            ),
            needed_scopes=("tickets:write",),
        ),
        CALL,
        None,
    ),
    "token": (denied(Code.TOKEN_EXPIRED), None, None),
    "no-token": (denied(Code.TOKEN_MISSING), None, None),
    "malformed": (denied(Code.JSON_DUPLICATE_KEY), None, None),
    "refused": (denied(Code.MCP_METHOD_UNKNOWN), None, 7),
    "unavailable": (denied(Code.POLICY_UNAVAILABLE), CALL, None),
}
EXAMPLES = [block for block in blocks_of(PAGE) if block.instruction == "case"]


def as_http(answer: bytes) -> str:
    denial = CheckResponse.FromString(answer).denied_response
    headers = [f"{option.header.key}: {option.header.value}" for option in denial.headers]
    return "\n".join([f"HTTP/1.1 {denial.status.code}", *headers, "", denial.body, ""])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda block: block.argument)
def test_example_is_what_the_code_writes(example: Block) -> None:
    deny, operation, rpc_id = ANSWERS[example.argument]
    where = metadata_uri("https://broker.mesh.example", "https://tickets.mesh.example")
    answer = deny_response(deny, DECISION, operation, rpc_id, resource_metadata=where)
    assert example.text == as_http(answer)


def test_there_is_an_example_of_every_form() -> None:
    assert {example.argument for example in EXAMPLES} == ANSWERS.keys()
    assert {deny.form for deny, _, _ in ANSWERS.values()} == set(Form) - {Form.ALLOWED}


def test_the_codes_that_agents_are_told_about_exist() -> None:
    """The table of docs/how-to/agent-tokens.md."""
    page = (ROOT / "docs/how-to/agent-tokens.md").read_text("utf-8")
    named = set(re.findall(r"DPT-[A-Z-]+", page))
    assert {"DPT-CONSENT-MISSING", "DPT-REVOKED", "DPT-CONTAINED"} <= named
    assert named <= {code.value for code in Code}
