"""Bodies that cost much to read for what they cost to send, for the tests and the benchmark."""

from collections.abc import Mapping
from typing import Final

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
