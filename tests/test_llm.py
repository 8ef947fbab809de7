"""Calls of models: what is asked for, under all its names, and what nobody should be asked."""

import json
from typing import Any

import pytest

from authz.codes import Code
from authz.errors import InspectionError
from authz.form import Form
from authz.protocols.inspect import inspect
from authz.protocols.llm_members import APIS
from authz.protocols.llm_tools import MAX_TOOLS, TYPES
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from identity.canonical import canonical_json, sha256_hex
from tests.check_requests import request
from tests.reader_vectors import Case, check_case, params_of, vectors

OPENAI = Route("openai", "llm")
HEADERS = (("content-type", "application/json"),)
CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"


def read(on: Route = OPENAI, at: str = CHAT, **body: Any) -> Operation:
    content: dict[str, Any] = {"input": "hi"} if at.endswith("responses") else {"messages": []}
    asked = {"model": "gpt-5", **content, **body}
    return inspect(request(json.dumps(asked).encode(), path=at, headers=HEADERS), on)


def refusal(on: Route = OPENAI, at: str = CHAT, **body: Any) -> InspectionError:
    with pytest.raises(InspectionError) as refused:
        read(on, at, **body)
    return refused.value


@pytest.mark.parametrize("case", params_of("llm"))
def test_request_is_read_as_the_vector_says(case: Case) -> None:
    check_case(case, OPENAI, HEADERS)


def test_refusals_name_codes_of_a_malformed_or_unknown_request() -> None:
    codes = {code.value: code for code in Code}
    refusals = {case["expect"] for _, case in vectors("llm") if case["expect"].startswith("DPT-")}
    assert all(codes[text].form in {Form.MALFORMED, Form.REFUSED} for text in refusals)


def test_a_detector_sees_the_whole_body_and_the_hash_is_its_own() -> None:
    body: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "hunter2"}]}
    operation = read(**body)
    assert operation.payload == body
    assert operation.canonical_arguments == canonical_json(body)
    assert operation.arguments_sha256 == sha256_hex(canonical_json(body))
    assert "hunter2" not in json.dumps(operation.arguments)
    assert "hunter2" not in repr(operation)
    assert (operation.wire, operation.rpc_id) == ("http", None)


def test_two_bodies_with_the_same_facts_have_two_hashes() -> None:
    """An approval or a token for one prompt is none for another."""
    one, other = (read(messages=[{"role": "user", "content": text}]) for text in ("a", "b"))
    assert one.arguments == other.arguments
    assert one.arguments_sha256 != other.arguments_sha256


def test_a_token_of_an_mcp_server_is_no_fact() -> None:
    server = {"type": "url", "url": "https://a.example", "name": "x", "authorization_token": "hunter2"}
    operation = read(at="/v1/messages", max_tokens=1, mcp_servers=[server])
    assert "hunter2" not in json.dumps(operation.arguments)


def test_a_limit_that_was_not_asked_for_is_not_there() -> None:
    """The grants refuse what is missing, so `max: 1000` is no limit that one can leave out."""
    facts = read().arguments
    assert facts is not None
    assert facts.keys().isdisjoint({"max_tokens", "max_tool_calls", "thinking_tokens", "service_tier"})


def test_refusal_quotes_no_body_and_no_header_value() -> None:
    secret = "hunter2"  # not a name of anything
    headers = (*HEADERS, ("anthropic-beta", f"{secret}!"))
    for refused in (
        refusal(model=f"{secret} "),
        refusal(tools=[{"type": "function", "function": {"name": f"{secret} "}}]),
        refusal(at=RESPONSES, tools=[{"type": "mcp", "server_url": secret}]),
        refusal(service_tier=f"{secret}!"),
    ):
        assert secret not in str(refused)
    with pytest.raises(InspectionError) as by_header:
        inspect(request(b'{"model":"m","messages":[]}', path="/v1/messages", headers=headers), OPENAI)
    assert secret not in str(by_header.value)


def test_paths_of_the_route_are_where_the_provider_is() -> None:
    route = Route("openai", "llm", paths=frozenset({"/openai", "/azure/eu"}))
    assert read(route, "/openai/v1/chat/completions").resource_name == "gpt-5"
    assert read(route, "/azure/eu/v1/chat/completions").resource_name == "gpt-5"
    for path in (CHAT, "/openai/x/v1/chat/completions", "/openaiv1/chat/completions", "/azure/v1/models"):
        assert refusal(route, path).code == Code.LLM_PATH


def test_refuses_more_than_512_tools() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert read(tools=[tool] * MAX_TOOLS).arguments is not None
    assert refusal(tools=[tool] * (MAX_TOOLS + 1)).code == Code.LLM_BODY


def test_refuses_more_than_512_mcp_servers() -> None:
    tool = {"type": "mcp", "server_url": "https://a.example"}
    assert refusal(at=RESPONSES, tools=[tool] * (MAX_TOOLS + 1)).code == Code.LLM_BODY


def test_refuses_json_that_nests_3000_deep() -> None:
    body = b'{"model":"m","messages":' + b"[" * 3000 + b"]" * 3000 + b"}"
    with pytest.raises(InspectionError) as refused:
        inspect(request(body, path=CHAT, headers=HEADERS), OPENAI)
    assert refused.value.code == Code.JSON_DEPTH


def test_every_api_has_the_members_that_are_read() -> None:
    for api in APIS.values():
        assert {"model", "stream", "tools", api.content, *api.limits, *api.continuing} <= api.members.names
        assert api.method in TYPES


@pytest.mark.parametrize("path", [api.path for api in APIS.values()])
@pytest.mark.parametrize("name", ["fallbacks", "models", "route", "api_base", "base_url", "extra_body"])
def test_no_member_chooses_another_model_or_another_address(name: str, path: str) -> None:
    member: dict[str, Any] = {name: "x"}
    assert refusal(at=path, **member).code == Code.LLM_BODY


@pytest.mark.parametrize(
    ("at", "tool"),
    [
        (RESPONSES, {"type": "function", "name": "safe", "function": {"name": "evil"}}),
        (RESPONSES, {"type": "custom", "name": "safe", "custom": {"name": "evil"}}),
        (RESPONSES, {"type": "function", "name": "safe", "tools": [{"type": "function", "name": "evil"}]}),
        (CHAT, {"type": "function", "function": {"name": "safe"}, "custom": {"name": "evil"}}),
        (CHAT, {"type": "function", "function": {"name": "safe"}, "tools": [{"type": "mcp"}]}),
    ],
)
def test_a_tool_within_a_tool_is_refused(at: str, tool: dict[str, Any]) -> None:
    """A gateway that looks in the other place takes the other name."""
    assert refusal(at=at, tools=[tool]).code is Code.LLM_BODY


def test_a_tool_with_a_model_of_its_own_is_refused() -> None:
    """The policy allowed the model that the request names."""
    tool = {"type": "image_generation", "model": "gpt-image-9"}
    assert refusal(at=RESPONSES, tools=[tool]).code is Code.LLM_BODY
    assert read(at=RESPONSES, tools=[{**tool, "model": None}]).arguments is not None


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "shell", "environment": {"type": "container_auto", "skills": [{"type": "skill_reference"}]}},
        {"type": "code_interpreter", "container": {"type": "auto", "skills": [{"type": "inline"}]}},
    ],
)
def test_skills_of_a_machine_of_the_provider_are_a_type_of_tool(tool: dict[str, Any]) -> None:
    arguments = read(at=RESPONSES, tools=[tool]).arguments
    assert arguments is not None
    assert arguments["tool_types"] == sorted([tool["type"], "skills"])


@pytest.mark.parametrize("header", ["helicone-target-url", "x-portkey-config", "x-portkey-custom-host"])
def test_a_header_that_sends_the_request_to_another_provider_is_refused(header: str) -> None:
    body = json.dumps({"model": "gpt-5", "messages": []}).encode()
    with pytest.raises(InspectionError) as refused:
        inspect(request(body, path=CHAT, headers=[*HEADERS, (header, "https://elsewhere.example")]), OPENAI)
    assert refused.value.code is Code.LLM_BODY
