"""How the requests to one service are to be read: set by the operator, never by the client."""

from dataclasses import dataclass

from authz.protocols.operation import Protocol


@dataclass(frozen=True, slots=True)
class Route:
    """The service, its protocol, and the prefix that a gateway puts before its tools' names."""

    service: str
    protocol: Protocol
    tool_prefix: str = ""
