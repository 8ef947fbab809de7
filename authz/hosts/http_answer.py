"""An answer of HTTP/1.1 that is whole is written at once: head and body are one piece, and one record of TLS.

- The head waits for the first piece of the body, as ASGI asks for; uvicorn writes it by itself.
- Only an answer as ours nearly all are is written here: with its length, in headers that are known by name,
  without a control character in a value. uvicorn writes every other one, and says what is wrong with it.
"""

import re
from collections.abc import MutableMapping
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_LENGTH: Final = b"content-length"
_KNOWN: Final = frozenset({b"cache-control", b"content-type", b"retry-after", b"vary", _LENGTH})
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9110 section 6.4.1: what has no body, whatever the length says.
_BODILESS: Final = frozenset({204, 304})

Message = MutableMapping[str, Any]


class WholeAnswer:
    """What the application sends on one request of a connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        """Take uvicorn's side of it, which writes what is not written here."""
        self._cycle = cycle
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        """Take one message of ASGI."""
        cycle, start = self._cycle, self._start
        if message["type"] == "http.response.start" and not cycle.response_started:
            # The second one is that of an error: of the first nothing was written.
            self._start = message
            return
        if start is not None:
            self._start = None
            if self._is_written(start, message):
                return
            await RequestResponseCycle.send(cycle, start)  # type: ignore[arg-type]  # ASGI's, in its own type
        await RequestResponseCycle.send(cycle, message)  # type: ignore[arg-type]  # as above

    def _is_written(self, start: Message, message: Message) -> bool:
        """Write an answer, unless that is uvicorn's."""
        cycle = self._cycle
        body = message.get("body", b"")
        if (
            message["type"] != "http.response.body"
            or message.get("more_body")
            or cycle.disconnected
            or cycle.flow.write_paused
            or cycle.scope["method"] == "HEAD"
            or start["status"] in _BODILESS
        ):
            return False
        head = _head(cycle, start, len(body))
        if head is None:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(head + body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


def _head(cycle: RequestResponseCycle, start: Message, length: int) -> bytes | None:
    """Return the head of an answer, None where it is not one of ours."""
    given = start.get("headers", ())
    values = dict(given)
    if (
        len(values) != len(given)
        or not values.keys() <= _KNOWN
        or values.get(_LENGTH) != b"%d" % length
        or _CONTROL.search(b"".join(values.values()))
    ):
        return None
    fields = [b"%b: %b\r\n" % field for field in (*cycle.default_headers, *given)]
    end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
    return b"".join([STATUS_LINE[start["status"]], *fields, end])
