"""The sections of `deputy.yaml` that stand for themselves; authz/config.py joins them."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from authz.config_forms import (
    FilePath,
    HttpsUri,
    Listen,
    ListenTcp,
    Moment,
    ProviderIssuer,
    RegisteredName,
    ServiceName,
    SpiffeText,
    Text,
)
from identity.caller import DEFAULT_DEPTH, MAX_DEPTH
from identity.qualified_name import domain_of
from identity.spiffe import SpiffeId


class Section(BaseModel):
    """A mapping whose keys are all known and whose types are not bent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class CallerConfig(Section):
    """A proxy that may ask for decisions."""

    id: SpiffeText = Field(description="SPIFFE ID of the proxy, from its client certificate")
    may_ask: list[ServiceName] = Field(min_length=1, description="services that it may ask about")


class CheckConfig(Section):
    """The ext_authz service."""

    listen: Listen = Field(
        default="127.0.0.1:9191", description="`host:port` (mTLS), or `unix:///path` (mode 0600)"
    )
    callers: list[CallerConfig] = Field(
        default_factory=list, description="the proxies that may ask, over mTLS"
    )
    local_may_ask: list[ServiceName] = Field(
        default_factory=list, description="services that a proxy on the Unix socket may ask about"
    )
    max_concurrent: int = Field(
        default=256, ge=1, le=100_000, description="calls in flight; more are answered 503"
    )


class TargetClientConfig(Section):
    """An agent, as another domain's authorization server knows it."""

    agent: RegisteredName = Field(description="the agent's name here")
    id: Text = Field(description="its client id there")


class AssertionTargetConfig(Section):
    """An authorization server of another domain that identity assertions (ID-JAG) are made for."""

    issuer: HttpsUri = Field(description="its issuer: `aud` of the assertions")
    service: ServiceName = Field(description="service of the grants by which the policy decides about it")
    clients: list[TargetClientConfig] = Field(
        min_length=1, description="by which client id it knows which agent; others get no assertion"
    )


class BrokerConfig(Section):
    """The token broker and the task service."""

    issuer: HttpsUri = Field(description="`iss` of the tokens, and the audience of assertions to the broker")
    listen: ListenTcp = Field(default="127.0.0.1:9192", description="`host:port` of the HTTPS server")
    names: list[Text] = Field(default=["localhost"], min_length=1, description="DNS names in its certificate")
    dpop_nonces: bool = Field(
        default=False, description="ask for a nonce of ours in each DPoP proof at the token endpoint"
    )
    assertion_targets: list[AssertionTargetConfig] = Field(
        default_factory=list, description="other domains' servers that identity assertions are made for"
    )


class ProviderConfig(Section):
    """An OpenID Provider whose people we know."""

    issuer: ProviderIssuer = Field(description="`iss` of its tokens")
    audiences: list[Text] = Field(min_length=1, description="client ids whose tokens count")
    groups_claim: str = Field(
        default="groups", min_length=1, max_length=64, description="claim that lists a person's groups"
    )
    groups: list[Text] | None = Field(
        default=None,
        description="groups of its people that count; left out: all if it is the only provider, else none",
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file with the CA of its certificate; else the system's"
    )
    allow_loopback: bool = Field(
        default=False, description="accept a provider on this machine, over plain HTTP (development)"
    )
    allow_private: bool = Field(
        default=False, description="accept a provider in a private network (RFC 1918, RFC 4193)"
    )

    @model_validator(mode="after")
    def _plain_http_is_for_development(self) -> Self:
        if self.issuer.startswith("http:") and not self.allow_loopback:
            raise ValueError(
                "a provider over plain HTTP needs allow_loopback: true, which is for development"
            )
        return self


class ClientConfig(Section):
    """An application, as an OpenID Provider knows it."""

    issuer: ProviderIssuer = Field(description="the provider")
    id: Text = Field(description="its client id there")


class AgentConfig(Section):
    """A registered agent."""

    name: RegisteredName = Field(
        description="lower-case DNS label; `trust.domain/label` for an agent of a federated trust domain"
    )
    owner: Text = Field(description="who answers for it")
    sponsor: Text = Field(description="who pays for it and wants it")
    purpose: Text = Field(description="what it is for, in words")
    ceiling: Text = Field(description="highest tier that grants can give it")
    autonomous: bool = Field(
        default=False, description="it may run for nobody; one of another trust domain does nothing else"
    )
    hosts: list[SpiffeText] = Field(
        description="workloads that may run it; `[]` for one of another trust domain that calls with the "
        "X.509-SVID of its task only"
    )
    max_depth: int = Field(
        default=DEFAULT_DEPTH, ge=1, le=MAX_DEPTH, description="longest chain that it takes part in"
    )
    expires_at: Moment | None = Field(default=None, description="end of its registration")
    sandbox: Text | None = Field(default=None, description="sandbox class that it needs")
    clients: list[ClientConfig] = Field(
        default_factory=list,
        description="applications through which people hand it their sign-in; a token that was issued to "
        "another one does not count for it",
    )

    @model_validator(mode="after")
    def _runs_where_its_domain_says(self) -> Self:
        domain = domain_of(self.name)
        if domain is None:
            if not self.hosts:
                raise ValueError("hosts: needs at least 1, or the agent could never run")
            return self
        if not self.autonomous:
            raise ValueError(
                "an agent of another trust domain needs autonomous: true: its person cannot be known here"
            )
        if any(SpiffeId.parse(host).trust_domain != domain for host in self.hosts):
            raise ValueError(f"hosts: an agent of {domain.name} runs on workloads of {domain.name} only")
        return self


class AuditConfig(Section):
    """The audit log."""

    segment_bytes: int = Field(
        default=64 << 20, ge=1 << 16, le=1 << 32, description="size at which a segment is closed"
    )
    durable: bool = Field(default=False, description="fsync each record before the answer")
    refusals_per_second: int = Field(
        default=20,
        ge=1,
        le=10_000,
        description="records a second for one unauthenticated peer; the rest is counted",
    )


class ApprovalsConfig(Section):
    """Calls that wait for a person."""

    pending_seconds: int = Field(
        default=600, ge=10, le=86_400, description="how long a request for approval waits for a person"
    )
    granted_seconds: int = Field(
        default=300, ge=1, le=3600, description="how long the one approved call may still be made"
    )


class LimitsConfig(Section):
    """Lifetimes and limits."""

    delegation_depth: int = Field(default=DEFAULT_DEPTH, ge=1, le=MAX_DEPTH, description="agents in a chain")
    clock_leeway_seconds: int = Field(default=30, ge=0, le=60, description="clock skew that is forgiven")
    delegation_token_seconds: int = Field(
        default=300, ge=1, le=300, description="lifetime of a delegation token"
    )
    transaction_token_seconds: int = Field(
        default=60, ge=1, le=60, description="lifetime of a transaction token"
    )
    jwt_svid_seconds: int = Field(default=60, ge=1, le=300, description="lifetime of a JWT-SVID")
    x509_svid_seconds: int = Field(default=600, ge=60, le=3600, description="lifetime of a task's X.509-SVID")
    task_seconds: int = Field(default=3600, ge=60, le=86_400, description="longest life of a task")
