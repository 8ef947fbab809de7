"""How the requests to one service are to be read: set by the operator, never by the client.

- `paths` are those that clients send, without the last slash; the root is the empty text.
  MCP: the endpoint; without any, every path that ends in `/mcp`.
  A2A: where the agent's JSON-RPC is, and what its other paths stand below; without any, the root.
  Models: what `/v1/…` stands below; without any, the root.
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
