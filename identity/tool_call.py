"""Does a request that reached a tool server ask for what its transaction token allows, and nothing else?

- The body is read as strictly as the authorizer reads it; a body that two readers read in two ways is
  refused.
- One JSON-RPC message: its method is the action of the token, a batch is refused.
- A tool, prompt, resource or task is the one that the token names, and the arguments have the hash that it
  holds. A token that serves all calls of a tool holds no hash: it counts only where the server says so.
- GET opens a stream and DELETE ends a session; both are actions of their own and have no body.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from identity.canonical import arguments_sha256
from identity.errors import IdentityError
from identity.strict_json import StrictJsonError, loads
from identity.transaction import TransactionToken

MAX_BODY: Final = 1024 * 1024

STREAM_OPEN: Final = "stream_open"
SESSION_END: Final = "session_end"
CLIENT_RESPONSE: Final = "client_response"

_BODILESS: Final = {"GET": STREAM_OPEN, "DELETE": SESSION_END}
# The member of `params` that names what a method is aimed at.
_TARGET: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
    "tasks/get": "taskId",
    "tasks/result": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}


class ToolCallError(IdentityError):
    """A request that is not the one that its transaction token allows."""


def check_call(
    token: TransactionToken,
    method: str,
    body: bytes,
    tool_prefix: str = "",
    *,
    allow_per_tool: bool = False,
) -> None:
    """Compare a request with its verified token; `tool_prefix` is what a gateway puts before tools' names.

    With `allow_per_tool` a token that says that it serves all calls of its tool leaves the arguments open.

    Raises:
        ToolCallError: if they differ, or the request cannot be read in one way only.
    """
    if method in _BODILESS:
        if body:
            raise ToolCallError(f"{method} with a body")
        _require(token.action == _BODILESS[method], "the action")
        return
    if method != "POST":
        raise ToolCallError(f"an HTTP method that MCP does not have: {method[:16]!r}")
    message = _message(body)
    action = message.get("method", CLIENT_RESPONSE)
    _require(token.action == action, "the action")
    params = _object(message.get("params", {}), "params")
    prefix = tool_prefix if action == "tools/call" else ""
    for target in _targets(action, params, token.service):
        _require(target == prefix + token.resource, "the target")
    if action in {"tools/call", "prompts/get"}:
        arguments = _object(params.get("arguments", {}), "arguments")
        if token.per_tool and allow_per_tool:
            return
        _require(arguments_sha256(arguments) == token.arguments_sha256, "the arguments")


def _targets(action: object, params: Mapping[str, object], service: str) -> Iterable[object]:
    """Return all that a method is aimed at: one thing, or nothing but the server."""
    match action:
        case str() if action in _TARGET:
            return [params.get(_TARGET[action])]
        case "completion/complete":
            ref = _object(params.get("ref"), "ref")
            return [ref[name] for name in ("name", "uri") if name in ref] or [None]
        case "subscriptions/listen":
            uris = _object(params.get("notifications"), "notifications").get("resourceSubscriptions", [])
            return uris or [service] if isinstance(uris, list) else [None]
        case _:
            return []


def _message(body: bytes) -> Mapping[str, object]:
    if len(body) > MAX_BODY:
        raise ToolCallError(f"a body of more than {MAX_BODY} bytes")
    try:
        message = loads(body)
    except StrictJsonError as error:
        raise ToolCallError(f"a body that is not strict JSON: {error}") from error
    message = _object(message, "message")
    # A response has no method; one that has both could be taken for either.
    if (
        not isinstance(message.get("method", ""), str)
        or len(message.keys() & {"method", "result", "error"}) != 1
    ):
        raise ToolCallError("a message that is not exactly one of request, notification and response")
    return message


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ToolCallError(f"a {what} that is not an object")
    return value


def _require(equal: bool, what: str) -> None:  # noqa: FBT001 - the comparison itself, at each call
    if not equal:
        raise ToolCallError(f"{what} of the request is not that of its transaction token")
