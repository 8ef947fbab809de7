"""An AuthZEN evaluation as the question that Envoy would have asked: one flow decides both.

- The gateway says what Envoy would say: in `context.peer` and `context.peer_certificate` who is at the other
  end of its connection, verified by its TLS, and in `context.token` the credential that came. Who acts for
  whom is read from that credential and nowhere else.
- The subject must be whom the credential names: a question about somebody else is no question of ours.
- The service is `resource.properties.service`. For MCP the action is the JSON-RPC method and the resource
  what it is aimed at (COAZ-MCP); for plain HTTP the action is the method and the resource the path.
- `context.arguments` are the arguments of a tool or a prompt.
"""

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

from authz.authzen.evaluation import Evaluation, EvaluationError
from authz.pb import ext_authz_pb2 as pb
from authz.services import SERVICE_EXTENSION, Service, Services
from identity.errors import TokenError
from identity.jws import UnverifiedToken

# What a method is aimed at: the type of its resource, and the member of `params` that names it.
_TARGETS: Final[Mapping[str, tuple[str, str]]] = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
    "resources/subscribe": ("resource", "uri"),
    "resources/unsubscribe": ("resource", "uri"),
    "tasks/get": ("task", "taskId"),
    "tasks/result": ("task", "taskId"),
    "tasks/cancel": ("task", "taskId"),
}
_WITH_ARGUMENTS: Final = frozenset({"tools/call", "prompts/get"})
_INITIALIZE: Final = "initialize"
# A question is written as a message of this revision; which one client and server speak, nobody decides here.
_REVISION: Final = "2025-11-25"
_HELLO: Final[Mapping[str, object]] = {
    "protocolVersion": _REVISION,
    "capabilities": {},
    "clientInfo": {"name": "authzen", "version": "1.0"},
}
_SERVER: Final = "mcp_server"
_PATH: Final = "path"
_TYPES: Final = frozenset({"user", "agent"})


def question_of(evaluation: Evaluation, services: Services) -> bytes:
    """Return the bytes of the CheckRequest that this evaluation is.

    Raises:
        EvaluationError: if it cannot be asked here: an unknown service, or a subject that its credential does
            not name.
    """
    service = _service(evaluation, services)
    token = _text(evaluation.context, "token")
    _check_subject(evaluation, token)
    message = pb.CheckRequest()
    attributes = message.attributes
    attributes.source.principal = _text(evaluation.context, "peer")
    attributes.source.certificate = quote(_text(evaluation.context, "peer_certificate"), safe="")
    attributes.context_extensions[SERVICE_EXTENSION] = service.name
    method, path, body = _request(evaluation, service)
    http = attributes.request.http
    http.method, http.path, http.host, http.scheme = method, path, urlsplit(service.audience).netloc, "https"
    http.raw_body, http.size = body, len(body)
    headers = [("content-type", "application/json"), ("accept", "application/json")] if body else []
    if token:
        headers.append(("authorization", f"Bearer {token}"))
    for name, value in headers:
        http.header_map.headers.add(key=name, raw_value=value.encode("utf-8", "surrogatepass"))
    return message.SerializeToString()


def _service(evaluation: Evaluation, services: Services) -> Service:
    name = evaluation.resource.properties.get("service")
    if name is None and evaluation.resource.type == _SERVER:
        of_audience = [each for each in services.by_name.values() if each.audience == evaluation.resource.id]
        if of_audience:
            return of_audience[0]
    service = services.by_name.get(name) if isinstance(name, str) else None
    if service is None:
        raise EvaluationError("resource.properties.service names no service that is known here")
    return service


def _check_subject(evaluation: Evaluation, token: str) -> None:
    if evaluation.subject.type not in _TYPES:
        raise EvaluationError("subject.type is neither user nor agent")
    if not token:
        return
    try:
        unverified_subject = UnverifiedToken.parse(token).unverified_claims.get("sub")
    except TokenError:
        # What is wrong with it, the flow says, and records.
        return
    if unverified_subject != evaluation.subject.id:
        raise EvaluationError("subject.id is not whom the credential names")


def _request(evaluation: Evaluation, service: Service) -> tuple[str, str, bytes]:
    """Return method, path and body of the HTTP request that is meant."""
    action, resource = evaluation.action, evaluation.resource
    if service.route.protocol == "http":
        if resource.type != _PATH:
            raise EvaluationError(f"resource.type is not {_PATH}")
        return action, resource.id, b""
    params: dict[str, object] = dict(_HELLO) if action == _INITIALIZE else {}
    if action in _TARGETS:
        kind, member = _TARGETS[action]
        if resource.type != kind:
            raise EvaluationError(f"resource.type of {action} is not {kind}")
        params[member] = resource.id
    elif resource.type != _SERVER:
        raise EvaluationError(f"resource.type of {action[:64]!r} is not {_SERVER}")
    arguments = evaluation.context.get("arguments")
    if action in _WITH_ARGUMENTS and arguments is not None:
        if not isinstance(arguments, dict):
            raise EvaluationError("context.arguments is not an object")
        params["arguments"] = arguments
    message = {"jsonrpc": "2.0", "id": 1, "method": action, "params": params}
    path = min(service.route.paths, default="/mcp")
    return "POST", path, json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _text(context: Mapping[str, object], name: str) -> str:
    value = context.get(name, "")
    if not isinstance(value, str):
        raise EvaluationError(f"context.{name} is not a text")
    return value
