"""`identity:` of `deputy.yaml`: who gets an identity how, how long keys live, and who else is trusted."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from authz.config_forms import (
    AgentName,
    FilePath,
    HttpsUri,
    ListenTcp,
    ListenUnix,
    Sha256Hex,
    SpiffeText,
    Text,
)
from authz.config_sections import Section
from identity.registration import AgentUid, Registration, Registrations
from identity.spiffe import TrustDomain


class WorkloadConfig(Section):
    """A workload that gets its own X.509-SVID from a Unix socket."""

    id: SpiffeText = Field(description="its SPIFFE ID, in our trust domain and not below /agent/")
    socket: ListenUnix | None = Field(
        default=None,
        description="`unix:///path` of a socket of its own: whoever reaches it is this workload",
    )
    uid: int | None = Field(default=None, ge=0, description="user that it runs as, on the shared socket")
    gid: int | None = Field(default=None, ge=0, description="group that it runs as, beside the user")
    executable_sha256: Sha256Hex | None = Field(
        default=None, description="SHA-256 of its executable, beside the user; never that of an interpreter"
    )
    dns_names: list[Text] = Field(
        default_factory=list, max_length=32, description="DNS names and addresses in its certificate"
    )
    hint: str = Field(default="", max_length=1024, description="which of several identities this is")

    @model_validator(mode="after")
    def _says_who_it_is(self) -> Self:
        if self.socket is None and self.uid is None:
            raise ValueError("a workload needs a socket of its own, or the uid that it runs as")
        if self.socket is not None and self.executable_sha256 is not None and self.uid is None:
            raise ValueError("executable_sha256 goes with a uid: anybody may run a copy of a file")
        return self


class AgentUidConfig(Section):
    """A uid that runs one agent, where its tasks cannot have sockets of their own."""

    uid: int = Field(ge=0, description="user that runs this agent and nothing else")
    agent: AgentName = Field(description="the agent")


class BundleEndpointConfig(Section):
    """Where other trust domains, and clouds, fetch what verifies our SVIDs."""

    listen: ListenTcp = Field(description="`host:port` of the HTTPS server; nobody has to show a certificate")
    profile: Literal["https_spiffe", "https_web"] = Field(
        default="https_spiffe", description="our own X.509-SVID, or a certificate that browsers trust"
    )
    certificate: FilePath | None = Field(
        default=None,
        description="PEM file with the certificate chain (https_web); may change",
    )
    key: FilePath | None = Field(default=None, description="PEM file with its key (https_web)")

    @model_validator(mode="after")
    def _web_takes_files(self) -> Self:
        files = (self.certificate, self.key)
        if (self.profile == "https_web") != (None not in files) or (files.count(None) == 1):
            raise ValueError("https_web takes certificate and key, https_spiffe takes neither")
        return self


class UpstreamConfig(Section):
    """An existing SPIRE that this service stands under."""

    workload_api: ListenUnix = Field(description="`unix:///path` of its Workload API")
    start_seconds: int = Field(default=30, ge=1, le=600, description="how long to wait for it at the start")


class KubernetesConfig(Section):
    """Who may show a projected ServiceAccount token in place of a certificate."""

    api_server: HttpsUri = Field(
        default="https://kubernetes.default.svc", description="the API server that reviews tokens"
    )
    ca: FilePath = Field(description="PEM file with the API server's CA")
    token: FilePath = Field(description="file with our own ServiceAccount token; read again as it rotates")
    audience: Text = Field(description="`audience` that the projected tokens must be for")


class Pkcs11Config(Section):
    """A token (HSM) that keeps the private keys in place of files."""

    module: FilePath = Field(description="the PKCS#11 library, a path")
    token_label: Text = Field(description="label of the token")
    pin_file: FilePath = Field(description="file of mode 0600 with the user PIN")


class IdentityConfig(Section):
    """The identity authority."""

    socket: ListenUnix | None = Field(
        default=None, description="`unix:///path` of the Workload API that workloads share, told apart by uid"
    )
    task_sockets: FilePath | None = Field(
        default=None,
        description="directory of the sockets that are private to a task; `tasks` in data_dir by default",
    )
    workloads: list[WorkloadConfig] = Field(
        default_factory=list, max_length=4096, description="workloads that get their identity here"
    )
    agent_uids: list[AgentUidConfig] = Field(
        default_factory=list, max_length=4096, description="users that run one agent each"
    )
    key_seconds: int = Field(
        default=86_400,
        ge=600,
        le=7_776_000,
        description="lifetime of each key; an SVID has a sixth at most",
    )
    publish_seconds: int = Field(
        default=180, ge=1, le=86_400, description="how long a key is published before it signs"
    )
    refresh_hint_seconds: int = Field(
        default=60,
        ge=10,
        le=86_400,
        description="how often others should fetch the bundle; at most a third of publish_seconds",
    )
    jwt_issuer: HttpsUri | None = Field(
        default=None, description="`iss` of JWT-SVIDs, for those who find keys by OpenID Connect Discovery"
    )
    jwt_audiences: list[Text] = Field(
        default_factory=list,
        max_length=256,
        description="audiences of JWT-SVIDs beside the services and the broker, e.g. that of a cloud",
    )
    wit_svid: bool = Field(default=False, description="serve WIT-SVIDs too (an incubating standard)")
    bundle_endpoint: BundleEndpointConfig | None = Field(
        default=None, description="the bundle endpoint and OpenID Connect Discovery"
    )
    upstream: UpstreamConfig | None = Field(default=None, description="stand under an existing SPIRE")
    kubernetes: KubernetesConfig | None = Field(
        default=None, description="attest pods by their ServiceAccount tokens"
    )
    pkcs11: Pkcs11Config | None = Field(default=None, description="keep private keys in a PKCS#11 token")

    def to_registrations(self, trust_domain: TrustDomain) -> Registrations:
        """Return who may come to the shared socket.

        Raises:
            AttestationError: if two entries contradict each other, or one says nothing for sure.
        """
        workloads = [_registration(each, trust_domain) for each in self.workloads if each.socket is None]
        return Registrations.of(workloads, [AgentUid.parse(each.uid, each.agent) for each in self.agent_uids])

    def to_own_sockets(self, trust_domain: TrustDomain) -> tuple[tuple[Path, Registration], ...]:
        """Return the sockets of one workload each.

        Raises:
            AttestationError: if an entry is malformed.
        """
        return tuple(
            (Path(each.socket.removeprefix("unix://")), _registration(each, trust_domain))
            for each in self.workloads
            if each.socket is not None
        )

    @model_validator(mode="after")
    def _keys_are_published_in_time(self) -> Self:
        # Prepared at a half, active at a sixth: a third lies between.
        if self.publish_seconds * 3 > self.key_seconds:
            raise ValueError(
                "publish_seconds must be a third of key_seconds at most: "
                "a key is prepared when half its predecessor's life is left, and signs when a sixth is"
            )
        return self

    @model_validator(mode="after")
    def _issuer_can_be_asked(self) -> Self:
        if self.jwt_issuer is not None and self.bundle_endpoint is None:
            raise ValueError("jwt_issuer needs a bundle_endpoint, which publishes the keys that it promises")
        return self

    @model_validator(mode="after")
    def _shared_workloads_have_a_socket(self) -> Self:
        if self.socket is None and (self.agent_uids or any(each.socket is None for each in self.workloads)):
            raise ValueError("workloads without a socket of their own need identity.socket, which they share")
        sockets = [each.socket for each in self.workloads if each.socket] + [self.socket]
        if len(set(sockets)) != len(sockets):
            raise ValueError("two sockets with one path")
        return self


def _registration(config: WorkloadConfig, trust_domain: TrustDomain) -> Registration:
    return Registration.parse(
        config.id,
        trust_domain,
        uid=config.uid,
        gid=config.gid,
        executable_sha256=config.executable_sha256,
        hint=config.hint,
        dns_names=config.dns_names,
        own_socket=config.socket is not None,
    )
