"""What a tool server compares with its transaction token, and every way in which the two may differ."""

import json
from typing import Any

import pytest

from authz.protocols.json_rpc import RpcRequest
from authz.protocols.mcp_methods import REQUESTS, read_target
from authz.protocols.route import Route
from identity.canonical import arguments_sha256
from identity.errors import IdentityError
from identity.jws import UnverifiedToken
from identity.tool_call import MAX_BODY, ToolCallError, check_call
from identity.transaction import TransactionIssuer, TransactionToken, verify_transaction_token
from tests.identity_world import ISSUER, NOW, TD, TOKEN_KEY, TOKEN_KEYS, caller, grant

ARGUMENTS = {"ticket": "T-1", "limit": 3}
TRANSACTIONS = TransactionIssuer(lambda: TOKEN_KEY, ISSUER, TD, 60)


def token(**changes: Any) -> TransactionToken:
    right: dict[str, Any] = {"arguments_sha256": arguments_sha256(ARGUMENTS), **changes}
    issued = TRANSACTIONS.issue(grant(**right), caller(), NOW, bytes)
    assert UnverifiedToken.parse(issued.token).typ == "txntoken+jwt"
    return verify_transaction_token(
        issued.token, TOKEN_KEYS, issuer=ISSUER, trust_domain=TD, service="tickets", now=NOW, leeway=30
    )


def body(**changes: Any) -> bytes:
    right: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "read_ticket", "arguments": ARGUMENTS, "_meta": {"progressToken": 1}},
    }
    return json.dumps({name: value for name, value in (right | changes).items() if value is not ...}).encode()


def params(**changes: Any) -> dict[str, Any]:
    right: dict[str, Any] = {"name": "read_ticket", "arguments": ARGUMENTS}
    return {name: value for name, value in (right | changes).items() if value is not ...}


def refused(method: str, data: bytes, **changes: Any) -> None:
    with pytest.raises(ToolCallError):
        check_call(token(**changes), method, data)


@pytest.mark.parametrize(
    "data",
    [
        body(),
        body(id="x"),
        body(params=params(arguments={"limit": 3, "ticket": "T-1"})),
        body(params=params(arguments={"limit": 3.0, "ticket": "\u0054-1"})),
        b" " + body() + b"\n",
    ],
)
def test_same_call_passes_however_it_is_written(data: bytes) -> None:
    check_call(token(), "POST", data)


@pytest.mark.parametrize(
    "changed",
    [
        params(name="close_ticket"),
        params(name="READ_TICKET"),
        params(name="read_ticket\u0000"),
        params(name="read_ticket "),
        params(name=["read_ticket"]),
        params(name=...),
        params(arguments={**ARGUMENTS, "limit": 4}),
        params(arguments={**ARGUMENTS, "more": 1}),
        params(arguments={"ticket": "T-1"}),
        params(arguments={**ARGUMENTS, "limit": "3"}),
        params(arguments={**ARGUMENTS, "limit": True}),
        params(arguments={}),
        params(arguments=...),
        params(arguments=[]),
        params(arguments=None),
        params(arguments="x"),
        params(arguments={"ticket": "T-1", "limit": 3, "ticke\u0074 ": "T-2"}),
        [],
        None,
        "x",
        7,
    ],
)
def test_other_tool_or_other_arguments(changed: object) -> None:
    refused("POST", body(params=changed))


@pytest.mark.parametrize(
    "method", ["tools/list", "initialize", "TOOLS/CALL", "tools/call ", "", 7, None, ["tools/call"], ...]
)
def test_other_method(method: object) -> None:
    refused("POST", body(method=method))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"null",
        b"[" + body() + b"]",
        b"[" + body() + b"," + body() + b"]",
        body() + body(),
        body()[:-1],
        b"\xef\xbb\xbf" + body(),
        body().decode().encode("utf-16"),
        body().replace(b'"name"', b'"name": "close_ticket", "name"'),
        body().replace(b'"method"', b'"method": "tools/list", "method"'),
        body().replace(b'"limit": 3', b'"limit": 3, "limit": 4'),
        body().replace(b'"limit": 3', b'"limit": NaN'),
        body().replace(b'"limit": 3', b'"limit": 90071992547409930'),
        body().replace(b'"T-1"', b'"\\ud800"'),
        b"[" * 5000,
        body(result={}),
        body(error={}),
        body(params=params(arguments=ARGUMENTS | {"x": "y" * MAX_BODY})),
    ],
)
def test_body_that_two_readers_could_read_in_two_ways(data: bytes) -> None:
    """The batch, duplicate members, encodings: as in rules/mcp.md section 3, again at the last door."""
    refused("POST", data)


def test_escaped_text_is_compared_decoded() -> None:
    check_call(token(), "POST", body().replace(b'"read_ticket"', b'"re\\u0061d_ticket"'))


def test_call_without_arguments_is_the_call_with_empty_ones() -> None:
    none = token(arguments_sha256=arguments_sha256(None))
    check_call(none, "POST", body(params={"name": "read_ticket"}))
    check_call(none, "POST", body(params={"name": "read_ticket", "arguments": {}}))


def test_token_without_hash_allows_no_call() -> None:
    refused("POST", body(), arguments_sha256=None)


def test_prefix_of_a_gateway() -> None:
    prefixed = body(params=params(name="tickets__read_ticket"))
    check_call(token(), "POST", prefixed, tool_prefix="tickets__")
    for data in (body(), body(params=params(name="billing__read_ticket"))):
        with pytest.raises(ToolCallError):
            check_call(token(), "POST", data, tool_prefix="tickets__")


@pytest.mark.parametrize(
    ("action", "member"),
    [
        ("resources/read", "uri"),
        ("resources/subscribe", "uri"),
        ("resources/unsubscribe", "uri"),
        ("tasks/get", "taskId"),
        ("tasks/cancel", "taskId"),
        ("tasks/update", "taskId"),
    ],
)
def test_other_targets_are_compared_too(action: str, member: str) -> None:
    other = token(action=action, resource="a", arguments_sha256=None)
    check_call(other, "POST", body(method=action, params={member: "a"}))
    for wrong in ({member: "b"}, {}, {member: ["a"]}, {"name": "a"}):
        with pytest.raises(ToolCallError):
            check_call(other, "POST", body(method=action, params=wrong))


TWO_TARGETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tools/call": ({"name": "a"}, {"name": "b"}),
    "prompts/get": ({"name": "a"}, {"name": "b"}),
    "resources/read": ({"uri": "a"}, {"uri": "b"}),
    "resources/subscribe": ({"uri": "a"}, {"uri": "b"}),
    "resources/unsubscribe": ({"uri": "a"}, {"uri": "b"}),
    "tasks/get": ({"taskId": "a"}, {"taskId": "b"}),
    "tasks/result": ({"taskId": "a"}, {"taskId": "b"}),
    "tasks/update": ({"taskId": "a"}, {"taskId": "b"}),
    "tasks/cancel": ({"taskId": "a"}, {"taskId": "b"}),
    "completion/complete": (
        {"ref": {"type": "ref/prompt", "name": "a"}, "argument": {"name": "x", "value": ""}},
        {"ref": {"type": "ref/resource", "uri": "b"}, "argument": {"name": "x", "value": ""}},
    ),
    "subscriptions/listen": (
        {"notifications": {"resourceSubscriptions": ["a"]}},
        {"notifications": {"resourceSubscriptions": ["b"]}},
    ),
}


@pytest.mark.parametrize("action", sorted(REQUESTS))
def test_a_token_for_one_target_is_none_for_another_whatever_the_method(action: str) -> None:
    """What the authorizer reads as the target of a method, the tool server compares."""
    if action not in TWO_TARGETS:
        message = RpcRequest(1, action, dict.fromkeys(REQUESTS[action].params.required, ""))
        assert REQUESTS[action].read_target(message.params, Route("tickets", "mcp")).name == "tickets"
        return
    own, other = TWO_TARGETS[action]
    seen = read_target(RpcRequest(1, action, own), Route("tickets", "mcp"))
    given = token(action=action, resource=seen.name, arguments_sha256=seen.arguments_sha256)
    check_call(given, "POST", body(method=action, params=own))
    with pytest.raises(ToolCallError):
        check_call(given, "POST", body(method=action, params=other))


@pytest.mark.parametrize(
    ("action", "wrong"),
    [
        ("completion/complete", {}),
        ("completion/complete", {"ref": {}}),
        ("completion/complete", {"ref": "tickets"}),
        ("completion/complete", {"ref": {"name": "tickets", "uri": "b"}}),
        ("subscriptions/listen", {}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": "tickets"}}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["tickets", "b"]}}),
    ],
)
def test_a_target_that_is_missing_or_stands_twice(action: str, wrong: dict[str, Any]) -> None:
    refused(
        "POST", body(method=action, params=wrong), action=action, resource="tickets", arguments_sha256=None
    )


def test_a_subscription_to_no_resource_is_one_to_the_server() -> None:
    given = token(action="subscriptions/listen", resource="tickets", arguments_sha256=None)
    nothing: tuple[dict[str, Any], ...] = ({}, {"resourceSubscriptions": []})
    for notifications in nothing:
        data = body(method="subscriptions/listen", params={"notifications": notifications})
        check_call(given, "POST", data)


def test_prompt_is_compared_with_its_arguments() -> None:
    prompt = token(action="prompts/get", resource="p", arguments_sha256=arguments_sha256({"a": "b"}))
    check_call(prompt, "POST", body(method="prompts/get", params={"name": "p", "arguments": {"a": "b"}}))
    with pytest.raises(ToolCallError):
        check_call(prompt, "POST", body(method="prompts/get", params={"name": "p"}))


@pytest.mark.parametrize("action", ["initialize", "tools/list", "notifications/initialized", "ping"])
def test_methods_without_target_need_their_own_action(action: str) -> None:
    listing = token(action=action, resource="tickets", arguments_sha256=None)
    check_call(listing, "POST", body(method=action, params=...))
    check_call(listing, "POST", body(method=action, params={"cursor": "x"}))
    for other in ("tools/call", "resources/read", "logging/setLevel"):
        with pytest.raises(ToolCallError):
            check_call(listing, "POST", body(method=other))


def test_response_of_a_client_is_an_action_of_its_own() -> None:
    response = token(action="client_response", resource="tickets", arguments_sha256=None)
    check_call(response, "POST", body(method=..., params=..., result={}))
    for data in (body(), body(method=..., params=...), body(method=..., result={}, error={})):
        with pytest.raises(ToolCallError):
            check_call(response, "POST", data)
    refused("POST", body(method=..., params=..., result={}))


@pytest.mark.parametrize(("method", "action"), [("GET", "stream_open"), ("DELETE", "session_end")])
def test_stream_and_end_of_session_are_actions_of_their_own(method: str, action: str) -> None:
    right = token(action=action, resource="tickets", arguments_sha256=None)
    check_call(right, method, b"")
    with pytest.raises(ToolCallError):
        check_call(right, method, b"{}")
    other = "DELETE" if method == "GET" else "GET"
    with pytest.raises(ToolCallError):
        check_call(right, other, b"")
    refused(method, b"")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "HEAD", "post", "", "GET "])
def test_other_http_methods(method: str) -> None:
    refused(method, body())


def test_every_refusal_is_our_error() -> None:
    assert issubclass(ToolCallError, IdentityError)
