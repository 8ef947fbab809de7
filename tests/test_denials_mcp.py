"""Denials of MCP: the forms that clients survive, and what each of them must not say."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import mcp_types
import pytest

from authz.codes import Code
from authz.decision import denied
from authz.form import DenialForm, Form
from authz.protocols.operation import Operation
from tests.denials import CALL, DECISION, PROMPT, URL, awaits_approval, lacks_scope, refuse

# The schemas of the revisions are data of others, beside the project and not in it.
SCHEMA = Path(__file__).parent.parent.parent / "shared" / "data" / "mcp" / "schema-2026-07-28.json"
FORMS: tuple[DenialForm, ...] = ("json_rpc", "tool_error", "unknown_tool", "http")
READ = replace(CALL, method="resources/read", resource_type="resource", resource_name="file:///a")
PROMPT_GET = replace(CALL, method="prompts/get", resource_type="prompt", resource_name="summary")
LIST = replace(CALL, method="tools/list", phase="list", resource_type="server", resource_name="tickets")
NOTIFICATION = replace(LIST, method="notifications/cancelled", phase="lifecycle", rpc_id=None)
STREAM = replace(NOTIFICATION, method="stream_open")


def valid(name: str, document: object) -> None:
    """Compare with the schema of the specification."""
    if not SCHEMA.exists():
        pytest.skip(f"{SCHEMA.name} is not beside the project: nothing compares with the specification")
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.validate(document, {**schema, "$ref": f"#/$defs/{name}"})


# ---- an error, the default


def test_a_policy_denial_of_a_call_is_200_with_an_error() -> None:
    seen = refuse(Code.AGENT_TIER)
    assert (seen.status, seen.headers["content-type"]) == (200, "application/json")
    assert seen.json["jsonrpc"] == "2.0"
    assert seen.error["code"] == 403
    assert seen.error["data"] == {
        "reason": "DPT-AGENT-TIER",
        "fix": Code.AGENT_TIER.fix,
        "decision_id": DECISION,
    }
    valid("JSONRPCErrorResponse", seen.json)


FITTING = {-32700, -32600, -32602, -32020, -32022}


@pytest.mark.parametrize("code", list(Code))
def test_no_code_of_an_error_means_something_else_to_clients(code: Code) -> None:
    """JSON-RPC, MCP and A2A have -32768 to -32000 between them; of those only what fits is used."""
    if code.form is Form.ALLOWED:
        return
    number = refuse(code, None, 2, speech="mcp").error["code"]
    assert number == 403 or (code.form is Form.MALFORMED and number in FITTING)


@pytest.mark.parametrize("code", list(Code))
@pytest.mark.parametrize("form", FORMS)
def test_never_404_which_ends_a_session_or_says_method_not_found(code: Code, form: DenialForm) -> None:
    if code.form is Form.ALLOWED:
        return
    for operation, rpc_id in ((CALL, 2), (NOTIFICATION, None), (None, None), (None, 2)):
        assert refuse(code, operation, rpc_id, denials=form).status in {200, 400, 401, 403, 503}


@pytest.mark.parametrize(
    "rpc_id", [0, -1, 2**53 - 1, 10**40, "", "7", "007", "ünïcode ☃", "\U0001f600", 'a"b\\c/\u2028', "\x00"]
)
@pytest.mark.parametrize("form", ["json_rpc", "tool_error", "unknown_tool"])
def test_the_id_comes_back_as_it_was(rpc_id: str | int, form: DenialForm) -> None:
    seen = refuse(Code.AGENT_TIER, replace(CALL, rpc_id=rpc_id), denials=form)
    assert seen.json["id"] == rpc_id
    assert type(seen.json["id"]) is type(rpc_id)


@pytest.mark.parametrize("written", ["7", "12345678901234567890123", '"7"', '"é"', '"\U0001f600"', '""'])
def test_the_id_is_written_as_clients_write_it(written: str) -> None:
    body = refuse(Code.AGENT_TIER, replace(CALL, rpc_id=json.loads(written))).body
    assert f'"id": {written},' in body


@pytest.mark.parametrize("code", [Code.DETAILS, Code.MCP_METHOD_UNKNOWN, Code.PARSER_DISAGREEMENT])
def test_whoever_waits_for_an_answer_with_an_id_gets_it_with_200(code: Code) -> None:
    """A 4xx ends the whole session of older clients; the caller is known, and the message was JSON-RPC."""
    assert refuse(code, None, 7).status == 200
    assert refuse(code, None).status == 403


@pytest.mark.parametrize(
    "operation", [NOTIFICATION, STREAM, Operation("http", "GET", "call", "path", "/x"), None]
)
@pytest.mark.parametrize("form", FORMS)
def test_whoever_waits_for_no_answer_gets_403_with_plain_json(
    operation: Operation | None, form: DenialForm
) -> None:
    seen = refuse(Code.AGENT_TIER, operation, denials=form)
    assert (seen.status, seen.headers["content-type"]) == (403, "application/json")
    assert seen.json["error"] == Code.AGENT_TIER.sentence


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (Code.JSON_MALFORMED, -32700),
        (Code.BODY_ENCODING, -32700),
        (Code.JSON_SURROGATE, -32700),
        (Code.MCP_BATCH, -32600),
        (Code.JSON_DUPLICATE_KEY, -32600),
        (Code.MCP_PARAMS, -32602),
        (Code.MCP_HEADER_MISMATCH, -32020),
        (Code.MCP_VERSION, -32022),
    ],
)
def test_what_is_malformed_is_400_with_the_number_for_it(code: Code, number: int) -> None:
    seen = refuse(code, None, speech="mcp")
    assert (seen.status, seen.json["id"], seen.error["code"]) == (400, None, number)


def test_a_client_of_another_version_learns_which_ones_there_are() -> None:
    document = refuse(Code.MCP_VERSION, None, 3).json
    assert document["error"]["data"]["supported"][0] == "2026-07-28"
    valid("UnsupportedProtocolVersionError", document)
    mcp_types.UnsupportedProtocolVersionErrorData.model_validate(document["error"]["data"])
    valid("HeaderMismatchError", refuse(Code.MCP_HEADER_MISMATCH, None, 3).json)


def test_a_method_that_the_modern_era_does_not_have_is_404_to_who_waits_for_an_answer() -> None:
    """As its servers answer; to a client with a session, 404 would end that."""
    seen = refuse(Code.MCP_METHOD_UNKNOWN, None, 3, speech="mcp_modern")
    assert (seen.status, seen.json["id"], seen.error["code"]) == (404, 3, -32601)
    assert seen.error["data"]["reason"] == "DPT-MCP-METHOD-UNKNOWN"
    valid("JSONRPCErrorResponse", seen.json)
    assert refuse(Code.MCP_METHOD_UNKNOWN, None, speech="mcp_modern").status == 403
    assert refuse(Code.MCP_METHOD_UNKNOWN, None, 3, speech="mcp_modern", denials="http").status == 403


@pytest.mark.parametrize("code", sorted(set(Code) - {Code.MCP_METHOD_UNKNOWN}))
def test_every_other_refusal_is_the_same_in_both_eras(code: Code) -> None:
    if code.form is not Form.ALLOWED:
        assert refuse(code, CALL, speech="mcp_modern") == refuse(code, CALL, speech="mcp")


# ---- 401 and more scope


def test_without_a_token_the_challenge_says_where_to_get_one_and_which_scopes_there_are() -> None:
    seen = refuse(Code.TOKEN_MISSING, None, resource_metadata="https://b/x", scopes=("t:write", "t:read"))
    assert seen.status == 401
    assert (
        seen.headers["www-authenticate"] == 'Bearer resource_metadata="https://b/x", scope="t:read t:write"'
    )


def test_a_proof_that_does_not_count_is_asked_for_with_its_scopes() -> None:
    challenge = refuse(Code.DPOP_MISSING, None, scopes=("t:read",)).headers["www-authenticate"]
    assert challenge.startswith('DPoP error="invalid_token"')
    assert challenge.endswith(', scope="t:read"')


def test_more_scope_is_asked_for_with_an_error_in_json_rpc() -> None:
    seen = refuse(lacks_scope(), resource_metadata="https://b/x")
    assert (seen.status, seen.json["id"], seen.error["code"]) == (403, 2, 403)
    known = 'Bearer error="insufficient_scope", scope="tickets:write", resource_metadata="https://b/x"'
    assert seen.headers["www-authenticate"] == known


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("code", [code for code in Code if code.form in {Form.POLICY, Form.REFUSED}])
def test_no_plain_denial_asks_for_a_login(code: Code, form: DenialForm) -> None:
    """A challenge would send the person to sign in again, for nothing, without end."""
    seen = refuse(code, denials=form, resource_metadata="https://b/x", scopes=("t:read",))
    assert "www-authenticate" not in seen.headers


def test_more_scope_does_not_depend_on_the_form_but_where_it_would_tell_of_a_tool() -> None:
    for form in ("tool_error", "http"):
        assert "tickets:write" in refuse(lacks_scope(), denials=form).headers["www-authenticate"]
    assert "www-authenticate" not in refuse(lacks_scope(), denials="unknown_tool").headers


# ---- a tool's failure


def test_a_tool_error_is_what_the_model_reads() -> None:
    seen = refuse(Code.AGENT_TIER, denials="tool_error")
    result = seen.json["result"]
    assert (seen.status, seen.json["id"], result["isError"]) == (200, 2, True)
    (block,) = result["content"]
    for part in (Code.AGENT_TIER.sentence, "DPT-AGENT-TIER", Code.AGENT_TIER.fix, DECISION):
        assert part in block["text"]
    valid("CallToolResultResponse", seen.json)
    assert mcp_types.CallToolResult.model_validate(result).is_error


@pytest.mark.parametrize("operation", [READ, PROMPT_GET, LIST])
def test_what_is_no_tool_call_has_no_such_result(operation: Operation) -> None:
    assert refuse(Code.AGENT_TIER, operation, denials="tool_error").error["code"] == 403


def test_what_is_not_the_answer_to_a_call_is_no_result() -> None:
    assert refuse(Code.POLICY_UNAVAILABLE, denials="tool_error").status == 503
    assert refuse(Code.TOKEN_EXPIRED, None, denials="tool_error").status == 401


# ---- a tool that does not exist


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (CALL, "Unknown tool: close_ticket"),
        (PROMPT_GET, "Unknown prompt: summary"),
        (READ, "Resource not found: file:///a"),
        (replace(CALL, method="tasks/get", resource_type="task", resource_name="t"), "Not found: t"),
    ],
)
def test_what_may_not_be_used_does_not_exist(operation: Operation, text: str) -> None:
    seen = refuse(Code.AGENT_TIER, operation, denials="unknown_tool")
    assert seen.status == 200
    assert seen.error == {"code": -32602, "message": text, "data": {"decision_id": DECISION}}
    valid("JSONRPCErrorResponse", seen.json)


# What is said only of a call that the policy allows with an approval.
ASKED_FOR = {Code.APPROVAL_DENIED, Code.APPROVAL_LIMIT, Code.APPROVAL_SIZE}
NAMED = {code for code in Code if code.form in {Form.POLICY, Form.REFUSED}} - ASKED_FOR
HIDDEN = [*map(denied, sorted(NAMED)), lacks_scope()]


@pytest.mark.parametrize("deny", HIDDEN, ids=lambda deny: deny.code)
def test_no_refusal_tells_whether_there_is_such_a_tool(deny: object) -> None:
    """An oracle: the answer for a tool that exists differs in nothing from that for one that does not."""
    unknown = refuse(Code.TOOL_UNKNOWN, denials="unknown_tool", scopes=("t:read",))
    assert refuse(deny, denials="unknown_tool", scopes=("t:read",)) == unknown  # type: ignore[arg-type]  # a Deny
    everything = json.dumps([unknown.headers, unknown.body])
    assert "DPT-" not in everything
    assert unknown.headers["x-deputy-decision"] == DECISION


def test_a_person_may_still_approve_what_is_hidden_from_others() -> None:
    assert refuse(Code.APPROVAL_REQUIRED, denials="unknown_tool").error["code"] == -32602
    assert refuse(awaits_approval(), denials="unknown_tool").error["data"]["approval"]["url"] == URL
    for code in ASKED_FOR:
        assert refuse(code, denials="unknown_tool").error["data"]["reason"] == code.value


def test_lists_hide_nothing_so_their_refusal_says_why() -> None:
    assert refuse(Code.AGENT_NOT_GRANTED, LIST, denials="unknown_tool").headers["x-deputy-reason"]


# ---- HTTP


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.AGENT_TIER, 403), (Code.JSON_DUPLICATE_KEY, 400), (Code.DETAILS, 403), (Code.STALE, 503)],
)
def test_as_http_a_refusal_is_its_status_and_plain_json(code: Code, status: int) -> None:
    seen = refuse(code, denials="http")
    assert (seen.status, seen.json["error"], seen.json["reason"]) == (status, code.sentence, code.value)


# ---- a person decides


ASKING = replace(CALL, elicits_urls=True)


@pytest.mark.parametrize("form", ["json_rpc", "tool_error", "unknown_tool"])
@pytest.mark.parametrize(
    "operation", [ASKING, replace(PROMPT_GET, elicits_urls=True), replace(READ, elicits_urls=True)]
)
def test_a_client_that_can_show_a_url_is_asked_to(operation: Operation, form: DenialForm) -> None:
    seen = refuse(awaits_approval(), operation, denials=form)
    assert seen.status == 200
    assert seen.json == {
        "jsonrpc": "2.0",
        "id": 2,
        "result": {
            "resultType": "input_required",
            "inputRequests": {
                "deputy.approval": {
                    "method": "elicitation/create",
                    "params": {"mode": "url", "url": URL, "message": PROMPT.message},
                }
            },
        },
    }
    valid("InputRequiredResult", seen.json["result"])
    asked = mcp_types.InputRequiredResult.model_validate(seen.json["result"])
    assert asked.input_requests is not None
    assert isinstance(asked.input_requests["deputy.approval"].params, mcp_types.ElicitRequestURLParams)


def test_the_server_behind_us_never_gets_a_state_of_ours() -> None:
    assert "requestState" not in refuse(awaits_approval(), ASKING).body


@pytest.mark.parametrize(
    "operation",
    [CALL, replace(ASKING, method="completion/complete"), replace(ASKING, method="tasks/update")],
)
def test_whoever_cannot_show_a_url_gets_it_in_the_error(operation: Operation) -> None:
    seen = refuse(awaits_approval(), operation)
    assert seen.error["data"]["approval"] == {"id": PROMPT.id, "url": URL}


def test_the_url_is_in_whatever_form_there_is() -> None:
    assert URL in refuse(awaits_approval(), denials="tool_error").json["result"]["content"][0]["text"]
    plain = refuse(awaits_approval(), ASKING, denials="http")
    assert (plain.status, plain.json["approval"]) == (403, {"id": PROMPT.id, "url": URL})
    assert refuse(awaits_approval(), NOTIFICATION).json["approval"]["url"] == URL
