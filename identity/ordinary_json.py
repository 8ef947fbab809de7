r"""The ordinary JSON document, read in a few passes; every other one is left to the careful reader.

- A value is returned only where `identity/strict_json.py` reads the same one with care. Nothing is refused
  here: a document that is not ordinary, or not surely, is a `NotOrdinaryError`, whatever is wrong with it.
- The parser (`jiter`, in Rust) recurs 200 levels deep at most, refuses what is not UTF-8, not RFC 8259 or
  half a surrogate pair, and remembers no text. A document has half as many values as bytes at most; where
  that is a multiple of what is allowed, they are bounded in the bytes before the parser runs.
- Of members of one name it keeps the last. That none is named twice is seen from the quotes: each text has
  two, and one for each `\"` in it; where a member is lost, a document has more of them than its value.

Not to be used alone: what is refused, and why, is no matter of this parser. Properties compare the two.
"""

import re
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

if TYPE_CHECKING:
    from identity.strict_json import Limits

# What a value is counted by, wherever it stands; in texts too.
_NOT_MARKS: Final = bytes(byte for byte in range(256) if byte not in b"[{,")
_MANY: Final = 4
_LARGE: Final = 1 << 19
_DENSE: Final = 8
# Found faster than a plain substring of two characters or more.
_QUOTE_BY_NUMBER: Final = re.compile(rb"\\u0022")


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
    texts = _texts(value, limits)
    escaped = data.count(b'"') - 2 * len(texts)
    if escaped and (escaped != "".join(texts).count('"') or _QUOTE_BY_NUMBER.search(data)):
        raise NotOrdinaryError
    return value


def _may_hold_too_much(data: bytes, limits: "Limits") -> bool:
    if len(data) > _MANY * limits.values and len(data.translate(None, _NOT_MARKS)) > limits.values:
        return True
    # A mebibyte of escapes takes as long here as there, and whoever sends it has both done.
    return len(data) > _LARGE and data.count(b"\\") * _DENSE > len(data)


def _texts(value: object, limits: "Limits") -> list[str]:
    """Return all texts of a value and all names, level by level, where nothing is out of bounds."""
    texts: list[str] = []
    # Each part is looked at once, by its exact type, which is all that the parser makes.
    level: list[Any] = [value]
    values, members, integer = 0, 0, limits.integer
    for _ in range(limits.depth):
        below: list[Any] = []
        for part in level:
            kind = type(part)
            if kind is str:
                texts.append(part)
            elif kind is dict:
                members += len(part)
                texts += part
                below += part.values()
            elif kind is list:
                below += part
            elif (kind is int and not -integer <= part <= integer) or (kind is float and not isfinite(part)):
                raise NotOrdinaryError
        values += len(below)
        level = below
        if not below:
            break
    if level or values > limits.values or members > limits.keys:
        raise NotOrdinaryError
    return texts
