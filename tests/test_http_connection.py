"""One connection of HTTP: each request has one reading, and takes no more than it may."""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz.hosts.http import Limits, Receive, Scope, Send, read_body
from tests.broker_fakes import serving

POST = b"POST / HTTP/1.1\r\nhost: x\r\n"
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
END = b"GET /end HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
HELD = Limits(request_seconds=20, idle_seconds=20)


async def tell(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what was read of the request."""
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "raw": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": (await read_body(receive, 1 << 20)).decode("latin-1"),
    }
    body = json.dumps(seen).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def talk(base: str, *pieces: bytes) -> bytes:
    """Send pieces, each in a segment of its own, and read until the other side ends it."""
    host, _, port = base.removeprefix("http://").partition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionResetError, BrokenPipeError):
            for piece in pieces:
                connection.sendall(piece)
            while chunk := connection.recv(65536):
                received += chunk
    return received


def ask(*pieces: bytes, limits: Limits = HELD) -> bytes:
    """Send pieces to a host of its own."""

    async def scenario() -> bytes:
        async with serving(tell, limits) as base:
            return await asyncio.to_thread(talk, base, *pieces)

    return asyncio.run(scenario())


def answers(received: bytes) -> list[tuple[int, Any]]:
    """Split what was received into answers; each of `tell` has a length."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = int(fields.get(b"content-length", b"0"))
        status = int(head.split(b" ")[1])
        found.append((status, json.loads(rest[:length]) if status == 200 else None))
        received = rest[length:]
    return found


# ---------------------------------------------------------------- one reading

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        POST + b"content-length: 4\r\ncontent-length: 5\r\n\r\nbody",
        POST + b"content-length: 4\r\ncontent-length: 4\r\n\r\nbody",
        POST + b"content-length: 4, 4\r\n\r\nbody",
        POST + b"content-length: +4\r\n\r\nbody",
        POST + b"content-length: -4\r\n\r\nbody",
        POST + b"content-length: 0x4\r\n\r\nbody",
        POST + b"content-length: 4 4\r\n\r\nbody",
        POST + b"content-length:\r\n\r\nbody",
        POST + b"content-length: 99999999999999999999999\r\n\r\nbody",
        POST + b"content-length : 4\r\n\r\nbody",
        POST + b" content-length: 4\r\n\r\nbody",
        POST + b"x: y\r\n content-length: 4\r\n\r\n",
        POST + b"x: y\r\n\tz\r\n\r\n",
        POST + b"x:\r\n z\r\n\r\n",
        POST + b"transfer-encoding: chunked \r\n chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: identity\r\n\r\nbody",
        POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        POST + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n',
        b"POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nhost: x\n\n",
        b"GET / HTTP/1.1\r\nhost: x\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\n",
        b"GET / HTTP/1.1\r\nhost: x\rx: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: y\x00z\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: y\x01z\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx\x00: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx y: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n: z\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nHost: x\r\n\r\n",
        b"GET / HTTP/0.9\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.2\r\nhost: x\r\n\r\n",
        b"GET / HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        POST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 04\r\n\r\nbody",
        POST + b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /#token HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xe9 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET token HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET http://elsewhere.example/token HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"NONSENSE / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused_and_nothing_behind_it_is_read(
    sent: bytes,
) -> None:
    received = ask(sent + SMUGGLED)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"smuggled" not in received


@pytest.mark.parametrize(
    "chunks",
    [
        b"4\nbody\r\n0\r\n\r\n",
        b"4\r\nbody\n0\r\n\r\n",
        b"4\r\nbodyX\r\n0\r\n\r\n",
        b"4\r\nbody0\r\n\r\n",
        b"+4\r\nbody\r\n0\r\n\r\n",
        b"0x4\r\nbody\r\n0\r\n\r\n",
        b"-4\r\nbody\r\n0\r\n\r\n",
        b" 4\r\nbody\r\n0\r\n\r\n",
        b"4 \r\nbody\r\n0\r\n\r\n",
        b"4;a\nb\r\nbody\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nbody\r\n0\r\n\r\n",
        b"\r\nbody\r\n0\r\n\r\n",
        b"g\r\nbody\r\n0\r\n\r\n",
        b"4\r\nbody\r\n0\r\nx y: z\r\n\r\n",
        b"4\r\nbody\r\n0\r\nx: y\n\r\n",
    ],
)
def test_chunks_have_one_reading(chunks: bytes) -> None:
    received = ask(POST + b"transfer-encoding: chunked\r\n\r\n" + chunks + SMUGGLED)

    assert not received or received.startswith(b"HTTP/1.1 400 ")
    assert b"smuggled" not in received


def test_chunks_are_joined_and_neither_their_extensions_nor_trailers_are_headers() -> None:
    chunks = b"4;a=b\r\nbody\r\nA;c\r\n-continues\r\n0\r\nauthorization: Bearer x\r\nhost: y\r\n\r\n"
    head = b"POST /p%C3%A9?q=%20 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nX:  a b \t\r\n\r\n"
    expected = {
        "method": "POST",
        "path": "/p\u00e9",
        "raw": "/p%C3%A9",
        "query": "q=%20",
        "headers": [["host", "x"], ["transfer-encoding", "Chunked"], ["x", "a b"]],
        "body": "body-continues",
    }

    whole = answers(ask(head + chunks + END))
    in_bytes = answers(ask(*[bytes([byte]) for byte in head + chunks], END))

    assert whole[0] == in_bytes[0] == (200, expected)
    assert whole[1][1]["path"] == in_bytes[1][1]["path"] == "/end"


@pytest.mark.parametrize("target", [b"/", b"//elsewhere.example/token", b"/a?b?c/d", b"/a?", b"/%2e%2e/;x=y"])
def test_a_target_is_taken_as_it_was_sent(target: bytes) -> None:
    seen = answers(ask(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))[0][1]

    path, _, query = target.partition(b"?")
    assert (seen["raw"], seen["query"]) == (path.decode(), query.decode())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from([*map(bytes, [[i] for i in range(256)]), b"\r\n", GET, b"host: x\r\n", b"0\r\n"])
    )
)
def test_whatever_is_sent_the_host_answers_or_ends_and_serves_the_next(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        async with serving(tell, Limits(request_seconds=0.05, idle_seconds=0)) as base:
            await asyncio.to_thread(talk, base, b"".join(pieces))
            assert answers(await asyncio.to_thread(talk, base, END))[0][0] == 200

    asyncio.run(scenario())


# ---------------------------------------------------------------- several requests


def test_requests_that_follow_each_other_without_waiting_are_answered_in_their_order() -> None:
    paths = [b"/%d" % number for number in range(6)]
    sent = b"".join(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n" for path in paths)

    assert [seen["raw"].encode() for _, seen in answers(ask(sent + END))] == [*paths, b"/end"]


def test_more_requests_than_may_wait_end_the_connection() -> None:
    assert len(answers(ask(GET * 5000 + END))) < 20


def test_a_refusal_never_takes_the_place_of_an_answer_that_is_still_to_come() -> None:
    """Whoever shares a connection between people would give one of them the answer of the other."""
    release = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await release.wait()
        await tell(scope, receive, send)

    async def scenario() -> bytes:
        async with serving(waits, HELD) as base:
            asked = asyncio.create_task(asyncio.to_thread(talk, base, GET + b"garbage\r\n\r\n"))
            received = await asked
            release.set()
            return received

    assert asyncio.run(scenario()) == b""


def test_a_request_that_went_wrong_on_its_way_has_one_answer() -> None:
    """The application learns that nobody waits any more, and what it says all the same is not sent."""
    heard: list[str] = []

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"late", "more_body": False})

    async def scenario() -> bytes:
        async with serving(stubborn, HELD) as base:
            sent = POST + b"transfer-encoding: chunked\r\n\r\n4\r\nbody\r\ngarbage\r\n"
            return await asyncio.to_thread(talk, base, sent)

    received = asyncio.run(scenario())
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    assert heard[-1] == "http.disconnect"


def test_nothing_is_read_behind_a_request_that_says_it_is_the_last() -> None:
    assert [seen["path"] for _, seen in answers(ask(END + SMUGGLED))] == ["/end"]


@pytest.mark.parametrize("length", [b"", b"content-length: 0\r\n"])
def test_a_protocol_is_not_changed_and_the_connection_ends_with_the_answer(length: bytes) -> None:
    head = b"POST /up HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n" + length + b"\r\n"
    for pieces in ([head + SMUGGLED], [head, SMUGGLED]):
        assert [(status, seen["path"]) for status, seen in answers(ask(*pieces))] == [(200, "/up")]


def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    received = ask(
        POST + b"expect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n",
        b"body",
    )

    assert answers(received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))[0][1]["body"] == "body"


def test_http_1_0_needs_no_host_and_ends_with_its_answer() -> None:
    assert [status for status, _ in answers(ask(b"GET / HTTP/1.0\r\n\r\n" + GET))] == [200]


# ---------------------------------------------------------------- limits


def _trickled(prefix: bytes, filler: Callable[[int], bytes]) -> list[bytes]:
    return [prefix, *(filler(number) for number in range(2000))]


@pytest.mark.parametrize(
    "pieces",
    [
        _trickled(b"GET /", lambda _: b"a" * 1000),
        _trickled(b"GET / HTTP/1.1\r\nhost: x\r\nx: ", lambda _: b"a" * 1000),
        _trickled(b"GET / HTTP/1.1\r\nhost: x\r\n", lambda _: b"a" * 1000),
        _trickled(b"GET / HTTP/1.1\r\nhost: x\r\n", lambda number: b"x%d: %s\r\n" % (number, b"a" * 1000)),
        _trickled(POST + b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", lambda _: b"a" * 1000),
        _trickled(
            POST + b"transfer-encoding: chunked\r\n\r\n0\r\n",
            lambda number: b"x%d: %s\r\n" % (number, b"a" * 1000),
        ),
        _trickled(POST + b"transfer-encoding: chunked\r\n\r\n4;", lambda _: b"a" * 1000),
    ],
    ids=["target", "value", "name", "headers", "trailer", "trailers", "chunk extension"],
)
def test_what_is_no_body_is_bounded_in_whatever_pieces_it_comes(pieces: list[bytes]) -> None:
    """Two megabytes of each, with the deadline far away: it is the size that ends it."""

    async def scenario() -> bytes:
        async with serving(tell, HELD) as base:
            host, _, port = base.removeprefix("http://").partition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                    if reader.at_eof():
                        break
            received = b""
            with suppress(ConnectionError):
                received = await reader.read()
            writer.close()
            return received

    received = asyncio.run(scenario())

    assert not received or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert b"HTTP/1.1 200 " not in received


def test_a_body_in_small_chunks_is_read() -> None:
    chunks = b"".join(b"40\r\n" + b"a" * 64 + b"\r\n" for _ in range(1000))
    head = POST + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"

    assert len(answers(ask(head + chunks + b"0\r\n\r\n"))[0][1]["body"]) == 64_000
