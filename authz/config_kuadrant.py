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
    """A server behind a gateway."""

    name: ServerName = Field(description="namespace/name of its MCPServerRegistration")
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


class KuadrantGatewayConfig(Section):
    """A service that is such a gateway."""

    service: ServiceName = Field(description="the gateway, where lists are asked for")
    servers: list[KuadrantServerConfig] = Field(min_length=1, max_length=64, description="what is behind it")


class KuadrantConfig(Section):
    """Sign `x-mcp-authorized` for requests for lists."""

    key: FilePath = Field(
        description="PEM file with a P-256 private key for this alone; the gateway has the public key"
    )
    gateways: list[KuadrantGatewayConfig] = Field(min_length=1, description="the gateways")

    def to_gateways(self, services: Services) -> Mapping[str, tuple[GatewayServer, ...]]:
        """Return the servers by gateway.

        Raises:
            ConfigError: if a service is unknown, a gateway speaks no MCP or is outside, or stands twice.
        """
        found: dict[str, tuple[GatewayServer, ...]] = {}
        for gateway in self.gateways:
            name, service = gateway.service, services.by_name.get(gateway.service)
            if service is None or service.route.protocol != "mcp" or service.is_outside or name in found:
                raise ConfigError(f"kuadrant: {name!r} is no service of MCP in the mesh, or stands twice")
            if len({server.name for server in gateway.servers}) != len(gateway.servers):
                raise ConfigError(f"kuadrant: a server of {name!r} stands twice: keep one")
            found[name] = tuple(_to_server(server, name, services) for server in gateway.servers)
        return found


def _to_server(config: KuadrantServerConfig, gateway: str, services: Services) -> GatewayServer:
    service = services.by_name.get(config.service or gateway)
    if service is None:
        raise ConfigError(f"kuadrant: {config.name!r} is of the unknown service {config.service!r}")
    return GatewayServer(
        name=config.name,
        service=service.name,
        audience=service.audience,
        prefix=config.prefix,
        tools=tuple(config.tools),
        prompts=tuple(config.prompts),
        resources=tuple(config.resources),
    )
