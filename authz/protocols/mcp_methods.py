"""The methods of MCP that are known; every other one is refused.

- One row a method: the params that the schemas of all revisions list for it, and what it is aimed at.
- A request has an id, a notification has none; the other way round is refused, so that `tools/call` cannot
  travel as a notification.
- Some clients send what the era of 2026-07-28 took out all the same; its servers say that there is no such
  method, and so do we where its params do not fit.
- What only servers send (`sampling/createMessage`, `notifications/message`, …) is not in the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols import mcp_target as aim
from authz.protocols.json_rpc import RpcNotification, RpcRequest
from authz.protocols.mcp_era import Era
from authz.protocols.mcp_params import Shape
from authz.protocols.mcp_target import ReadTarget, Target
from authz.protocols.route import Route


@dataclass(frozen=True, slots=True)
class Method:
    """One known method."""

    read_target: ReadTarget
    params: Shape


def _method(read_target: ReadTarget, required: str = "", optional: str = "") -> Method:
    return Method(read_target, Shape.of(required, f"{optional} _meta"))


# `inputResponses` and `requestState`: the retry of a call that needed input (2026-07-28).
_RETRY = "inputResponses requestState"

REQUESTS: Mapping[str, Method] = {
    "initialize": _method(aim.lifecycle, "protocolVersion capabilities clientInfo"),
    "ping": _method(aim.lifecycle),
    "server/discover": _method(aim.lifecycle),
    "logging/setLevel": _method(aim.lifecycle, "level"),
    "tools/list": _method(aim.listing, "", "cursor"),
    "prompts/list": _method(aim.listing, "", "cursor"),
    "resources/list": _method(aim.listing, "", "cursor"),
    "resources/templates/list": _method(aim.listing, "", "cursor"),
    "tasks/list": _method(aim.listing, "", "cursor"),
    "tools/call": _method(aim.tool, "name", f"arguments task {_RETRY}"),
    "prompts/get": _method(aim.prompt, "name", f"arguments {_RETRY}"),
    "resources/read": _method(aim.resource, "uri", _RETRY),
    "resources/subscribe": _method(aim.resource, "uri"),
    "resources/unsubscribe": _method(aim.resource, "uri"),
    "completion/complete": _method(aim.completion, "ref argument", "context"),
    "subscriptions/listen": _method(aim.subscription, "notifications"),
    "tasks/get": _method(aim.task, "taskId"),
    "tasks/result": _method(aim.task, "taskId"),
    "tasks/update": _method(aim.task, "taskId", "inputResponses"),
    "tasks/cancel": _method(aim.task, "taskId"),
}

_LEGACY_ONLY = frozenset({"logging/setLevel", "ping", "resources/subscribe", "resources/unsubscribe"})

NOTIFICATIONS: Mapping[str, Method] = {
    "notifications/initialized": _method(aim.lifecycle),
    "notifications/cancelled": _method(aim.lifecycle, "", "requestId reason"),
    "notifications/progress": _method(aim.lifecycle, "progressToken progress", "total message"),
    "notifications/roots/list_changed": _method(aim.lifecycle),
    "notifications/tasks/status": _method(
        aim.lifecycle, "taskId status", "statusMessage createdAt lastUpdatedAt ttl pollInterval"
    ),
}


def read_target(message: RpcRequest | RpcNotification, route: Route, era: Era = Era.LEGACY) -> Target:
    """Return what the message is aimed at.

    Raises:
        InspectionError: if the method is not known, or its params are not those of the method.
    """
    known, other = (REQUESTS, NOTIFICATIONS) if isinstance(message, RpcRequest) else (NOTIFICATIONS, REQUESTS)
    method = known.get(message.method)
    if method is None and message.method in other:
        raise InspectionError(Code.MCP_ID, f"{message.method!r} with an id, or without the one that it needs")
    if method is None:
        raise InspectionError(Code.MCP_METHOD_UNKNOWN, f"method {message.method!r}")
    try:
        method.params.check(message.params, f"params of {message.method}")
    except InspectionError as error:
        if era is Era.MODERN and message.method in _LEGACY_ONLY:
            raise InspectionError(Code.MCP_METHOD_UNKNOWN, f"{message.method!r} in this era") from error
        raise
    return method.read_target(message.params, route)
