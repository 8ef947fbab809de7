"""Pushing one security event to one receiver (RFC 8935), and nothing else.

- https only, and only to addresses that authz/broker/fetch_address.py allows; plain http and addresses of
  this machine only where the receiver is configured as a local one. No redirects: a signed event and the
  secret go where the configuration says. No proxy, no cookies, no compression.
- The path of a receiver's address may be a secret, so it is known by its audience in records and logs.
- 202 is success, and nothing else is. Of an error's body at most 8 kB are read, and of these the registered
  name of the error only: nothing that a receiver sends comes into a record or a log.
- One push takes at most `timeout_seconds` from the first packet to the last byte.
"""

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from authz.broker.event_secret import EventSecret
from authz.broker.fetch_address import is_allowed
from authz.errors import AuthzError, ConfigError
from identity.strict_json import Limits, StrictJsonError, loads

TIMEOUT_SECONDS: Final = 5.0
MAX_ANSWER: Final = 8 * 1024

# RFC 8935 section 2.4, and SSF section 8.1.4.1.
_ERRORS: Final = frozenset(
    {
        "invalid_request",
        "invalid_key",
        "invalid_issuer",
        "invalid_audience",
        "authentication_failed",
        "access_denied",
        "invalid_state",
    }
)
_LIMITS: Final = Limits(depth=8, keys=64)
_MAX_HEADER: Final = 8 * 1024


class PushError(AuthzError):
    """The receiver was not reached, or gave no answer; no message holds what the other side sent."""


class PushRefusedError(PushError):
    """The receiver answered that it does not take the event."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A party that is told of withdrawals, as configured; `issuers` None: of the people of all."""

    url: str = field(repr=False)
    audience: str
    issuers: frozenset[str] | None = None
    ca_file: Path | None = None
    allow_loopback: bool = False
    allow_private: bool = False
    secret: EventSecret | None = field(default=None, repr=False)


class Pusher:
    """Pushes to one receiver over a connection that is kept while all goes well."""

    def __init__(self, receiver: Receiver, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Take the receiver; nothing is opened yet.

        Raises:
            ConfigError: if its address is not one that we push to.
        """
        self._receiver = receiver
        self._target = _target(receiver)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def push(self, token: str) -> None:
        """Push one event.

        Raises:
            PushRefusedError: if the receiver says no for a reason of its own (RFC 8935 section 2.3).
            PushError: if it was not reached, or its answer is neither that nor 202.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._push(token)
        except BaseException as error:
            # What is left of the connection, its names and its certificates may be the cause.
            await self.close()
            if isinstance(error, TimeoutError):
                raise PushError(f"no answer within {self._timeout_seconds:g} s") from error
            if isinstance(error, aiohttp.ClientError | OSError | ValueError):
                # The text of such an error can quote the other side.
                raise PushError(f"cannot push: {type(error).__name__}") from error
            raise

    async def close(self) -> None:
        """Let the connection go."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _push(self, token: str) -> None:
        headers = {
            "Content-Type": "application/secevent+jwt",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        if self._receiver.secret is not None:
            headers["Authorization"] = self._receiver.secret.reveal_header()
        if self._session is None:
            self._session = await self._new_session()
        async with self._session.post(
            self._target, data=token.encode("ascii"), headers=headers, allow_redirects=False
        ) as response:
            if response.status == 202:
                # Not read: whatever follows, the event was taken, and the connection ends if it is long.
                return
            if response.status == 400:
                err = _error_name(await _read(response))
                raise PushRefusedError(f"answer 400 {err}")
            raise PushError(f"answer {response.status}")

    async def _new_session(self) -> aiohttp.ClientSession:
        # The system's certificates take tens of milliseconds to read, and this loop has calls to answer.
        tls = await asyncio.to_thread(self._tls) if self._target.scheme == "https" else True
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, socket_factory=self._socket, limit=1),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
        )

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self._receiver.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, place = address
        receiver = self._receiver
        if not is_allowed(
            ip_address(str(place[0]).partition("%")[0]),
            loopback=receiver.allow_loopback,
            private=receiver.allow_private,
        ):
            raise OSError(f"an address that is not allowed: {place[0]!r}")
        return socket.socket(family, kind, protocol)


def _target(receiver: Receiver) -> URL:
    try:
        target = URL(receiver.url)
    except ValueError as error:
        raise ConfigError(f"the receiver {receiver.audience!r} has no URL") from error
    local = receiver.allow_loopback and target.host in {"127.0.0.1", "localhost"}
    if target.scheme != "https" and not (target.scheme == "http" and local):
        raise ConfigError(f"the URL of the receiver {receiver.audience!r} is not an https one")
    if not target.host or target.user is not None or target.password is not None or target.fragment:
        raise ConfigError(
            f"the URL of the receiver {receiver.audience!r} has no host, or credentials or a fragment"
        )
    return target


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            return b""
    return bytes(body)


def _error_name(body: bytes) -> str:
    try:
        value = loads(body, _LIMITS)
    except StrictJsonError:
        return "without an error of RFC 8935"
    err = value.get("err") if isinstance(value, dict) else None
    return err if isinstance(err, str) and err in _ERRORS else "without an error of RFC 8935"
