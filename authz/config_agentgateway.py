"""`agentgateway:` of `deputy.yaml`: the service ExtMcp, for gateways that ask about MCP messages."""

from typing import Annotated

from pydantic import Field

from authz.agentgateway.targets import Targets
from authz.config_forms import Matches, ServiceName
from authz.config_sections import Section
from authz.errors import ConfigError
from authz.services import Services

TargetName = Annotated[
    str, Matches(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,252}", "the name of a target as agentgateway has it")
]


class TargetConfig(Section):
    """A target of agentgateway, and what it is here."""

    name: TargetName = Field(description="its name in agentgateway's configuration")
    service: ServiceName = Field(
        description="the service that it is; targets that clients reach at one address are one service"
    )


class AgentgatewayConfig(Section):
    """ExtMcp; agentgateway asks over the listener of `check`, as one of its callers."""

    targets: list[TargetConfig] = Field(min_length=1, description="the targets behind it")
    prefixed: bool = Field(
        default=False,
        description="a backend has several targets, and agentgateway puts their names before those of tools, "
        "prompts and resources: grants name `target_tool` then, as clients do",
    )

    def to_targets(self, services: Services) -> Targets:
        """Return the targets.

        Raises:
            ConfigError: if one stands twice or is no service of MCP, or two names could be one.
        """
        by_target = {target.name: target.service for target in self.targets}
        if len(by_target) != len(self.targets):
            raise ConfigError("agentgateway: a target stands twice: keep one")
        return Targets.of(by_target, services, is_prefixed=self.prefixed)
