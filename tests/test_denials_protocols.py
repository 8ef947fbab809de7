"""Denials of A2A, of calls of models, of gRPC and of plain HTTP; and who is answered in which words."""

import json
import re
from dataclasses import replace
from urllib.parse import unquote

import pytest

from authz.codes import Code
from authz.decision import denied
from authz.denials.speech import Speech, speech_of
from authz.form import Form
from authz.protocols.operation import Operation, Protocol
from authz.request import Request
from authz.response import deny_response
from tests.check_requests import check_request
from tests.denials import DECISION, PROMPT, URL, awaits_approval, lacks_scope, refuse, seen

SEND = Operation("a2a", "SendMessage", "call", "agent", "travel", rpc_id="a-1", wire="json_rpc")
REST = replace(SEND, rpc_id=None, wire="http")
CHAT = Operation("llm", "chat.completions", "call", "model", "gpt-5")
MESSAGES = replace(CHAT, method="messages", resource_name="claude")
RPC = Operation("grpc", "rpc", "call", "rpc", "/ledger.v1.Ledger/Get", wire="grpc")
CODES = [code for code in Code if code.form is not Form.ALLOWED]
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"

# ---- A2A


def test_a2a_an_error_echoes_the_id_and_types_its_details() -> None:
    """A2A 1.0 section 9.5: each object of `data` has its type."""
    seen = refuse(Code.AGENT_TIER, SEND)
    assert (seen.status, seen.json["id"], seen.error["code"]) == (200, "a-1", 403)
    (info,) = seen.error["data"]
    assert (info["@type"], info["domain"]) == (ERROR_INFO, "deputy")
    assert info["metadata"] == {
        "code": "DPT-AGENT-TIER",
        "fix": Code.AGENT_TIER.fix,
        "decision_id": DECISION,
    }


@pytest.mark.parametrize("code", CODES)
def test_a2a_no_code_is_one_of_its_own_or_of_mcp(code: Code) -> None:
    number = refuse(code, None, 1, speech="a2a").error["code"]
    assert number in ({-32700, -32600} if code.form is Form.MALFORMED else {403})


@pytest.mark.parametrize("code", CODES)
def test_a2a_a_reason_has_the_form_of_error_info(code: Code) -> None:
    (info,) = refuse(code, REST).error["details"]
    assert re.fullmatch(r"[A-Z][A-Z0-9_]+[A-Z0-9]", info["reason"])
    assert len(info["reason"]) < 64
    assert all(isinstance(value, str) for value in info["metadata"].values())


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [
        (Code.AGENT_TIER, 403, "PERMISSION_DENIED"),
        (Code.TOKEN_MISSING, 401, "UNAUTHENTICATED"),
        (Code.JSON_MALFORMED, 400, "INVALID_ARGUMENT"),
        (Code.STALE, 503, "UNAVAILABLE"),
    ],
)
def test_a2a_rest_is_answered_with_a_status_of_google_rpc(code: Code, status: int, name: str) -> None:
    """A2A 1.0 section 11.6."""
    seen = refuse(code, REST)
    assert (seen.status, seen.error["code"], seen.error["status"]) == (status, status, name)
    assert seen.error["message"] == code.sentence


def test_a2a_a_refusal_that_nobody_waits_for_or_that_is_to_be_http_is_that_of_rest() -> None:
    for answer in (
        refuse(Code.AGENT_TIER, replace(SEND, rpc_id=None)),
        refuse(Code.AGENT_TIER, SEND, denials="http"),
    ):
        assert (answer.status, answer.error["status"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("form", ["tool_error", "unknown_tool"])
def test_a2a_has_no_tools(form: str) -> None:
    assert refuse(Code.AGENT_TIER, SEND, denials=form) == refuse(Code.AGENT_TIER, SEND)


@pytest.mark.parametrize("operation", [SEND, REST])
def test_a2a_the_url_of_an_approval_is_a_link_and_no_task_is_made_up(operation: Operation) -> None:
    error = refuse(awaits_approval(), operation).error
    info, links = error["data"] if operation is SEND else error["details"]
    assert (info["metadata"]["approval_id"], info["metadata"]["approval_url"]) == (PROMPT.id, URL)
    assert links["links"] == [{"description": PROMPT.message, "url": URL}]
    assert "TASK_STATE" not in json.dumps(error)


# ---- models


@pytest.mark.parametrize("operation", [CHAT, MESSAGES])
@pytest.mark.parametrize("code", CODES)
def test_llm_no_sdk_tries_again_what_is_refused(operation: Operation, code: Code) -> None:
    """The SDKs retry 408, 409, 429 and 5xx: only what cannot be known now may be one of these."""
    status = refuse(code, operation).status
    assert status == 503 if code.form is Form.UNAVAILABLE else status in {400, 401, 403}


def test_llm_openai_reads_message_type_param_and_code() -> None:
    seen = refuse(Code.AGENT_TIER, CHAT)
    assert seen.status == 403
    assert seen.error == {
        "message": Code.AGENT_TIER.sentence,
        "type": "permission_error",
        "param": None,
        "code": "DPT-AGENT-TIER",
        "reason": "DPT-AGENT-TIER",
        "fix": Code.AGENT_TIER.fix,
        "decision_id": DECISION,
    }


def test_llm_anthropic_reads_the_type_of_the_error_and_an_id() -> None:
    seen = refuse(Code.TOKEN_EXPIRED, MESSAGES)
    assert seen.status == 401
    assert (seen.json["type"], seen.json["request_id"]) == ("error", DECISION)
    assert seen.error["type"] == "authentication_error"
    assert seen.error["message"] == Code.TOKEN_EXPIRED.sentence


@pytest.mark.parametrize("operation", [CHAT, MESSAGES])
def test_llm_the_url_of_an_approval_is_in_the_error(operation: Operation) -> None:
    seen = refuse(awaits_approval(), operation)
    assert (seen.status, seen.error["approval"]) == (403, {"id": PROMPT.id, "url": URL})


# ---- gRPC


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (Code.AGENT_TIER, "7"),
        (Code.CONTAINED, "7"),
        (Code.TOKEN_MISSING, "16"),
        (Code.REQUEST_MALFORMED, "3"),
        (Code.STALE, "14"),
    ],
)
def test_grpc_a_refusal_is_trailers_only(code: Code, number: str) -> None:
    seen = refuse(code, RPC)
    assert (seen.status, seen.body) == (200, "")
    assert seen.headers["content-type"] == "application/grpc"
    assert seen.headers["grpc-status"] == number
    assert code.sentence in unquote(seen.headers["grpc-message"])
    assert seen.headers["x-deputy-reason"] == code.value


def test_grpc_a_refusal_without_a_decision_names_none() -> None:
    made = seen(deny_response(denied(Code.OVERLOADED), "", RPC))
    assert "Decision" not in made.headers["grpc-message"]
    assert "x-deputy-decision" not in made.headers


def test_grpc_more_scope_is_still_asked_for() -> None:
    assert "tickets:write" in refuse(lacks_scope(), RPC).headers["www-authenticate"]


def test_grpc_the_url_of_an_approval_is_in_the_message() -> None:
    assert URL in unquote(refuse(awaits_approval(), RPC).headers["grpc-message"])


@pytest.mark.parametrize("text", ["100 % ünï\r\nset-cookie: a=b", "\x00\x7f", "☃" * 5000])
def test_grpc_a_text_cannot_break_out_of_its_header(text: str) -> None:
    message = refuse(replace(awaits_approval(), message=text), RPC).headers["grpc-message"]
    assert re.fullmatch(r"(?:[ -$&-~]|%[0-9A-F]{2})*", message)
    assert len(message) <= 3 * 1024
    assert URL in message
    assert text[:100] in unquote(message, errors="strict")


# ---- HTTP


def test_http_what_is_malformed_is_plain_json_too() -> None:
    seen = refuse(Code.PATH, None, speech="http")
    assert (seen.status, seen.json["error"]) == (400, Code.PATH.sentence)


# ---- in which words


def asked(path: str, method: str = "POST", **headers: str) -> Request:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    message = check_request(path=path, method=method, headers=fields, body=b"")
    return Request.parse(message.SerializeToString())


@pytest.mark.parametrize(
    ("protocol", "request_", "speech"),
    [
        ("mcp", asked("/mcp"), "mcp"),
        ("mcp", asked("/mcp", "GET"), "mcp"),
        ("mcp", asked("/mcp", mcp_protocol_version="2026-07-28"), "mcp_modern"),
        ("mcp", asked("/mcp", mcp_protocol_version="2025-11-25"), "mcp"),
        ("mcp", asked("/mcp", mcp_protocol_version="\xff"), "mcp"),
        ("a2a", asked("/a2a"), "a2a"),
        ("a2a", asked("/v1/message:send"), "a2a_rest"),
        ("a2a", asked("/tenant/message:stream"), "a2a_rest"),
        ("a2a", asked("/tasks/1:cancel?a=/b"), "a2a_rest"),
        ("a2a", asked("/agent/tasks"), "a2a_rest"),
        ("a2a", asked("/message:send/x"), "a2a"),
        ("a2a", asked("/.well-known/agent-card.json", "GET"), "a2a_rest"),
        ("llm", asked("/v1/chat/completions"), "openai"),
        ("llm", asked("/v1/messages?beta=true"), "anthropic"),
        ("llm", asked("/v1/models", "GET", anthropic_version="2023-06-01"), "anthropic"),
        ("llm", asked("/v1/models", "GET"), "openai"),
        ("http", asked("/v1/messages"), "http"),
        ("grpc", asked("/l.v1.L/Get"), "grpc"),
        ("a2a", asked("/a2a.v1.A2AService/SendMessage", content_type="application/grpc+proto"), "grpc"),
        ("http", asked("/x", content_type="Application/GRPC; charset=x"), "grpc"),
        ("http", asked("/x", content_type="application/grpc-web"), "http"),
        ("http", asked("/x", content_type="application/grpcx"), "http"),
    ],
)
def test_the_route_and_the_request_say_in_which_words(
    protocol: Protocol, request_: Request, speech: Speech
) -> None:
    assert speech_of(protocol, request_) == speech


def test_what_was_read_counts_more_than_what_it_looked_like() -> None:
    assert speech_of("a2a", asked("/tasks"), SEND) == "a2a"
    assert speech_of("a2a", asked("/a2a"), REST) == "a2a_rest"


def test_a_path_that_looks_like_much_is_matched_in_a_moment() -> None:
    assert speech_of("a2a", asked("/tasks" * 1300 + "x")) == "a2a_rest"
    assert speech_of("a2a", asked("/taskss" * 1100)) == "a2a"
