"""What agentgateway says: a request or a result of MCP, and over which connection it came.

- Bounded, and read strictly: a field that is not known here could mean anything, and is refused.
- Who is at the other end of the connection is what the gateway attests in `metadata_context` by the
  operator's CEL (`peer`, `certificate`), never a header. A value that is null was not known.
- `passage` says whose call a result belongs to: it is what we gave the gateway when the call was allowed.
"""

from dataclasses import dataclass, field
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.unknown_fields import UnknownFieldSet

from authz.errors import AuthzError
from authz.headers import MAX_HEADERS
from authz.pb import ext_mcp_pb2 as pb

MAX_MESSAGE_BYTES: Final = 8 << 20
MAX_TARGETS: Final = 32

PEER: Final = "peer"
CERTIFICATE: Final = "certificate"
PASSAGE: Final = "passage"

_MAX_TARGET: Final = 253
_MAX_METHOD: Final = 128

Read = TypeVar("Read", bound=Message)


class ExtMcpError(AuthzError):
    """A message of the gateway that is none; its text is for the operator, and holds nothing secret."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a client, before it goes to the targets."""

    targets: tuple[str, ...]
    method: str
    peer: str
    certificate: str = field(repr=False)
    # JSON, as the gateway wrote it; None where it says nothing of the params.
    params: bytes | None = field(repr=False)
    headers: tuple[tuple[str, bytes], ...] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> "Asked":
        """Read a McpRequest.

        Raises:
            ExtMcpError: if it is something else, too large, or says more than is known here.
        """
        message = _read(data, pb.McpRequest())
        if len(message.headers) > MAX_HEADERS:
            raise ExtMcpError(f"{len(message.headers)} headers, at most {MAX_HEADERS} are read")
        return cls(
            targets=_targets(list(message.service_names)),
            method=_method(message.method),
            peer=_text(message.metadata_context, PEER),
            certificate=_text(message.metadata_context, CERTIFICATE),
            params=message.mcp_request if message.HasField("mcp_request") else None,
            headers=tuple([(header.key, header.value) for header in message.headers]),
        )


@dataclass(frozen=True, slots=True)
class Answered:
    """A result of the targets, before it goes to the client."""

    targets: tuple[str, ...]
    method: str
    passage: str = field(repr=False)
    result: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> "Answered":
        """Read a McpResponse.

        Raises:
            ExtMcpError: if it is something else, too large, or says more than is known here.
        """
        message = _read(data, pb.McpResponse())
        return cls(
            targets=_targets(list(message.service_names)),
            method=_method(message.method),
            passage=_text(message.metadata_context, PASSAGE),
            result=message.mcp_response,
        )


def _read(data: bytes, message: Read) -> Read:
    if len(data) > MAX_MESSAGE_BYTES:
        raise ExtMcpError(f"a message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES} are read")
    try:
        message.MergeFromString(data)
    except DecodeError as error:
        raise ExtMcpError(f"not a {message.DESCRIPTOR.name}") from error
    if len(UnknownFieldSet(message)):
        raise ExtMcpError(f"a {message.DESCRIPTOR.name} with a field that is not known here")
    return message


def _targets(names: list[str]) -> tuple[str, ...]:
    if not 1 <= len(names) <= MAX_TARGETS or len(set(names)) != len(names):
        raise ExtMcpError(f"service_names of {len(names)}: 1 to {MAX_TARGETS} are read, each once")
    for name in names:
        if not 1 <= len(name) <= _MAX_TARGET or not name.isprintable():
            raise ExtMcpError(f"not the name of a target: {name[:80]!r}")
    return tuple(names)


def _method(method: str) -> str:
    if not 1 <= len(method) <= _MAX_METHOD or not method.isprintable():
        raise ExtMcpError(f"not a method: {method[:80]!r}")
    return method


def _text(context: Struct, name: str) -> str:
    value = context.fields.get(name) or Value()
    match value.WhichOneof("kind"):
        case None | "null_value":
            return ""
        case "string_value":
            return value.string_value
        case _:
            raise ExtMcpError(f"metadata_context.{name} is not a text")
