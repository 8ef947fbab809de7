"""What a caller could use of the servers behind Kuadrant's MCP gateway, by the names that its broker has.

- The broker makes one list of what its servers have, with a prefix for each, and takes out what the signed
  header does not name. It knows a server by namespace and name of its registration, and a thing without the
  prefix; of resources it compares the authority of the URI only.
- The policy is asked by its own names: of the service that the operator names for a server, with a prefix
  where clients and grants have one. The names of tools stand in the grants. Those of prompts and resources
  stand nowhere but in the configuration: without them there is none.
- An empty list takes everything out. A kind that is missing would take nothing out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from authz.policy.query import Kind
from authz.protocols.operation import Operation
from identity.transaction import TOOL_CALL

Member = Literal["tools", "prompts", "resources"]

_LISTS: Final[Mapping[str, Member]] = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
}
KINDS: Final[Mapping[Member, Kind]] = {"tools": "tool", "prompts": "prompt", "resources": "resource"}
# Tools of the broker itself: what they tell of is what its lists show.
_DISCOVERY: Final = frozenset({"discover_tools", "select_tools"})


@dataclass(frozen=True, slots=True)
class GatewayServer:
    """A server behind the gateway; `service` and `audience` are of ours, whose grants name its things."""

    name: str
    service: str
    audience: str
    prefix: str = ""
    tools: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    def candidates(self, member: Member, granted: Sequence[str]) -> Mapping[str, str]:
        """Return by the policy's name what the broker calls a thing; `granted` are tools of the service."""
        match member:
            case "tools":
                of_grants = [name.removeprefix(self.prefix) for name in granted if self._is_ours(name)]
                return {f"{self.prefix}{name}": name for name in (*of_grants, *self.tools)}
            case "prompts":
                return {f"{self.prefix}{name}": name for name in self.prompts}
            case "resources":
                return {authority: authority for authority in self.resources}
            case _:
                assert_never(member)

    def _is_ours(self, name: str) -> bool:
        return name.startswith(self.prefix) and name != self.prefix


def listed(operation: Operation) -> Member | None:
    """Return what the broker lists in its answer; None where it lists nothing that it cuts."""
    if operation.protocol != "mcp":
        return None
    if operation.method == TOOL_CALL:
        return "tools" if operation.resource_name in _DISCOVERY else None
    return _LISTS.get(operation.method)
