"""`deputy.yaml`: read once, refused when a key is unknown, turned into the values that the parts take.

- Every key is described here; `deputy config schema` prints the descriptions, and the page
  docs/reference/configuration.md is made of them.
- Relative paths are relative to the file.
- Types are not bent: text is no number, and `yes` is no truth.
- What could never match, or would mean two things, is refused: a name that stands twice, a host of two
  services, a host with a port.
- There is no key that turns a check off.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC
from functools import cache
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from authz.config_agentgateway import AgentgatewayConfig
from authz.config_events import EventsConfig
from authz.config_forms import (
    FilePath,
    OpaUrl,
    ServiceName,
    TrustDomainName,
)
from authz.config_identity import IdentityConfig
from authz.config_kuadrant import KuadrantConfig
from authz.config_problems import sentences
from authz.config_replica import ReplicaConfig
from authz.config_sections import (
    AgentConfig,
    ApprovalsConfig,
    AuditConfig,
    BrokerConfig,
    CheckConfig,
    LimitsConfig,
    ProviderConfig,
    Section,
)
from authz.config_service import ServiceConfig
from authz.errors import ConfigError
from authz.policy.yaml_strict import YamlError, load_yaml
from authz.services import Asker, Services
from identity.caller import Agent, OidcClient
from identity.errors import AttestationError
from identity.spiffe import SpiffeId, TrustDomain

MAX_CONFIG_BYTES = 1 << 20

Part = TypeVar("Part", bound=Section)


class OpaConfig(Section):
    """A real OPA over REST."""

    url: OpaUrl = Field(
        description="`unix:///path` (socket in a directory of mode 0700) or `https://host:port` (mTLS)",
    )
    ca: FilePath | None = Field(
        default=None, description="PEM file with the CA of OPA's certificate (https only)"
    )
    certificate: FilePath | None = Field(
        default=None, description="PEM file with our client certificate (https only)"
    )
    key: FilePath | None = Field(default=None, description="PEM file with its key (https only)")
    timeout_ms: int = Field(default=150, ge=1, le=10_000, description="deadline of one decision")

    @model_validator(mode="after")
    def _https_takes_mtls(self) -> Self:
        files = (self.ca, self.certificate, self.key)
        if self.url.startswith("https:") and None in files:
            raise ValueError("https takes ca, certificate and key: OPA must know who asks")
        if self.url.startswith("unix:") and files != (None, None, None):
            raise ValueError("ca, certificate and key belong to https, not to a Unix socket")
        return self


class PolicyConfig(Section):
    """Who decides, and by what."""

    engine: Literal["embedded", "opa"] = Field(
        default="embedded", description="Rego in process, or a real OPA"
    )
    grants: FilePath = Field(
        default=Path("grants.yaml"), description="the grants; reloaded when the file changes"
    )
    rego: FilePath | None = Field(
        default=None, description="directory with Rego of your own in place of the shipped policy"
    )
    opa: OpaConfig | None = Field(default=None, description="where OPA listens (engine: opa)")

    @model_validator(mode="after")
    def _opa_has_address(self) -> Self:
        if (self.engine == "opa") != (self.opa is not None):
            raise ValueError("policy.opa goes with engine: opa, and only with it")
        return self


class Config(Section):
    """`deputy.yaml`."""

    trust_domain: TrustDomainName = Field(description="SPIFFE trust domain")
    data_dir: FilePath = Field(description="directory of keys, state and audit log; created with mode 0700")
    check: CheckConfig = Field(default_factory=CheckConfig, description="the ext_authz service")
    broker: BrokerConfig = Field(description="the token broker")
    policy: PolicyConfig = Field(default_factory=PolicyConfig, description="the policy")
    services: dict[ServiceName, ServiceConfig] = Field(min_length=1, description="services by name")
    providers: list[ProviderConfig] = Field(default_factory=list, description="OpenID Providers of people")
    agents: list[AgentConfig] = Field(default_factory=list, description="the registry of agents")
    approvals: ApprovalsConfig = Field(
        default_factory=ApprovalsConfig, description="calls that wait for a person"
    )
    audit: AuditConfig = Field(default_factory=AuditConfig, description="the audit log")
    limits: LimitsConfig = Field(default_factory=LimitsConfig, description="lifetimes and limits")
    identity: IdentityConfig = Field(
        default_factory=IdentityConfig, description="the identity authority: keys, sockets, federation"
    )
    events: EventsConfig = Field(
        default_factory=EventsConfig, description="security events of others, and to others (SSF, CAEP)"
    )
    agentgateway: AgentgatewayConfig | None = Field(
        default=None, description="ExtMcp, for agentgateway: the same decisions about MCP messages"
    )
    kuadrant: KuadrantConfig | None = Field(
        default=None, description="`x-mcp-authorized`, for Kuadrant's MCP gateway"
    )
    replica: ReplicaConfig | None = Field(
        default=None, description="makes this process a replica, which only answers `Check`"
    )

    @model_validator(mode="after")
    def _known_services(self) -> Self:
        asked = {name for caller in self.check.callers for name in caller.may_ask} | set(
            self.check.local_may_ask
        )
        if unknown := sorted(asked - set(self.services)):
            raise ValueError(f"may_ask names unknown services: {', '.join(unknown)}")
        local = self.check.listen.startswith("unix:")
        if local != bool(self.check.local_may_ask) or local == bool(self.check.callers):
            raise ValueError("a Unix socket takes check.local_may_ask, host:port takes check.callers")
        return self

    @model_validator(mode="after")
    def _agents_of_ours_have_one_name(self) -> Self:
        for agent in self.agents:
            domain, slash, label = agent.name.rpartition("/")
            if slash and domain == self.trust_domain:
                raise ValueError(f"agents: {agent.name!r} is of this trust domain: write {label!r}")
        return self

    @model_validator(mode="after")
    def _svids_end_before_their_keys(self) -> Self:
        limits = self.limits
        name, longest = max(
            ("x509_svid_seconds", limits.x509_svid_seconds),
            ("jwt_svid_seconds", limits.jwt_svid_seconds),
            ("delegation_token_seconds", limits.delegation_token_seconds),
            ("transaction_token_seconds", limits.transaction_token_seconds),
            key=lambda each: each[1],
        )
        if 6 * longest > self.identity.key_seconds:
            raise ValueError(
                f"identity.key_seconds must be six times limits.{name} at least, {6 * longest}: "
                "what outlived the key that signed it would be refused"
            )
        return self

    @model_validator(mode="after")
    def _workloads_are_told_apart(self) -> Self:
        try:
            trust_domain = TrustDomain.parse(self.trust_domain)
            self.identity.to_registrations(trust_domain)
            self.identity.to_own_sockets(trust_domain)
        except AttestationError as error:
            raise ValueError(f"identity: {error}") from error
        return self

    @model_validator(mode="after")
    def _nothing_stands_twice(self) -> Self:
        services = self.services.values()
        _once("agents", (agent.name for agent in self.agents))
        _once("check.callers", (caller.id for caller in self.check.callers))
        _once("providers", (provider.issuer for provider in self.providers))
        _once("broker.assertion_targets", (target.issuer for target in self.broker.assertion_targets))
        # A token for one of two services with one audience would be a token for the other.
        # And a JWT-SVID for the broker, which delegates carry about, one for the service.
        _once("services: audience", (self.broker.issuer, *(service.audience for service in services)))
        _once(
            "services: host behind one destination",
            (
                f"{host} behind {destination}"
                for service in services
                for destination in set(service.destinations)
                for host in set(service.hosts)
            ),
        )
        return self

    @model_validator(mode="after")
    def _clients_are_known(self) -> Self:
        known = {(each.issuer, client) for each in self.providers for client in each.audiences}
        for agent in self.agents:
            for client in agent.clients:
                if (client.issuer, client.id) not in known:
                    raise ValueError(
                        f"agents: {agent.name!r}: client {client.id!r} of {client.issuer!r} is none of the "
                        "audiences in providers, so its tokens would not count"
                    )
        return self

    @model_validator(mode="after")
    def _gateways_are_in_front_of_services(self) -> Self:
        try:
            services = self.to_services()
            if self.agentgateway is not None:
                self.agentgateway.to_targets(services)
            if self.kuadrant is not None:
                self.kuadrant.to_gateways(services)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def to_services(self) -> Services:
        """Return services and askers as the flow takes them."""
        services = tuple(service.to_service(name) for name, service in self.services.items())
        askers = tuple(
            Asker(SpiffeId.parse(caller.id), frozenset(caller.may_ask)) for caller in self.check.callers
        )
        local = None
        if self.check.local_may_ask:
            own = SpiffeId.parse(f"spiffe://{self.trust_domain}/local")
            local = Asker(own, frozenset(self.check.local_may_ask))
        return Services.of(services, askers, local)

    def to_agents(self) -> tuple[Agent, ...]:
        """Return the registered agents."""
        return tuple(to_agent(agent) for agent in self.agents)


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: with one sentence for each thing that is wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read {str(path)!r}: {error.strerror}; see 'deputy config schema'"
        ) from error
    try:
        return parse_config(data, path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error


def parse_config(data: bytes, directory: Path) -> Config:
    """Read a configuration; relative paths are relative to `directory`.

    Raises:
        ConfigError: with one sentence for each thing that is wrong.
    """
    try:
        raw = load_yaml(data, MAX_CONFIG_BYTES)
    except YamlError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(raw, dict):
        raise ConfigError("the configuration is not a mapping; 'deputy config schema' shows its keys")
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(sentences(error, _schema())) from error
    return _with_absolute_paths(config, directory)


@cache
def _schema() -> dict[str, object]:
    return Config.model_json_schema()


def _once(what: str, names: Iterable[str]) -> None:
    """Refuse a name that stands twice.

    Raises:
        ValueError: with the first such name.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{what}: {name!r} stands {count} times: keep one")


def _with_absolute_paths(section: Part, directory: Path) -> Part:
    """Return a section whose paths, also those of its own sections, are relative to nothing."""
    values = {name: getattr(section, name) for name in type(section).model_fields}
    # Only what changes: whatever is updated counts as written in the file.
    changed = {name: new for name, value in values.items() if (new := _absolute(value, directory)) != value}
    return section.model_copy(update=changed)


def _absolute(value: object, directory: Path) -> object:
    match value:
        case Path():
            return directory / value
        case Section():
            return _with_absolute_paths(value, directory)
        case list():
            return [_absolute(item, directory) for item in value]
        case dict():
            return {key: _absolute(item, directory) for key, item in value.items()}
    return value


def to_agent(config: AgentConfig) -> Agent:
    """Return a registered agent as the registry takes it."""
    expires = config.expires_at
    return Agent(
        name=config.name,
        owner=config.owner,
        sponsor=config.sponsor,
        purpose=config.purpose,
        ceiling=config.ceiling,
        autonomous=config.autonomous,
        hosts=frozenset(SpiffeId.parse(text) for text in config.hosts),
        max_depth=config.max_depth,
        expires_at=expires.astimezone(UTC) if expires else None,
        sandbox=config.sandbox,
        clients=frozenset(OidcClient(client.issuer, client.id) for client in config.clients),
    )
