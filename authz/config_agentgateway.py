"""`agentgateway:` of `deputy.yaml`: the service ExtMcp, for gateways that ask about MCP messages."""

from typing import Annotated

from pydantic import Field

from authz.agentgateway.targets import Targets
from authz.config_forms import Matches, ServiceName
from authz.config_sections import Section
from authz.services import Services

TargetName = Annotated[
    str, Matches(r"[A-Za-z0-9]([A-Za-z0-9._+/-]{0,252})", "the name of a target as agentgateway has it")
]


class AgentgatewayConfig(Section):
    """What agentgateway's targets are here; it asks over the listener of `check`, as one of its callers."""

    targets: dict[TargetName, ServiceName] = Field(
        min_length=1,
        description="the service that each target is; those that clients reach at one address are one",
    )
    prefixed: bool = Field(
        default=False,
        description="a backend has several targets, and agentgateway puts their names before those of tools, "
        "prompts and resources: grants name `target_tool` then, as clients do",
    )

    def to_targets(self, services: Services) -> Targets:
        """Return the targets.

        Raises:
            ConfigError: if one is no service of MCP, or two names could be one.
        """
        return Targets.of(self.targets, services, is_prefixed=self.prefixed)
