"""The client of the conformance runner, and servers that are hostile to it."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from authz.conformance.client import HttpServer
from authz.conformance.login import SecretLogin
from authz.conformance.message import Answer, Request
from tests.broker_fakes import serving


def ask(hostile: Callable[[Scope, Receive, Send], Awaitable[None]]) -> Answer:
    async def scenario() -> Answer:
        client = HttpServer({None: ssl.create_default_context()}, timeout_seconds=0.5)
        async with serving(hostile) as base:
            return await client.send(f"{base}/token", Request((("a", "b"),), SecretLogin("a", "b")))

    return asyncio.run(scenario())


async def respond(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def test_a_redirect_is_not_followed() -> None:
    asked = []

    async def redirect(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await respond(send, 307, b"", (b"location", b"/elsewhere"))

    assert ask(redirect).got == "307 without an OAuth error"
    assert asked == ["/token"]


def test_an_answer_of_5_mb_is_not_read() -> None:
    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, b"a" * 5_000_000)

    assert ask(flood).problem == "long"


def test_a_server_that_hangs_is_late() -> None:
    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    assert ask(hang).problem == "late"


def test_a_compressed_answer_is_not_expanded() -> None:
    async def bomb(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, b"\x1f\x8b\x08", (b"content-encoding", b"gzip"))

    assert ask(bomb).members == {}
