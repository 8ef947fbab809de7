"""HTTP/1.1 over TLS: bytes in, bytes out, and the client's certificate beside them.

- uvicorn reads HTTP; this file owns sockets, TLS, deadlines and the way down.
- A client certificate is optional in the handshake; one that the roots do not vouch for ends the handshake.
- The application finds the chain that the client presented with `peer_chain(scope)` and verifies it again, at
  each request: a connection outlives a certificate and a root, TLS knows nothing of SPIFFE, and it lets the
  root of one trust domain vouch for the names of another.
- TLS 1.2 or later, without tickets. A session of TLS 1.2 may be resumed by its id; its certificate counts for
  no more than any other, because the application verifies it again.
- Every request has a deadline, from its first byte to its last and the answer's; an idle connection ends.
- No header of a client is believed about the connection (no X-Forwarded-For); none of ours names the
  software.
- The certificate may be renewed while it serves: each handshake asks for it again.
- No request is logged: its line may hold what is secret.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

from uvicorn.config import Config
from uvicorn.server import ServerState

from authz.address import Address, TcpAddress, UnixAddress
from authz.errors import ConfigError
from authz.hosts.http_connection import Connection
from authz.hosts.tls import Credential, TlsMaterial, TlsSource, server_context
from identity.errors import SocketError
from identity.unix_socket import GROUP, bind_socket

_LOG = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class BodyTooLargeError(Exception):
    """The body is longer than the application reads."""


class BodyMissingError(Exception):
    """The client went away before its body was complete."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may take."""

    head_bytes: int = 16 * 1024
    connections: int = 256
    handshake_seconds: float = 5.0
    request_seconds: float = 15.0
    idle_seconds: int = 15
    shutdown_seconds: float = 1.0


class _Tls:
    """The TLS side of the server; each handshake asks the source again, as authz/hosts/tls.py says."""

    def __init__(self, source: TlsSource) -> None:
        self._source = source
        self._material = source()
        self._latest = _context_of(self._material)
        self.context = self._latest
        # OpenSSL calls this in every handshake, also where the client names no server.
        self.context.sni_callback = self._choose

    def _choose(
        self, tls: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        try:
            material = self._source()
            if material != self._material:
                self._latest = _context_of(material)
                self._material = material
        except Exception:  # noqa: BLE001 - whatever fails, the certificate that we have is better than none
            _LOG.warning("tls material not renewed; the last one stays")
        tls.context = self._latest


class HttpHost:
    """Serves one ASGI application on any number of addresses, in the running event loop."""

    def __init__(self, app: App, *, tls: TlsSource | None = None, limits: Limits | None = None) -> None:
        """Prepare to serve; nothing is bound yet.

        Raises:
            ConfigError: if there is no TLS material to start with.
            ssl.SSLError: if it is not what it should be.
        """
        self.limits = limits or Limits()
        self._tls = None if tls is None else _Tls(tls)
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._config = Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=self.limits.connections,
            timeout_keep_alive=self.limits.idle_seconds,
        )
        self._config.load()
        # uvicorn logs the tracebacks of applications and the faults of clients; ours answers for itself.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)

    async def listen(self, address: Address, mode: int = GROUP) -> Address:
        """Serve on an address; return it with the port that the system chose where it was 0.

        A Unix socket has this mode in a directory that is closed to others, and no TLS: nobody who connects
        there has a certificate.

        Raises:
            ConfigError: if a Unix socket could be reached or replaced by others, or is in use.
            OSError: if the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        match address:
            case UnixAddress():
                server = await loop.create_unix_server(self._connection, sock=_bind_unix(address, mode))
            case TcpAddress(host, port):
                server = await loop.create_server(self._connection, host, port, **self._tls_options())
                address = TcpAddress(host, int(server.sockets[0].getsockname()[1]))
            case _:
                assert_never(address)
        self._servers.append(server)
        return address

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Stop accepting, let the requests that are under way end, then cut what is left."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=grace_seconds)
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _connection(self) -> asyncio.Protocol:
        return Connection(
            self._config,
            self._state,
            head_bytes=self.limits.head_bytes,
            request_seconds=self.limits.request_seconds,
        )

    def _tls_options(self) -> dict[str, Any]:
        if self._tls is None:
            return {}
        return {
            "ssl": self._tls.context,
            "ssl_handshake_timeout": self.limits.handshake_seconds,
            "ssl_shutdown_timeout": self.limits.shutdown_seconds,
        }


def peer_chain(scope: Scope) -> tuple[bytes, ...]:
    """Return the certificates (DER, the leaf first) that the client presented; empty if there were none."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_chain_der")
    return chain if isinstance(chain, tuple) else ()


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read the body of a request, and not a byte more than is allowed.

    Raises:
        BodyTooLargeError: if the body is longer than the limit.
        BodyMissingError: if the client went away.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyMissingError
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLargeError
        if not message.get("more_body", False):
            return bytes(body)


def _context_of(material: TlsMaterial) -> ssl.SSLContext:
    context = server_context(Credential(material.certificate_chain, material.private_key))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=material.client_roots.decode("ascii"))
    return context


def _bind_unix(address: UnixAddress, mode: int) -> socket.socket:
    try:
        return bind_socket(Path(address.path), mode)
    except SocketError as error:
        raise ConfigError(str(error)) from error
