r"""JSON of strangers: one reading, or none.

- The bytes are strict UTF-8 without a byte order mark and hold exactly one JSON value (RFC 8259).
- No object at any depth names a member twice; names are compared after decoding, so `"n\u0061me"` is
  `"name"`.
- No `NaN`, no `Infinity`, no float that overflows, no integer beyond ±(2^53-1) where no other limit is given:
  every reader sees the same number.
- Nesting and the number of values are bounded in the bytes, before the recursive parser runs and before
  anything is built (the quick one bounds itself); the number of members of all objects is bounded too.
- No text holds an unpaired surrogate, so every accepted text can be encoded again.
- An accepted value equals what `json.loads` reads; anything else is a `StrictJsonError`, never another
  exception.

An ordinary document takes the quick way of `identity/ordinary_json.py`; where that one has any doubt, the
careful reader decides, and it alone says what is wrong.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite
from typing import Final, Literal, NoReturn

from identity.errors import IdentityError
from identity.ordinary_json import NotOrdinaryError, read_ordinary

MAX_SAFE_INTEGER: Final = 2**53 - 1

Reason = Literal["malformed", "duplicate-key", "number", "depth", "surrogate", "keys", "encoding"]
_Pairs = list[tuple[str, object]]


class StrictJsonError(IdentityError):
    """Not JSON that has one reading only; `reason` says which rule spoke."""

    def __init__(self, reason: Reason, message: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """How deep a document nests, how many values and of these members it has, how large an integer is."""

    depth: int = 64
    values: int = 16_384
    keys: int = 4096
    integer: int = MAX_SAFE_INTEGER


DEFAULT_LIMITS: Final = Limits()


def loads(data: bytes, limits: Limits = DEFAULT_LIMITS) -> object:
    """Read one JSON value.

    Raises:
        StrictJsonError: if the bytes are not JSON, or are JSON that two readers could read in two ways.
    """
    try:
        return read_ordinary(data, limits)
    except NotOrdinaryError:
        return read_with_care(data, limits)


def read_with_care(data: bytes, limits: Limits = DEFAULT_LIMITS) -> object:
    """Read one JSON value by CPython's parser, with every check made before it or beside it.

    Raises:
        StrictJsonError: as `loads`.
    """
    text = _decode(data)
    _check_size(data, limits)
    try:
        value: object = _whole(text, _decoder(limits))
    except RecursionError as error:
        raise StrictJsonError("depth", "JSON that nests too deep") from error
    except ValueError as error:
        raise StrictJsonError("malformed", "not one JSON value") from error
    if _may_hold_surrogate(data):
        _check_surrogates(value)
    return value


def _whole(text: str, decoder: json.JSONDecoder) -> object:
    value: object
    if text[:1] != "{" or text[-1:] != "}":
        value = decoder.decode(text)
        return value
    # An object with nothing around it needs no search for white space.
    value, end = decoder.raw_decode(text)
    if end != len(text):
        raise ValueError("something stands behind the object")
    return value


def _decode(data: bytes) -> str:
    try:
        text = str(data, "utf-8", "strict")
    except UnicodeDecodeError as error:
        raise StrictJsonError("encoding", f"JSON that is not UTF-8 at byte {error.start}") from error
    if text.startswith("\ufeff"):
        raise StrictJsonError("encoding", "JSON with a byte order mark")
    return text


# What values are counted by, wherever it stands; in texts too.
_NOT_MARKS: Final = bytes(byte for byte in range(256) if byte not in b"[{,")
# +1, as a signed byte, for what opens, -1 for what closes.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def _check_size(data: bytes, limits: Limits) -> None:
    """Refuse what nests too deep or holds too many values, in time linear in the size.

    Each value has a comma or an opening bracket before it, so mostly a count is enough. Where it is not, the
    texts are taken out first. Up to its first mistake, a document of so many values has at most one opening
    bracket for each, and one more; no parser gets farther, so what stands behind is not looked at.
    """
    marks = data.translate(None, _NOT_MARKS)
    if len(marks) <= limits.values and len(marks) - marks.count(b",") <= limits.depth:
        return
    structure, is_whole = _without_texts(data, 4 * limits.values + 2)
    steps = structure.translate(_STEPS, _NOT_BRACKETS)[: 2 * limits.values + 2]
    if max(accumulate(memoryview(steps).cast("b")), default=0) > limits.depth:
        raise StrictJsonError("depth", f"JSON that nests deeper than {limits.depth}")
    if not is_whole or structure.count(b",") > limits.values or _count_values(structure) > limits.values:
        raise StrictJsonError("keys", f"JSON with more than {limits.values} values")


# Looking at so many one by one is faster than looking twice through all that may be escaped.
_FEW_QUOTES: Final = 4096


def _without_texts(data: bytes, quotes: int) -> tuple[bytes, bool]:
    """Return a document with a quote for each text, up to that many quotes, and say whether that is all."""
    if data.count(b'"') <= _FEW_QUOTES:
        return b'"'.join(_outside(data.split(b'"'))), True
    if b"\\" in data:
        # Pairs first: what is left of a row of backslashes then escapes what follows. What is as long as
        # before is replaced in one pass.
        data = data.replace(b"\\\\", b"--").replace(b'\\"', b"--")
    parts = data.split(b'"', quotes + 1)
    return b'"'.join(parts[::2]), len(parts) <= quotes + 1


def _outside(parts: list[bytes]) -> Iterator[bytes]:
    """Yield what stands before, between and behind the texts of a document that is split at its quotes."""
    is_text = False
    for part in parts:
        if not is_text:
            yield part
        # Behind an odd number of backslashes a quote is a part of the text.
        is_text = not is_text or (part.endswith(b"\\") and (len(part) - len(part.rstrip(b"\\"))) % 2 == 1)


def _count_values(structure: bytes) -> int:
    packed = structure.translate(None, b" \t\r\n")
    opened = packed.count(b"[") + packed.count(b"{") - packed.count(b"[]") - packed.count(b"{}")
    return opened + packed.count(b",")


def _members(pairs: _Pairs) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise StrictJsonError("duplicate-key", "JSON with a member that is named twice")
    return members


def _constant(text: str) -> NoReturn:
    raise StrictJsonError("number", f"JSON with a number that is not one: {text}")


def _bounded(limit: int) -> Callable[[str], int]:
    longest = len(str(-limit))

    def integer(text: str) -> int:
        # The length first: int() of a long text is quadratic, and raises its own error beyond 4300 digits.
        if len(text) > longest or abs(value := int(text)) > limit:
            raise StrictJsonError("number", f"JSON with an integer beyond {limit}")
        return value

    return integer


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise StrictJsonError("number", "JSON with a number that overflows")
    return value


def _decoder(limits: Limits) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_counting(limits.keys),
        parse_constant=_constant,
        parse_int=_bounded(limits.integer),
        parse_float=_float,
    )


def _counting(limit: int) -> Callable[[_Pairs], dict[str, object]]:
    left = limit

    def members(pairs: _Pairs) -> dict[str, object]:
        nonlocal left
        left -= len(pairs)
        if left < 0:
            raise StrictJsonError("keys", f"JSON with more than {limit} members")
        return _members(pairs)

    return members


_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


def _may_hold_surrogate(data: bytes) -> bool:
    # One byte is found fastest, and most documents end this here.
    return b"\\" in data and b"\\u" in data and (b"\\ud" in data or b"\\uD" in data)


def _check_surrogates(value: object) -> None:
    """Refuse an unpaired surrogate, which only an escape can bring in: the C encoder finds it fastest."""
    try:
        _ENCODE(value).encode()
    except UnicodeEncodeError as error:
        raise StrictJsonError("surrogate", "JSON with an unpaired surrogate") from error
