"""The request that the proxy asks about; the only reader of CheckRequest.

- Every part that a stranger can size is bounded before it is looked at.
- The peer is `source.principal` of the proxy's own TLS, never a header.
- Headers come from `header_map` or from `headers`, the body from `raw_body` or from `body`: one form of each.
  Both at once is refused, because we would have to believe one of them. In the text forms Envoy has replaced
  what is not UTF-8 by `!`, so `encode_raw_headers` and `pack_as_bytes` are what we recommend.
- `partial` says that the body is not all there: the proxy says so, or its length is not the size that the
  proxy counted. An unknown size passes only where nothing says that there is a body.
- The scheme is what the proxy believes: `https` or `http` in lower case, or nothing. TLS may have ended
  before the proxy, so `http` does not say what the client wrote.
- Path and query stay as they came, but printable ASCII that starts with a slash and has no fragment;
  authz/protocols/http_path.py refuses what is ambiguous. The host is in lower case, without its port.
- Of the filters' metadata the scalars are kept, two levels deep, of the namespaces that we compare with.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from authz.codes import Code
from authz.errors import RequestError
from authz.headers import Headers, check_count
from authz.host import parse_authority
from authz.pb import ext_authz_pb2 as pb
from authz.peer import parse_peer, peer_thumbprint
from identity.spiffe import SpiffeId

MAX_MESSAGE_BYTES = 4 << 20
MAX_BODY_BYTES = 1 << 20
MAX_PATH_CHARS = 8192
MAX_EXTENSIONS = 32
MAX_METADATA_FIELDS = 64
METADATA_NAMESPACES = ("envoy.filters.http.mcp", "mcp_proxy")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PATH = re.compile(r"/[!-\"$-~]*")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, as the proxy describes it."""

    http_id: str
    peer: SpiffeId | None
    peer_thumbprint: str | None
    destination: str
    extensions: Mapping[str, str]
    metadata: Mapping[str, Mapping[str, object]] = field(repr=False)
    method: str
    scheme: str
    path: str
    host: str
    port: int | None
    headers: Headers
    body: bytes = field(repr=False)
    size: int
    partial: bool

    @classmethod
    def parse(cls, data: bytes) -> "Request":
        """Read a CheckRequest.

        Raises:
            RequestError: if a part is missing, malformed, too large, or there in two forms.
        """
        attributes = _attributes(data)
        http = attributes.request.http
        headers = Headers.parse(_header_fields(http))
        body = _body(http)
        host, port = parse_authority(http.host)
        return cls(
            http_id=_text(http.id, 128, "id"),
            peer=parse_peer(attributes.source.principal),
            peer_thumbprint=peer_thumbprint(attributes.source.certificate),
            destination=_text(attributes.destination.principal, 1024, "destination.principal"),
            extensions=_extensions(attributes),
            metadata=_metadata(attributes),
            method=_method(http.method),
            scheme=_scheme(http.scheme),
            path=_path(http.path),
            host=host,
            port=port,
            headers=headers,
            body=body,
            size=http.size,
            partial=_is_partial(headers, body, http.size),
        )


def _attributes(data: bytes) -> pb.AttributeContext:
    if len(data) > MAX_MESSAGE_BYTES:
        raise RequestError(
            Code.REQUEST_MALFORMED, f"a message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES} are read"
        )
    try:
        message = pb.CheckRequest.FromString(data)
    except DecodeError as error:
        raise RequestError(Code.REQUEST_MALFORMED, "not a CheckRequest") from error
    if not message.attributes.request.HasField("http"):
        raise RequestError(Code.REQUEST_MALFORMED, "a CheckRequest without an HTTP request")
    return message.attributes


def _text(text: str, limit: int, what: str) -> str:
    if len(text) > limit or not text.isprintable():
        raise RequestError(
            Code.REQUEST_MALFORMED, f"{what} is longer than {limit} or not printable: {text[:80]!r}"
        )
    return text


def _method(method: str) -> str:
    if method not in _METHODS:
        raise RequestError(Code.REQUEST_MALFORMED, f"not an HTTP method that is read: {method[:32]!r}")
    return method


def _scheme(scheme: str) -> str:
    return next((known for known in ("https", "http") if scheme.lower() == known), "")


def _path(path: str) -> str:
    if len(path) > MAX_PATH_CHARS:
        raise RequestError(Code.PATH, f"a path of {len(path)} characters, at most {MAX_PATH_CHARS} are read")
    if not _PATH.fullmatch(path):
        # The query stays out of records: tokens travel there.
        shown = path.partition("?")[0][:255]
        raise RequestError(Code.PATH, f"not a path of printable ASCII without fragment: {shown!r}")
    return path


def _extensions(attributes: pb.AttributeContext) -> Mapping[str, str]:
    if len(attributes.context_extensions) > MAX_EXTENSIONS:
        raise RequestError(Code.REQUEST_MALFORMED, f"{len(attributes.context_extensions)} context extensions")
    extensions = dict(attributes.context_extensions)
    for name, value in extensions.items():
        _text(name, 128, "name of a context extension")
        _text(value, 1024, f"context extension {name!r}")
    return extensions


def _header_fields(http: pb.AttributeContext.HttpRequest) -> list[tuple[str, bytes]]:
    raw = http.header_map.headers
    # Before a list is made of them: a message has room for hundreds of thousands.
    check_count(max(len(raw), len(http.headers)))
    if not raw:
        return [(name, value.encode()) for name, value in http.headers.items()]
    if http.headers:
        raise RequestError(Code.REQUEST_MALFORMED, "headers and header_map are both there")
    return [(header.key, _header_value(header) if header.value else header.raw_value) for header in raw]


def _header_value(header: pb.HeaderValue) -> bytes:
    if header.raw_value:
        raise RequestError(Code.REQUEST_MALFORMED, f"{header.key[:80]!r} has a value and a raw_value")
    return header.value.encode()


def _body(http: pb.AttributeContext.HttpRequest) -> bytes:
    if http.raw_body and http.body:
        raise RequestError(Code.REQUEST_MALFORMED, "body and raw_body are both there")
    body = http.raw_body or http.body.encode()
    if len(body) > MAX_BODY_BYTES:
        raise RequestError(Code.BODY_TOO_LARGE, f"a body of {len(body)} bytes")
    return body


def _is_partial(headers: Headers, body: bytes, size: int) -> bool:
    if headers.one("x-envoy-auth-partial-body") not in {None, "false"}:
        return True
    if size != -1:
        return size != len(body)
    # Envoy counts, also for chunked bodies; who does not count may only ask about requests without a body.
    has_content = (
        headers.one("content-length") not in {None, "0"} or headers.one("transfer-encoding") is not None
    )
    return has_content or bool(body)


def _metadata(attributes: pb.AttributeContext) -> Mapping[str, Mapping[str, object]]:
    by_namespace = attributes.metadata_context.filter_metadata
    return {
        namespace: _scalars(by_namespace[namespace], nested=True)
        for namespace in METADATA_NAMESPACES
        if namespace in by_namespace
    }


def _scalars(struct: Struct, *, nested: bool) -> Mapping[str, object]:
    if len(struct.fields) > MAX_METADATA_FIELDS:
        raise RequestError(Code.REQUEST_MALFORMED, f"{len(struct.fields)} fields of filter metadata")
    found: dict[str, object] = {}
    for name, value in struct.fields.items():
        match value.WhichOneof("kind"):
            case "string_value":
                found[name] = value.string_value
            case "number_value":
                found[name] = value.number_value
            case "bool_value":
                found[name] = value.bool_value
            case "struct_value" if nested:
                found[name] = _scalars(value.struct_value, nested=False)
            case _:
                pass
    return found
