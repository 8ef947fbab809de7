"""Lists that are sent so that a filter misses them, and a client does not (rules/mcp.md, response smuggling).

Each attack is tried as one body, and where it can be as an event of the answer and of the session's stream.
"""

import asyncio
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest

from authz.answers.guard import MAX_REPLACED_EVENTS, Guard
from authz.answers.sse import MAX_EVENT, Event
from authz.codes import Code
from authz.errors import AnswerError
from authz.headers import Headers
from authz.protocols.route import Route
from tests.answers_world import (
    EVENTS,
    JSON,
    AnswersWorld,
    FakePins,
    Sent,
    names_in,
    operation_of,
    reason_of,
    response,
    tools,
)

UNREADABLE = Code.ANSWER_UNREADABLE.value
BOM = b"\xef\xbb\xbf"
# A body, an event of the answer to the list, an event of the stream that a client opens again.
WAYS = ["body", "event", "replay"]


def _send(text: str | bytes, way: str, world: AnswersWorld | None = None) -> Sent:
    world = world or _world()
    data = text.encode() if isinstance(text, str) else text
    match way:
        case "body":
            return world.answer(data)
        case "event":
            return world.answer(b"data: " + data + b"\n\n", media_type=EVENTS)
        case _:
            return world.answer(b"id: 1\ndata: " + data + b"\n\n", to="stream_open", media_type=EVENTS)


def _world() -> AnswersWorld:
    world = AnswersWorld()
    world.policy.hidden = frozenset({"secret"})
    return world


def _message(sent: Sent, way: str) -> dict[str, Any]:
    if way == "body":
        return sent.json
    (message,) = sent.messages
    return message


def _is_replaced(sent: Sent, way: str) -> bool:
    assert b"secret" not in sent.body
    return reason_of(_message(sent, way)) == UNREADABLE


# The status


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 207, 226, 299])
@pytest.mark.parametrize("way", WAYS)
def test_a_status_of_success_that_is_not_200_is_filtered(way: str, status: int) -> None:
    body = response(tools("read", "secret"))
    chunk, media_type = (body, JSON) if way == "body" else (f"data: {body}\n\n", EVENTS)
    to = "stream_open" if way == "replay" else "tools/list"
    sent = _world().answer(chunk, to=to, status=status, media_type=media_type)
    assert sent.head.kind == "rewrite"
    assert names_in(_message(sent, way)["result"]) == ["read"]


@pytest.mark.parametrize("status", [100, 101, 103, 300, 301, 302, 303, 304, 307, 308, 600, 999])
def test_a_redirect_and_a_switch_of_protocols_are_refused(status: int) -> None:
    for chunks in ([], [response(tools("secret"))]):
        sent = _world().answer(*chunks, status=status, headers=[("location", "http://other/secret")])
        assert (sent.head.kind, sent.reason) == ("refuse", UNREADABLE)
        assert b"secret" not in sent.head.body


def test_a_list_in_the_text_of_a_failure_is_replaced() -> None:
    sent = _world().answer(response(tools("secret")), status=400)
    assert (sent.reason, b"secret" in sent.body) == (UNREADABLE, False)


# The headers


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "text/json",
        "application/octet-stream",
        "application/json-seq",
        "application/x-ndjson",
        "application/jsonl",
        "multipart/byteranges; boundary=x",
        "application/json, text/event-stream",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; boundary=x",
        "application/json;",
        "application/problem+json",
        "",
    ],
)
@pytest.mark.parametrize("method", ["tools/list", "stream_open"])
def test_a_mislabelled_content_type_is_refused(method: str, media_type: str | None) -> None:
    sent = _world().answer(response(tools("secret")), to=method, media_type=media_type)
    assert (sent.head.kind, sent.reason) == ("refuse", UNREADABLE)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
    ],
)
def test_a_content_type_is_compared_as_it_is_meant(media_type: str) -> None:
    sent = _world().answer(response(tools("read", "secret")), media_type=media_type)
    assert names_in(sent.result) == ["read"]
    # The client need not understand it the same way.
    assert dict(sent.head.set_headers)["content-type"] == JSON


@pytest.mark.parametrize("name", ["content-type", "content-encoding"])
def test_a_header_that_stands_twice_is_refused(name: str) -> None:
    value = JSON if name == "content-type" else "identity"
    headers = [(name, value), (name, "text/event-stream")]
    sent = _world().answer(response(tools("secret")), media_type=None, headers=headers)
    assert (sent.head.kind, sent.reason) == ("refuse", UNREADABLE)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "deflate", "x", "identity, gzip", ""])
@pytest.mark.parametrize("media_type", [JSON, EVENTS])
def test_gzip_in_spite_of_no_accept_encoding_is_refused(media_type: str, encoding: str) -> None:
    body = gzip.compress(response(tools("secret")).encode())
    sent = _world().answer(body, media_type=media_type, headers=[("content-encoding", encoding)])
    assert (sent.head.kind, sent.reason) == ("refuse", UNREADABLE)


def test_gzip_that_says_nothing_of_it_is_replaced() -> None:
    assert _is_replaced(_world().answer(gzip.compress(response(tools("secret")).encode())), "body")


@pytest.mark.parametrize("media_type", [JSON, EVENTS, None])
def test_a_list_that_says_that_it_is_empty_is_replaced(media_type: str | None) -> None:
    headers = [("content-length", "0")]
    assert _is_replaced(
        _world().answer(response(tools("secret")), media_type=media_type, headers=headers), "body"
    )


def test_a_list_without_a_content_type_is_replaced() -> None:
    for body in (response(tools("secret")), f"data: {response(tools('secret'))}\n\n"):
        assert _is_replaced(_world().answer(body, media_type=None), "body")


def test_identity_is_no_encoding() -> None:
    sent = _world().answer(response(tools("read", "secret")), headers=[("content-encoding", "Identity")])
    assert names_in(sent.result) == ["read"]
    assert "content-encoding" in sent.head.remove_headers


# The bytes


@pytest.mark.parametrize("way", WAYS)
def test_a_byte_order_mark_is_replaced(way: str) -> None:
    assert _is_replaced(_send(BOM + response(tools("secret")).encode(), way), way)


def test_a_byte_order_mark_before_a_stream_is_not_sent_on() -> None:
    sent = _world().answer(
        BOM[:1], BOM[1:], f"data: {response(tools('read', 'secret'))}\n\n", media_type=EVENTS
    )
    assert sent.body.startswith(b"data: ")
    assert names_in(sent.messages[0]["result"]) == ["read"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_replaced(encoding: str) -> None:
    """`json.loads` of bytes finds it out by itself."""
    assert _is_replaced(_send(response(tools("secret")).encode(encoding), "body"), "body")


@pytest.mark.parametrize("way", WAYS)
def test_bytes_that_are_not_utf_8_are_replaced(way: str) -> None:
    body = response(tools("read", "secret")).encode().replace(b"secret", b"secret\xff")
    assert _is_replaced(_send(body, way), way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"tools":[{"name":"secret"}],"tools":[{"name":"read"}]}', ["read"]),
        ('{"tools":[{"name":"read"}],"tools":[{"name":"secret"}]}', []),
        ('{"to\\u006fls":[{"name":"read"},{"name":"secret"}]}', ["read"]),
        ('{"tools":[{"name":"read"}],"to\\u006fls":[{"name":"secret"}]}', []),
        ('{"tools":[{"name":"read","name":"secret"},{"name":"secret","name":"read"}]}', ["read"]),
        ('{"tools":[{"n\\u0061me":"s\\u0065cret"},{"name":"re\\u0061d"}]}', ["read"]),
    ],
)
def test_keys_that_stand_twice_or_escaped_hide_nothing(way: str, text: str, names: list[str]) -> None:
    sent = _send('{"jsonrpc":"2.0","id":7,"result":' + text + "}", way)
    assert names_in(_message(sent, way)["result"]) == names
    assert b"secret" not in sent.body
    # Whoever takes the first of two reads the same.
    body = sent.body.split(b"data: ")[-1]
    assert json.loads(body, object_pairs_hook=_first) == json.loads(body)


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[]},"result":{"tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"}]},"result":{"tools":[]}}',
        '{"result":{"tools":[{"name":"secret"}]},"result":{"tools":[]},"jsonrpc":"2.0","id":7}',
    ],
)
def test_results_that_stand_twice_hide_nothing(way: str, text: str) -> None:
    sent = _send(text, way)
    assert _message(sent, way)["result"] == {"tools": []}
    assert b"secret" not in sent.body


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "text",
    [
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[],"Tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[],"tool\u017f":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[],"tools\\u0000":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[]},"Result":{"tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":7,"re\u017fult":{"tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":[{"tools":[{"name":"secret"}]}]}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":{"name":"secret"}}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[["secret"]]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":["secret"]}}',
        '{"jsonrpc":"2.0","id":7,"result":"secret"}',
        '{"jsonrpc":"1.0","id":7,"result":{"tools":[{"name":"secret"}]}}',
        '{"id":7,"result":{"tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","result":{"tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":null,"result":{"tools":[{"name":"secret"}]}}',
        '{"jsonrpc":"2.0","id":{"secret":1},"result":{"tools":[]}}',
        '{"jsonrpc":"2.0","id":7.5,"result":{"tools":[{"name":"secret"}]}}',
        '{"tools":[{"name":"secret"}]}',
        '[{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"}]}}]',
        '[[{"name":"secret"}]]',
        '"secret"',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"}]}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret","x":NaN}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"}],"ttlMs":1e999}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret\\ud800"}]}}',
        '{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"}]}} {"jsonrpc":"2.0"}',
        "{'jsonrpc':'2.0','id':7,'result':{'tools':[{'name':'secret'}]}}",
        '/**/{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"secret"}]}}',
    ],
)
def test_what_is_no_answer_that_all_read_alike_is_replaced(way: str, text: str) -> None:
    assert _is_replaced(_send(text, way), way)


@pytest.mark.parametrize("way", WAYS)
def test_100_000_levels_are_replaced(way: str) -> None:
    for deep in ("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 100_000):
        text = '{"jsonrpc":"2.0","id":7,"result":{"tools":[],"secret":' + deep + "}}"
        assert _is_replaced(_send(text, way), way)


@pytest.mark.parametrize("depth", [50, 300, 900, 1000, 2000])
def test_a_schema_of_any_depth_is_shown_or_taken_out(depth: int) -> None:
    """Never a fault of ours: reading, hashing and writing nest in their own ways."""
    deep = '{"a":' * depth + "1" + "}" * depth
    tool = '{"name":"deep","inputSchema":' + deep + "}"
    world = AnswersWorld(pins="learn")
    world.ports = replace(world.ports, pins=FakePins())
    sent = world.answer('{"jsonrpc":"2.0","id":7,"result":{"tools":[' + tool + ',{"name":"read"}]}}')
    if sent.reason:
        assert (sent.reason, depth >= 900) == (UNREADABLE, True)
    else:
        assert names_in(sent.result) in (["read"], ["deep", "read"])


@pytest.mark.parametrize("way", WAYS)
def test_4097_names_are_replaced(way: str) -> None:
    sent = _send(response(tools("secret", *(f"t{number}" for number in range(4096)))), way)
    assert _is_replaced(sent, way)
    assert _message(sent, way)["id"] == 7


def test_5_mib_are_replaced() -> None:
    body = response(tools("secret", "x" * (5 << 20)))
    assert _is_replaced(_send(body, "body"), "body")


@pytest.mark.parametrize("way", ["event", "replay"])
def test_an_event_of_5_mib_is_replaced_and_the_next_one_is_read(way: str) -> None:
    to = "stream_open" if way == "replay" else "tools/list"
    huge = f"data: {response(tools('secret', 'x' * MAX_EVENT))}\n\n"
    sent = _world().answer(huge, f"data: {response(tools('read', 'secret'))}\n\n", to=to, media_type=EVENTS)
    first, second = sent.messages
    assert (reason_of(first), names_in(second["result"])) == (UNREADABLE, ["read"])
    assert b"secret" not in sent.body


@pytest.mark.parametrize("way", WAYS)
def test_the_same_name_twice_with_different_schemas_is_not_shown(way: str) -> None:
    result = tools("read", "other")
    result["tools"] += [{"name": "read", "description": "secret"}]  # type: ignore[operator]  # a list
    assert names_in(_message(_send(response(result), way), way)["result"]) == ["other"]


@pytest.mark.parametrize("way", WAYS)
def test_names_with_another_prefix_are_not_shown(way: str) -> None:
    world = AnswersWorld(route=Route("tickets", "mcp", "tickets__"))
    sent = _send(response(tools("tickets__read", "billing__read", "TICKETS__read", "tickets__")), way, world)
    assert names_in(_message(sent, way)["result"]) == ["tickets__read"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["s\u0435cret", "secret ", "secret\u200b", "\uff53ecret", "secret\u0000"])
def test_look_alikes_of_a_name_are_not_shown(way: str, name: str) -> None:
    """A policy that hides `secret` never heard of them; no call could name them either."""
    sent = _send(response(tools("read", name)), way)
    assert names_in(_message(sent, way)["result"]) == ["read"]


@pytest.mark.parametrize("way", WAYS)
def test_a_list_of_another_kind_than_was_asked_for_is_cut(way: str) -> None:
    result = {**tools("read", "secret"), "prompts": [{"name": "secret"}, {"name": "p"}]}
    cut = _message(_send(response(result), way), way)["result"]
    assert (names_in(cut), names_in(cut, "prompts")) == (["read"], ["p"])


@pytest.mark.parametrize("member", ["resources", "prompts", "content"])
def test_a_list_of_another_kind_in_place_of_the_one_is_replaced(member: str) -> None:
    for way in ("body", "event"):
        assert _is_replaced(_send(response({member: [{"name": "secret", "uri": "secret"}]}), way), way)


# A message that is two things


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "more",
    [
        {"method": "notifications/message"},
        {"method": "notifications/message", "params": {}},
        {"error": {"code": 1, "message": "a"}},
        {"method": "ping", "error": {"code": 1, "message": "secret"}},
    ],
)
def test_a_list_inside_a_notification_or_an_error_is_replaced(way: str, more: dict[str, object]) -> None:
    for rpc_id in ({}, {"id": 7}):
        message = {"jsonrpc": "2.0", **rpc_id, "result": tools("secret"), **more}
        assert _is_replaced(_send(json.dumps(message), way), way)


def test_a_request_in_place_of_the_answer_is_replaced() -> None:
    for message in ({"method": "notifications/message"}, {"method": "ping", "id": 7}):
        sent = _send(json.dumps({"jsonrpc": "2.0", **message, "params": {"x": "secret"}}), "body")
        assert _is_replaced(sent, "body")


@pytest.mark.parametrize("way", ["event", "replay"])
def test_what_a_server_asks_or_notes_in_a_stream_passes_as_it_was_read(way: str) -> None:
    """`tools` in the params of `sampling/createMessage` are not the server's own: nobody calls them there."""
    for message in (
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1, "x": "\u2028"}},
        {"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {"tools": [{"name": "a"}]}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "a"}},
    ):
        assert _message(_send(json.dumps(message), way), way) == message


def test_the_answers_of_calls_come_again_as_they_were() -> None:
    message = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "secret"}]}}
    assert _message(_send(json.dumps(message), "replay"), "replay") == message


# Streams


def test_data_lines_that_are_split_are_one_answer() -> None:
    lines = json.dumps(json.loads(response(tools("read", "secret"))), indent=1).splitlines()
    stream = "".join(f"data:{line}\r\n" for line in lines) + "\r\n"
    for size in (1, 7, len(stream)):
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
        sent = _world().answer(*chunks, media_type=EVENTS)
        (event,) = sent.events
        assert event.data is not None
        assert "\n" not in event.data
        assert names_in(sent.messages[0]["result"]) == ["read"]


def test_a_list_that_is_split_across_two_events_is_replaced() -> None:
    text = response(tools("secret"))
    stream = f"data: {text[:30]}\n\ndata: {text[30:]}\n\n"
    sent = _world().answer(stream, media_type=EVENTS)
    assert [reason_of(message) for message in sent.messages] == [UNREADABLE] * 2
    assert b"secret" not in sent.body


def test_a_list_on_the_stream_that_is_opened_again_is_cut() -> None:
    text = response(tools("read", "secret"))
    stream = f": hello secret\n\nid: 4\nevent: message\nretry: 10\ndata: {text}\n\n"
    sent = _world().answer(stream, to="stream_open", media_type=EVENTS)
    alive, event = sent.events
    assert alive == Event()
    assert (event.id, event.event, event.retry) == ("4", "message", 10)
    assert names_in(sent.messages[0]["result"]) == ["read"]
    assert b"secret" not in sent.body


def test_a_list_on_the_stream_as_plain_json_is_cut() -> None:
    sent = _world().answer(response(tools("read", "secret")), to="stream_open")
    assert names_in(sent.result) == ["read"]


@pytest.mark.parametrize("name", ["tools", "endpoint", "", "error"])
def test_an_event_of_another_name_is_read_too(name: str) -> None:
    """A client that knows no names reads the data of each."""
    text = response(tools("read", "secret"))
    sent = _world().answer(f"event: {name}\ndata: {text}\n\n", media_type=EVENTS)
    assert names_in(sent.messages[0]["result"]) == ["read"]
    sent = _world().answer(f"event: {name}\ndata: /messages?secret\n\n", media_type=EVENTS)
    assert reason_of(sent.messages[0]) == UNREADABLE


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d"])
def test_what_ends_a_line_for_some_clients_only_ends_none(end: str) -> None:
    inner = response(tools("secret")).replace('"', "'")
    result = {**tools("read"), "nextCursor": f"a{end}{end}data: {inner}{end}{end}"}
    text = json.dumps({"jsonrpc": "2.0", "id": 7, "result": result}, ensure_ascii=False)
    sent = _send(text, "event")
    assert len(sent.body.decode().splitlines()) == 2
    assert _message(sent, "event")["result"] == result


def test_what_stands_behind_the_last_event_is_not_sent() -> None:
    stream = f"data: {response(tools('read'))}\n\ndata: {response(tools('secret'))}\n"
    sent = _world().answer(stream, media_type=EVENTS)
    assert len(sent.events) == 1
    assert b"secret" not in sent.body


def test_events_that_prime_and_keep_alive_pass() -> None:
    sent = _world().answer("id: 1\ndata:\n\nretry: 9\n\n: ping\n\n", to="stream_open", media_type=EVENTS)
    assert sent.body == b"id: 1\ndata: \n\nretry: 9\n\n:\n\n"


def test_a_flood_of_events_that_cannot_be_read_ends_the_stream() -> None:
    """Each costs the server nine bytes, and us an error."""
    sent = _world().answer("data:x\n\n" * MAX_REPLACED_EVENTS, to="stream_open", media_type=EVENTS)
    assert len(sent.messages) == MAX_REPLACED_EVENTS
    with pytest.raises(AnswerError) as caught:
        _world().answer("data:x\n\n" * (MAX_REPLACED_EVENTS + 1), to="stream_open", media_type=EVENTS)
    assert caught.value.code is Code.ANSWER_UNREADABLE


def test_a_list_that_grows_when_it_is_written_is_replaced() -> None:
    """Two bytes of the server's become six of ours."""
    body = response({"tools": [{"name": "read", "description": "\x80" * (1 << 20)}]})
    assert _world().answer(json.dumps(json.loads(body), ensure_ascii=False)).reason == UNREADABLE


@pytest.mark.parametrize("method", ["stream_open", "subscriptions/listen"])
def test_a_list_on_any_stream_that_is_not_its_own_is_cut(method: str) -> None:
    stream = f"data: {response(tools('read', 'secret'))}\n\n"
    sent = _world().answer(stream, to=method, media_type=EVENTS)
    assert names_in(sent.messages[0]["result"]) == ["read"]


@pytest.mark.parametrize("size", [1 << 10, 1 << 16])
def test_what_is_held_of_one_answer_is_bounded(size: int) -> None:
    """Whatever comes, and never ends: a body, a line, an event of many lines."""
    for media_type, piece in (
        (JSON, b"a"),
        (EVENTS, b"a"),
        (EVENTS, b"data: 1234567890\n"),
        (EVENTS, b"data\n"),
    ):
        asyncio.run(_fill(_world(), media_type, piece * (size // len(piece))))


async def _fill(world: AnswersWorld, media_type: str, chunk: bytes) -> None:
    guard = Guard(world.passage(operation_of("tools/list")), world.service, world.ports)
    await guard.on_headers(200, Headers.parse([("content-type", media_type.encode())]), end_of_stream=False)
    for _ in range((5 << 20) // len(chunk)):
        await guard.on_body(chunk, end_of_stream=False)
        held = len(guard._body) + len(guard._events._line) + len(guard._events._data or b"")
        assert held <= MAX_EVENT


# What a server says in answer to one request, though it is the answer to another: clients go by the id.
STRAY = response(tools("read", "secret"), rpc_id=5)
CALLS = ["tools/call", "initialize", "ping", "notifications/initialized", "completion/complete"]


@pytest.mark.parametrize("method", CALLS)
def test_a_list_in_answer_to_another_request_is_cut(method: str) -> None:
    sent = _world().answer(STRAY, to=method, status=201)
    assert (sent.json["id"], names_in(sent.result)) == (5, ["read"])
    assert dict(sent.head.set_headers)["cache-control"] == "private, no-store"


@pytest.mark.parametrize("method", CALLS)
def test_a_list_in_the_stream_of_another_request_is_cut(method: str) -> None:
    changed = '{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
    stream = f"data: {changed}\n\ndata: {STRAY}\n\ndata: {response({'content': []})}\n\n"
    sent = _world().answer(stream, to=method, media_type=EVENTS)
    assert [message.get("id") for message in sent.messages] == [None, 5, 7]
    assert names_in(sent.messages[1]["result"]) == ["read"]
    assert sent.messages[2]["result"] == {"content": []}


def test_a_tool_that_changed_is_not_shown_in_answer_to_a_call() -> None:
    world = AnswersWorld(pins="learn")
    world.ports = replace(world.ports, pins=FakePins(frozenset({"read"})))
    assert names_in(world.answer(STRAY, to="tools/call").result) == ["secret"]


@pytest.mark.parametrize(
    ("media_type", "encoding"),
    [
        ("application/jsonfoo", None),
        ("text/plain; application/json", None),
        ("Text/Event-Stream; charset=utf-16", None),
        (JSON, "gzip"),
    ],
)
def test_what_some_client_takes_for_messages_is_no_way_past(media_type: str, encoding: str | None) -> None:
    headers = [("content-encoding", encoding)] if encoding is not None else []
    sent = _world().answer(STRAY, to="tools/call", media_type=media_type, headers=headers)
    assert (sent.head.kind, sent.reason) == ("refuse", UNREADABLE)


def test_two_content_types_are_no_way_past() -> None:
    sent = _world().answer(STRAY, to="tools/call", headers=[("content-type", "text/plain")])
    assert (sent.head.kind, sent.reason) == ("refuse", UNREADABLE)


@pytest.mark.parametrize("text", [f"[{STRAY}]", f"\ufeff{STRAY}", f"{STRAY}{STRAY}"])
def test_several_answers_in_one_are_none(text: str) -> None:
    sent = _world().answer(text, to="tools/call")
    assert sent.reason == UNREADABLE
    assert b"secret" not in sent.body


@pytest.mark.parametrize("status", [101, 307])
def test_a_call_is_answered_by_nobody_else(status: int) -> None:
    sent = _world().answer(STRAY, to="tools/call", status=status)
    assert (sent.head.kind, sent.reason) == ("refuse", UNREADABLE)


@pytest.mark.parametrize("media_type", ["text/html", None])
def test_what_no_client_takes_for_messages_passes(media_type: str | None) -> None:
    assert _world().answer("a", to="tools/call", media_type=media_type).body == b"a"


def test_the_answer_to_a_call_without_a_body_passes() -> None:
    sent = _world().answer(to="notifications/initialized", status=202, headers=[("content-length", "0")])
    assert sent.head.kind == "pass"
