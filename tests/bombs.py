"""What costs much to read for what it costs to send, for the tests and the benchmark."""

import json
from collections.abc import Iterator, Mapping
from typing import Final

from authz.headers import MAX_HEADER_BYTES, MAX_HEADERS
from identity.base64url import encode_base64url
from identity.strict_json import Reason

MIB: Final = 1 << 20


def bomb(start: bytes, part: bytes, end: bytes = b"") -> bytes:
    return start + part * ((MIB - len(start) - len(end)) // len(part)) + end


# Each of one mebibyte, with the reason that it is refused for.
BODIES: Final[Mapping[str, tuple[bytes, Reason]]] = {
    "arrays": (bomb(b"", b"["), "depth"),
    "closed arrays": (b"[" * (MIB // 2) + b"]" * (MIB // 2), "depth"),
    "objects": (bomb(b"", b'{"a":'), "depth"),
    "both": (bomb(b"", b'{"a":['), "depth"),
    "deep behind a text": (bomb(b'["', b"[", b'",' + b"[" * 100), "depth"),
    "empty objects": (bomb(b"[", b"{},", b"{}]"), "keys"),
    "empty arrays": (bomb(b"[", b"[],", b"[]]"), "keys"),
    "empty texts": (bomb(b"[", b'"",', b'""]'), "keys"),
    "numbers": (bomb(b"[", b"0,", b"0]"), "keys"),
    "fractions": (bomb(b"[", b"1.5,", b"0]"), "keys"),
    "members": (b"{" + b",".join(b'"%x":1' % number for number in range(MIB // 11)) + b"}", "keys"),
    "small objects": (bomb(b"[", b'{"a":1},', b"{}]"), "keys"),
    "commas": (bomb(b"", b","), "keys"),
    "digits": (bomb(b"", b"1"), "number"),
    "digits of an exponent": (bomb(b"1e", b"1"), "number"),
    "digits of a member": (bomb(b'{"a":', b"9", b"}"), "number"),
    "backslashes": (bomb(b'"', b"\\\\"), "malformed"),
    "escaped quotes": (bomb(b'"', b'\\"'), "malformed"),
    "escaped quotes behind brackets": (bomb(b"[]" * 65 + b'"', b'\\"'), "malformed"),
    "half surrogates": (bomb(b'"', b"\\ud83d", b'"'), "surrogate"),
    "quotes": (bomb(b"", b'"'), "malformed"),
    "spaces": (bomb(b"", b" "), "malformed"),
    "closing brackets": (bomb(b"", b"}"), "malformed"),
}


def tokens(right: str) -> Iterator[tuple[str, str]]:
    """Return tokens that are not the right one."""
    header, claims, signature = right.split(".")
    yield "64 kB", f"{header}.{'A' * 64_000}.{signature}"
    yield "8 kB of base64 that is no JSON", f"{header}.{'A' * 7_800}.{signature}"
    yield "1,400 audiences", f"{header}.{_part({'aud': ['a'] * 1_400})}.{signature}"
    yield "claims of 2,800 levels", f"{header}.{encode_base64url(b'[' * 2_800 + b']' * 2_800)}.{signature}"
    yield "600 claims", f"{header}.{_part({f'{number:x}': 1 for number in range(600)})}.{signature}"
    yield "1,600 parts", ".".join(["eyJh"] * 1_600)
    yield "a foreign signature", f"{header}.{claims}.{encode_base64url(bytes(range(64)))}"
    yield "p2c, zip, crit", f"{_part({'alg': 'ES256', 'p2c': 10**6, 'zip': 'DEF', 'crit': []})}.{claims}.AA"


def headers() -> Iterator[tuple[str, list[tuple[str, str | bytes]]]]:
    """Return header fields beyond those of a call."""
    yield "100,000 in number", [("x", b"")] * 100_000
    yield "100,000 names", [(f"x{number:x}", b"") for number in range(100_000)]
    yield (
        "as many as are read, too large",
        [(f"x-{number}", bytes(MAX_HEADER_BYTES // 100)) for number in range(MAX_HEADERS - 20)],
    )
    yield "one of 1 MiB", [("x", bytes(1 << 20))]
    yield "names of 500 characters", [("n" * 500 + str(number), b"") for number in range(MAX_HEADERS - 20)]


def _part(value: object) -> str:
    return encode_base64url(json.dumps(value, separators=(",", ":")).encode())
