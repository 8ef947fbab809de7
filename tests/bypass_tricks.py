"""The known ways to call a hidden tool past an inspector: each is one HTTP request.

- `secret` is the tool that nobody may call, `read_ticket` the one that the caller may.
- What a trick is, what servers make of it and what we answer stand under its id in
  tests/vectors/bypasses.json.
"""

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Any, Final

Header = tuple[str, str]

JSON: Final = ("content-type", "application/json")
ACCEPT: Final = ("accept", "application/json, text/event-stream")
VERSION: Final = "2026-07-28"
# More than Envoy buffers for a check (authz/mesh/settings.py), less than what the servers take.
TOO_LARGE: Final = 300 * 1024


@dataclass(frozen=True, slots=True)
class Trick:
    """One request; with `chunked` its body goes out in pieces and without a length."""

    body: bytes
    headers: tuple[Header, ...] = (JSON,)
    method: str = "POST"
    path: str = "/mcp"
    chunked: bool = False


def message(tool: str = "secret", **more: Any) -> dict[str, Any]:
    """A call of a tool, with members changed; what is `...` is left out."""
    whole = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {}},
        **more,
    }
    return {name: value for name, value in whole.items() if value is not ...}


def call(tool: str = "secret", **more: Any) -> bytes:
    return json.dumps(message(tool, **more)).encode()


def written(params: str, envelope: str = '"id":1,"method":"tools/call"') -> bytes:
    """A call as it is written, which no JSON library would write."""
    return f'{{"jsonrpc":"2.0",{envelope},"params":{{{params}}}}}'.encode()


def with_arguments(arguments: str) -> bytes:
    return written(f'"name":"secret","arguments":{arguments}')


def _modern(*headers: Header, media_type: str = JSON[1], charset: str = "utf-8") -> Trick:
    """A call of the 2026-07-28 era, with the headers that repeat it unless others are given."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = call(params={"name": "secret", "arguments": {}, "_meta": meta}).decode().encode(charset)
    common = (("content-type", media_type), ("mcp-protocol-version", VERSION), ("mcp-method", "tools/call"))
    return Trick(body, (*common, *(headers or (("mcp-name", "secret"),))))


_TEXT: Final = call().decode()
_SECRET: Final = '"name":"secret"'
_VISIBLE: Final = '"name":"read_ticket"'

TRICKS: Final[dict[str, Trick]] = {
    "plain": Trick(call()),
    "plain-modern": _modern(),
    # ---- headers that repeat the body
    "name-header-legacy": Trick(call(), (JSON, ("mcp-method", "tools/call"), ("mcp-name", "read_ticket"))),
    "name-header-modern": _modern(("mcp-name", "read_ticket")),
    "name-header-twice": _modern(("mcp-name", "read_ticket"), ("mcp-name", "secret")),
    "method-header": Trick(call(), (JSON, ("mcp-method", "tools/list"))),
    "era-of-header": Trick(_modern().body, (JSON, ("mcp-protocol-version", "2025-11-25"))),
    # ---- members twice
    "duplicate-name": Trick(written(f"{_VISIBLE},{_SECRET}")),
    "duplicate-name-first": Trick(written(f"{_SECRET},{_VISIBLE}")),
    "duplicate-method": Trick(written(_SECRET, '"id":1,"method":"tools/list","method":"tools/call"')),
    "duplicate-params": Trick(written(_SECRET, f'"id":1,"method":"tools/call","params":{{{_VISIBLE}}}')),
    # ---- spellings
    "escaped-key": Trick(written('"n\\u0061me":"secret"')),
    "escaped-value": Trick(written('"name":"s\\u0065cret"')),
    "escaped-duplicate": Trick(written(f'{_VISIBLE},"n\\u0061me":"secret"')),
    "case-of-name": Trick(written(f'{_VISIBLE},"Name":"secret"')),
    "long-s-in-params": Trick(
        f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{_VISIBLE}}},"param\u017f":{{{_SECRET}}}}}'.encode()
    ),
    "nul-in-name": Trick(written(f'{_VISIBLE},"name\\u0000":"secret"')),
    "method-in-capitals": Trick(call(method="TOOLS/CALL")),
    # ---- batches
    "batch-of-one": Trick(b"[" + call() + b"]"),
    "batch-of-two": Trick(b"[" + call("read_ticket") + b"," + call(id=2) + b"]"),
    "batch-after-space": Trick(b"\r\n\t [" + call() + b"]"),
    "two-messages": Trick(call() + b"\n" + call("read_ticket")),
    # ---- encodings of the text
    "byte-order-mark": Trick(b"\xef\xbb\xbf" + call()),
    "byte-order-mark-modern": _modern(charset="utf-8-sig"),
    "utf-16": Trick(_TEXT.encode("utf-16")),
    "utf-16-le": Trick(_TEXT.encode("utf-16-le")),
    "utf-16-named": Trick(_TEXT.encode("utf-16"), (("content-type", "application/json; charset=utf-16"),)),
    "utf-16-modern": _modern(charset="utf-16"),
    "utf-32": Trick(_TEXT.encode("utf-32")),
    "utf-32-be": Trick(_TEXT.encode("utf-32-be")),
    # ---- encodings of the body
    "gzip": Trick(gzip.compress(call(), mtime=0), (JSON, ("content-encoding", "gzip"))),
    "deflate": Trick(zlib.compress(call()), (JSON, ("content-encoding", "deflate"))),
    # ---- types
    "type-in-capitals": Trick(call(), (("content-type", "APPLICATION/JSON"),)),
    "type-in-capitals-modern": _modern(media_type="APPLICATION/JSON"),
    "type-text": Trick(call(), (("content-type", "text/plain"),)),
    "type-json-suffix": Trick(call(), (("content-type", "application/vnd.x+json"),)),
    "type-twice": Trick(call(), (("content-type", "text/plain"), JSON)),
    # ---- numbers and texts that are none
    "nan": Trick(with_arguments('{"number":NaN}')),
    "infinity": Trick(with_arguments('{"number":-Infinity}')),
    "overflow": Trick(with_arguments('{"number":1e400}')),
    "large-integer": Trick(with_arguments('{"number":9007199254740993}')),
    "lone-surrogate": Trick(with_arguments('{"text":"\\ud800"}')),
    "deep-nesting": Trick(with_arguments('{"text":' + "[" * 3000 + "]" * 3000 + "}")),
    # ---- sizes
    "name-after-10-kib": Trick(
        written(f'"arguments":{{"text":"{"x" * 10_240}"}},{_SECRET}'),
    ),
    "larger-than-the-check": Trick(written(f'"arguments":{{"text":"{"x" * TOO_LARGE}"}},{_SECRET}')),
    "chunked": Trick(call(), chunked=True),
    "chunked-and-large": Trick(
        written(f'"arguments":{{"text":"{"x" * TOO_LARGE}"}},{_SECRET}'), chunked=True
    ),
    "length-and-chunks": Trick(
        f"{len(call()):x}\r\n".encode() + call() + b"\r\n0\r\n\r\n", (JSON, ("transfer-encoding", "chunked"))
    ),
    # ---- ids and envelopes
    "no-id": Trick(call(id=...)),
    "id-null": Trick(call(id=None)),
    "id-float": Trick(written(_SECRET, '"id":1.5,"method":"tools/call"')),
    "id-of-30-digits": Trick(written(_SECRET, f'"id":{"9" * 30},"method":"tools/call"')),
    "result-beside-method": Trick(call(result={})),
    "no-jsonrpc": Trick(call(jsonrpc=...)),
    # ---- paths and methods
    "double-slash": Trick(call(), path="//mcp"),
    "dot-dot": Trick(call(), path="/x/../mcp"),
    "last-slash": Trick(call(), path="/mcp/"),
    "escaped-slash": Trick(call(), path="/mcp%2f"),
    "escaped-letter": Trick(call(), path="/m%63p"),
    "get-with-a-body": Trick(call(), method="GET"),
    "put": Trick(call(), method="PUT"),
    "method-override": Trick(call(), (JSON, ("x-http-method-override", "POST")), method="DELETE"),
}
