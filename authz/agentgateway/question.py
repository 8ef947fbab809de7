"""A request that agentgateway asks about, as the question that Envoy would have asked: one flow decides both.

- Who is at the other end is what the gateway attests; who acts for whom is read from the credential in the
  headers, by the flow, and nowhere else.
- `params` are inspected as they are, in an envelope of ours: the gateway tells neither the id nor the bytes
  of the message. What is no strict JSON object stays outside of the envelope, so that nothing breaks out of
  it, and is refused as what it is.
- The gateway has read the body and writes it anew: the headers that describe the client's bytes describe
  nothing any more.
- Where all targets are asked the gateway tells no params. What every such message must have to be one is put
  there; nothing that is decided by: a subscription, whose params matter, is refused.
"""

import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from authz.agentgateway.message import Asked, ExtMcpError
from authz.agentgateway.targets import Targets
from authz.pb import ext_authz_pb2 as pb
from authz.protocols.mcp_era import MODERN_VERSIONS, VERSION_HEADER
from authz.protocols.mcp_params import CAPABILITIES_META, PROTOCOL_VERSION_META
from authz.request import MAX_BODY_BYTES
from authz.services import SERVICE_EXTENSION
from identity.strict_json import StrictJsonError, loads

_JSON_TYPE: Final = ("content-type", b"application/json")
# They say how the client's bytes are to be read.
_OF_THE_BYTES: Final = frozenset({"content-type", "content-encoding", "content-length", "transfer-encoding"})
# The member that names a thing, which the gateway may have called differently.
_NAMES: Final[Mapping[str, str]] = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_REQUIRED: Final[Mapping[str, Mapping[str, object]]] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "agentgateway", "version": "1"},
    },
    "logging/setLevel": {"level": "info"},
}
# No name of a service has a slash.
_UNKNOWN: Final = "unknown/"


def question_of(asked: Asked, targets: Targets) -> bytes:
    """Return the bytes of the CheckRequest; a target that is unknown is a service that is.

    Raises:
        ExtMcpError: if the gateway does not say where the request was sent.
    """
    pseudo = {name: value for name, value in asked.headers if name.startswith(":")}
    service = targets.service(asked.targets)
    message = pb.CheckRequest()
    attributes = message.attributes
    attributes.source.principal = asked.peer
    attributes.source.certificate = quote(asked.certificate, safe="")
    attributes.context_extensions[SERVICE_EXTENSION] = service or f"{_UNKNOWN}{asked.targets[0]}"
    http = attributes.request.http
    http.method = _place(pseudo, ":method")
    http.path = _place(pseudo, ":path")
    http.host = _place(pseudo, ":authority")
    http.scheme = _text(pseudo.get(":scheme", b""))
    http.raw_body = _body(asked, targets)
    http.size = len(http.raw_body)
    for name, value in _headers(asked):
        http.header_map.headers.add(key=name, raw_value=value)
    return message.SerializeToString()


def _place(pseudo: Mapping[str, bytes], name: str) -> str:
    if name not in pseudo:
        raise ExtMcpError(f"no {name!r} among the headers: let the gateway forward all of them")
    return _text(pseudo[name])


def _text(value: bytes) -> str:
    # What is not ASCII becomes U+FFFD, which the flow refuses.
    return value.decode("ascii", "replace")


def _headers(asked: Asked) -> list[tuple[str, bytes]]:
    kept = [each for each in asked.headers if each[0] not in _OF_THE_BYTES and not each[0].startswith(":")]
    return [_JSON_TYPE, *kept]


def _body(asked: Asked, targets: Targets) -> bytes:
    raw = asked.params
    if raw is None:
        return _message(asked.method, _dump(_required(asked)))
    if len(raw) > MAX_BODY_BYTES:
        # The flow refuses it, whoever asks; nobody reads it before.
        return raw
    try:
        params = loads(raw)
    except StrictJsonError:
        return raw
    if not isinstance(params, dict):
        return raw
    member = _NAMES.get(asked.method, "")
    name, prefix = params.get(member), targets.prefix(asked.targets[0], member)
    if prefix and isinstance(name, str):
        raw = _dump({**params, member: f"{prefix}{name}"})
    return _message(asked.method, raw)


def _message(method: str, params: bytes) -> bytes:
    envelope = _dump({"jsonrpc": "2.0", "id": 1, "method": method})
    return b"".join((envelope[:-1], b',"params":', params, b"}"))


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _required(asked: Asked) -> Mapping[str, object]:
    """Return what a message must have to be one of this method and this revision."""
    params = dict(_REQUIRED.get(asked.method, {}))
    version = dict(asked.headers).get(VERSION_HEADER, b"").decode("ascii", "replace")
    if version in MODERN_VERSIONS:
        params["_meta"] = {PROTOCOL_VERSION_META: version, CAPABILITIES_META: {}}
    return params
