"""The limits of one argument in `grants.yaml`, as the policy looks them up.

- JSON pointers are taken apart and sentences about limits are written here: the policy only looks up and
  compares.
- All limits of an argument must hold; a value that is missing, or of another type, is within none.
- A token's limits (identity/argument_limit.py) are a language of their own: what is on the wire stays as it
  is, whatever operators may write here.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

from authz.policy.patterns import Pattern, PatternError
from authz.policy.yaml_cursor import Cursor

Json = dict[str, object]

KINDS: Final = ("max", "min", "equals", "one_of", "only", "prefix", "below", "matches")

_NUMBERS: Final = frozenset({"max", "min"})
_TEXTS: Final = frozenset({"prefix", "below", "matches"})
_MAX_POINTERS: Final = 16
_MAX_TEXT: Final = 1024
_MAX_VALUES: Final = 256
_SHOWN: Final = 120

# RFC 6901, with one to four steps, none of them empty.
_POINTER: Final = re.compile(r"(?:/(?:[ -.0-}]|~[01]){1,128}){1,4}")
_PREFIX: Final = re.compile(r"(?s:.{1,1024})")
# A step of a path: printable ASCII without '%', '/' and '\'; the first, or what follows a dot that is first,
# is neither a dot nor a space. So '..' is none, nor what becomes '..' somewhere ('..;', '.. ', '...').
_FIRST: Final = r"!-$&-,0-Z_-~\[\]\^\-"
_STEP: Final = rf"\.?[{_FIRST}][{_FIRST} .]*"
_BELOW: Final = re.compile(rf"(?=.{{1,128}}\Z)(?:/|/?(?:{_STEP}/)+)")
_TEXT: Final = re.compile(r"(?s:.*)")


def parse_limits(cursor: Cursor) -> list[Json]:
    """Read `arguments`: limits by JSON pointer."""
    pointers = cursor.entries(_POINTER, "a JSON pointer of one to four steps, such as /amount", _MAX_POINTERS)
    return [limit for pointer, at in pointers.items() for limit in _limits(pointer, at)]


def _limits(pointer: str, cursor: Cursor) -> list[Json]:
    members = cursor.members([], KINDS)
    if not members:
        cursor.refuse(f"an argument needs a limit: {', '.join(KINDS[:-1])} or {KINDS[-1]}")
    _require_possible(members)
    path = ["arguments", *(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])]
    return [{"pointer": pointer, "path": path, **_limit(kind, at)} for kind, at in members.items()]


def _require_possible(members: Mapping[str, Cursor]) -> None:
    """Refuse limits that no value is within."""
    if {"min", "max"} <= members.keys() and members["min"].number() > members["max"].number():
        members["min"].refuse("min is above max, so no value would ever be allowed: correct one of them")
    listed = members.keys() & {"only"}
    for one in sorted(listed or members.keys() & _NUMBERS):
        for other in sorted(members.keys() - listed if listed else members.keys() & _TEXTS):
            members[one].refuse(
                f"nothing is within {one} and within {other}, so no value would ever be allowed: keep one"
            )


def _limit(kind: str, cursor: Cursor) -> Json:
    match kind:
        case "max":
            return {"kind": kind, "value": (value := cursor.number()), "text": f"at most {_shown(value)}"}
        case "min":
            return {"kind": kind, "value": (value := cursor.number()), "text": f"at least {_shown(value)}"}
        case "equals":
            return {
                "kind": "one_of",
                "value": [scalar := _scalar(cursor)],
                "text": f"exactly {_shown(scalar)}",
            }
        case "one_of":
            return {"kind": kind, "value": (values := _values(cursor)), "text": f"one of {_shown(values)}"}
        case "only":
            # An empty list is one that says something: that nothing may be in the argument.
            values = [] if cursor.value == [] else _values(cursor)
            told = f"a list of nothing but {_shown(values)}" if values else "an empty list"
            return {"kind": kind, "value": values, "text": told}
        case "prefix":
            prefix = cursor.text("a text of 1 to 1024 characters", _PREFIX)
            return {"kind": kind, "value": prefix, "text": f"text that begins with {_shown(prefix)}"}
        case "below":
            return _below(cursor)
        case _:
            return _matches(cursor)


def _below(cursor: Cursor) -> Json:
    """Read a directory; the limit is a pattern, so that the policy need not take paths apart."""
    path = cursor.text(
        "a path of plain steps that ends in '/', such as docs/ or /srv/docs/ (1 to 128 characters)", _BELOW
    )
    escaped = re.sub(r"[.*+?()|\[\]{}^$]", r"\\\g<0>", path)
    return {
        "kind": "matches",
        "value": path,
        "pattern": Pattern(f"{escaped}{_STEP}(/{_STEP})*").whole,
        "text": f"a plain path below {_shown(path)}",
    }


def _matches(cursor: Cursor) -> Json:
    text = cursor.text("a regular expression in quotes", _TEXT)
    try:
        pattern = Pattern.parse(text)
    except PatternError as error:
        cursor.refuse(str(error))
    return {
        "kind": "matches",
        "value": text,
        "pattern": pattern.whole,
        "text": f"text that matches {_shown(text)}",
    }


def _values(cursor: Cursor) -> list[str | int | float]:
    return [_scalar(item) for item in cursor.items(_MAX_VALUES)]


def _scalar(cursor: Cursor) -> str | int | float:
    """Read a value to compare with; null is what a missing argument is read as, so it cannot be one."""
    if not isinstance(cursor.value, str | int | float) or len(str(cursor.value)) > _MAX_TEXT:
        cursor.refuse("a text, a number, true or false is expected")
    return cursor.value


def _shown(value: object) -> str:
    """Write a value into a sentence: ASCII, for the sentence must be printable, and short."""
    text = json.dumps(value).replace("\x7f", "\\u007f")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
