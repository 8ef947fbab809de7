"""The door of a tool server, called as an ASGI server calls it, and over httpx2."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx2
import pytest

from identity.canonical import arguments_sha256
from identity.errors import KeyMaterialError
from identity.keys import KeySet, SigningKey
from identity.tool_server import (
    CLAIMS_KEY,
    MAX_AGE,
    MAX_STALE,
    MIN_INTERVAL,
    JwksSource,
    TxnTokenMiddleware,
    TxnTokenVerifier,
)
from identity.transaction import TransactionIssuer
from tests.identity_world import (
    ISSUER,
    LEAD,
    NOW,
    STRANGER_KEY,
    SVID_KEY,
    TD,
    TOKEN_KEY,
    caller,
    delegation,
    grant,
)

ARGUMENTS = {"ticket": "T-1"}
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "read_ticket", "arguments": ARGUMENTS},
}
BODY = json.dumps(CALL).encode()


def jwks_of(*keys: SigningKey) -> bytes:
    return json.dumps({"keys": [{**key.public.jwk(), "use": "sig"} for key in keys]}).encode()


def issue(key: SigningKey = TOKEN_KEY, **changes: Any) -> str:
    right: dict[str, Any] = {"arguments_sha256": arguments_sha256(ARGUMENTS), **changes}
    return TransactionIssuer(lambda: key, ISSUER, TD, 60).issue(grant(**right), caller(), NOW, bytes).token


class Upstream:
    """An application that remembers what reached it."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.after: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "lifespan":
            return
        message = await receive()
        self.bodies.append(message["body"])
        assert message["more_body"] is False
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
        self.after.append((await receive())["type"])


class Call:
    """One request, in as many parts as the case wants."""

    def __init__(
        self,
        *parts: bytes,
        headers: list[tuple[bytes, bytes]] | None = None,
        method: str = "POST",
        **scope: Any,
    ) -> None:
        self.parts = list(parts) if parts else [BODY]
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": "/mcp",
            "headers": headers or [],
            **scope,
        }
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        if not self.parts:
            return {"type": "http.disconnect"}
        part = self.parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def answer(self) -> Any:
        return json.loads(self.sent[1]["body"])


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks_of(TOKEN_KEY))
    return path


def verifier(jwks: Path | str, now: datetime = NOW, **more: Any) -> TxnTokenVerifier:
    named: dict[str, Any] = {"issuer": ISSUER, "trust_domain": TD.name, "service": "tickets", **more}
    return TxnTokenVerifier(jwks=jwks, clock=lambda: now, **named)


def run(jwks: Path | str, call: Call, now: datetime = NOW, **more: Any) -> Upstream:
    upstream = Upstream()
    asyncio.run(
        TxnTokenMiddleware(upstream, verifier(jwks, now, **more))(call.scope, call.receive, call.send)
    )
    return upstream


def with_token(*parts: bytes, token: str = "", **scope: Any) -> Call:
    return Call(*parts, headers=[(b"txn-token", (token or issue()).encode())], **scope)


def test_allowed_call_reaches_the_application_unchanged(jwks: Path) -> None:
    call = with_token(BODY[:10], BODY[10:40], b"", BODY[40:])
    upstream = run(jwks, call)
    assert upstream.bodies == [BODY]
    assert call.status == 200
    claims = upstream.scopes[0][CLAIMS_KEY]
    assert (claims["sub"], claims["tctx"]["tool"]) == (LEAD.uri, "read_ticket")
    assert json.loads(json.dumps(claims)) == claims
    assert upstream.after == ["http.disconnect"]


def test_scope_of_the_server_is_not_changed(jwks: Path) -> None:
    call = with_token()
    run(jwks, call)
    assert CLAIMS_KEY not in call.scope


def test_client_cannot_bring_claims(jwks: Path) -> None:
    call = with_token()
    call.scope[CLAIMS_KEY] = {"sub": "forged"}
    assert run(jwks, call).scopes[0][CLAIMS_KEY]["sub"] == LEAD.uri


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"Bearer " + issue().encode())],
        [(b"txn-token", issue().encode())] * 2,
        [(b"txn-token", issue().encode()), (b"Txn-Token", issue().encode())],
        [(b"txn-token", b"")],
        [(b"txn-token", issue().encode() + b", " + issue().encode())],
        [(b"txn-token", b"Bearer " + issue().encode())],
        [(b"txn-token", b"\xff\xfe")],
        [(b"txn-token", issue().encode() + b"\n")],
        [(b"txn-token", b"A" * 100_000)],
    ],
)
def test_cl03_exactly_one_token_in_its_own_header(jwks: Path, headers: list[tuple[bytes, bytes]]) -> None:
    """CL-03: never `Authorization`, exactly one value."""
    call = Call(headers=headers)
    upstream = run(jwks, call)
    assert upstream.scopes == []
    assert call.status == 401


@pytest.mark.parametrize(
    "token",
    [
        issue(STRANGER_KEY),
        issue(SVID_KEY),
        issue(service="billing"),
        issue()[:-4] + "AAAA",
        "eyJhbGciOiJub25lIn0.e30.AA",
    ],
)
def test_token_that_is_not_valid_here_is_401(jwks: Path, token: str) -> None:
    call = with_token(token=token)
    assert run(jwks, call).scopes == []
    assert call.status == 401
    assert token.split(".")[1] not in json.dumps(call.answer)


def test_delegation_token_is_no_transaction_token(jwks: Path) -> None:
    from identity.delegation import issue_delegation_token

    call = with_token(token=issue_delegation_token(TOKEN_KEY, delegation()))
    assert run(jwks, call).scopes == []
    assert call.status == 401


def test_expired_token_is_401(jwks: Path) -> None:
    call = with_token()
    assert run(jwks, call, NOW + timedelta(seconds=91)).scopes == []
    assert call.status == 401


@pytest.mark.parametrize(
    "call",
    [
        with_token(BODY.replace(b"T-1", b"T-2")),
        with_token(BODY.replace(b"read_ticket", b"close_ticket")),
        with_token(b"[" + BODY + b"]"),
        with_token(b""),
        with_token(b"", method="GET"),
        with_token(b"", method="DELETE"),
        with_token(token=issue(action="tools/list", resource="tickets", arguments_sha256=None)),
    ],
)
def test_request_that_the_token_does_not_allow_is_403(jwks: Path, call: Call) -> None:
    assert run(jwks, call).scopes == []
    assert call.status == 403
    assert call.answer["error"] == "Forbidden"


def test_stream_needs_a_token_of_its_own(jwks: Path) -> None:
    token = issue(action="stream_open", resource="tickets", arguments_sha256=None)
    call = with_token(b"", token=token, method="GET")
    assert len(run(jwks, call).scopes) == 1


def test_body_beyond_the_limit_is_413_and_not_read_on(jwks: Path) -> None:
    call = with_token(*[b" " * 100_000] * 1000)
    assert run(jwks, call).scopes == []
    assert call.status == 413
    assert len(call.parts) > 980


@pytest.mark.parametrize(
    "header",
    [
        (b"content-encoding", b"gzip"),
        (b"Content-Encoding", b"br, identity"),
        (b"content-type", b"application/json; charset=utf-16"),
        (b"content-type", b"application/json;charset=latin-1"),
        (b"content-type", b"application/json; charset=utf-8; charset=utf-16"),
        (b"content-type", b'application/json; x="; charset=utf-8"; charset=utf-16'),
    ],
)
def test_body_that_the_application_could_decode_otherwise_is_415(
    jwks: Path, header: tuple[bytes, bytes]
) -> None:
    call = Call(headers=[(b"txn-token", issue().encode()), header])
    assert run(jwks, call).scopes == []
    assert call.status == 415


@pytest.mark.parametrize(
    "value", [b"application/json", b"application/json; charset=utf-8", b'a/b;charset="UTF-8"']
)
def test_utf_8_passes(jwks: Path, value: bytes) -> None:
    headers = [(b"txn-token", issue().encode()), (b"content-type", value), (b"content-encoding", b"identity")]
    assert len(run(jwks, Call(headers=headers)).scopes) == 1


def test_client_that_leaves_within_its_body_reaches_nobody(jwks: Path) -> None:
    call = with_token(BODY[:10], BODY[10:])

    async def leave() -> Any:
        return {"type": "http.disconnect"}

    call.receive = leave  # type: ignore[method-assign]  # this one case leaves
    assert run(jwks, call).scopes == []
    assert call.sent == []


def test_websocket_is_closed_and_lifespan_passes(jwks: Path) -> None:
    socket = Call(type="websocket")
    assert run(jwks, socket).scopes == []
    assert socket.sent == [{"type": "websocket.close", "code": 1008}]
    assert run(jwks, Call(type="lifespan")).scopes == [{**Call(type="lifespan").scope}]


def test_missing_or_broken_key_file_refuses_everything(jwks: Path, tmp_path: Path) -> None:
    jwks.write_bytes(b"{")
    for path in (jwks, tmp_path / "absent.json", tmp_path):
        call = with_token()
        assert run(path, call).scopes == []
        assert call.status == 503


def test_key_file_with_a_private_key_refuses_everything(jwks: Path) -> None:
    """JW-07: a set that holds a secret is refused as a whole."""
    entry = TOKEN_KEY.public.jwk() | {"d": "AAAA"}
    jwks.write_text(json.dumps({"keys": [entry]}))
    call = with_token()
    run(jwks, call)
    assert call.status == 503


def test_keys_of_svids_in_the_file_do_not_count(jwks: Path) -> None:
    jwks.write_text(json.dumps({"keys": [{**TOKEN_KEY.public.jwk(), "use": "jwt-svid"}]}))
    call = with_token()
    run(jwks, call)
    assert call.status == 401


def test_new_key_in_the_file_counts_at_once(jwks: Path) -> None:
    async def calls() -> list[int]:
        middleware = TxnTokenMiddleware(Upstream(), verifier(jwks))
        statuses = []
        for keys in ([TOKEN_KEY], [TOKEN_KEY, STRANGER_KEY], [TOKEN_KEY]):
            jwks.write_bytes(jwks_of(*keys))  # noqa: ASYNC240 - a few bytes, and nobody waits
            call = with_token(token=issue(STRANGER_KEY))
            await middleware(call.scope, call.receive, call.send)
            statuses.append(call.status)
        return statuses

    assert asyncio.run(calls()) == [401, 200, 401]


@pytest.mark.parametrize(
    "url",
    [
        "http://broker.mesh.example/jwks",
        "http://127.0.0.1.evil.example/jwks",
        "http://localhost@evil.example/jwks",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks",
        "https://",
        "https://user:secret@broker.example/jwks",
        "https://broker.example/jwks#x",
        "//broker.example/jwks",
        "jwks.json",
        "",
    ],
)
def test_jw07_refuses_url_that_is_not_https(url: str) -> None:
    """JW-07: https."""
    with pytest.raises(KeyMaterialError):
        JwksSource(url)


class KeyServer(BaseHTTPRequestHandler):
    """Answers with what the test puts there, and counts."""

    answer = (200, jwks_of(TOKEN_KEY), "")
    count = 0

    def do_GET(self) -> None:
        type(self).count += 1
        status, data, location = self.answer
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def key_server() -> Iterator[tuple[str, type[KeyServer]]]:
    class Handler(KeyServer):
        pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jwks", Handler
        finally:
            server.shutdown()
            thread.join()


class Clock:
    """A monotonic clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def outcome(source: JwksSource, *, unknown_kid: bool = False) -> KeySet | None:
    try:
        return await source.get(unknown_kid=unknown_kid)
    except KeyMaterialError:
        return None


def test_jw07_url_is_read_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """JW-07: cached; and a proxy of the environment is not asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")

    async def reads() -> None:
        clock = Clock()
        source = JwksSource(url, clock)
        for _ in range(3):
            assert await outcome(source)
        assert handler.count == 1
        clock.now += MAX_AGE
        await asyncio.gather(*(outcome(source) for _ in range(5)))
        assert handler.count == 2

    with key_server() as (url, handler):
        asyncio.run(reads())


def test_jw07_unknown_kid_asks_once_in_30_seconds() -> None:
    """JW-07: unknown `kid`, one refresh per 30 s."""

    async def reads() -> None:
        clock = Clock()
        source = JwksSource(url, clock)
        await outcome(source)
        for _ in range(5):
            await outcome(source, unknown_kid=True)
        assert handler.count == 1
        clock.now += MIN_INTERVAL
        await asyncio.gather(*(outcome(source, unknown_kid=True) for _ in range(5)))
        assert handler.count == 2

    with key_server() as (url, handler):
        asyncio.run(reads())


@pytest.mark.parametrize(
    "answer",
    [
        (500, b"", ""),
        (404, jwks_of(STRANGER_KEY), ""),
        (302, b"", "http://127.0.0.1:1/other"),
        (307, jwks_of(STRANGER_KEY), "/jwks2"),
        (200, b"<html>", ""),
        (200, b'{"keys":[{"kty":"oct","k":"AA"}]}', ""),
        (200, b'{"keys":[' + b" " * 300_000 + b"]}", ""),
    ],
)
def test_jw07_bad_answer_keeps_the_old_keys_for_an_hour(answer: Any) -> None:
    """JW-07: stale while error, bounded; redirects, secrets and large sets are errors."""

    async def reads() -> None:
        clock = Clock()
        source = JwksSource(url, clock)
        first = await outcome(source)
        handler.answer = answer
        clock.now += MAX_AGE
        assert await outcome(source) == first
        clock.now += MAX_STALE
        assert await outcome(source) is None
        handler.answer = KeyServer.answer
        clock.now += MIN_INTERVAL
        assert await outcome(source) == first

    with key_server() as (url, handler):
        asyncio.run(reads())


def test_jw07_source_that_never_answered_is_asked_once_a_second() -> None:
    """JW-07: no crowd asks a source that is down."""

    async def reads() -> None:
        clock = Clock()
        source = JwksSource(url, clock)
        handler.answer = (500, b"", "")
        for _ in range(5):
            assert await outcome(source) is None
        assert handler.count == 1
        clock.now += 1
        handler.answer = KeyServer.answer
        assert await outcome(source)

    with key_server() as (url, handler):
        asyncio.run(reads())


def test_rotation_at_a_url_is_seen_by_the_unknown_kid() -> None:
    async def calls() -> int:
        checker = verifier(url)
        clock = Clock()
        checker._jwks._clock = clock
        middleware = TxnTokenMiddleware(Upstream(), checker)
        first = with_token()
        await middleware(first.scope, first.receive, first.send)
        handler.answer = (200, jwks_of(TOKEN_KEY, STRANGER_KEY), "")
        clock.now += MIN_INTERVAL
        second = with_token(token=issue(STRANGER_KEY))
        await middleware(second.scope, second.receive, second.send)
        return second.status

    with key_server() as (url, handler):
        assert asyncio.run(calls()) == 200


def test_over_a_real_client_library(jwks: Path) -> None:
    async def call() -> list[int]:
        app: Any = TxnTokenMiddleware(Upstream(), verifier(jwks))
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://tickets"
        ) as client:
            headers = {"Txn-Token": issue(), "Content-Type": "application/json"}
            right = await client.post("/mcp", content=BODY, headers=headers)
            bare = await client.post("/mcp", content=BODY)
            return [right.status_code, bare.status_code]

    assert asyncio.run(call()) == [200, 401]


def test_a_token_that_serves_one_tool_counts_where_the_server_says_so(jwks: Path) -> None:
    """By default a token without the hash of the arguments calls nothing."""
    issuer = TransactionIssuer(lambda: TOKEN_KEY, ISSUER, TD, 60)
    token = issuer.issue(grant(), caller(), NOW, bytes, per_tool=True).token
    headers = [(b"txn-token", token.encode())]
    refused = Call(BODY, headers=headers)
    assert run(jwks, refused).scopes == []
    assert refused.status == 403
    allowed = Call(BODY, headers=headers)
    upstream = run(jwks, allowed, allow_per_tool=True)
    assert len(upstream.scopes) == 1
    other = json.dumps({**CALL, "params": {"name": "close_ticket", "arguments": ARGUMENTS}}).encode()
    wrong = Call(other, headers=headers)
    run(jwks, wrong, allow_per_tool=True)
    assert wrong.status == 403
