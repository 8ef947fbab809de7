"""Calls of models behind a real Envoy: what is granted is answered, whole or as a stream, and nothing else.

- Errors are read as the SDKs of OpenAI and Anthropic read them.
- Data that a rule of the grants looks for stand in no file that any part wrote.
"""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from authz.codes import Code
from tests.e2e.protocol_servers import EVENTS
from tests.e2e.protocols_world import SECONDS, Protocols, protocols, read_stream
from tests.e2e.services import until

pytestmark = pytest.mark.e2e
CARD: Final = "4111 1111 1111 1111"
EMAIL: Final = "jo.bloggs@customers.example"
OPENAI: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
ANTHROPIC: Final = "/v1/messages"


@pytest.fixture(scope="module")
def running() -> Iterator[Protocols]:
    with protocols() as made:
        yield made


@pytest.fixture
def world(running: Protocols) -> Protocols:
    return running.anew()


def asked(path: str = OPENAI, text: str = "hello", **more: Any) -> dict[str, Any]:
    content = "input" if path == RESPONSES else "messages"
    limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
    body = {"model": "small-1", limit: 100, content: [{"role": "user", "content": text}], **more}
    return {name: value for name, value in body.items() if value is not None}


def sdk_error(path: str, answer: httpx2.Response) -> tuple[str, str]:
    """Read an error as the SDK of that API does; return its type and our reason."""
    body = answer.json()
    if path == ANTHROPIC:
        # `anthropic` takes `error.type` for its exception, and the id from the body where no header has it.
        assert (body["type"], body["request_id"]) == ("error", answer.headers["x-deputy-decision"])
        error = body["error"]
    else:
        # `openai` takes `error`, and of that message, type, param and code, by these names.
        error = body.get("error", body)
        assert (error["param"], error["code"]) == (None, answer.headers["x-deputy-reason"])
    assert isinstance(error["message"], str)
    assert error["message"]
    # Both try again by themselves where a header or one of these says so.
    assert "x-should-retry" not in answer.headers
    assert answer.status_code not in {408, 409, 429}
    return error["type"], error["reason"]


def function(name: str, path: str = OPENAI) -> dict[str, Any]:
    if path == OPENAI:
        return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    if path == RESPONSES:
        return {"type": "function", "name": name, "parameters": {"type": "object"}}
    return {"name": name, "input_schema": {"type": "object"}}


@pytest.mark.parametrize("path", [OPENAI, RESPONSES, ANTHROPIC])
def test_a_model_that_is_granted_answers_within_its_limits(world: Protocols, path: str) -> None:
    body = asked(path, tools=[function("search", path)])
    with world.http("models") as http:
        answer = http.post(path, json=body)
        assert (answer.status_code, answer.json()["model"]) == (200, "small-1")
        with http.stream("POST", path, json=body | {"stream": True}) as stream:
            events = (line for line in stream.iter_lines() if line.startswith("data:"))
            assert read_stream(world, events) == EVENTS
    assert world.ran.take() == [f"{path} small-1"] * 2


@pytest.mark.parametrize("path", [OPENAI, RESPONSES, ANTHROPIC])
@pytest.mark.parametrize("stream", [None, True])
def test_a_model_is_not_asked_for_more_than_is_granted(
    world: Protocols, path: str, *, stream: bool | None
) -> None:
    limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
    beyond: list[tuple[Code, dict[str, Any]]] = [
        (Code.TOOL_UNKNOWN, {"model": "large-1"}),
        (Code.TOOL_UNKNOWN, {"model": "SMALL-1"}),
        (Code.ARGUMENT_LIMIT, {limit: 101}),
        (Code.ARGUMENT_LIMIT, {limit: None}),
        (Code.ARGUMENT_LIMIT, {"tools": [function("search", path), function("send_mail", path)]}),
        (Code.PAYLOAD, {"tools": [function("search", path) | {"description": f"pay with {CARD}"}]}),
    ]
    with world.http("models") as http:
        for code, more in beyond:
            answer = http.post(path, json=asked(path, stream=stream, **more))
            assert (answer.status_code, sdk_error(path, answer)) == (403, ("permission_error", code)), more
    assert world.ran.take() == []


@pytest.mark.parametrize(
    ("path", "code", "more"),
    [
        (OPENAI, Code.ARGUMENT_LIMIT, {"max_tokens": None, "max_completion_tokens": 101}),
        (OPENAI, Code.LLM_BODY, {"max_completion_tokens": 1}),
        (OPENAI, Code.LLM_BODY, {"max_tokens": "100"}),
        (OPENAI, Code.LLM_BODY, {"models": ["large-1"]}),
        (OPENAI, Code.ARGUMENT_LIMIT, {"functions": [{"name": "send_mail"}]}),
        (OPENAI, Code.ARGUMENT_LIMIT, {"web_search_options": {}}),
        (RESPONSES, Code.ARGUMENT_LIMIT, {"tools": [{"type": "web_search"}]}),
        (ANTHROPIC, Code.ARGUMENT_LIMIT, {"tools": [{"type": "bash_20250124", "name": "bash"}]}),
        ("/v1/files", Code.LLM_PATH, {}),
        ("/v1/messages/batches", Code.LLM_PATH, {}),
    ],
)
def test_nor_in_another_way(world: Protocols, path: str, code: Code, more: dict[str, Any]) -> None:
    with world.http("models") as http:
        answer = http.post(path, json=asked(path, **more))
    assert sdk_error(path, answer)[1] == code
    assert world.ran.take() == []


@pytest.mark.parametrize("path", [OPENAI, RESPONSES, ANTHROPIC])
def test_what_an_sdk_cannot_send_is_an_error_that_it_reads(world: Protocols, path: str) -> None:
    with world.http("models") as http:
        malformed = http.post(path, content=b"{", headers={"content-type": "application/json"})
        stranger = http.post(path, json=asked(path), headers={"authorization": "Bearer sk-0"})
    assert (malformed.status_code, sdk_error(path, malformed)[0]) == (400, "invalid_request_error")
    assert (stranger.status_code, sdk_error(path, stranger)[0]) == (401, "authentication_error")
    assert world.ran.take() == []


def wide(text: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if letter.isdigit() else letter for letter in text)


@pytest.mark.parametrize("path", [OPENAI, RESPONSES, ANTHROPIC])
def test_data_that_a_rule_denies_does_not_leave_and_is_written_nowhere(world: Protocols, path: str) -> None:
    assert unicodedata.normalize("NFKC", wide(CARD)) == CARD
    with world.http("models") as http:
        for text in (f"my card is {CARD}", CARD.replace(" ", ""), wide(CARD)):
            answer = http.post(path, json=asked(path, f"{text} and my address {EMAIL}"))
            assert sdk_error(path, answer) == ("permission_error", Code.PAYLOAD)
            assert "card_number" in answer.text
            record = world.decisions()[-1]
            assert (record["effect"], record["payload"]) == ("deny", ["card_number", "email"])
            assert not leaks(answer.text)
    assert not written(world)
    assert world.ran.take() == []


def test_data_that_a_rule_records_leaves_and_its_class_is_in_the_record(world: Protocols) -> None:
    with world.http("models") as http:
        answer = http.post(OPENAI, json=asked(text=f"write to {EMAIL}"))
    record = world.decisions()[-1]
    assert (answer.status_code, record["effect"], record["payload"]) == (200, "allow", ["email"])
    assert world.ran.take() == [f"{OPENAI} small-1"]
    assert not written(world)


def leaks(text: str) -> bool:
    spellings = (EMAIL, CARD, CARD.replace(" ", ""), wide(CARD), json.dumps(wide(CARD)).strip('"'))
    return any(spelling in text for spelling in spellings)


def written(world: Protocols) -> list[str]:
    """Where a value stands, once the access log has the line of the newest decision."""
    decision = world.decisions()[-1]["id"]
    until(lambda: decision in world.access_log.read_text(), SECONDS)
    files = world.files()
    assert {world.access_log, *world.audit.glob("*.jsonl")} <= set(files)
    return [path.name for path in files if leaks(path.read_text("utf-8", "replace"))]


def test_what_is_called_is_named_in_the_record_whatever_its_name_is(world: Protocols) -> None:
    """A limit that docs/how-to/keep-data-in.md tells: who reads a record is to know what was asked for."""
    number = "5555555555554444"
    with world.http("models") as http:
        answer = http.post(OPENAI, json=asked(model=number))
    record = world.decisions()[-1]
    assert sdk_error(OPENAI, answer) == ("permission_error", Code.TOOL_UNKNOWN)
    assert (record["codes"], record["payload"]) == ([Code.TOOL_UNKNOWN, Code.PAYLOAD], ["card_number"])
    assert record["resource"]["name"] == number
    assert number not in answer.text + record["detail"]
    assert world.ran.take() == []
