"""The operations of A2A, under their name of version 1.0, whatever the wire calls them.

- One row an operation: its params in 1.0, and its name and params before that.
- An older name belongs to an older version, a name of 1.0 to 1.0: a message that mixes them is refused,
  because a server that speaks both could read it by either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authz.protocols import a2a_params as params
from authz.protocols.shape import Shape

GET_AGENT_CARD: Final = "GetAgentCard"


@dataclass(frozen=True, slots=True)
class Method:
    """One known operation."""

    name: str
    params: Shape
    old_name: str | None = None
    old_params: Shape | None = None


_ROWS: Final = (
    Method("SendMessage", params.SEND, "message/send", params.OLD_SEND),
    Method("SendStreamingMessage", params.SEND, "message/stream", params.OLD_SEND),
    Method("GetTask", params.GET_TASK, "tasks/get", params.OLD_GET_TASK),
    Method("ListTasks", params.LIST_TASKS),
    Method("CancelTask", params.CANCEL, "tasks/cancel", params.OLD_TASK),
    Method("SubscribeToTask", params.SUBSCRIBE, "tasks/resubscribe", params.OLD_TASK),
    Method(
        "CreateTaskPushNotificationConfig",
        params.CREATE_PUSH,
        "tasks/pushNotificationConfig/set",
        params.OLD_CREATE_PUSH,
    ),
    Method(
        "GetTaskPushNotificationConfig",
        params.ONE_PUSH,
        "tasks/pushNotificationConfig/get",
        params.OLD_GET_PUSH,
    ),
    Method(
        "ListTaskPushNotificationConfigs",
        params.LIST_PUSH,
        "tasks/pushNotificationConfig/list",
        params.OLD_TASK,
    ),
    Method(
        "DeleteTaskPushNotificationConfig",
        params.ONE_PUSH,
        "tasks/pushNotificationConfig/delete",
        params.OLD_DELETE_PUSH,
    ),
    Method("GetExtendedAgentCard", params.CARD, "agent/getAuthenticatedExtendedCard", params.OLD_CARD),
)

METHODS: Final[Mapping[str, Method]] = {method.name: method for method in _ROWS}
OLD_METHODS: Final[Mapping[str, Method]] = {
    method.old_name: method for method in _ROWS if method.old_name is not None
}
