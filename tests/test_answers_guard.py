"""One answer on its way to the caller: which way it goes, and what the caller gets."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authz.answers.guard import Guard
from authz.answers.json_answer import MAX_ANSWER
from authz.answers.way import MAX_UNWATCHED
from authz.codes import Code
from authz.errors import AuthenticationError, CodedError, PinError, PolicyUnavailableError, StoreError
from authz.headers import Headers
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.sessions.port import Owner
from tests.answers_world import (
    ASKED_ID,
    EVENTS,
    JSON,
    AnswersWorld,
    FakePins,
    FakeSessions,
    names_in,
    operation_of,
    reason_of,
    response,
    tools,
)
from tests.fakes import LEAD

UNREADABLE = Code.ANSWER_UNREADABLE.value
LISTS: dict[str, dict[str, Any]] = {
    "tools/list": {"tools": [{"name": "read"}, {"name": "write"}]},
    "resources/list": {"resources": [{"uri": "read"}, {"uri": "write"}]},
    "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "read"}, {"uriTemplate": "write"}]},
    "prompts/list": {"prompts": [{"name": "read"}, {"name": "write"}]},
}
CHAT = "chat.completions"


def _world(*hidden: str, **more: object) -> AnswersWorld:
    world = AnswersWorld(**more)
    world.policy.hidden = frozenset(hidden)
    return world


# Lists


@pytest.mark.parametrize("method", LISTS)
def test_a_list_holds_what_its_reader_could_use(method: str) -> None:
    world = _world("write")
    sent = world.answer(response(LISTS[method]), to=method)
    assert sent.head.kind == "rewrite"
    assert sent.json == {
        "jsonrpc": "2.0",
        "id": 7,
        "result": {name: value[:1] for name, value in LISTS[method].items()},
    }
    assert sent.guard.problem is None


def test_the_policy_is_asked_once_for_a_list() -> None:
    world = _world()
    world.answer(response(tools("a", "b", "c")))
    (asked,) = world.policy.asked
    assert {name: asked[name] for name in world.allowed.who} == world.allowed.who
    assert asked["resource"] == {
        "service": "tickets",
        "type": "tool",
        "name": "tickets",
        "names": ["a", "b", "c"],
    }
    assert asked["action"] == {"protocol": "mcp", "method": "tools/call", "phase": "call"}


def test_of_an_empty_list_nothing_is_asked() -> None:
    world = _world()
    assert world.answer(response(tools())).result == {"tools": []}
    assert world.policy.asked == []


def test_a_policy_may_hide_all_and_add_none() -> None:
    world = _world("a", "b")
    assert world.answer(response(tools("a", "b"))).result == {"tools": []}


def test_the_prefix_of_a_gateway_stays_in_the_list() -> None:
    world = _world("write", route=Route("tickets", "mcp", "t__"))
    sent = world.answer(response(tools("t__read", "t__write", "other__read", "read")))
    assert names_in(sent.result) == ["t__read"]


def test_a_list_that_is_sent_on_is_nobody_elses() -> None:
    sent = _world().answer(response(tools("a")))
    assert dict(sent.head.set_headers) == {"content-type": JSON, "cache-control": "private, no-store"}
    assert {"content-length", "etag", "content-encoding", "digest", "content-digest", "repr-digest"} <= set(
        sent.head.remove_headers
    )
    assert "content-md5" in sent.head.remove_headers


def test_a_list_may_come_in_any_chunks() -> None:
    body = response(tools("read", "write")).encode()
    sent = _world("write").answer(*(bytes([byte]) for byte in body))
    assert names_in(sent.result) == ["read"]
    assert sent.chunks[:-1] == [b""] * (len(body) - 1)


def test_a_list_that_does_not_end_is_not_sent() -> None:
    sent = _world().answer(response(tools("a")), ends=False)
    assert sent.body == b""


def test_a_list_may_end_with_an_empty_chunk() -> None:
    assert names_in(_world().answer(response(tools("a")), b"").result) == ["a"]


@pytest.mark.parametrize("media_type", [JSON, EVENTS, "text/html"])
def test_what_cannot_be_read_is_answered_with_the_id_that_was_asked(media_type: str) -> None:
    """Some clients wait for ever for an answer without one."""
    sent = _world().answer("data: <html>\n\n", media_type=media_type)
    (message,) = sent.messages if media_type == EVENTS else [sent.json]
    assert (reason_of(message), message["id"]) == (UNREADABLE, ASKED_ID)


def test_an_error_of_the_server_passes_with_a_status_of_success() -> None:
    error = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32601, "message": "no such method"}}
    assert _world().answer(json.dumps(error)).json == error


def test_models_are_cut_too() -> None:
    world = _world("gpt-5", route=Route("tickets", "llm"))
    sent = world.answer('{"object":"list","data":[{"id":"gpt-5"},{"id":"small"}]}', to="models")
    assert sent.json == {"object": "list", "data": [{"id": "small"}]}
    (asked,) = world.policy.asked
    assert asked["action"] == {"protocol": "llm", "method": "chat.completions", "phase": "call"}


@pytest.mark.parametrize("body", ["[]", "{}", '{"data":{}}', '{"data":["gpt-5"]}', "gpt-5"])
def test_models_that_cannot_be_read_are_replaced(body: str) -> None:
    sent = _world(route=Route("tickets", "llm")).answer(body, to="models")
    error = sent.json["error"]
    assert isinstance(error, dict)
    assert error["code"] == UNREADABLE
    assert "gpt-5" not in sent.body.decode()


def test_a_fault_while_models_are_judged_shows_none() -> None:
    world = _world(route=Route("tickets", "llm"))
    world.policy.answer = RuntimeError("gpt-5")
    sent = world.answer('{"data":[{"id":"gpt-5"}]}', to="models")
    assert sent.guard.problem is not None
    assert sent.guard.problem.code is Code.INTERNAL
    assert b"gpt-5" not in sent.body


def test_models_come_in_no_stream() -> None:
    sent = _world(route=Route("tickets", "llm")).answer("data: {}\n\n", to="models", media_type=EVENTS)
    assert sent.head.kind == "refuse"


def test_a_list_of_tasks_is_written_anew_and_not_cut() -> None:
    world = _world()
    sent = world.answer(response({"tasks": [{"taskId": "t"}]}), to="tasks/list")
    assert sent.result == {"tasks": [{"taskId": "t"}]}
    assert world.policy.asked == []


# Whom and what cannot be known


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PolicyUnavailableError("down"), Code.POLICY_UNAVAILABLE),
        (RuntimeError("a fault that says secret"), Code.INTERNAL),
    ],
)
def test_what_the_policy_cannot_judge_is_not_shown(error: Exception, reason: Code) -> None:
    world = _world()
    world.policy.answer = error
    sent = world.answer(response(tools("secret")))
    assert (sent.reason, sent.json["id"]) == (reason.value, 7)
    assert b"secret" not in sent.body
    assert sent.guard.problem is not None
    assert sent.guard.problem.code is reason


def test_rights_that_are_withdrawn_while_the_policy_is_asked_end_the_answer() -> None:
    world = _world()
    world.policy.act = world.rights.agents.clear
    with pytest.raises(AuthenticationError) as caught:
        world.answer(response(tools("a")))
    assert caught.value.code is Code.AGENT_UNKNOWN
    with pytest.raises(AuthenticationError):
        _gone_meanwhile().answer(f"data: {response(tools('a'))}\n\n", media_type=EVENTS)


def _gone_meanwhile() -> AnswersWorld:
    world = _world()
    world.policy.act = world.rights.agents.clear
    return world


@pytest.mark.parametrize("method", ["tools/list", "tools/call", "stream_open", "initialize"])
def test_who_is_gone_gets_no_answer(method: str) -> None:
    world = _world()
    world.rights.agents.clear()
    sent = world.answer(response(tools("a")), to=method)
    assert sent.head.kind == "refuse"
    assert sent.reason == Code.AGENT_UNKNOWN.value
    said = dict(sent.head.set_headers)
    assert said["x-deputy-reason"] == Code.AGENT_UNKNOWN.value
    assert said["x-deputy-decision"] == world.allowed.decision_id
    assert said["cache-control"] == "private, no-store"


def test_a_task_that_ends_ends_its_streams() -> None:
    world = _world()
    asyncio.run(_end_meanwhile(world))


async def _end_meanwhile(world: AnswersWorld) -> None:
    guard = Guard(world.passage(operation_of(CHAT)), world.service, world.ports)
    headers = Headers.parse([("content-type", EVENTS.encode())])
    assert (await guard.on_headers(200, headers, end_of_stream=False)).kind == "watch"
    await guard.still_stands()
    assert await guard.on_body(b"data: a\n\n", end_of_stream=False) == b"data: a\n\n"
    world.now += timedelta(hours=2)
    with pytest.raises(AuthenticationError):
        await guard.still_stands()
    with pytest.raises(AuthenticationError):
        await guard.on_body(b"data: b\n\n", end_of_stream=False)


class _Following:
    """A replica that lost its authority."""

    async def refresh(self) -> None:
        raise StoreError("read too long ago")

    async def reach(self, min_epoch: int) -> None:
        raise AssertionError(min_epoch)

    async def learn(self) -> None:
        raise AssertionError


def test_a_replica_that_knows_nothing_new_passes_nothing() -> None:
    world = _world()
    world.ports = replace(world.ports, following=_Following())
    sent = world.answer(response({}), to="tools/call")
    assert (sent.head.kind, sent.reason) == ("refuse", Code.STALE.value)


def test_a_fault_of_ours_refuses_the_answer() -> None:
    world = _world()

    def clock() -> Any:
        raise RuntimeError

    world.ports = replace(world.ports, clock=clock)
    sent = world.answer(response(tools("a")))
    assert (sent.head.kind, sent.reason) == ("refuse", Code.INTERNAL.value)


def test_a_body_without_headers_is_not_passed() -> None:
    world = _world()
    guard = Guard(world.allowed, world.service, world.ports)
    with pytest.raises(CodedError):
        asyncio.run(guard.on_body(b"a", end_of_stream=True))


# Pins


def test_tools_are_shown_to_the_pins_before_the_policy() -> None:
    world = _world("write", pins="learn")
    pins = FakePins(hidden=frozenset({"changed"}))
    world.ports = replace(world.ports, pins=pins)
    sent = world.answer(response(tools("read", "changed", "write")))
    assert names_in(sent.result) == ["read"]
    ((service, declared, mode),) = pins.learnt
    assert (service, mode, [each.name for each in declared]) == (
        "tickets",
        "learn",
        ["read", "changed", "write"],
    )
    (asked,) = world.policy.asked
    assert asked["resource"] == {
        "service": "tickets",
        "type": "tool",
        "name": "tickets",
        "names": ["read", "write"],
    }


def test_pins_are_shown_the_same_list_each_time() -> None:
    world = _world(pins="require")
    pins = FakePins()
    world.ports = replace(world.ports, pins=pins)
    for _ in range(2):
        world.answer(response(tools("read")))
    assert [mode for _, _, mode in pins.learnt] == ["require"] * 2


def test_where_pins_are_off_or_no_tool_is_listed_nothing_is_learnt() -> None:
    pins = FakePins(hidden=frozenset({"read"}))
    off, on = _world(pins="off"), _world(pins="learn")
    for world in (off, on):
        world.ports = replace(world.ports, pins=pins)
    assert names_in(off.answer(response(tools("read"))).result) == ["read"]
    assert on.answer(response(LISTS["prompts/list"]), to="prompts/list").result == LISTS["prompts/list"]
    assert on.answer(response(tools())).result == {"tools": []}
    assert pins.learnt == []


def test_a_list_whose_tools_cannot_be_pinned_is_not_shown() -> None:
    world = _world(pins="learn")
    world.ports = replace(world.ports, pins=FakePins(error=PinError(Code.PINS_UNKNOWN, "locked")))
    sent = world.answer(response(tools("read")))
    assert (sent.reason, sent.json["id"]) == (Code.PINS_UNKNOWN.value, 7)


# Sessions


def test_the_session_that_initialize_opens_is_bound() -> None:
    world, sessions = _world(), FakeSessions()
    world.ports = replace(world.ports, sessions=sessions)
    headers = [("mcp-session-id", "s-1"), ("content-length", "40")]
    assert world.answer(response({}), to="initialize", headers=headers).result == {}
    assert world.answer(response({}), to="initialize", headers=headers[1:]).result == {}
    assert world.answer(response({}), to="tools/call", headers=headers).result == {}
    assert sessions.bound == [("tickets", "s-1", Owner(LEAD.uri, "triage"))]


def test_where_nobody_remembers_sessions_none_is_bound() -> None:
    sent = _world().answer(response({}), to="initialize", headers=[("mcp-session-id", "s-1")])
    assert sent.result == {}


def test_a_session_of_somebody_else_is_not_opened() -> None:
    world = _world()
    error = AuthenticationError(Code.SESSION_OTHERS, "s-1 is somebody's")
    world.ports = replace(world.ports, sessions=FakeSessions(error))
    sent = world.answer(response({}), to="initialize", headers=[("mcp-session-id", "s-1")])
    assert (sent.head.kind, sent.reason) == ("refuse", Code.SESSION_OTHERS.value)
    assert b"s-1" not in sent.head.body


def test_two_sessions_in_one_answer_are_none() -> None:
    world = _world()
    world.ports = replace(world.ports, sessions=FakeSessions())
    headers = [("mcp-session-id", "s-1"), ("mcp-session-id", "s-2")]
    sent = world.answer(response({}), to="initialize", headers=headers)
    assert (sent.head.kind, sent.reason) == ("refuse", Code.HEADER_DUPLICATE.value)


# Which way an answer goes


@pytest.mark.parametrize("media_type", [JSON, EVENTS, "text/html", None])
@pytest.mark.parametrize("method", ["tools/list", "stream_open", "tools/call", "initialize"])
@pytest.mark.parametrize("status", [200, 202, 204, 404, 405, 500])
def test_an_answer_without_a_body_passes(status: int, method: str, media_type: str | None) -> None:
    sent = _world().answer(to=method, status=status, media_type=media_type)
    assert sent.head.kind == "pass"


def test_an_answer_whose_body_turns_out_to_be_empty_passes() -> None:
    for headers in ([], [("content-length", "0")]):
        sent = _world().answer("", status=202, media_type=None, headers=headers)
        assert (sent.head.kind, sent.body) == ("rewrite", b"")


@pytest.mark.parametrize(
    ("media_type", "length", "kind"),
    [
        (JSON, "120", "pass"),
        (None, "120", "pass"),
        (JSON, None, "watch"),
        (JSON, "a", "watch"),
        (JSON, str(MAX_UNWATCHED + 1), "watch"),
        (EVENTS, "120", "watch"),
        ("Text/Event-Stream; charset=utf-8", "120", "watch"),
        ("application/grpc", "120", "watch"),
        ("application/grpc+proto", "120", "watch"),
    ],
)
def test_what_can_go_on_is_watched(media_type: str | None, length: str | None, kind: str) -> None:
    headers = [("content-length", length)] if length is not None else []
    sent = _world().answer("what it says", "more", to=CHAT, media_type=media_type, headers=headers)
    assert (sent.head.kind, sent.body) == (kind, b"what it saysmore")
    assert not sent.head.set_headers
    assert not sent.head.remove_headers


def test_two_lengths_are_none() -> None:
    sent = _world().answer("a", to=CHAT, headers=[("content-length", "1"), ("content-length", "1")])
    assert sent.head.kind == "watch"


def test_a_switch_of_protocols_is_watched() -> None:
    assert _world().answer(b"\0", to=CHAT, status=101, media_type=None).head.kind == "watch"


def test_of_other_protocols_nothing_is_read() -> None:
    world = _world()
    operation = Operation("a2a", "ListTasks", "list", "server", "tickets")
    guard = Guard(world.passage(operation), world.service, world.ports)
    headers = Headers.parse([("content-type", JSON.encode())])
    assert asyncio.run(guard.on_headers(200, headers, end_of_stream=False)).kind == "watch"


# Refusals in other words


def test_grpc_is_refused_in_its_own_words() -> None:
    world = _world()
    world.rights.agents.clear()
    sent = world.answer(b"\0", to="tools/call", media_type="application/grpc")
    said = dict(sent.head.set_headers)
    assert (sent.head.status, said["content-type"]) == (200, "application/grpc")
    assert said["grpc-status"] != "0"


def test_others_are_refused_in_plain_http() -> None:
    world = _world()
    world.rights.agents.clear()
    operation = Operation("http", "GET", "call", "path", "/")
    guard = Guard(world.passage(operation), world.service, world.ports)
    head = asyncio.run(guard.on_headers(200, Headers.parse([]), end_of_stream=False))
    assert head.kind == "refuse"
    assert reason_of(json.loads(head.body)) == Code.AGENT_UNKNOWN.value


# Failures


@pytest.mark.parametrize("status", [400, 404, 405, 500, 503])
@pytest.mark.parametrize("method", ["tools/list", "stream_open"])
def test_a_failure_keeps_its_status_and_its_error(method: str, status: int) -> None:
    error = {"jsonrpc": "2.0", "id": 7, "error": {"code": -32600, "message": "no", "data": {"supported": []}}}
    sent = _world().answer(json.dumps({**error, "tools": [{"name": "secret"}]}), to=method, status=status)
    assert (sent.head.kind, sent.json) == ("rewrite", error)


def test_a_failure_whose_request_was_not_read_has_no_id() -> None:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "parse error"}}
    assert _world().answer(json.dumps(error), status=400).json == error


@pytest.mark.parametrize(
    "body",
    [
        "Method Not Allowed",
        '{"detail":"tools: secret"}',
        response({"tools": [{"name": "secret"}]}),
        '{"jsonrpc":"2.0","id":7,"error":"secret"}',
        '{"jsonrpc":"2.0","id":7,"error":{"code":true,"message":"secret"}}',
        '{"jsonrpc":"2.0","id":[],"error":{"code":1,"message":"secret"}}',
        '{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"a"},"result":{"tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":7,"method":"secret"}',
        '[{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"secret"}}]',
        '{"error":{"code":1,"message":"secret"}}',
        b"\x1f\x8b secret",
    ],
)
@pytest.mark.parametrize("media_type", [JSON, "text/plain", EVENTS, None])
def test_any_other_failure_is_said_in_our_words(body: str | bytes, media_type: str | None) -> None:
    sent = _world().answer(body, status=400, media_type=media_type)
    assert (sent.head.kind, sent.reason) == ("rewrite", UNREADABLE)
    assert b"secret" not in sent.body


def test_a_failure_of_a_models_provider_passes() -> None:
    world = _world(route=Route("tickets", "llm"))
    body = '{"error":{"message":"no key","type":"x"},"data":[{"id":"secret"}],"models":["secret"]}'
    sent = world.answer(body, to="models", status=401)
    assert sent.json == {"error": {"message": "no key", "type": "x"}}
    assert b"secret" not in world.answer('{"detail":"secret"}', to="models", status=500).body


def test_a_list_of_5_mib_is_replaced_before_it_ends() -> None:
    mebibyte = b" " * (1 << 20)
    sent = _world().answer(*[mebibyte] * 5, response(tools("a")), b"")
    assert sent.reason == UNREADABLE
    assert [bool(chunk) for chunk in sent.chunks] == [False] * 4 + [True] + [False] * 2
    assert len(sent.body) < MAX_ANSWER
