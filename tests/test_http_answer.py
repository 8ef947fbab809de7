"""Answers over HTTP: what is whole is one piece; what is not ours to write is as uvicorn writes it."""

import asyncio
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest

from authz.hosts import http_connection
from authz.hosts.http import Limits, Receive, Scope, Send, read_body
from authz.hosts.http_answer import WholeAnswer
from tests.broker_fakes import serving

HELD = Limits(request_seconds=20, idle_seconds=20)
JSON = (b"content-type", b"application/json")
Fields = Iterable[tuple[bytes, bytes]]


def start(headers: Fields, status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", str(size).encode()


class Talk:
    """What an application says on each request, and the pieces that were written by us."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = messages
        self.fails_after: int | None = None

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, 1 << 16)
        for number, message in enumerate(self.messages):
            if number == self.fails_after:
                raise ValueError("a fault of the application")
            await send(message)

    def asked(self, *requests: bytes) -> bytes:
        async def scenario() -> bytes:
            async with serving(self, HELD) as base:
                return await asyncio.to_thread(talk, base, b"".join(requests))

        return asyncio.run(scenario())


def talk(base: str, data: bytes) -> bytes:
    host, _, port = base.removeprefix("http://").partition(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    return received


def request(method: bytes = b"GET", *, last: bool = True) -> bytes:
    end = b"connection: close\r\n" if last else b""
    return method + b" / HTTP/1.1\r\nhost: x\r\n" + end + b"\r\n"


def split(answer: bytes) -> tuple[bytes, list[bytes], bytes]:
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    return first, [field for field in fields if not field.startswith(b"date: ")], rest


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Say of each answer whether it was written here."""
    written: list[bool] = []

    class Watched(WholeAnswer):
        def _is_written(self, start: Any, message: Any) -> bool:
            written.append(super()._is_written(start, message))
            return written[-1]

    monkeypatch.setattr(http_connection, "WholeAnswer", Watched)
    return written


def test_a_whole_answer_is_written_at_once(ours: list[bool]) -> None:
    app = Talk(start([JSON, length(2)]), body(b"{}"))
    first, fields, rest = split(app.asked(request()))
    assert first == b"HTTP/1.1 200 OK"
    assert fields == [b"content-type: application/json", b"content-length: 2", b"connection: close"]
    assert rest == b"{}"
    assert ours == [True]


def test_a_connection_goes_on_behind_one_and_answers_keep_their_order(ours: list[bool]) -> None:
    app = Talk(start([length(1)]), body(b"x"))
    received = app.asked(request(last=False), request(last=False), request())
    assert received.count(b"HTTP/1.1 200 OK\r\ndate: ") == 3
    assert received.count(b"connection: close") == 1
    assert received.endswith(b"\r\n\r\nx")
    assert ours == [True] * 3


@pytest.mark.parametrize(
    "headers",
    [
        [JSON],
        [length(3)],
        [length(1), length(2)],
        [length(2), (b"x-other", b"1")],
        [length(2), (b"connection", b"close")],
        [length(2), (b"transfer-encoding", b"chunked")],
        [(b"Content-Length", b"2")],
        [length(2), (b"vary", b"a\r\nset-cookie: b")],
        [length(2), (b"vary", b"a\x00")],
    ],
    ids=["none", "longer", "two", "unknown", "close", "chunked", "upper case", "two lines", "NUL"],
)
def test_what_is_not_ours_to_write_is_as_before(
    headers: list[tuple[bytes, bytes]], ours: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong length or a header with a line of its own is no answer, and uvicorn says so."""
    app = Talk(start(headers), body(b"{}"))
    mixed = app.asked(request())
    assert ours in ([False], [False, True], [False, False])
    monkeypatch.setattr(WholeAnswer, "_is_written", lambda *_: False)
    assert split(mixed) == split(app.asked(request()))
    assert b"set-cookie" not in mixed


@pytest.mark.parametrize("status", [204, 304])
def test_what_has_no_body_is_as_before(status: int, ours: list[bool]) -> None:
    first, _, rest = split(Talk(start([], status), body(b"")).asked(request()))
    assert (first.split()[1], rest) == (str(status).encode(), b"")
    assert ours == [False]


def test_a_head_alone_has_its_length_and_no_body(ours: list[bool]) -> None:
    _, fields, rest = split(Talk(start([length(2)]), body(b"{}")).asked(request(b"HEAD")))
    assert b"content-length: 2" in fields
    assert rest == b""
    assert ours == [False]


def test_an_answer_in_pieces_comes_whole(ours: list[bool]) -> None:
    app = Talk(start([length(4)]), body(b"{}", more=True), body(b"[]"))
    assert split(app.asked(request()))[2] == b"{}[]"
    assert ours == [False]


def test_a_fault_before_the_body_is_one_answer_of_500(ours: list[bool]) -> None:
    """Of the head that waited nothing was written."""
    app = Talk(start([JSON, length(2)]), body(b"{}"))
    app.fails_after = 1
    received = app.asked(request())
    assert received.startswith(b"HTTP/1.1 500 ")
    assert received.count(b"HTTP/1.1") == 1
    assert b"fault" not in received


def test_two_bodies_are_not_two_answers(ours: list[bool]) -> None:
    app = Talk(start([length(2)]), body(b"{}"), body(b"{}"))
    received = app.asked(request())
    assert received.count(b"HTTP/1.1") == 1
    assert split(received)[2] == b"{}"
    assert ours == [True]
