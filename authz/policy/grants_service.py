"""A service of `grants.yaml`: its operations, each with its class and the limits of its arguments.

- An operation that is not listed does not exist for the policy; names are exact, there are no wildcards.
- Of an A2A agent with tenants only those that are listed are served; without a list, only calls of no tenant.
- What is written only where it is used leaves the data of other grants, and their digest, as they were.
- The rules of plain HTTP are bounded, for they are the only list that a decision walks through.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from authz.payload.classes import PAYLOAD_CLASSES
from authz.policy.grants_limits import Json, parse_limits
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
# A2A specification 1.0, section 5.3; the public agent card is no call.
A2A_METHODS: Final = (
    "CancelTask",
    "CreateTaskPushNotificationConfig",
    "DeleteTaskPushNotificationConfig",
    "GetExtendedAgentCard",
    "GetTask",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "ListTasks",
    "SendMessage",
    "SendStreamingMessage",
    "SubscribeToTask",
)
HTTP_METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
PAYLOAD_RULES: Final = ("deny", "record")

_OFFERS: Final = ("tools", "methods", "a2a", "models", "grpc", "http")
_MAX_TOOLS: Final = 4096
_MAX_TENANTS: Final = 1024
_MAX_RULES: Final = 32
_MAX_PATHS: Final = 8

# MCP specification, server/tools: names of 1 to 128 of these characters.
_TOOL: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_METHOD: Final = re.compile("|".join(METHODS))
_A2A_METHOD: Final = re.compile("|".join(A2A_METHODS))
_TENANT: Final = re.compile(r"[A-Za-z0-9._~@:-]{1,128}")
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}")
_IDENTIFIER: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_RPC: Final = re.compile(rf"(?=.{{1,256}}\Z)/{_IDENTIFIER}(?:\.{_IDENTIFIER})*/{_IDENTIFIER}")
_PAYLOAD_CLASS: Final = re.compile("|".join(PAYLOAD_CLASSES))
# No encoded characters and no dot segments: what a path means must not depend on who normalises it.
_SEGMENT: Final = r"/[A-Za-z0-9._~@:+,=-]{1,128}"
_PATH: Final = re.compile(rf"(?!.*/\.\.?(?:/|$))(?:(?:{_SEGMENT}){{1,32}}(?:/\*?)?|/\*?)")


def parse_service(name: str, cursor: Cursor) -> Json:
    """Read one service."""
    members = cursor.members([], [*_OFFERS, "payload"])
    if not members.keys() & set(_OFFERS):
        cursor.refuse(f"a service needs {', '.join(_OFFERS[:-1])} or {_OFFERS[-1]}: list what it offers")
    tools = methods = {}
    if "tools" in members:
        tools = members["tools"].entries(
            _TOOL, "a tool (1 to 128 of A-Z, a-z, 0-9, '_', '.', '-')", _MAX_TOOLS
        )
    if "methods" in members:
        methods = members["methods"].entries(_METHOD, f"one of {', '.join(METHODS)}", len(METHODS))
    return {
        "tools": {tool: _tool(at) for tool, at in tools.items()},
        "methods": {method: _operation(at) for method, at in methods.items()},
        "http": _http(members["http"]) if "http" in members else {},
        **(_a2a(name, members["a2a"]) if "a2a" in members else {}),
        **({"models": _models(members["models"])} if "models" in members else {}),
        **({"grpc": _grpc(members["grpc"])} if "grpc" in members else {}),
        **({"payload": _payload(members["payload"])} if "payload" in members else {}),
    }


def _operation(at: Cursor, limits: Sequence[Json] = (), *, human: bool = False) -> Json:
    return {"class": at.choice(CLASSES, "a class"), "human": human, "limits": list(limits)}


def _tool(cursor: Cursor, optional: Sequence[str] = ("human", "arguments")) -> Json:
    members = cursor.members(["class"], optional)
    limits = parse_limits(members["arguments"]) if "arguments" in members else []
    return _operation(members["class"], limits, human=_human(members))


def _human(members: Mapping[str, Cursor]) -> bool:
    """Read `human: required`; there is no other value, for without the key a human is simply not demanded."""
    return "human" in members and bool(members["human"].choice(["required"], "a demand"))


def _named(cursor: Cursor, optional: Sequence[str] = ("human", "arguments")) -> Json:
    """Read an operation that is its class, or a mapping with more."""
    return _tool(cursor, optional) if isinstance(cursor.value, dict) else _operation(cursor)


def _a2a(service: str, cursor: Cursor) -> Json:
    """Read the methods of an agent, and its tenants; a call of no tenant bears the name of the service."""
    form = f"one of {', '.join(A2A_METHODS)}, or tenants"
    entries = cursor.entries(re.compile(rf"{_A2A_METHOD.pattern}|tenants"), form, len(A2A_METHODS) + 1)
    tenants = entries.pop("tenants", None)
    if not entries:
        cursor.refuse("an agent needs a method: list what it may be asked")
    named = (
        [service]
        if tenants is None
        else [
            item.text("a tenant (1 to 128 of A-Z, a-z, 0-9, '.', '_', '~', '@', ':', '-')", _TENANT)
            for item in tenants.items(_MAX_TENANTS)
        ]
    )
    return {
        "a2a": {method: _named(at) for method, at in entries.items()},
        "tenants": dict.fromkeys(named, True),
    }


def _models(cursor: Cursor) -> Json:
    form = "a model (1 to 256 of A-Z, a-z, 0-9, '.', '_', ':', '/', '@', '+', '-')"
    return {model: _named(at) for model, at in cursor.entries(_MODEL, form, _MAX_TOOLS).items()}


def _grpc(cursor: Cursor) -> Json:
    """Read the methods of gRPC; the messages are not looked into, so there are no arguments to limit."""
    entries = cursor.entries(_RPC, "a method such as /ledger.v1.Ledger/Get", _MAX_TOOLS)
    return {path: _named(at, ("human",)) for path, at in entries.items()}


def _payload(cursor: Cursor) -> Json:
    """Read what becomes of data of some class that are found in a call."""
    entries = cursor.entries(_PAYLOAD_CLASS, f"one of {', '.join(PAYLOAD_CLASSES)}", len(PAYLOAD_CLASSES))
    return {name: at.choice(PAYLOAD_RULES, "a rule for data") for name, at in entries.items()}


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
