"""A place in a JSON value (RFC 6901).

- A pointer is text: empty for the whole, or steps that each begin with a slash; `~1` is a slash, `~0` a
  tilde, and no other `~` is allowed.
- A step of a list is a number without leading zeros; `-`, the place behind the last, is no place here.
- What is not there is `ABSENT`, which is not null.
"""

import re
from typing import Final

MAX_POINTER: Final = 256

_POINTER: Final = re.compile(r"(?:/(?:[^~/\x00-\x1f]|~[01])*)*")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


class _Absent:
    """What a pointer to nothing points to."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def is_pointer(text: str) -> bool:
    """Say whether a text is a pointer that we follow."""
    return len(text) <= MAX_POINTER and _POINTER.fullmatch(text) is not None


def at(value: object, pointer: str) -> object:
    """Return what stands there, or `ABSENT`; the pointer is one that `is_pointer` accepts."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name, ABSENT)
        elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            return ABSENT
    return value
