"""One connection of a private socket: gRPC from a stranger, bounded before it is believed.

- A message of more than 64 KiB is refused by the length that it announces, before its bytes are kept; without
  that, the library would keep up to 4 GiB of it.
- Who does not read is not read from: answers that nobody takes cannot pile up. What comes faster than its
  user's turn of reading (identity/socket_pace.py) waits in the kernel.
- Frames that break the protocol end the connection, and nothing else. No traceback is logged, and no text of
  the stranger's.
- Streams at a time, streams that are given up at once, header bytes, the time to the first request, the time
  without one and the time to take the last bytes are bounded.
- A connection has one process at its other end; who it is, is asked of the kernel when it connects.
"""

import asyncio
import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from grpclib import const, protocol, server
from grpclib.config import Configuration
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import _DispatchServerEvents
from grpclib.exceptions import GRPCError
from grpclib.metadata import decode_metadata
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.events import UnknownFrameReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes

from identity.errors import AttestationError
from identity.peer_process import PeerProcess
from identity.socket_log import SeldomLog

_LOG = logging.getLogger(__name__)
_BROKEN = SeldomLog(_LOG)

# As small as HTTP/2 lets it be: what a stream sends before anybody reads it.
_STREAM_WINDOW: Final = 64 * 1024
_HEADER_BYTES: Final = 16 * 1024
# What is read in one turn: some thirty frames at the most. And what may wait for its turn before we stop
# asking the kernel for more, which then gives as much again at once.
_PIECE: Final = 512
_INBOX: Final = 8 * 1024


@dataclass(frozen=True, slots=True)
class SocketLimits:
    """Bounds on what strangers can size; the files that we may open bound the connections, too."""

    connections: int = 4096
    connections_per_uid: int = 3072
    streams: int = 100
    calls: int = 8192
    calls_per_uid: int = 4096
    message_bytes: int = 64 * 1024
    request_seconds: float = 10.0
    idle_seconds: float = 300.0
    resets: int = 200


class Gate(Protocol):
    """Who counts the connections and their calls."""

    @property
    def limits(self) -> SocketLimits:
        """The bounds of a connection."""

    def enter(self, connection: "AttestedConnection") -> bool:
        """Admit a connection, or refuse it."""

    def leave(self, connection: "AttestedConnection") -> None:
        """Forget a connection."""

    def come(self, connection: "AttestedConnection") -> None:
        """Let a connection take up what came, when its user has a turn."""

    def begin(self, connection: "AttestedConnection") -> bool:
        """Admit a call, or refuse it."""

    def end(self, connection: "AttestedConnection") -> None:
        """Forget a call."""


class Codec(ProtoCodec):
    """Messages, or what they are serialized to already."""

    def encode(self, message: Any, message_type: Any) -> bytes:  # noqa: ANN401  # the library's own types
        """Return the bytes of a message."""
        return message if isinstance(message, bytes) else super().encode(message, message_type)


class BoundedBuffer(protocol.Buffer):
    """What a client sent on one stream and nobody read yet."""

    def __init__(self, ack: Callable[[int], None], limits: SocketLimits) -> None:
        """Wait for the first message so long, and for no message that is larger."""
        super().__init__(ack)
        self._largest = limits.message_bytes
        self._deadline = asyncio.get_running_loop().time() + limits.request_seconds
        self._reads = 0

    def add(self, data: bytes, ack_size: int) -> None:
        """Keep a frame; an empty one would cost the sender nothing, and to the library it means the end."""
        if ack_size:
            super().add(data, ack_size)

    async def read(self, size: int) -> bytes:
        """Return the next bytes, of a message's prefix or of a message.

        Raises:
            GRPCError: if the message is too large, cut off, or the first one does not come.
        """
        if size > self._largest:
            raise GRPCError(
                const.Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes; {self._largest} are allowed"
            )
        self._reads += 1
        # The first message is the one that the caller owes us; further ones of a stream come when they come.
        owed = self._deadline if self._reads <= 2 else None
        try:
            async with asyncio.timeout_at(owed):
                return await super().read(size)
        except TimeoutError as error:
            raise GRPCError(const.Status.DEADLINE_EXCEEDED, "no request came") from error
        except AssertionError as error:
            raise GRPCError(const.Status.INVALID_ARGUMENT, "a message that is cut off") from error


class _Calls(server.Handler):
    """The calls on one connection."""

    def __init__(
        self, mapping: Mapping[str, const.Handler], gate: Gate, connection: "AttestedConnection"
    ) -> None:
        super().__init__(dict(mapping), Codec(), None, _DispatchServerEvents())
        self._gate = gate
        self._limits = gate.limits
        self._connection = connection
        self.resets = 0
        self.has_called = False
        self.running = 0
        self.last = self.loop.time()

    def accept(self, stream: protocol.Stream, headers: Any, release_stream: Callable[[], Any]) -> None:  # noqa: ANN401  # as the library has it
        """Start a call, if its headers can be read and there is room for it."""
        if self.running >= self._limits.streams:
            _refuse(stream, release_stream, ErrorCodes.REFUSED_STREAM)
            return
        try:
            decode_metadata(headers)
        except ValueError:
            _refuse(stream, release_stream, ErrorCodes.PROTOCOL_ERROR)
            return
        if not self._gate.begin(self._connection):
            _refuse(stream, release_stream, ErrorCodes.REFUSED_STREAM)
            return
        self.has_called = True
        self.running += 1
        stream.buffer = BoundedBuffer(stream.buffer._ack_callback, self._limits)  # noqa: SLF001  # the library has no other place for a bound
        super().accept(stream, headers, release_stream)
        self._tasks[stream].add_done_callback(self._end)

    def cancel(self, stream: protocol.Stream) -> None:
        """Stop a call that the client gave up."""
        self.resets += 1
        if stream in self._tasks:
            super().cancel(stream)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._gate.end(self._connection)
        self.running -= 1
        self.last = self.loop.time()
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("a call on a private socket failed: %s", type(error).__name__)


class AttestedConnection(protocol.H2Protocol):
    """HTTP/2 on a Unix socket, from one process."""

    def __init__(self, mapping: Mapping[str, const.Handler], gate: Gate, *, hashed: Container[int]) -> None:
        """Serve the methods of `mapping`; `hashed` are the users whose executables are asked for."""
        self._calls = _Calls(mapping, gate, self)
        super().__init__(self._calls, _CONFIGURATION, _H2)
        self._gate = gate
        self._hashed = hashed
        self._transport: asyncio.Transport | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._is_open = False
        self._is_heard = True
        self._inbox = bytearray()
        self._process: PeerProcess | AttestationError = AttestationError("a caller that did not connect")

    @property
    def uid(self) -> int | None:
        """The user that connected."""
        return self._process.uid if isinstance(self._process, PeerProcess) else None

    @property
    def process(self) -> PeerProcess:
        """The process that connected.

        Raises:
            AttestationError: if it could not be seen when it did.
        """
        if isinstance(self._process, AttestationError):
            raise AttestationError(*self._process.args)
        return self._process

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask the kernel who it is; an answer waits for the first call, so that it can be one of gRPC."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("not a stream transport")
        self._transport = transport
        transport.max_size = _INBOX  # type: ignore[attr-defined]  # of asyncio's own transports: 256 KiB else
        try:
            self._process = PeerProcess.attest(transport.get_extra_info("socket"), hashed=self._hashed)
        except AttestationError as error:
            self._process = error
        if not self._gate.enter(self):
            self._let_go()
            transport.abort()
            return
        self._is_open = True
        super().connection_made(transport)
        # An unknown frame is ignored (RFC 9113 section 5.5); the library would raise.
        self.processor.processors[UnknownFrameReceived] = lambda _: None
        settings: dict[SettingCodes | int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: self._gate.limits.streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: _HEADER_BYTES,
        }
        self.connection._connection.update_settings(settings)  # noqa: SLF001  # the library has no setting for it
        self.connection.flush()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Keep what came until there is a turn to take it up."""
        if not self._is_open:
            return
        if not self._inbox:
            self._gate.come(self)
        self._inbox += data
        self._steer()

    def take(self) -> bool:
        """Take up some of what came, and say whether there is more."""
        piece = bytes(self._inbox[:_PIECE])
        del self._inbox[:_PIECE]
        if self._is_open and not self.connection.is_closing():
            self._take(piece)
        if not self._is_open or self.connection.is_closing():
            self._inbox.clear()
        self._steer()
        return bool(self._inbox)

    def _take(self, data: bytes) -> None:
        """Take frames; whatever is wrong with them ends this connection and no other."""
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001  # a stranger's bytes: no failure in reading them is ours to spread
            _BROKEN.warning("frames that cannot be read: %s", type(error).__name__)
            self._abort()
            return
        if self._calls.resets > self._gate.limits.resets:
            _BROKEN.warning("a caller gave up more than %d calls at once", self._gate.limits.resets)
            self._abort()

    def pause_writing(self) -> None:
        """Stop reading from who does not read."""
        super().pause_writing()
        self._is_heard = False
        self._steer()

    def resume_writing(self) -> None:
        """Read again."""
        super().resume_writing()
        self._is_heard = True
        self._steer()

    def _steer(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._is_heard and len(self._inbox) < _INBOX:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the calls and let go of the process."""
        if self._is_open:
            self._is_open = False
            self._gate.leave(self)
            super().connection_lost(exc)
        self._let_go()

    def close(self) -> None:
        """Say goodbye and close: a client that wants more connects again."""
        if not self._is_open or self.connection.is_closing():
            return
        try:
            self.connection._connection.close_connection()  # noqa: SLF001  # the library never sends GOAWAY
            self.connection.flush()
        except ProtocolError:
            _LOG.debug("a connection that is over already")
        self.processor.close("the server closed the connection")
        # Who does not read what is left to send would keep it open for ever.
        if self._is_open:
            if self._tick is not None:
                self._tick.cancel()
            self._tick = self._calls.loop.call_later(self._gate.limits.request_seconds, self._abort)

    async def wait_closed(self) -> None:
        """Wait for the calls to end."""
        await self._calls.wait_closed()

    def _watch(self) -> None:
        """Close who asked nothing for too long; forget the calls that were given up before."""
        loop, limits = self._calls.loop, self._gate.limits
        longest = limits.idle_seconds if self._calls.has_called else limits.request_seconds
        if not self._calls.running and loop.time() - self._calls.last >= longest:
            self.close()
            return
        self._calls.resets = 0
        self._tick = loop.call_later(limits.request_seconds, self._watch)

    def _abort(self) -> None:
        self.processor.close("a connection that breaks the protocol")
        if self._transport is not None:
            self._transport.abort()

    def _let_go(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
        if isinstance(self._process, PeerProcess):
            self._process.close()


def connection_of(stream: server.Stream[Any, Any]) -> AttestedConnection:
    """Return the connection that a call came on.

    Raises:
        AttestationError: if it is none of ours.
    """
    made = stream.peer._transport.get_protocol()  # noqa: SLF001  # the library shows the address only
    if not isinstance(made, AttestedConnection):
        raise AttestationError("a call that came on no private socket")
    return made


def keep_quiet(record: logging.LogRecord) -> bool:
    """Drop what the library logs of strangers: tracebacks, and a line for each call that ends early."""
    return record.exc_info is None and record.levelno >= logging.WARNING


def is_news(record: logging.LogRecord) -> bool:
    """Drop the line of asyncio for each answer to who has gone: a caller can cause a hundred a connection."""
    return record.msg != "socket.send() raised exception."


def _refuse(stream: protocol.Stream, release_stream: Callable[[], Any], code: ErrorCodes) -> None:
    stream.reset_nowait(code)
    release_stream()


_CONFIGURATION: Final = Configuration(
    http2_connection_window_size=4 * _STREAM_WINDOW, http2_stream_window_size=_STREAM_WINDOW
).__for_server__()
_H2: Final = H2Configuration(
    client_side=False,
    header_encoding="ascii",
    validate_inbound_headers=True,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
