"""`kuadrant:` of `deputy.yaml`: which services are Kuadrant's MCP gateways, and what is behind each."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from authz.config_forms import FilePath, Matches, ServiceName, Text, ToolPrefix
from authz.config_sections import Section
from authz.errors import ConfigError
from authz.kuadrant.capabilities import GatewayServer
from authz.services import Services

_LABEL = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
ServerName = Annotated[
    str, Matches(rf"{_LABEL}/{_LABEL}", "namespace/name of a registration, such as mcp-test/tickets")
]
Names = Annotated[list[Text], Field(max_length=1024)]


class KuadrantServerConfig(Section):
    """A server behind the gateway."""

    service: ServiceName | None = Field(
        default=None, description="the service whose grants name its tools; by default the gateway's own"
    )
    prefix: ToolPrefix = Field(
        default="", description="what the grants put before the names of its tools and prompts"
    )
    tools: Names = Field(default_factory=list, description="tools beside those that the grants name")
    prompts: Names = Field(default_factory=list, description="its prompts; no other one is shown")
    resources: Names = Field(
        default_factory=list,
        description="authorities of the URIs of its resources; no other one is shown",
    )


class KuadrantConfig(Section):
    """Sign `x-mcp-authorized` for requests for lists."""

    key: FilePath = Field(
        description="PEM file with a P-256 private key for this alone; the gateway has the public key"
    )
    gateways: dict[ServiceName, dict[ServerName, KuadrantServerConfig]] = Field(
        min_length=1, description="by service that is such a gateway: the servers behind it"
    )

    def to_gateways(self, services: Services) -> Mapping[str, tuple[GatewayServer, ...]]:
        """Return the servers by gateway.

        Raises:
            ConfigError: if a service is unknown, or a gateway speaks no MCP, is outside, or has no servers.
        """
        found: dict[str, tuple[GatewayServer, ...]] = {}
        for gateway, servers in self.gateways.items():
            service = services.by_name.get(gateway)
            if service is None or service.route.protocol != "mcp" or service.is_outside or not servers:
                raise ConfigError(
                    f"kuadrant: {gateway!r} is no service of MCP in the mesh, or has no servers"
                )
            found[gateway] = tuple(
                _to_server(name, each, gateway, services) for name, each in servers.items()
            )
        return found


def _to_server(name: str, config: KuadrantServerConfig, gateway: str, services: Services) -> GatewayServer:
    service = config.service or gateway
    if service not in services.by_name:
        raise ConfigError(f"kuadrant: {name!r} is of the unknown service {service!r}")
    return GatewayServer(
        name=name,
        service=service,
        prefix=config.prefix,
        tools=tuple(config.tools),
        prompts=tuple(config.prompts),
        resources=tuple(config.resources),
    )
