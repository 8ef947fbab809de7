"""Where in a call data is looked for: wherever an agent can put it, in every protocol that is read."""

import json
from typing import Any

import pytest

from authz.payload.call import classes_in_call
from authz.payload.classes import PAYLOAD_CLASSES
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation, Protocol
from authz.protocols.route import Route
from authz.request import Request
from tests.check_requests import MCP_HEADERS, check_request

ALL = frozenset(PAYLOAD_CLASSES)
CARD = "4111111111111111"


def found(
    body: object,
    *,
    protocol: Protocol = "mcp",
    path: str = "/mcp",
    method: str = "POST",
    headers: list[tuple[str, str | bytes]] | None = None,
) -> tuple[str, ...]:
    data = b"" if body is None else json.dumps(body).encode()
    fields = MCP_HEADERS if headers is None else headers
    message = check_request(data, path=path, method=method, headers=fields)
    request = Request.parse(message.SerializeToString())
    return classes_in_call(inspect(request, Route("desk", protocol)), request, ALL)


def rpc(method: str, **params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize(
    "message",
    [
        rpc("tools/call", name="pay", arguments={"card": CARD}),
        rpc("tools/call", name="pay", arguments={CARD: 1}),
        rpc("tools/call", name="pay", arguments={"a": [{"b": int(CARD)}]}),
        rpc("tools/call", name="pay", _meta={"note": CARD}),
        rpc("tools/call", name="pay", inputResponses={"a": {"content": {"card": CARD}}}),
        rpc("tools/call", name="pay", requestState=CARD),
        rpc("resources/read", uri=f"https://host.example/?card={CARD}"),
        rpc("prompts/get", name="ask", arguments={"card": CARD}),
        rpc("prompts/get", name=CARD),
        rpc(
            "completion/complete",
            ref={"type": "ref/prompt", "name": "ask"},
            argument={"name": "card", "value": CARD},
        ),
        rpc("tasks/update", taskId="t", inputResponses={"a": CARD}),
    ],
    ids=lambda message: f"{message['method']} {[*message['params']]}",
)
def test_data_is_found_wherever_a_message_carries_it(message: dict[str, Any]) -> None:
    assert found(message) == ("card_number",)


def test_data_is_found_in_path_and_query() -> None:
    assert found(rpc("tools/call", name="pay"), path=f"/mcp?card={CARD}") == ("card_number",)
    for path in (f"/cards/{CARD}", f"/search?q={CARD}", "/search?q=4111%201111%201111%201111"):
        assert found(None, protocol="http", path=path, method="GET") == ("card_number",)
    assert found(None, protocol="http", path="/cards", method="GET") == ()


def test_data_is_found_in_a_conversation_with_a_model() -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"my card is {CARD}"}]}
    assert found(body, protocol="llm", path="/v1/chat/completions") == ("card_number",)


def test_data_is_found_in_a_message_to_an_agent() -> None:
    part = {"text": f"my card is {CARD}"}
    message = rpc("SendMessage", message={"messageId": "m", "role": "ROLE_USER", "parts": [part]})
    headers: list[tuple[str, str | bytes]] = [("content-type", "application/json"), ("a2a-version", "1.0")]
    assert found(message, protocol="a2a", path="/", headers=headers) == ("card_number",)


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 1, "result": {"action": "accept", "content": {"card": CARD}}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": CARD}},
        {
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {"progressToken": 1, "progress": 1, "message": CARD},
        },
        rpc("tools/list", cursor=CARD),
        rpc("ping", _meta={"note": CARD}),
    ],
    ids=["answer", "error", "notification", "list", "ping"],
)
def test_data_are_found_in_what_only_keeps_a_session_going(message: dict[str, Any]) -> None:
    """A hostile server asks the agent's client for the card, and gets it in an answer."""
    headers: list[tuple[str, str | bytes]] = [*MCP_HEADERS, ("mcp-session-id", "s")]
    assert found(message, headers=headers) == ("card_number",)


class Unread:
    """Fails a test that looks at it."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def test_nothing_is_read_where_no_rule_asks_for_it() -> None:
    unread: Any = Unread()
    assert classes_in_call(unread, unread, frozenset()) == ()


def test_what_is_no_json_counts_as_everything_wanted() -> None:
    request = Request.parse(check_request(b"", path="/x", method="GET").SerializeToString())
    operation = Operation("http", "GET", "call", "path", "/x", payload=b"\x00\x01")
    assert classes_in_call(operation, request, frozenset({"email"})) == ("email",)
