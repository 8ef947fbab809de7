"""What one MCP method is aimed at, read from its params.

- A tool's name is 1 to 128 of `A-Za-z0-9_.-`, as the specification asks; the gateway's prefix is taken off,
  and a name without it belongs to another server.
- URIs, prompts and tasks are compared as they stand: no control characters, bounded, never normalised.
- `completion/complete` is authorised as what it refers to: it tells what there is.
- `subscriptions/listen` names at most one resource, because one decision is made for one resource.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.json_rpc import Params
from authz.protocols.mcp_params import Shape
from authz.protocols.members import check_distinct
from authz.protocols.operation import Phase, ResourceType
from authz.protocols.reader_codes import MCP
from authz.protocols.route import Route
from identity.canonical import canonical_arguments, sha256_hex
from identity.quick_init import quick_init

MAX_NAME_CHARS = 256
MAX_URI_CHARS = 2048

# Pointers of the grants have so many steps at most, through objects only (authz/policy/grants_limits.py).
_MAX_STEPS = 4

_TOOL = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_PROMPT_REF = Shape.of("type name", "title")
_RESOURCE_REF = Shape.of("type uri")
_ARGUMENT = Shape.of("name value")
_CONTEXT = Shape.of("", "arguments")
_LISTEN = Shape.of("", "toolsListChanged promptsListChanged resourcesListChanged resourceSubscriptions")


@quick_init
@dataclass(frozen=True, slots=True)
class Target:
    """The thing that a method is aimed at, and what is passed to it."""

    phase: Phase
    resource_type: ResourceType
    name: str
    # Its name as the params have it, where a header or a filter repeats it.
    wire_name: str | None = None
    arguments: Params | None = None
    canonical_arguments: bytes | None = None

    @property
    def arguments_sha256(self) -> str | None:
        """The hash that names the arguments, where the method takes some."""
        return None if self.canonical_arguments is None else sha256_hex(self.canonical_arguments)


ReadTarget = Callable[[Params, Route], Target]


def lifecycle(_: Params, route: Route) -> Target:
    """Aim at the server, to keep the session going."""
    return Target("lifecycle", "server", route.service)


def listing(_: Params, route: Route) -> Target:
    """Aim at the server, to ask what there is."""
    return Target("list", "server", route.service)


def tool(params: Params, route: Route) -> Target:
    """Aim at the tool that `name` names."""
    wire_name = str(params["name"])
    name = tool_name(wire_name, route)
    arguments = _arguments(params)
    return Target("call", "tool", name, wire_name, arguments, canonical_arguments(arguments))


def resource(params: Params, _: Route) -> Target:
    """Aim at the resource that `uri` names."""
    uri = plain_name(params["uri"], MAX_URI_CHARS, "a resource")
    return Target("call", "resource", uri, uri)


def prompt(params: Params, _: Route) -> Target:
    """Aim at the prompt that `name` names."""
    name = plain_name(params["name"], MAX_NAME_CHARS, "a prompt")
    arguments = _arguments(params)
    if arguments is not None and not all(isinstance(value, str) for value in arguments.values()):
        raise InspectionError(Code.MCP_PARAMS, "arguments of a prompt that are not texts")
    return Target("call", "prompt", name, name, arguments, canonical_arguments(arguments))


def task(params: Params, _: Route) -> Target:
    """Aim at the task that `taskId` names."""
    name = plain_name(params["taskId"], MAX_NAME_CHARS, "a task")
    return Target("call", "task", name, name)


def completion(params: Params, _: Route) -> Target:
    """Aim at what `ref` refers to."""
    _ARGUMENT.check(_object(params["argument"]), "argument")
    _CONTEXT.check(_object(params.get("context", {})), "context")
    ref = _object(params["ref"])
    match ref.get("type"):
        case "ref/prompt":
            _PROMPT_REF.check(ref, "ref")
            return Target("call", "prompt", plain_name(ref["name"], MAX_NAME_CHARS, "a prompt"))
        case "ref/resource":
            _RESOURCE_REF.check(ref, "ref")
            return Target("call", "resource", plain_name(ref["uri"], MAX_URI_CHARS, "a resource"))
        case _:
            raise InspectionError(Code.MCP_PARAMS, "a ref to neither a prompt nor a resource")


def subscription(params: Params, route: Route) -> Target:
    """Aim at the one resource that is subscribed to; list changes alone keep the session going."""
    notifications = _object(params["notifications"])
    _LISTEN.check(notifications, "notifications")
    match notifications.get("resourceSubscriptions", []):
        case []:
            return lifecycle(params, route)
        case [uri]:
            return Target("call", "resource", plain_name(uri, MAX_URI_CHARS, "a resource"))
        case _:
            raise InspectionError(
                Code.MCP_PARAMS, "a subscription to more than one resource; send one for each"
            )


def tool_name(wire_name: str, route: Route) -> str:
    """Return the name of a tool as policy knows it.

    Raises:
        InspectionError: with MCP_PARAMS or TOOL_UNKNOWN, if no call could name a tool of this route by it.
    """
    if not _TOOL.fullmatch(wire_name):
        raise InspectionError(Code.MCP_PARAMS, f"not the name of a tool: {wire_name[:128]!r}")
    name = wire_name.removeprefix(route.tool_prefix)
    if not name or (name == wire_name and route.tool_prefix):
        raise InspectionError(Code.TOOL_UNKNOWN, f"a tool without the prefix of its server: {wire_name!r}")
    return name


def plain_name(value: object, limit: int, what: str) -> str:
    """Return the URI of a resource, or the name of a prompt or a task.

    Raises:
        InspectionError: with MCP_PARAMS, if no call could name one by it.
    """
    if not isinstance(value, str) or not 0 < len(value) <= limit or _CONTROL.search(value):
        raise InspectionError(Code.MCP_PARAMS, f"not the name of {what} of at most {limit} characters")
    return value


def _arguments(params: Params) -> Params | None:
    if "arguments" not in params:
        return None
    arguments = _object(params["arguments"])
    _check_distinct_steps(arguments, _MAX_STEPS)
    return arguments


def _check_distinct_steps(members: Params, steps: int) -> None:
    """Refuse names that one parser takes for one, as far down as a pointer of the grants reaches.

    Else a limit on `/to/account` would look at one member, and a tool in Go at its twin `Account`.
    """
    check_distinct(members, MCP, "arguments")
    if steps > 1:
        for value in members.values():
            if type(value) is dict:
                _check_distinct_steps(value, steps - 1)


def _object(value: object) -> Params:
    # The method's shape has seen that it is one.
    return cast("Params", value)
