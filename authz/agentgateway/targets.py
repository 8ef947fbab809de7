"""Which service of ours the targets of a gateway are, and by which names the policy knows their things.

- The operator writes it down; a target that is not there is unknown, whatever it is called.
- A request goes to one service: what stands for its caller has one audience. Several targets that clients
  reach at one address are one service of ours.
- Things have the names that clients use. agentgateway puts `target_` before names and `target+` before URIs
  where a backend has several targets, and takes that off before it asks: with `prefixed` it is put back, so
  that a tool of one target is never granted by the name that another target gives to one of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from authz.errors import ConfigError
from authz.services import Services

# They end the name of a target in a prefixed name.
_DELIMITERS = "_+"


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of a gateway, by name."""

    services: Mapping[str, str]
    is_prefixed: bool = False

    @classmethod
    def of(cls, by_target: Mapping[str, str], services: Services, *, is_prefixed: bool) -> "Targets":
        """Take what the operator wrote.

        Raises:
            ConfigError: if there is none, its service is unknown, speaks no MCP or has a prefix, or
                two prefixed names could be one.
        """
        if not by_target:
            raise ConfigError("agentgateway without targets")
        for target, name in by_target.items():
            service = services.by_name.get(name)
            if service is None or service.route.protocol != "mcp":
                raise ConfigError(f"agentgateway: target {target!r} is {name!r}, which is no service of MCP")
            if service.route.tool_prefix:
                raise ConfigError(f"agentgateway: {name!r} has a tool_prefix, but names come without it")
            if is_prefixed and any(delimiter in target for delimiter in _DELIMITERS):
                raise ConfigError(f"agentgateway: {target!r} has '_' or '+', which end the prefix of a name")
        return cls(dict(by_target), is_prefixed)

    def service(self, targets: Sequence[str]) -> str | None:
        """Return the one service that all of them are; None where one is unknown, or they are several."""
        names = {self.services.get(target) for target in targets}
        return names.pop() if len(names) == 1 else None

    def prefix(self, target: str, member: str) -> str:
        """Return what the gateway puts before the `name` or the `uri` of a thing of this target."""
        if not self.is_prefixed:
            return ""
        return f"{target}_" if member == "name" else f"{target}+"
