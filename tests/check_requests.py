"""CheckRequests as a real Envoy writes them, with one thing wrong at a time.

Field by field as captured from Envoy 1.39.3 with `encode_raw_headers` and `pack_as_bytes`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from authz.pb import ext_authz_pb2 as pb
from authz.protocols.route import Route
from authz.request import Request

PEER = "spiffe://mesh.example/agent/triage/task/01JD0000000000000000000000"
PROXY = "spiffe://mesh.example/ns/tools/sa/envoy"
TICKETS = Route("tickets", "mcp")
FILES = Route("files", "http")
MCP_HEADERS = (("accept", "application/json, text/event-stream"), ("content-type", "application/json"))

Fields = Iterable[tuple[str, str | bytes]]


def check_request(
    body: bytes = b"",
    *,
    method: str = "POST",
    path: str = "/mcp",
    host: str = "tickets.mesh.example:8443",
    headers: Fields = MCP_HEADERS,
    size: int | None = None,
    partial: str | None = "false",
    principal: str = PEER,
    certificate: str = "",
    extensions: Mapping[str, str] | None = None,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
) -> pb.CheckRequest:
    """Return a CheckRequest for one HTTP request."""
    pseudo = ((":authority", host), (":path", path), (":method", method), (":scheme", "https"))
    fields = [*pseudo, *headers, ("x-request-id", "77ccc708-450e-4870-88f6-0c69a448cde3")]
    if body and partial is not None:
        fields.append(("x-envoy-auth-partial-body", partial))
    message = pb.CheckRequest()
    attributes = message.attributes
    attributes.source.principal = principal
    attributes.source.certificate = certificate
    attributes.destination.principal = PROXY
    attributes.context_extensions.update(extensions or {"service": "tickets"})
    for namespace, facts in (metadata or {}).items():
        attributes.metadata_context.filter_metadata[namespace].update(dict(facts))
    http = attributes.request.http
    http.id, http.method, http.path, http.host = "9371478719990202781", method, path, host
    http.scheme, http.protocol = "https", "HTTP/1.1"
    http.size = len(body) if size is None else size
    http.raw_body = body
    for name, value in fields:
        raw = value if isinstance(value, bytes) else value.encode()
        http.header_map.headers.add(key=name, raw_value=raw)
    return message


def request(body: bytes = b"", **parts: Any) -> Request:
    """Return the parsed request."""
    return Request.parse(check_request(body, **parts).SerializeToString())
