"""How the requests to one service are to be read: set by the operator, never by the client.

- `paths` are those of the MCP endpoint, as clients send them; without any, every path that ends in `/mcp` is.
"""

from dataclasses import dataclass

from authz.protocols.operation import Protocol


@dataclass(frozen=True, slots=True)
class Route:
    """The service, its protocol, and the prefix that a gateway puts before its tools' names."""

    service: str
    protocol: Protocol
    tool_prefix: str = ""
    paths: frozenset[str] = frozenset()
