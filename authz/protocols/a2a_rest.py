"""The HTTP+JSON binding of A2A: an operation in the HTTP method and the path.

- 1.0: the paths of the specification below the agent's own path, or below one segment more, its tenant.
  0.3: the same below `/v1`, without a tenant. The version says which, so `/v1` is never a tenant.
- Whatever could be read as two of them is refused: a task or a tenant with the name of a path's own segment,
  an identifier with a colon, which belongs to the verb, and everything encoded.
- What stands in the path and in the body again is the same. Path, query and body together are the params.
- GET and DELETE have no body, and only the parameters that the operation has, each of its type.
- A POST that may do without a body says that it has none: a proxy that was not told to send bodies shows an
  empty one instead, and a tenant could stand in it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols import a2a_params as params
from authz.protocols.a2a_headers import Version
from authz.protocols.a2a_methods import METHODS, Method
from authz.protocols.json_body import JSON, check_json_headers, decode_object
from authz.protocols.query import read_query
from authz.protocols.reader_codes import A2A
from authz.protocols.shape import Shape
from authz.request import Request

MEDIA_TYPE: Final = "application/a2a+json"

_OWN_SEGMENTS: Final = frozenset(
    {"card", "extendedAgentCard", "pushNotificationConfigs", "tasks", "v1", ".well-known"}
)
_NAME: Final = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,127}"
_BOOLEANS: Final = {"true": True, "false": False}
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_NUMBERS: Final = frozenset({"historyLength", "pageSize"})
_TRUTHS: Final = frozenset({"includeArtifacts"})


@dataclass(frozen=True, slots=True)
class Form:
    """One operation in the binding: below the agent's path, in one or both versions."""

    name: str
    http_method: str
    template: str
    query: frozenset[str] = frozenset()
    versions: frozenset[Version] = frozenset(Version)

    @property
    def method(self) -> Method:
        """The operation."""
        return METHODS[self.name]

    @property
    def has_body(self) -> bool:
        """Say whether params travel in the body."""
        return self.http_method == "POST"


@dataclass(frozen=True, slots=True)
class Called:
    """An operation with its params, and whose agent of several it is for."""

    method: Method
    arguments: Mapping[str, object]
    tenant: str


def _form(name: str, http_method: str, template: str, query: str = "", *versions: Version) -> Form:
    return Form(name, http_method, template, frozenset(query.split()), frozenset(versions or Version))


_PUSH: Final = "tasks/{taskId}/pushNotificationConfigs"
FORMS: Final = (
    _form("SendMessage", "POST", "message:send"),
    _form("SendStreamingMessage", "POST", "message:stream"),
    _form("GetTask", "GET", "tasks/{id}", "historyLength"),
    _form(
        "ListTasks",
        "GET",
        "tasks",
        "contextId status pageSize pageToken historyLength statusTimestampAfter includeArtifacts",
    ),
    _form("CancelTask", "POST", "tasks/{id}:cancel"),
    _form("SubscribeToTask", "POST", "tasks/{id}:subscribe"),
    _form("SubscribeToTask", "GET", "tasks/{id}:subscribe"),
    _form("CreateTaskPushNotificationConfig", "POST", _PUSH, "", Version.NEW),
    _form("ListTaskPushNotificationConfigs", "GET", _PUSH, "pageSize pageToken"),
    _form("GetTaskPushNotificationConfig", "GET", f"{_PUSH}/{{id}}"),
    _form("DeleteTaskPushNotificationConfig", "DELETE", f"{_PUSH}/{{id}}"),
    _form("GetExtendedAgentCard", "GET", "extendedAgentCard", "", Version.NEW),
    _form("GetExtendedAgentCard", "GET", "card", "", Version.OLD),
)


def _pattern(form: Form, version: Version) -> re.Pattern[str]:
    path = re.sub(r"\{(\w+)\}", rf"(?P<\1>{_NAME})", form.template)
    prefix = rf"(?:/(?P<tenant>{_NAME}))?" if version is Version.NEW else "/v1"
    return re.compile(f"{prefix}/{path}")


_PATTERNS: Final = {
    version: [(form, _pattern(form, version)) for form in FORMS if version in form.versions]
    for version in Version
}

# Version 0.3 has no tenant in a body, and ProtoJSON here, which is other than its JSON-RPC.
_OLD_BODIES: Final[Mapping[str, Shape]] = {
    "SendMessage": params.OLD_REST_SEND,
    "SendStreamingMessage": params.OLD_REST_SEND,
    "CancelTask": params.OLD_TASK,
    "SubscribeToTask": params.OLD_TASK,
}


def read_rest(request: Request, path: str, query: str, version: Version) -> Called:
    """Read a call whose path, below the agent's own, is this.

    Raises:
        InspectionError: if it is no operation, or its params do not fit.
        RequestError: if a header stands twice or is not text.
    """
    form, names = _find(request.method, path, version)
    tenant = names.pop("tenant", "")
    found: dict[str, object] = {**names, **_read_query(query, form)}
    if tenant:
        found["tenant"] = tenant
    for name, value in _read_body(request, form).items():
        # Which of the two a server takes is its own affair. An empty text is what is not set.
        if value != "" and value != found.get(name, value):
            raise InspectionError(Code.A2A_PARAMS, f"{name[:80]!r} in the body that is another in the path")
        found.setdefault(name, value)
    method_params = form.method.params
    if version is Version.OLD:
        method_params = _OLD_BODIES.get(form.name, method_params)
    arguments = method_params.check(found)
    return Called(form.method, arguments, str(found.get("tenant", "")))


def _find(http_method: str, path: str, version: Version) -> tuple[Form, dict[str, str]]:
    for form, pattern in _PATTERNS[version]:
        match = pattern.fullmatch(path) if form.http_method == http_method else None
        if match is None:
            continue
        names = {name: value for name, value in match.groupdict().items() if value is not None}
        if not _OWN_SEGMENTS.isdisjoint(names.values()):
            break
        return form, names
    raise InspectionError(Code.A2A_METHOD_UNKNOWN, f"{http_method} {path[:255]!r} in version {version.value}")


def _read_query(query: str, form: Form) -> Mapping[str, object]:
    found = read_query(query)
    if found is None or not found.keys() <= form.query:
        raise InspectionError(Code.A2A_PARAMS, f"a query that {form.name} does not have")
    return {name: _typed(name, value) for name, value in found.items()}


def _typed(name: str, value: str) -> object:
    if name in _NUMBERS and _NUMBER.fullmatch(value):
        return int(value)
    # What is neither is left as the text that it is, which the shape then refuses.
    return _BOOLEANS.get(value, value) if name in _TRUTHS else value


def _read_body(request: Request, form: Form) -> Mapping[str, object]:
    if not request.body and (not form.has_body or form.method.params.required <= {"id"}):
        _require_empty(request, form)
        return {}
    if not form.has_body:
        raise InspectionError(Code.A2A_PARAMS, f"{form.http_method} with a body")
    check_json_headers(request.headers, MEDIA_TYPE, JSON)
    return decode_object(request.body, A2A)


def _require_empty(request: Request, form: Form) -> None:
    length = request.headers.one("content-length")
    if length != "0" and (form.has_body or length is not None):
        raise InspectionError(Code.BODY_TRUNCATED, f"{form.name} without the body that it may have")
