"""The params of A2A methods, as the specification has them: 1.0 (`lf.a2a.v1`), and 0.2 and 0.3 before it.

- Names are the camelCase ones of the specification only. Servers that read with a ProtoJSON parser take
  `task_id` for `taskId`, so that other spelling is refused like every unknown member.
- A message that registers a push notification besides asks for two things at once, one of which sends data
  to a URL of the caller's choice; it is refused, and `CreateTaskPushNotificationConfig` is a call of its own.
- A part of a message has exactly one content. `metadata` and the data of a part are free.
"""

import re
from typing import Final

from authz.protocols import shape
from authz.protocols.reader_codes import A2A
from authz.protocols.shape import Check, Shape

MAX_URL_CHARS = 2048
MAX_TENANT_CHARS = 128

_ID = re.compile(r"[A-Za-z0-9._~:@-]{1,255}")
_URL = re.compile(rf"https?://[!-~]{{1,{MAX_URL_CHARS}}}")
_TWO_CALLS = "a call of its own: CreateTaskPushNotificationConfig"


def _identifier(value: object) -> str | None:
    return None if type(value) is str and _ID.fullmatch(value) else "no identifier"


def _optional_identifier(value: object) -> str | None:
    # ProtoJSON may write what is not set as an empty text.
    return None if value == "" else _identifier(value)


def _tenant(value: object) -> str | None:
    return "too long" if type(value) is str and len(value) > MAX_TENANT_CHARS else _optional_identifier(value)


def _url(value: object) -> str | None:
    return None if type(value) is str and _URL.fullmatch(value) else "no http or https URL"


def _shape(what: str, checks: dict[str, Check], required: str = "", one_of: str = "") -> Shape:
    return Shape.of(A2A, what, checks, required, one_of)


_TEXTS: Final = shape.listed(shape.text)
_TENANT: Final[dict[str, Check]] = {"tenant": _tenant}
_TASK: Final[dict[str, Check]] = {"id": _identifier}
_PAGE: Final[dict[str, Check]] = {"pageSize": shape.number, "pageToken": shape.text}
_METADATA: Final[dict[str, Check]] = {"metadata": shape.members}
_MESSAGE: Final[dict[str, Check]] = {
    "messageId": shape.text,
    "contextId": shape.text,
    "taskId": shape.text,
    "extensions": _TEXTS,
    "referenceTaskIds": _TEXTS,
    **_METADATA,
}

# 1.0

_PART = _shape(
    "a part",
    {
        "text": shape.text,
        "raw": shape.text,
        "url": shape.text,
        "data": shape.anything,
        "filename": shape.text,
        "mediaType": shape.text,
        **_METADATA,
    },
    one_of="text raw url data",
)
_MESSAGE_1 = _shape(
    "a message",
    _MESSAGE | {"role": shape.one_of("ROLE_USER", "ROLE_AGENT"), "parts": shape.listed(shape.nested(_PART))},
    "messageId role parts",
)
_SENDING = _shape(
    "configuration",
    {
        "acceptedOutputModes": _TEXTS,
        "historyLength": shape.number,
        "returnImmediately": shape.truth,
        "taskPushNotificationConfig": shape.nothing(_TWO_CALLS),
    },
)
_AUTHENTICATION = _shape("authentication", {"scheme": shape.text, "credentials": shape.text}, "scheme")

SEND: Final = _shape(
    "params",
    {"message": shape.nested(_MESSAGE_1), "configuration": shape.nested(_SENDING)} | _TENANT | _METADATA,
    "message",
)
GET_TASK: Final = _shape("params", _TASK | _TENANT | {"historyLength": shape.number}, "id")
LIST_TASKS: Final = _shape(
    "params",
    {
        "contextId": shape.text,
        "status": shape.text,
        "historyLength": shape.number,
        "statusTimestampAfter": shape.text,
        "includeArtifacts": shape.truth,
    }
    | _PAGE
    | _TENANT,
)
CANCEL: Final = _shape("params", _TASK | _TENANT | _METADATA, "id")
SUBSCRIBE: Final = _shape("params", _TASK | _TENANT, "id")
CREATE_PUSH: Final = _shape(
    "params",
    {
        "taskId": _identifier,
        "id": _optional_identifier,
        "url": _url,
        "token": shape.text,
        "authentication": shape.nested(_AUTHENTICATION),
    }
    | _TENANT,
    "taskId url",
)
ONE_PUSH: Final = _shape("params", {"taskId": _identifier, "id": _identifier} | _TENANT, "taskId id")
LIST_PUSH: Final = _shape("params", {"taskId": _identifier} | _PAGE | _TENANT, "taskId")
CARD: Final = _shape("params", {**_TENANT})

# 0.2 and 0.3

_OLD_TEXT = _shape("a part", {"kind": shape.one_of("text"), "text": shape.text} | _METADATA, "kind text")
_OLD_FILE = _shape(
    "a file",
    {"bytes": shape.text, "uri": shape.text, "mimeType": shape.text, "name": shape.text},
    one_of="bytes uri",
)
_OLD_FILE_PART = _shape(
    "a part", {"kind": shape.one_of("file"), "file": shape.nested(_OLD_FILE)} | _METADATA, "kind file"
)
_OLD_DATA = _shape("a part", {"kind": shape.one_of("data"), "data": shape.members} | _METADATA, "kind data")
_OLD_PARTS: Final = {"text": _OLD_TEXT, "file": _OLD_FILE_PART, "data": _OLD_DATA}


def _old_part(value: object) -> str | None:
    kind = value.get("kind") if isinstance(value, dict) else None
    known = _OLD_PARTS.get(kind) if isinstance(kind, str) else None
    if known is None:
        return "no part of a kind that is known"
    known.check(value)
    return None


_OLD_MESSAGE = _shape(
    "a message",
    _MESSAGE
    | {
        "kind": shape.one_of("message"),
        "role": shape.one_of("user", "agent"),
        "parts": shape.listed(_old_part),
    },
    "messageId role parts",
)
_OLD_SENDING = _shape(
    "configuration",
    {
        "acceptedOutputModes": _TEXTS,
        "historyLength": shape.number,
        "blocking": shape.truth,
        "pushNotificationConfig": shape.nothing(_TWO_CALLS),
    },
)
_OLD_AUTHENTICATION = _shape("authentication", {"schemes": _TEXTS, "credentials": shape.text}, "schemes")
_OLD_PUSH = _shape(
    "pushNotificationConfig",
    {
        "id": _identifier,
        "url": _url,
        "token": shape.text,
        "authentication": shape.nested(_OLD_AUTHENTICATION),
    },
    "url",
)

# What 0.3 has as ProtoJSON in its HTTP+JSON binding.
_OLD_REST_FILE = _shape(
    "a file",
    {
        "fileWithUri": shape.text,
        "fileWithBytes": shape.text,
        "mimeType": shape.text,
        "name": shape.text,
    },
    one_of="fileWithUri fileWithBytes",
)
_OLD_REST_DATA = _shape("data", {"data": shape.members}, "data")
_OLD_REST_PART = _shape(
    "a part",
    {"text": shape.text, "file": shape.nested(_OLD_REST_FILE), "data": shape.nested(_OLD_REST_DATA)}
    | _METADATA,
    one_of="text file data",
)
_OLD_REST_MESSAGE = _shape(
    "a message",
    _MESSAGE
    | {
        "role": shape.one_of("ROLE_USER", "ROLE_AGENT"),
        "content": shape.listed(shape.nested(_OLD_REST_PART)),
    },
    "messageId role content",
)
_OLD_REST_SENDING = _shape(
    "configuration",
    {
        "acceptedOutputModes": _TEXTS,
        "historyLength": shape.number,
        "blocking": shape.truth,
        "pushNotification": shape.nothing(_TWO_CALLS),
    },
)

OLD_REST_SEND: Final = _shape(
    "params",
    {"message": shape.nested(_OLD_REST_MESSAGE), "configuration": shape.nested(_OLD_REST_SENDING)}
    | _METADATA,
    "message",
)
OLD_SEND: Final = _shape(
    "params",
    {"message": shape.nested(_OLD_MESSAGE), "configuration": shape.nested(_OLD_SENDING)} | _METADATA,
    "message",
)
OLD_GET_TASK: Final = _shape("params", _TASK | _METADATA | {"historyLength": shape.number}, "id")
OLD_TASK: Final = _shape("params", _TASK | _METADATA, "id")
OLD_CREATE_PUSH: Final = _shape(
    "params",
    {"taskId": _identifier, "pushNotificationConfig": shape.nested(_OLD_PUSH)} | _METADATA,
    "taskId pushNotificationConfig",
)
OLD_GET_PUSH: Final = _shape("params", _TASK | _METADATA | {"pushNotificationConfigId": _identifier}, "id")
OLD_DELETE_PUSH: Final = _shape(
    "params", _TASK | _METADATA | {"pushNotificationConfigId": _identifier}, "id pushNotificationConfigId"
)
OLD_CARD: Final = _shape("params", {})
