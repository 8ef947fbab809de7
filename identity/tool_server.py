"""The door of a tool server: no request passes without a transaction token that allows exactly it.

- `Txn-Token` stands exactly once; its keys come from one file or URL of the operator, never from the token.
- Every request needs one, also those that call no tool: the service and the action are compared for all.
- The body is read in full, at most 1 MiB, compared with the token, and then handed on unchanged.
- What the token says is in `scope["deputy.transaction"]`; a client cannot put anything there.
- A token names one call, with the hash of its arguments; one that serves all calls of a tool counts only
  where the operator says so (`allow_per_tool`).
- A refusal is 401 (no valid token), 403 (a token for something else), 413 or 503 (no keys), in JSON without
  secrets.
- A URL of keys is https, or http on the loopback; no redirect is followed and no proxy asked (JW-07). A set
  is believed for a minute, an unknown `kid` asks for a new one every 30 s at most, one request at a time; if
  reading fails, the last set stays good for an hour. A file is read each time, so that a new key counts at
  once.

A token can be used again by whoever sees it, for the same call, as long as it lives: seconds. A server that
must not run a call twice remembers the `jti` of the claims until `exp`.
"""

import asyncio
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Final, Protocol
from urllib.parse import urlsplit

from identity.errors import IdentityError, KeyMaterialError, TokenKeyError
from identity.keys import MAX_SET_BYTES, KeySet
from identity.spiffe import TrustDomain
from identity.tool_call import MAX_BODY, ToolCallError, check_call
from identity.transaction import TransactionToken, verify_transaction_token

CLAIMS_KEY: Final = "deputy.transaction"
HEADER: Final = b"txn-token"
LEEWAY: Final = 30

MAX_AGE: Final = 60.0
MIN_INTERVAL: Final = 30.0
MIN_INTERVAL_WITHOUT_KEYS: Final = 1.0
MAX_STALE: Final = 3600.0
TIMEOUT: Final = 2.0

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_NEVER: Final = float("-inf")
_CHARSET: Final = re.compile(rb';\s*charset\s*=\s*("utf-8"|utf-8)\s*(;|\Z)')

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Verifier(Protocol):
    """Says what a token allows, if it allows the request."""

    async def verify(self, token: str, method: str, body: bytes) -> TransactionToken:
        """Return what the token says, or raise an `IdentityError`."""


class JwksSource:
    """The keys of one issuer, in a file or at a URL, read again as they age."""

    def __init__(self, source: Path | str, clock: Callable[[], float] = time.monotonic) -> None:
        """Name the source; nothing is read yet.

        Raises:
            KeyMaterialError: if the source is a URL that we do not fetch.
        """
        self._source = source if isinstance(source, Path) else _checked_url(source)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._data = b""
        self._keys: KeySet | None = None
        self._read_at = self._tried_at = _NEVER

    async def get(self, *, unknown_kid: bool = False) -> KeySet:
        """Return the keys, read again if that is due.

        Raises:
            KeyMaterialError: if there are none, or none that are recent enough.
        """
        async with self._lock:
            now = self._clock()
            if self._is_due(now, unknown_kid=unknown_kid):
                self._tried_at = now
                await self._refresh(now)
            if self._keys is None or now - self._read_at > MAX_STALE:
                raise KeyMaterialError("no keys to verify tokens with")
            return self._keys

    def _is_due(self, now: float, *, unknown_kid: bool) -> bool:
        if isinstance(self._source, Path):
            return True
        if self._keys is None:
            return now - self._tried_at >= MIN_INTERVAL_WITHOUT_KEYS
        is_old = now - self._read_at >= MAX_AGE
        return (is_old or unknown_kid) and now - self._tried_at >= MIN_INTERVAL

    async def _refresh(self, now: float) -> None:
        try:
            if isinstance(self._source, Path):
                data = _read_file(self._source)
            else:
                data = await asyncio.wait_for(asyncio.to_thread(_fetch, self._source), 2 * TIMEOUT)
            if self._keys is None or data != self._data:
                self._keys, self._data = KeySet.parse_jwks(data, use=None), data
            self._read_at = now
        except (OSError, ValueError, http.client.HTTPException, KeyMaterialError):
            # The keys from before stay as long as they may; `get` raises when there are none.
            return


class TxnTokenVerifier:
    """Verifies transaction tokens for one service, with the keys of a file or URL."""

    def __init__(
        self,
        *,
        jwks: Path | str,
        issuer: str,
        trust_domain: str,
        service: str,
        tool_prefix: str = "",
        allow_per_tool: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Say whose tokens count, and for which service; `tool_prefix` is a gateway's.

        Raises:
            IdentityError: if the URL or the trust domain is malformed.
        """
        self._jwks = JwksSource(jwks)
        self._issuer = issuer
        self._trust_domain = TrustDomain.parse(trust_domain)
        self._service = service
        self._tool_prefix = tool_prefix
        self._allow_per_tool = allow_per_tool
        self._clock = clock

    async def verify(self, token: str, method: str, body: bytes) -> TransactionToken:
        """Verify a token, and compare the request with it.

        Raises:
            TokenError: if the token is not one for this service.
            ToolCallError: if the request is not the one that it allows.
            KeyMaterialError: if there are no keys to verify with.
        """
        try:
            transaction = self._verified(token, await self._jwks.get())
        except TokenKeyError:
            transaction = self._verified(token, await self._jwks.get(unknown_kid=True))
        check_call(transaction, method, body, self._tool_prefix, allow_per_tool=self._allow_per_tool)
        return transaction

    def _verified(self, token: str, keys: KeySet) -> TransactionToken:
        return verify_transaction_token(
            token,
            keys,
            issuer=self._issuer,
            trust_domain=self._trust_domain,
            service=self._service,
            now=self._clock(),
            leeway=LEEWAY,
        )


class TxnTokenMiddleware:
    """ASGI middleware: verifies each HTTP request before the application sees it."""

    def __init__(self, app: App, verifier: Verifier) -> None:
        """Wrap an application."""
        self._app = app
        self._verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a verified request, or answer with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            # A WebSocket would carry calls that nobody compares with a token.
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            token = _token(scope["headers"])
            _check_encoding(scope["headers"])
            body = await _read_body(receive)
            transaction = await self._verifier.verify(token, scope["method"], body)
        except _ClientGoneError:
            return
        except IdentityError as error:
            await _refuse(error, send)
            return
        await self._app({**scope, CLAIMS_KEY: transaction.to_claims()}, _replay(body, receive), send)


class _ClientGoneError(Exception):
    pass


class _RefusalError(IdentityError):
    def __init__(self, status: HTTPStatus, description: str) -> None:
        super().__init__(description)
        self.status = status


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    values = [value for name, value in headers if name.lower() == HEADER]
    if len(values) != 1:
        raise _RefusalError(HTTPStatus.UNAUTHORIZED, f"{len(values)} Txn-Token headers where one is needed")
    # Latin-1 reads every byte; what is not base64url is then refused with the token.
    return values[0].decode("latin-1")


def _check_encoding(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a body that the application could decode into another one than was compared."""
    for name, value in headers:
        text = value.strip().lower()
        if name.lower() == b"content-encoding" and text != b"identity":
            raise _RefusalError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body with a content encoding")
        if name.lower() == b"content-type" and text.count(b"charset") > len(_CHARSET.findall(text)[:1]):
            raise _RefusalError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a body with a charset that is not UTF-8")


async def _read_body(receive: Receive) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise _ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise _RefusalError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body of more than {MAX_BODY} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return pending.pop() if pending else await receive()

    return replayed


async def _refuse(error: IdentityError, send: Send) -> None:
    match error:
        case _RefusalError(status=status):
            pass
        case KeyMaterialError():
            status = HTTPStatus.SERVICE_UNAVAILABLE
        case ToolCallError():
            status = HTTPStatus.FORBIDDEN
        case _:
            status = HTTPStatus.UNAUTHORIZED
    body = json.dumps({"error": status.phrase, "error_description": str(error)}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _read_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_SET_BYTES + 1)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not is_safe or not parts.hostname or parts.username or parts.fragment:
        raise KeyMaterialError(f"not an https URL (or http on the loopback) of a key set: {url!r}")
    return url


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow nobody: a redirect then ends as the HTTP error that it is."""


def _fetch(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        reply: IO[bytes]
        with opener.open(url, timeout=TIMEOUT) as reply:
            return reply.read(MAX_SET_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()  # It holds the connection.
        raise
