r"""The ordinary JSON document, read in a few passes; every other one is left to the careful reader.

- A value is returned only where `identity/strict_json.py` reads the same one with care. Nothing is refused
  here: a document that is not ordinary, or not surely, is a `NotOrdinaryError`, whatever is wrong with it.
- The parser (`jiter`, in Rust) recurs 200 levels deep at most, refuses what is not UTF-8, not RFC 8259 or
  half a surrogate pair, and remembers no text. The number of values is bounded in the bytes, before it runs.
- Of members of one name it keeps the last. That none is named twice is seen from the quotes: each text has
  two, and one for each `\"` in it; where a member is lost, a document has more of them than its value.

Not to be used alone: what is refused, and why, is no matter of this parser. Properties compare the two.
"""

from math import isfinite
from typing import TYPE_CHECKING, Final

from pydantic_core import from_json

if TYPE_CHECKING:
    from identity.strict_json import Limits

# What a value is counted by, wherever it stands; in texts too.
_NOT_MARKS: Final = bytes(byte for byte in range(256) if byte not in b"[{,")
# All that can stand behind a backslash, so that it still does when everything else is gone.
_NOT_ESCAPES: Final = bytes(byte for byte in range(256) if byte not in b'"\\/bfnrtu')
_LARGE: Final = 1 << 18
_DENSE: Final = 8


class NotOrdinaryError(Exception):
    """A document that has to be read with care."""


def read_ordinary(data: bytes, limits: "Limits") -> object:
    """Read an object, if it is an ordinary one.

    Raises:
        NotOrdinaryError: if it is not, or is not surely.
    """
    if not data.startswith(b"{") or _may_hold_too_much(data, limits):
        raise NotOrdinaryError
    try:
        value: object = from_json(data, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        raise NotOrdinaryError from error
    escaped = data.count(b'"') - _count_quotes(value, limits)
    if escaped and escaped != _count_escaped_quotes(data):
        raise NotOrdinaryError
    return value


def _may_hold_too_much(data: bytes, limits: "Limits") -> bool:
    # A value has two bytes at least, its own and one before it.
    if len(data) > 2 * limits.values and len(data.translate(None, _NOT_MARKS)) > limits.values:
        return True
    # A mebibyte of escapes takes as long here as there, and whoever sends it has both done.
    return len(data) > _LARGE and data.count(b"\\") * _DENSE > len(data)


def _count_quotes(value: object, limits: "Limits") -> int:
    """Return the quotes around all texts of a value, level by level, and leave what is out of bounds."""
    texts, members, level = 0, 0, [value]
    for _ in range(limits.depth):
        below: list[object] = []
        for part in level:
            kind = type(part)
            if kind is str:
                texts += 1
            elif kind is dict:
                members += len(part)  # type: ignore[arg-type]  # a dict, by its exact type
                below += part.values()  # type: ignore[attr-defined]  # a dict, by its exact type
            elif kind is list:
                below += part  # type: ignore[arg-type]  # a list, by its exact type
            elif kind is int:
                if not -limits.integer <= part <= limits.integer:  # type: ignore[operator]  # an int
                    raise NotOrdinaryError
            elif kind is float and not isfinite(part):  # type: ignore[arg-type]  # a float
                raise NotOrdinaryError
        level = below
        if not below:
            break
    if level or members > limits.keys:
        raise NotOrdinaryError
    return 2 * (texts + members)


def _count_escaped_quotes(data: bytes) -> int:
    r"""Count `\"` in a document that is JSON; pairs of backslashes first, which escape nothing more."""
    return data.translate(None, _NOT_ESCAPES).replace(b"\\\\", b"").count(b'\\"')
