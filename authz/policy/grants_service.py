"""A service of `grants.yaml`: its operations, each with its class and the limits of its arguments.

- An operation that is not listed does not exist for the policy.
- JSON pointers are taken apart and sentences about limits are written here: the policy only looks up and
  compares.
- The rules of plain HTTP are bounded, for they are the only list that a decision walks through.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from authz.policy.yaml_cursor import Cursor

CLASSES: Final = ("destroy", "read", "write")
LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
LABEL_FORM: Final = "a name of 1 to 63 of a-z, 0-9 and '-'"
METHODS: Final = (
    "completion/complete",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/result",
    "tasks/update",
)
HTTP_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

_MAX_TOOLS: Final = 4096
_MAX_POINTERS: Final = 16
_MAX_TEXT: Final = 1024
_MAX_VALUES: Final = 256
_MAX_RULES: Final = 32
_MAX_PATHS: Final = 8
_SHOWN: Final = 120

# MCP specification, server/tools: names of 1 to 128 of these characters.
_TOOL: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_METHOD: Final = re.compile("|".join(METHODS))
# RFC 6901, with one to four steps, none of them empty.
_POINTER: Final = re.compile(r"(?:/(?:[ -.0-}]|~[01]){1,128}){1,4}")
# No encoded characters and no dot segments: what a path means must not depend on who normalises it.
_SEGMENT: Final = r"/[A-Za-z0-9._~@:+,=-]{1,128}"
_PATH: Final = re.compile(rf"(?!.*/\.\.?(?:/|$))(?:(?:{_SEGMENT}){{1,32}}(?:/\*?)?|/\*?)")
_PREFIX: Final = re.compile(r"(?s:.{1,1024})")

Json = dict[str, object]


def parse_service(cursor: Cursor) -> Json:
    """Read one service."""
    members = cursor.members([], ["tools", "methods", "http"])
    if not members:
        cursor.refuse("a service needs tools, methods or http: list what it offers")
    tools = methods = {}
    if "tools" in members:
        tools = members["tools"].entries(
            _TOOL, "a tool (1 to 128 of A-Z, a-z, 0-9, '_', '.', '-')", _MAX_TOOLS
        )
    if "methods" in members:
        methods = members["methods"].entries(_METHOD, f"one of {', '.join(METHODS)}", len(METHODS))
    return {
        "tools": {name: _tool(at) for name, at in tools.items()},
        "methods": {name: _operation(at) for name, at in methods.items()},
        "http": _http(members["http"]) if "http" in members else {},
    }


def _operation(at: Cursor, limits: Sequence[Json] = (), *, human: bool = False) -> Json:
    return {"class": at.choice(CLASSES, "a class"), "human": human, "limits": list(limits)}


def _tool(cursor: Cursor) -> Json:
    members = cursor.members(["class"], ["human", "arguments"])
    limits: list[Json] = []
    if "arguments" in members:
        pointers = members["arguments"].entries(
            _POINTER, "a JSON pointer of one to four steps, such as /amount", _MAX_POINTERS
        )
        limits = [limit for pointer, at in pointers.items() for limit in _limits(pointer, at)]
    return _operation(members["class"], limits, human=_human(members))


def _human(members: Mapping[str, Cursor]) -> bool:
    """Read `human: required`; there is no other value, for without the key a human is simply not demanded."""
    return "human" in members and bool(members["human"].choice(["required"], "a demand"))


def _limits(pointer: str, cursor: Cursor) -> list[Json]:
    """Read the limits of one argument; all of them must hold."""
    members = cursor.members([], ["max", "min", "equals", "one_of", "prefix"])
    if not members:
        cursor.refuse("an argument needs a limit: max, min, equals, one_of or prefix")
    path = ["arguments", *(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])]
    limits = [{"pointer": pointer, "path": path, **_limit(kind, at)} for kind, at in members.items()]
    if {"min", "max"} <= members.keys() and members["min"].number() > members["max"].number():
        members["min"].refuse("min is above max, so no value would ever be allowed: correct one of them")
    return limits


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
            values = [_scalar(item) for item in cursor.items(_MAX_VALUES)]
            return {"kind": kind, "value": values, "text": f"one of {_shown(values)}"}
        case _:
            prefix = cursor.text("a text of 1 to 1024 characters", _PREFIX)
            return {"kind": "prefix", "value": prefix, "text": f"text that begins with {_shown(prefix)}"}


def _scalar(cursor: Cursor) -> str | int | float:
    """Read a value to compare with; null is what a missing argument is read as, so it cannot be one."""
    if not isinstance(cursor.value, str | int | float) or len(str(cursor.value)) > _MAX_TEXT:
        cursor.refuse("a text, a number, true or false is expected")
    return cursor.value


def _shown(value: object) -> str:
    """Write a value into a sentence: ASCII, for the sentence must be printable, and short."""
    text = json.dumps(value).replace("\x7f", "\\u007f")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _http(cursor: Cursor) -> Json:
    """Read the rules of plain HTTP: by method, in their order, the first that fits speaks."""
    by_method: dict[str, list[Json]] = {}
    for at in cursor.items(_MAX_RULES):
        members = at.members(["methods", "paths", "class"], ["human"])
        operation = _operation(members["class"], human=_human(members))
        paths = [_path(item) for item in members["paths"].items(_MAX_PATHS)]
        for item in members["methods"].items(len(HTTP_METHODS)):
            method = item.choice(HTTP_METHODS, "an HTTP method")
            by_method.setdefault(method, []).extend({**operation, **path} for path in paths)
    return {**by_method}


def _path(cursor: Cursor) -> Json:
    """Read a path; a star at the end stands for all that is below."""
    path = cursor.text("a path such as /v1/items or /v1/items/*", _PATH)
    return {"path": path.removesuffix("*"), "below": path.endswith("*")}
