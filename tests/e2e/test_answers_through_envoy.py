"""Answers behind a real Envoy: a caller sees the lists that are its own, whatever the server sends."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.client import ConnectMode
from mcp.client.streamable_http import streamable_http_client

from authz.codes import Code
from authz.response import REASON_HEADER
from tests.e2e.answers_world import SECONDS, VISIBLE, AnswersWorld, answers_world
from tests.e2e.raw_upstream import answer, chunked

pytestmark = pytest.mark.e2e
HIDDEN: Final = "drop_pages"
EVENTS: Final = "text/event-stream"


@pytest.fixture(scope="module")
def running() -> Iterator[AnswersWorld]:
    with answers_world() as made:
        yield made


@pytest.fixture
def world(running: AnswersWorld) -> AnswersWorld:
    running.ran.take()
    running.raw.said = b""
    return running


def tools(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "inputSchema": {"type": "object"}} for name in names]


def listed(*names: str, **more: Any) -> bytes:
    """The answer to `tools/list`."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": tools(*names), **more}}).encode()


ALL: Final = ("read_page", "find_order", "tag_page", HIDDEN)


# ---- real servers


@pytest.mark.parametrize("service", ["docs", "wiki"])
@pytest.mark.parametrize("who", sorted(VISIBLE))
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_two_agents_see_the_tools_that_they_may_call_and_no_others(
    world: AnswersWorld, service: str, who: str, mode: ConnectMode
) -> None:
    """Plain JSON (docs) and streams of events (wiki); what is hidden is denied as well."""

    async def run() -> list[str]:
        async with world.async_http(service, who) as http:
            transport = streamable_http_client(world.url(service), http_client=http)
            async with Client(transport, mode=mode) as client:
                found = [tool.name for tool in (await client.list_tools()).tools]
                with pytest.raises(MCPError) as caught:
                    await client.call_tool(HIDDEN, {})
                assert caught.value.data["reason"] == Code.TOOL_UNKNOWN
                read = await client.call_tool("read_page", {"path": "docs/a"})
                assert not read.is_error
                return found

    assert asyncio.run(run()) == VISIBLE[who]
    assert world.ran.take() == ["read_page docs/a"]


def test_a_list_is_private_and_nobody_keeps_it(world: AnswersWorld) -> None:
    world.raw.said = answer(listed(*ALL), "cache-control: public, max-age=60", 'etag: "1"')
    response = world.ask("raw", who="triage")
    assert names(response) == VISIBLE["triage"]
    assert "no-store" in response.headers["cache-control"]
    assert "public" not in response.headers["cache-control"]
    assert "etag" not in response.headers


def names(response: httpx2.Response) -> list[str]:
    return [tool["name"] for tool in response.json()["result"]["tools"]]


def test_no_server_is_asked_for_an_answer_that_could_not_be_read(world: AnswersWorld) -> None:
    """Compressed, in part, or none because it has not changed."""
    world.raw.heads.clear()
    world.raw.said = answer(listed(*ALL))
    asked = {"accept-encoding": "gzip, br", "range": "bytes=0-9", "if-none-match": '"1"'}
    assert names(world.ask("raw", headers=asked)) == VISIBLE["resolver"]
    (head,) = world.raw.heads
    assert not [name for name in asked if name.encode() in head.lower()]


def test_a_server_that_compresses_all_the_same_is_not_read(world: AnswersWorld) -> None:
    world.raw.said = answer(gzip.compress(listed(*ALL)), "content-encoding: gzip")
    refused(world.ask("raw"))


def test_a_large_list_is_cut_as_well(world: AnswersWorld) -> None:
    """More than one buffer of Envoy's, so it comes in chunks."""
    many = [{**tool, "description": "x" * 1000} for tool in tools(*ALL, *(f"tool_{n}" for n in range(3000)))]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": many}}).encode()
    assert 3 << 20 < len(body) < 4 << 20
    world.raw.said = answer(body)
    assert names(world.ask("raw")) == VISIBLE["resolver"]


def test_a_list_that_is_too_large_is_not_passed_on(world: AnswersWorld) -> None:
    many = [{**tool, "description": "x" * 1000} for tool in tools(*ALL, *(f"tool_{n}" for n in range(5000)))]
    world.raw.said = answer(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": many}}).encode())
    refused(world.ask("raw"))


def refused(response: httpx2.Response) -> None:
    """Nothing of what the server said came through."""
    assert HIDDEN not in response.text
    assert "read_page" not in response.text
    if response.is_success:
        assert "error" in response.json()


# ---- a server that wants to be read in another way


def events(*parts: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(map(chunked, parts)) + b"0\r\n\r\n"


WHOLE: Final = listed(*ALL)
HALF: Final = WHOLE.index(b'"drop')
SMUGGLED: Final = {
    "another status": answer(WHOLE, status="201 Created"),
    "no content type": answer(WHOLE, kind=""),
    "as text": answer(WHOLE, kind="text/plain"),
    "as events": answer(WHOLE, kind=EVENTS),
    "two content types": answer(WHOLE, "content-type: text/plain"),
    "utf-16": answer(WHOLE.decode().encode("utf-16"), kind="application/json; charset=utf-16"),
    "a mark of byte order": answer(b"\xef\xbb\xbf" + WHOLE),
    "in an array": answer(b"[" + WHOLE + b"]"),
    "a result twice": answer(WHOLE[:-1] + b',"result":{"tools":[]}}'),
    "tools twice": answer(WHOLE.replace(b'{"tools"', b'{"tools":[],"tools"')),
    "in escapes": answer(WHOLE.replace(b"drop_pages", b"dr\\u006fp_pages")),
    "a name twice": answer(WHOLE.replace(b'"name": "drop', b'"name":"read_page","name": "drop')),
    "an error beside it": answer(WHOLE[:-1] + b',"error":{"code":1,"message":"drop_pages"}}'),
    "a key in another case": answer(WHOLE.replace(b'{"tools"', b'{"tools":[],"Tools"')),
    "with a tail": answer(WHOLE + WHOLE),
    "events: one": events(b"data: " + WHOLE + b"\n\n"),
    "events: in lines": events(b"data: " + WHOLE[:HALF] + b"\ndata: " + WHOLE[HALF:] + b"\n\n"),
    "events: in chunks": events(*(bytes([byte]) for byte in b"data: " + WHOLE + b"\n\n")),
    "events: without a last line": events(b"data: " + WHOLE),
    "events: a mark of byte order": events(b"\xef\xbb\xbfdata: " + WHOLE + b"\n\n"),
    "events: carriage returns": events(b"data: " + WHOLE + b"\r\r"),
    "events: no blank": events(b"data:" + WHOLE + b"\n\n"),
    "events: as JSON": answer(b"data: " + WHOLE + b"\n\n"),
    "events: named": events(b"event: other\ndata: " + WHOLE + b"\n\n"),
    "events: in a comment": events(b": " + WHOLE + b"\n\n"),
    "events: many": events(b"data: {}\n\n" + b"data: " + WHOLE + b"\n\n"),
}


@pytest.mark.parametrize("trick", SMUGGLED)
def test_no_trick_brings_a_hidden_tool_through(world: AnswersWorld, trick: str) -> None:
    world.raw.said = SMUGGLED[trick]
    response = world.ask("raw", who="triage")
    text = response.content.decode("utf-16" if b"\xff\xfe" in response.content else "utf-8", "replace")
    for each in (HIDDEN, "tag_page", "dr\\u006fp"):
        assert each not in text, text


# What no client takes for messages passes: a call may be answered with it.
@pytest.mark.parametrize("trick", sorted(SMUGGLED.keys() - {"no content type", "as text"}))
def test_a_call_is_not_answered_with_a_list_that_another_request_waits_for(
    world: AnswersWorld, trick: str
) -> None:
    """Clients go by the id of a response, not by what it came in answer to."""
    world.raw.said = SMUGGLED[trick].replace(b'"id": 1', b'"id": 5')
    response = world.ask("raw", "tools/call", who="triage", params={"name": "read_page", "arguments": {}})
    text = response.content.decode("utf-16" if b"\xff\xfe" in response.content else "utf-8", "replace")
    for each in (HIDDEN, "tag_page", "dr\\u006fp"):
        assert each not in text, text


def test_what_a_tool_answers_comes_as_it_is(world: AnswersWorld) -> None:
    said = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "é" * 100_000}]}}
    for raw in (answer(json.dumps(said).encode()), events(b"data: " + json.dumps(said).encode() + b"\n\n")):
        world.raw.said = raw
        response = world.ask("raw", "tools/call", params={"name": "read_page", "arguments": {}})
        assert json.loads(response.text.removeprefix("data: ")) == said


def test_a_stream_of_a_session_replays_no_list(world: AnswersWorld) -> None:
    world.raw.said = events(b"data: " + WHOLE + b"\n\n")
    with world.http("raw", "triage") as http:
        response = http.get(world.url("raw"), headers={"accept": EVENTS})
    assert HIDDEN not in response.text
    assert "tag_page" not in response.text


# ---- what is no answer of a server


def test_a_denial_comes_as_it_was_written(world: AnswersWorld) -> None:
    """Guarded or not, it is the same: what Envoy answers itself is nobody's list."""
    asked: dict[str, Any] = {"params": {"name": HIDDEN, "arguments": {}}}
    guarded, plain = (world.ask(service, "tools/call", **asked) for service in ("raw", "open"))
    for response in (guarded, plain):
        assert (response.status_code, response.headers[REASON_HEADER]) == (200, Code.TOOL_UNKNOWN)
        assert response.json()["error"]["code"] == 403
    assert (
        guarded.json()["error"]["message"].replace("raw", "open").split("Decision")[0]
        == (plain.json()["error"]["message"].split("Decision")[0])
    )


def test_who_has_no_token_is_told_where_to_get_one(world: AnswersWorld) -> None:
    with httpx2.Client(verify=world.tls(), timeout=SECONDS, trust_env=False) as http:
        response = http.post(world.url("raw"), json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert response.status_code == httpx2.codes.UNAUTHORIZED
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.headers[REASON_HEADER] == Code.TOKEN_MISSING


def test_a_body_that_is_too_large_is_413_as_before(world: AnswersWorld) -> None:
    with world.http("raw") as http:
        response = http.post(world.url("raw"), content=b"x" * (1 << 20))
    assert response.status_code == httpx2.codes.CONTENT_TOO_LARGE


CLOSE: Final = b"host: x\r\nconnection: close\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /raw%2fmcp HTTP/1.1\r\n" + CLOSE + b"\r\n", 400),
        (b"GET /raw/mcp HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        (b"GET /raw/mcp HTTP/1.1\r\n" + CLOSE + b"a_b: 1\r\n\r\n", 400),
        (b"GET /raw/mcp HTTP/1.1\r\n" + CLOSE + b"a: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /nowhere HTTP/1.1\r\n" + CLOSE + b"\r\n", 404),
        (b"GET /raw/mcp HTTP/1.1\r\n" + CLOSE + b"upgrade: websocket\r\n\r\n", 401),
    ],
)
def test_what_envoy_cannot_read_it_answers_as_before(
    world: AnswersWorld, request_bytes: bytes, status: int
) -> None:
    """A reply that waited for Deputy would come too late: Envoy closes such a connection."""
    assert world.raw_request(request_bytes).startswith(b"HTTP/1.1 %d " % status)


def test_an_answer_of_a_server_that_says_it_is_ours_is_none(world: AnswersWorld) -> None:
    """What our denials look like is no secret; only Envoy knows who answered."""
    forged = ("x-deputy-reason: DPT-DENIED", "x-deputy-decision: 01JD0000000000000000000000")
    for status in ("200 OK", "403 Forbidden"):
        world.raw.said = answer(WHOLE, *forged, status=status)
        assert HIDDEN not in world.ask("raw", who="triage").text


def test_a_service_that_is_not_guarded_is_left_as_it_is(world: AnswersWorld) -> None:
    world.raw.said = answer(WHOLE, 'etag: "1"')
    response = world.ask("open", headers={"accept-encoding": "gzip"})
    assert (response.content, response.headers["etag"]) == (WHOLE, '"1"')
    assert response.headers["content-length"] == str(len(WHOLE))


SHORT: Final = answer(b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"drop_pages"}]}}')


def test_an_answer_that_is_no_list_keeps_its_bytes(world: AnswersWorld) -> None:
    body = SHORT.partition(b"\r\n\r\n")[2]
    world.raw.said = SHORT
    asked: dict[str, Any] = {"params": {"name": "read_page", "arguments": {}}}
    assert world.ask("raw", "tools/call", **asked).content == body


# ---- an Envoy that was told something else


def test_without_the_metadata_of_ext_authz_every_answer_is_refused() -> None:
    with answers_world(metadata_options={}) as world:
        world.raw.said = answer(WHOLE)
        response = world.ask("raw")
        assert (response.status_code, response.headers[REASON_HEADER]) == (503, Code.PASSAGE_MISSING)
        refused(response)


def test_without_its_attribute_what_envoy_says_itself_is_refused_too() -> None:
    """A denial cannot be told from a server's answer that looks like one."""
    with answers_world(response_attributes=[]) as world:
        response = world.ask("raw", "tools/call", params={"name": HIDDEN, "arguments": {}})
        assert (response.status_code, response.headers[REASON_HEADER]) == (503, Code.PASSAGE_MISSING)
        world.raw.said = answer(WHOLE)
        assert names(world.ask("raw")) == VISIBLE["resolver"]


@pytest.mark.parametrize("allowed", [True, False])
def test_an_envoy_that_shows_no_bodies_by_itself_passes_no_list(allowed: bool) -> None:
    """Whether it would do as it is asked cannot be known."""
    mode = {"request_header_mode": "SKIP", "response_header_mode": "SEND"}
    with answers_world(processing_mode=mode, allow_mode_override=allowed) as world:
        world.raw.said = answer(WHOLE)
        response = world.ask("raw")
        assert response.status_code == httpx2.codes.SERVICE_UNAVAILABLE
        refused(response)


def test_an_envoy_that_does_not_do_as_it_is_asked_guards_all_the_same() -> None:
    """It shows each chunk of each answer."""
    with answers_world(allow_mode_override=False) as world:
        world.raw.said = answer(WHOLE)
        assert names(world.ask("raw")) == VISIBLE["resolver"]
        world.raw.said = SHORT
        asked: dict[str, Any] = {"params": {"name": "read_page", "arguments": {}}}
        assert world.ask("raw", "tools/call", **asked).content == SHORT.partition(b"\r\n\r\n")[2]
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", **asked}
        with world.http("feed") as http, http.stream("POST", world.url("feed"), json=message) as response:
            chunks = response.iter_bytes()
            assert [next(chunks) for _ in range(3)]
            world.contain("resolver")
            with pytest.raises(httpx2.TransportError):
                list(chunks)


# ---- without Deputy


def test_without_deputy_there_is_no_list() -> None:
    """It ends between the call and its answer: the server was asked, and nobody hears what it says."""
    with answers_world() as world:
        world.raw.said = answer(WHOLE)
        assert names(world.ask("raw")) == VISIBLE["resolver"]
        world.raw.interval, world.raw.said = None, b""
        with world.http("raw") as http:
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            with http.stream("POST", world.url("raw"), json=message) as response:
                world.deputy.stop()
                with pytest.raises(httpx2.TransportError):
                    response.read()
        world.raw.said = answer(WHOLE)
        gone = world.ask("raw")
        assert gone.status_code == httpx2.codes.SERVICE_UNAVAILABLE
        assert b"tools" not in gone.content
