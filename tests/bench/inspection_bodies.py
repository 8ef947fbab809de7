"""What the inspector is measured with: bodies as clients send them, and bodies made to be slow.

- `bodies/` has a `tools/call` of 1.2 kB, one of 64 kB (a page of Markdown with its links) and a list of 200
  tools, written as the SDKs write JSON: no white space, no escapes beyond those that are needed.
- The list is a server's answer: it has more members than a client's message may have.
- What is too large to be kept in a repository is made here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bombs import BODIES, MIB

_DIRECTORY: Final = Path(__file__).parent / "bodies"
SMALL: Final = "tools/call of 1.2 kB"
LARGE: Final = "tools/call of 64 kB"
LARGER: Final = "tools/call of 512 kB"
LIST: Final = "list of 200 tools, 137 kB, read only"
# Beyond what may be read at all; each is refused by its size.
MILLION: Final = 1_000_000
# What fits into a mebibyte beside an envelope.
MIB_LESS: Final = MIB - 256


def bodies() -> dict[str, bytes]:
    """Return what is accepted."""
    large = _read("call-64k.json")
    return {
        SMALL: _read("call-1k.json"),
        LARGE: large,
        LARGER: _eight_times(large),
        LIST: _read("list-200.json"),
    }


def pathological() -> Iterator[tuple[str, bytes]]:
    """Return what is refused."""
    yield from ((f"1 MiB: {name}", data) for name, (data, _) in BODIES.items())
    yield "a million members", b"{" + b",".join(b'"%d":1' % number for number in range(MILLION)) + b"}"
    yield "an integer of a million digits", _call(b'{"n":' + b"9" * MILLION + b"}")
    yield "a million levels", b"[" * MILLION
    # For patterns that try again from each place.
    yield "name: a row of letters", _call(b"{}", b"a" * MIB_LESS + b"!")
    yield "name: dots and dashes", _call(b"{}", b"a.-" * (MIB_LESS // 3) + b"\\n")
    yield "method: a row of letters", _message(b'"method":"' + b"a" * MIB_LESS + b'"')
    yield "uri: slashes and a control character", _read_resource(b"/" * MIB_LESS + b"\\u0001")
    yield (
        "version: a row of digits",
        _message(
            b'"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"'
            + b"2025-" * (MIB_LESS // 5)
            + b'"}}'
        ),
    )
    yield (
        "members that fold into eighteen characters each",
        _message(b'"method":"ping","params":{"' + "\ufdfa".encode() * (MIB_LESS // 3) + b'":1}'),
    )
    yield (
        "arguments that must be folded",
        _call(b"{" + b",".join('"\ufdfa%d":1'.encode() % number for number in range(4_000)) + b"}"),
    )
    yield (
        "two arguments that look alike, behind many",
        _call(b"{" + b",".join(b'"a%d":1' % number for number in range(4_000)) + b',"A1":1}'),
    )


def _read(name: str) -> bytes:
    return (_DIRECTORY / name).read_bytes()


def _eight_times(body: bytes) -> bytes:
    message = json.loads(body)
    arguments = message["params"]["arguments"]
    message["params"]["arguments"] = {f"part_{number}": arguments for number in range(8)}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def _call(arguments: bytes, name: bytes = b"write_page") -> bytes:
    return _message(b'"method":"tools/call","params":{"name":"' + name + b'","arguments":' + arguments + b"}")


def _read_resource(uri: bytes) -> bytes:
    return _message(b'"method":"resources/read","params":{"uri":"' + uri + b'"}')


def _message(members: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,' + members + b"}"
