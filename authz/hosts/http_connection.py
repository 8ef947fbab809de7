"""One connection of HTTP/1.1: uvicorn's reading by llhttp, and what llhttp leaves to its caller.

- A request has one reading. A head is refused with 400 if two servers could read it in two ways: another
  version than 1.0 and 1.1, not exactly one `Host`, a `Transfer-Encoding` that is not `chunked` alone or that
  stands in HTTP/1.0, a target that is not a path. llhttp refuses the rest: two lengths, a length beside
  `Transfer-Encoding`, a bare line feed, a folded header, space around a header's name.
- What is no body is bounded by `head_bytes`, in whatever pieces it comes: the head (431, or 400 if it has no
  end), then chunk sizes and trailers (400). Trailers are not read.
- Requests may follow each other without waiting; more than a few of them end the connection.
- A request to change the protocol is answered as any other, and is the last one; with a body it is refused,
  because llhttp takes that for the other protocol.
- Every request has a deadline, from its first byte to its last and the answer's.
- An error in one request is never written where the answer to the one before it is still to come.
- An answer that is whole is written at once (authz/hosts/http_answer.py).
"""

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from authz.hosts.http_answer import WholeAnswer
from identity.peer_chain import presented_chain

MAX_WAITING: Final = 8

# The origin form without a fragment (RFC 9112 section 3.2.1); another form names a host of its own.
_TARGET: Final = re.compile(rb"/[!\"$-~]*")
# The headers that say where a request ends, for whom it is, and whether its body waits.
_FRAMING: Final = frozenset({b"host", b"transfer-encoding", b"content-length", b"expect"})
_VERSIONS: Final = frozenset({"1.0", "1.1"})


class _RefusedError(Exception):
    """A head that has more than one reading; the parser ends at it."""


class Connection(HttpToolsProtocol):
    """A connection, with the certificates that its peer presented and a deadline for each request."""

    def __init__(
        self, config: Config, server_state: ServerState, *, head_bytes: int, request_seconds: float
    ) -> None:
        super().__init__(config, server_state, {})
        self._head_bytes, self._deadline_seconds = head_bytes, request_seconds
        self._deadline: float | None = None
        self._is_idle = False
        self._timer: asyncio.TimerHandle | None = None
        self._chain: tuple[bytes, ...] = ()
        self._application = self.app
        # What is being read: a head, and the message that it belongs to.
        self._in_head = self._in_message = self._began = False
        self._is_last = self._is_over = False
        # Bytes of the message that are no body: of its head, and all that came since its first piece.
        self._head_size = self._framing = self._body = 0
        self._hosts = 0
        self._has_length = False
        self._codings: list[bytes] = []

    # ---------------------------------------------------------------- asyncio

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Take the certificates of the peer."""
        super().connection_made(transport)
        self._chain = _chain_of(transport)
        self._arm(self._deadline_seconds)

    def data_received(self, data: bytes) -> None:
        """Read a piece."""
        if self._is_over:
            return
        if self._deadline is None or self._is_idle:
            self._arm(self._deadline_seconds)
        self.server_state.default_headers = _date(int(time.time()))
        self._began, self._body = False, 0
        super().data_received(data)
        # A piece in which a message begins is as long as the socket is read at once, at most.
        self._framing = 0 if self._began else self._framing + len(data) - self._body
        if self._in_message and self._framing > self._head_bytes and not self.transport.is_closing():
            self.send_400_response("Too much around the body.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is there to be waited for."""
        self._disarm()
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    # ---------------------------------------------------------------- what the parser finds

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._in_head = self._in_message = self._began = True
        self._head_size = self._hosts = 0
        self._has_length = False
        self._codings.clear()
        self.scope["extensions"] = {"tls": {"client_chain_der": self._chain}}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        if not self._in_head:
            return  # a trailer
        self._head_size += len(name) + len(value)
        name, value = name.lower(), value.strip(b" \t")
        self.headers.append((name, value))
        if name in _FRAMING:
            self._take(name, value)

    def _take(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._codings.append(value.lower())
        elif name == b"content-length":
            self._has_length = bool(value.strip(b"0"))
        else:
            self.expect_100_continue |= value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """Take a whole head; raises if it has two readings."""
        self._check_head()
        self._in_head = False
        is_short = self._head_size + len(self.url) <= self._head_bytes
        self.app = self._application if is_short else _too_long
        super().on_headers_complete()
        # The task that answers begins after this, and takes what stands here then.
        self.cycle.send = WholeAnswer(self.cycle).send  # type: ignore[assignment]  # messages are ours
        if self.parser.should_upgrade():
            self._is_last, self.cycle.keep_alive = True, False

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._in_message, self._is_over = False, self._is_last
        super().on_message_complete()

    def _check_head(self) -> None:
        version = self.parser.get_http_version()
        if version not in _VERSIONS or not _TARGET.fullmatch(self.url):
            raise _RefusedError
        if self._hosts > 1 or (version == "1.1" and not self._hosts):
            raise _RefusedError
        if self._codings and (version != "1.1" or self._codings != [b"chunked"]):
            raise _RefusedError
        if self.parser.should_upgrade() and (self._has_length or self._codings):
            raise _RefusedError
        if len(self.pipeline) >= MAX_WAITING:
            raise _RefusedError

    # ---------------------------------------------------------------- answers

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, and end the connection."""
        self._is_over = True
        is_due = bool(self.cycle) and not self.cycle.response_complete  # there is none before the first head
        if is_due:
            # What the application answers from now on would be a second answer.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if is_due and (self._in_head or self.pipeline or self.cycle.response_started):
            # Whoever waits for the answer before would take this one for it.
            self.transport.abort()
        else:
            super().send_400_response(msg)

    def on_response_complete(self) -> None:
        """Go on, as uvicorn does, but with our deadlines: whoever is idle has one, too."""
        self._disarm()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        # A client that still sends the body of an answered request, or the next one, gets one more deadline.
        is_busy = self._in_message or not self.cycle.response_complete
        self._arm(self._deadline_seconds if is_busy else self.timeout_keep_alive, is_idle=not is_busy)

    def _arm(self, seconds: float, *, is_idle: bool = False) -> None:
        # One timer for many requests: setting it anew takes longer than looking, each time it rings, whether
        # the deadline was moved meanwhile.
        self._is_idle = is_idle
        self._deadline = self.loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._ring)

    def _disarm(self) -> None:
        self._deadline = None

    def _ring(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._deadline > self.loop.time():
            self._timer = self.loop.call_at(self._deadline, self._ring)
        elif self._is_idle:
            self.transport.close()
        else:
            self.transport.abort()


async def _too_long(
    _scope: object, _receive: object, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]
) -> None:
    await send({"type": "http.response.start", "status": 431, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@lru_cache(maxsize=2)  # the same for a second
def _date(seconds: int) -> list[tuple[bytes, bytes]]:
    return [(b"date", formatdate(seconds, usegmt=True).encode())]


def _chain_of(transport: asyncio.Transport) -> tuple[bytes, ...]:
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None or tls.context.verify_mode is ssl.CERT_NONE:
        return ()
    return presented_chain(tls)
