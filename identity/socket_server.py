"""gRPC on private Unix sockets, where each caller is a process that the kernel names.

- A socket has its own services, and with them health and reflection; `peer_of` says who is calling.
- A failure of a service reaches the caller as a status and a sentence of ours: attestation that is unsure
  and an identity that is not the caller's as PermissionDenied, what cannot be issued now as Unavailable, a
  message that cannot be read as InvalidArgument, a compressed one as Unimplemented. The log gets the kind of
  failure, never its traceback.
- Connections and calls are bounded in all and for each user, over all sockets together. Connections leave
  half of the files for the rest of the process, and no user has all of them, however few there are.
- A socket that is closed is gone from its directory, if it still is ours.
"""

import asyncio
import contextlib
import functools
import logging
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream
from h2.exceptions import ProtocolError

from identity import socket_health, socket_reflection
from identity.entitlement import Changes, Peer
from identity.errors import AttestationError, IssuanceUnavailableError, NotEntitledError, SocketError
from identity.feed import Feed
from identity.socket_connection import (
    AttestedConnection,
    SocketLimits,
    connection_of,
    is_news,
    keep_quiet,
)
from identity.socket_log import SeldomLog
from identity.socket_pace import Readers
from identity.unix_socket import GROUP, bind_socket

_LOG = logging.getLogger(__name__)
_REFUSED = SeldomLog(_LOG)
_UNSURE = SeldomLog(_LOG)
_BACKLOG: Final = 1024
# Files that stay for the log, the store, sockets of tasks and other servers, at the least; a connection takes
# two, its socket and a pidfd.
_SPARE_FILES: Final = 256
# Connections that are accepted in one turn of the loop; those beyond wait in the kernel.
_ACCEPTS: Final = 32
_LIMITS: Final = SocketLimits()
_LOUD: Final = ("grpclib.server", "grpclib.protocol")


class Servicer(Protocol):
    """A gRPC service."""

    def __mapping__(self) -> Mapping[str, Handler]:
        """Return the methods by their gRPC paths."""


@dataclass(slots=True)
class _Listener:
    server: asyncio.Server
    inode: int
    connections: set[AttestedConnection] = field(default_factory=set)


def peer_of(stream: Stream[Any, Any]) -> Peer:
    """Say who is calling, checked now.

    Raises:
        AttestationError: if the process is gone, or is not what it was when it connected.
    """
    return connection_of(stream).process.peer()


class SocketServer:
    """All private sockets of a process."""

    def __init__(
        self,
        limits: SocketLimits = _LIMITS,
        *,
        is_ready: Callable[[], bool] = lambda: True,
        changes: Changes | None = None,
    ) -> None:
        """Serve nothing yet; `is_ready` is what health tells, and `changes` when it may be another."""
        self.limits = limits
        self._is_ready = is_ready
        self._changes = Feed() if changes is None else changes
        self._most = min(limits.connections, _room())
        # As large a part of the connections that there can be as of those that there should be.
        part = -(-self._most * limits.connections_per_uid // limits.connections)
        self._most_per_uid = min(part, limits.connections_per_uid)
        self._by_uid: Counter[int | None] = Counter()
        self._calls_by_uid: Counter[int | None] = Counter()
        self.readers = Readers()
        self._listeners: dict[Path, _Listener] = {}
        for name in _LOUD:
            logging.getLogger(name).addFilter(keep_quiet)
        logging.getLogger("asyncio").addFilter(is_news)

    async def listen(
        self,
        path: Path,
        services: Sequence[Servicer],
        *,
        files: Iterable[FileDescriptor] = (),
        mode: int = GROUP,
        gid: int | None = None,
        hashed: Container[int] = (),
    ) -> None:
        """Serve on a socket of its own; `files` is what reflection shows.

        `hashed` are the users whose executables are asked for; nobody else's is read.

        Raises:
            SocketError: if the socket is in use, others could reach or replace it, or it cannot be made.
        """
        if path in self._listeners:
            raise SocketError(f"two services on one socket: {str(path)!r}")
        mapping = self._mapping(services, files)
        sock = bind_socket(path, mode, gid)
        connections: set[AttestedConnection] = set()
        gate = _Gate(self, connections)

        def connect() -> AttestedConnection:
            return AttestedConnection(mapping, gate, hashed=hashed)

        server = await asyncio.get_running_loop().create_unix_server(connect, sock=sock, backlog=_ACCEPTS)
        # To asyncio both are one number.
        sock.listen(_BACKLOG)
        self._listeners[path] = _Listener(server, _inode(path), connections)

    async def close_socket(self, path: Path) -> None:
        """Stop to serve on a socket, end its calls and remove it; one that is not served is no error.

        A call on the socket itself cannot wait for this: it is one of those that end.
        """
        listener = self._listeners.pop(path, None)
        if listener is None:
            return
        listener.server.close()
        _remove(path, listener.inode)
        connections = tuple(listener.connections)
        for connection in connections:
            connection.close()
        for connection in connections:
            await connection.wait_closed()

    async def close(self) -> None:
        """Close every socket."""
        for path in tuple(self._listeners):
            await self.close_socket(path)

    def enter(self, uid: int | None) -> bool:
        """Count a connection, or refuse it."""
        if self._by_uid.total() >= self._most or self._by_uid[uid] >= self._most_per_uid:
            _REFUSED.warning("too many connections: one of uid %s is refused", uid)
            return False
        self._by_uid[uid] += 1
        return True

    def leave(self, uid: int | None) -> None:
        """Forget a connection."""
        _count_down(self._by_uid, uid)

    def begin(self, uid: int | None) -> bool:
        """Count a call, or refuse it."""
        calls, limits = self._calls_by_uid, self.limits
        if calls.total() >= limits.calls or calls[uid] >= limits.calls_per_uid:
            _REFUSED.warning("too many calls at a time: one of uid %s is refused", uid)
            return False
        calls[uid] += 1
        return True

    def end(self, uid: int | None) -> None:
        """Forget a call."""
        _count_down(self._calls_by_uid, uid)

    def _mapping(
        self, services: Sequence[Servicer], files: Iterable[FileDescriptor]
    ) -> Mapping[str, Handler]:
        served = {path: handler for service in services for path, handler in service.__mapping__().items()}
        names = sorted({path.split("/")[1] for path in served})
        shown = [*names, socket_health.NAME, *socket_reflection.NAMES]
        common: tuple[Servicer, ...] = (
            socket_health.Health(names, self._is_ready, self._changes),
            socket_reflection.Reflection(shown, files),
        )
        mapping = {path: _guarded(handler, attests=True) for path, handler in served.items()}
        for service in common:
            for path, handler in service.__mapping__().items():
                mapping[path] = _guarded(handler, attests=False)
        return mapping


@dataclass(frozen=True, slots=True)
class _Gate:
    """The door of one socket."""

    server: SocketServer
    connections: set[AttestedConnection]

    @property
    def limits(self) -> SocketLimits:
        return self.server.limits

    def enter(self, connection: AttestedConnection) -> bool:
        if not self.server.enter(connection.uid):
            return False
        self.connections.add(connection)
        return True

    def leave(self, connection: AttestedConnection) -> None:
        self.connections.discard(connection)
        self.server.leave(connection.uid)

    def come(self, connection: AttestedConnection) -> None:
        self.server.readers.come(connection.uid, connection.take)

    def begin(self, connection: AttestedConnection) -> bool:
        return self.server.begin(connection.uid)

    def end(self, connection: AttestedConnection) -> None:
        self.server.end(connection.uid)


def _count_down(counts: Counter[int | None], uid: int | None) -> None:
    counts[uid] -= 1
    if not counts[uid]:
        del counts[uid]


def _room() -> int:
    """Return how many connections leave enough files for the rest of the process."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    spare = max(_SPARE_FILES, files // 2)
    return sys.maxsize if files == resource.RLIM_INFINITY else max(1, (files - spare) // 2)


def _inode(path: Path) -> int:
    return path.lstat().st_ino


def _remove(path: Path, inode: int) -> None:
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _guarded(handler: Handler, *, attests: bool) -> Handler:
    serve: Callable[[Stream[Any, Any]], Awaitable[None]] = handler.func

    @functools.wraps(serve)
    async def guarded(stream: Stream[Any, Any]) -> None:
        try:
            if attests:
                await connection_of(stream).process.read_executable()
            await serve(stream)
        except GRPCError:
            raise
        except ProtocolError:
            # The client ended the stream while we were answering.
            _LOG.debug("a call that the client ended")
        except Exception as error:  # noqa: BLE001  # the outermost guard: each failure has a status
            raise _status(error) from None

    return handler._replace(func=guarded)


def _status(error: Exception) -> GRPCError:
    match error:
        case AttestationError():
            _UNSURE.warning("nothing is issued: %s", error)
            return GRPCError(Status.PERMISSION_DENIED, "the caller cannot be attested")
        case NotEntitledError():
            return GRPCError(Status.PERMISSION_DENIED, str(error))
        case IssuanceUnavailableError():
            return GRPCError(Status.UNAVAILABLE, str(error))
        case DecodeError():
            return GRPCError(Status.INVALID_ARGUMENT, "a message that cannot be read")
        case NotImplementedError():
            return GRPCError(Status.UNIMPLEMENTED, "compressed messages are not accepted")
        case _:
            # No traceback: its text could quote the request.
            _LOG.error("a call on a private socket failed: %s", type(error).__name__)
            return GRPCError(Status.INTERNAL, "the call failed")
