"""The gRPC binding of A2A 1.0: the operation in the path, its params in one Protocol Buffers message.

- Read by the field numbers of the specification (`lf.a2a.v1`), into the params that JSON-RPC has, so that a
  policy sees one operation whatever the binding. What does not fit the tables is refused.
- The binding of 0.3 (`a2a.v1`) is refused: its messages are others, and nobody needs it who has 1.0.
"""

from typing import Final

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.a2a_headers import Version
from authz.protocols.a2a_methods import METHODS
from authz.protocols.a2a_rest import Called
from authz.protocols.grpc_call import check_grpc_call, one_message
from authz.protocols.http_path import HttpPath
from authz.protocols.protobuf import Field, ProtobufError, Table, read_message
from authz.request import Request

SERVICE: Final = "/lf.a2a.v1.A2AService/"
OLD_SERVICE: Final = "/a2a.v1.A2AService/"

_ROLES: Final = ("ROLE_UNSPECIFIED", "ROLE_USER", "ROLE_AGENT")
_STATES: Final = (
    "TASK_STATE_UNSPECIFIED",
    "TASK_STATE_SUBMITTED",
    "TASK_STATE_WORKING",
    "TASK_STATE_COMPLETED",
    "TASK_STATE_FAILED",
    "TASK_STATE_CANCELED",
    "TASK_STATE_INPUT_REQUIRED",
    "TASK_STATE_REJECTED",
    "TASK_STATE_AUTH_REQUIRED",
)

_TENANT: Final = Field("tenant")
_PART: Final[Table] = {
    1: Field("text"),
    2: Field("raw", "bytes"),
    3: Field("url"),
    4: Field("data", "value"),
    5: Field("metadata", "struct"),
    6: Field("filename"),
    7: Field("mediaType"),
}
_MESSAGE: Final[Table] = {
    1: Field("messageId"),
    2: Field("contextId"),
    3: Field("taskId"),
    4: Field("role", "enum", names=_ROLES),
    5: Field("parts", "message", repeated=True, message=_PART),
    6: Field("metadata", "struct"),
    7: Field("extensions", repeated=True),
    8: Field("referenceTaskIds", repeated=True),
}
_AUTHENTICATION: Final[Table] = {1: Field("scheme"), 2: Field("credentials")}
_CREATE_PUSH: Final[Table] = {
    1: _TENANT,
    2: Field("id"),
    3: Field("taskId"),
    4: Field("url"),
    5: Field("token"),
    6: Field("authentication", "message", message=_AUTHENTICATION),
}
_CONFIGURATION: Final[Table] = {
    1: Field("acceptedOutputModes", repeated=True),
    # Read, so that the params refuse it by its name.
    2: Field("taskPushNotificationConfig", "message", message=_CREATE_PUSH),
    3: Field("historyLength", "int32"),
    4: Field("returnImmediately", "bool"),
}
_SEND: Final[Table] = {
    1: _TENANT,
    2: Field("message", "message", message=_MESSAGE),
    3: Field("configuration", "message", message=_CONFIGURATION),
    4: Field("metadata", "struct"),
}
_ONE_PUSH: Final[Table] = {1: _TENANT, 2: Field("taskId"), 3: Field("id")}

TABLES: Final[dict[str, Table]] = {
    "SendMessage": _SEND,
    "SendStreamingMessage": _SEND,
    "GetTask": {1: _TENANT, 2: Field("id"), 3: Field("historyLength", "int32")},
    "ListTasks": {
        1: _TENANT,
        2: Field("contextId"),
        3: Field("status", "enum", names=_STATES),
        4: Field("pageSize", "int32"),
        5: Field("pageToken"),
        6: Field("historyLength", "int32"),
        7: Field("statusTimestampAfter", "timestamp"),
        8: Field("includeArtifacts", "bool"),
    },
    "CancelTask": {1: _TENANT, 2: Field("id"), 3: Field("metadata", "struct")},
    "SubscribeToTask": {1: _TENANT, 2: Field("id")},
    "CreateTaskPushNotificationConfig": _CREATE_PUSH,
    "GetTaskPushNotificationConfig": _ONE_PUSH,
    "ListTaskPushNotificationConfigs": {
        1: Field("taskId"),
        2: Field("pageSize", "int32"),
        3: Field("pageToken"),
        4: _TENANT,
    },
    "DeleteTaskPushNotificationConfig": _ONE_PUSH,
    "GetExtendedAgentCard": {1: _TENANT},
}


def is_grpc_path(path: str) -> bool:
    """Say whether a path is one of A2A's gRPC service."""
    return path.startswith((SERVICE, OLD_SERVICE))


def read_grpc(request: Request, target: HttpPath, version: Version) -> Called:
    """Read a call of the gRPC binding.

    Raises:
        InspectionError: if it is no operation, or its params do not fit.
        RequestError: if a header stands twice or is not text.
    """
    check_grpc_call(request, target)
    name = target.path.removeprefix(SERVICE)
    table = TABLES.get(name)
    if table is None:
        raise InspectionError(Code.A2A_METHOD_UNKNOWN, f"gRPC method {target.path[:255]!r}")
    if version is not Version.NEW:
        raise InspectionError(Code.A2A_VERSION, f"{name} in version {version.value}")
    try:
        found = read_message(one_message(request), table)
    except ProtobufError as error:
        raise InspectionError(Code.A2A_PARAMS, f"a message that is not read: {error}") from error
    method = METHODS[name]
    arguments = method.params.check(found)
    return Called(method, arguments, str(arguments.get("tenant", "")))
