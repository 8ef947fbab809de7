"""The two eras of MCP over HTTP, and what their headers may say.

- Legacy (2024-11-05 to 2025-11-25): a handshake and a session; no version header means 2025-03-26.
- Modern (2026-07-28): no session; version, method and name travel in headers too, and `_meta` of each request
  has the version and the client's capabilities.
- The body decides. A header that repeats a part of it must equal it in every era, since something on
  the way may have been routed by it; in the modern era it must be there.
- A version that we do not know is refused.
"""

import binascii
import re
from base64 import b64decode, b64encode
from enum import Enum

from authz.codes import Code
from authz.errors import InspectionError
from authz.headers import Headers
from authz.protocols.json_rpc import Message, Params, RpcNotification, RpcRequest, RpcResponse
from authz.protocols.mcp_params import CAPABILITIES_META, PROTOCOL_VERSION_META, meta_of
from authz.protocols.mcp_target import Target

VERSION_HEADER = "mcp-protocol-version"
SESSION_HEADER = "mcp-session-id"
METHOD_HEADER = "mcp-method"
NAME_HEADER = "mcp-name"

LEGACY_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
MODERN_VERSIONS = frozenset({"2026-07-28"})
KNOWN_VERSIONS = LEGACY_VERSIONS | MODERN_VERSIONS

# Specification 2026-07-28, Streamable HTTP, standard request headers.
_NAME_IS_MIRRORED = frozenset({"tools/call", "resources/read", "prompts/get"})
_SENTINEL = re.compile(r"=\?base64\?([A-Za-z0-9+/]*={0,2})\?=")


class Era(Enum):
    """Which half of the specification a message belongs to."""

    LEGACY = "legacy"
    MODERN = "modern"


def header_era(headers: Headers) -> Era:
    """Return the era that the version header names.

    Raises:
        InspectionError: with MCP_VERSION if the version is not known.
        RequestError: if the header stands twice or is not text.
    """
    version = headers.one(VERSION_HEADER)
    if version is None or version in LEGACY_VERSIONS:
        return Era.LEGACY
    if version not in MODERN_VERSIONS:
        raise InspectionError(Code.MCP_VERSION, f"an unknown version in {VERSION_HEADER}")
    return Era.MODERN


def message_era(message: Message, headers: Headers) -> Era:
    """Return the era of a message, and refuse what does not belong there.

    Raises:
        InspectionError: with the code of what is wrong.
        RequestError: if a header stands twice or is not text.
    """
    era = header_era(headers)
    if isinstance(message, RpcResponse):
        _check_response(era, headers)
    else:
        _check_meta_version(message, headers)
    if isinstance(message, RpcRequest):
        _check_request(message, era)
    return era


def check_routing_headers(
    message: RpcRequest | RpcNotification, target: Target, era: Era, headers: Headers
) -> None:
    """Compare the headers that repeat the method and the name with the body.

    Raises:
        InspectionError: with MCP_HEADER_MISMATCH.
        RequestError: if a header stands twice or is not text.
    """
    must_mirror = era is Era.MODERN and isinstance(message, RpcRequest)
    method = headers.one(METHOD_HEADER)
    if method != message.method and (must_mirror or method is not None):
        raise InspectionError(
            Code.MCP_HEADER_MISMATCH, f"{METHOD_HEADER} is not the body's {message.method!r}"
        )
    name = headers.one(NAME_HEADER)
    if name is None and not (must_mirror and message.method in _NAME_IS_MIRRORED):
        return
    if name is None or target.wire_name is None or decode_header(name) != target.wire_name:
        raise InspectionError(Code.MCP_HEADER_MISMATCH, f"{NAME_HEADER} is not the name in the body")


def decode_header(value: str) -> str | None:
    """Undo `=?base64?…?=`; None if it is malformed, so that it equals nothing."""
    sentinel = _SENTINEL.fullmatch(value)
    if sentinel is None:
        return value
    try:
        data = b64decode(sentinel[1], validate=True)
        return data.decode() if b64encode(data).decode() == sentinel[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _check_response(era: Era, headers: Headers) -> None:
    if era is Era.MODERN:
        raise InspectionError(Code.MCP_ENVELOPE, "a response by the client, which this era does not have")
    if headers.one(SESSION_HEADER) is None:
        raise InspectionError(Code.MCP_ENVELOPE, "a response by the client outside a session")
    if headers.one(METHOD_HEADER) is not None or headers.one(NAME_HEADER) is not None:
        raise InspectionError(Code.MCP_HEADER_MISMATCH, "a response with the headers of a request")


def _check_meta_version(message: RpcRequest | RpcNotification, headers: Headers) -> None:
    meta = meta_of(message.params)
    if PROTOCOL_VERSION_META not in meta:
        return
    version = meta[PROTOCOL_VERSION_META]
    # The header's is a known one here, so one that equals it is as well.
    if version != headers.one(VERSION_HEADER):
        raise InspectionError(Code.MCP_HEADER_MISMATCH, f"{VERSION_HEADER} is not the version of _meta")


def _check_request(message: RpcRequest, era: Era) -> None:
    if era is Era.MODERN:
        _check_modern_meta(message.params)
    if message.method == "initialize":
        _check_initialize(message.params, era)


def _check_modern_meta(params: Params) -> None:
    meta = meta_of(params)
    if PROTOCOL_VERSION_META not in meta or not isinstance(meta.get(CAPABILITIES_META), dict):
        raise InspectionError(Code.MCP_PARAMS, "a request without protocol version and capabilities in _meta")


def _check_initialize(params: Params, era: Era) -> None:
    if era is Era.MODERN:
        raise InspectionError(Code.MCP_METHOD_UNKNOWN, "a handshake in an era that has none")
    version = params.get("protocolVersion")
    if not isinstance(version, str) or version not in LEGACY_VERSIONS:
        raise InspectionError(Code.MCP_VERSION, "a handshake for a version that has none")
