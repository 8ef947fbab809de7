"""What the broker takes besides a request: configuration, keys, ports, time and randomness.

- Nothing here is global, and nothing is read from the environment.
- An audience names one service; two services with one audience are a mistake that is found at start.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Protocol
from urllib.parse import urlsplit

from authz.audit.sink import Sink
from authz.audit.strangers import Strangers
from authz.authenticate import Registered
from authz.broker.human import People
from authz.broker.target import normal_target
from authz.errors import ConfigError
from authz.peers import Peers
from authz.policy.port import Policy
from authz.replay import Replay
from authz.services import Services
from identity.authority import Authority
from identity.caller import DEFAULT_DEPTH, Task
from identity.claims import MIN_ENTROPY, new_token_name
from identity.consent import Consent
from identity.dpop_nonce import DpopNonces
from identity.live_authority import LiveAuthority
from identity.names import ENTROPY_BYTES, new_ulid
from identity.spiffe import TrustDomain
from identity.transaction import TransactionIssuer
from identity.withdrawal import Withdrawal


class Tasks(Registered, Protocol):
    """The registry and the tasks; the writing methods may block for the disk and raise StoreError."""

    @property
    def epoch(self) -> int:
        """Count withdrawals."""

    def consent(self, consent_id: str) -> Consent | None:
        """Return a person's grant, also one that is over."""

    def consents_of(self, human: str) -> tuple[Consent, ...]:
        """Return the grants of a person."""

    def start_task(self, task: Task, now: datetime) -> None:
        """Add a task of a registered agent."""

    def set_thumbprint(self, task_id: str, thumbprint: str) -> None:
        """Note the newest X.509-SVID of a running task."""

    def set_thumbprints(self, thumbprints: Mapping[str, str]) -> frozenset[str]:
        """Note the newest X.509-SVIDs of tasks; return the tasks among them that are not running."""

    def end_task(self, task_id: str, now: datetime) -> Task | None:
        """End a task."""

    def withdraw(self, withdrawal: Withdrawal, now: datetime) -> int:
        """Take something back; return the epoch from which nobody may act by it."""


@dataclass(frozen=True, slots=True)
class AssertionTarget:
    """Another domain's authorization server; `clients` says by which name it knows which agent."""

    issuer: str
    service: str
    clients: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Settings:
    """The broker's configuration; lifetimes in seconds."""

    issuer: str
    audiences: Mapping[str, str]  # audience -> service
    # Other domains' authorization servers that identity assertions are made for, by issuer.
    assertion_targets: Mapping[str, "AssertionTarget"] = field(default_factory=dict)
    leeway: int = 30
    max_depth: int = DEFAULT_DEPTH
    delegation_token_seconds: int = 300
    jwt_svid_seconds: int = 60
    x509_svid_seconds: int = 600
    task_seconds: int = 3600
    id_jag_seconds: int = 300
    # How long others may keep our keys: less than a key is published before it signs (JW-08).
    jwks_max_age: int = 60

    @property
    def base(self) -> str:
        """What the addresses of all endpoints begin with."""
        return self.issuer.rstrip("/")

    @property
    def token_endpoint(self) -> str:
        """Where tokens are asked for: what the proofs of a client name."""
        return f"{self.base}/token"

    def find_audience(self, target: str) -> str | None:
        """Return the audience, as it is configured, that a request means."""
        if target in self.audiences:
            return target
        wanted = normal_target(target)
        return next((audience for audience in self.audiences if normal_target(audience) == wanted), None)

    def audience_of(self, service: str) -> str | None:
        """Return the audience of a service."""
        return next((audience for audience, name in self.audiences.items() if name == service), None)

    def find_assertion_target(self, target: str) -> "AssertionTarget | None":
        """Return the authorization server of another domain that a request means."""
        return self.assertion_targets.get(target)

    @property
    def path(self) -> str:
        """The path of the issuer, below which all endpoints are; empty or `/a/b`."""
        return urlsplit(self.issuer).path.rstrip("/")


@dataclass(frozen=True, slots=True)
class Broker:
    """Everything that an endpoint takes."""

    settings: Settings
    live: LiveAuthority
    people: People
    policy: Policy
    sink: Sink
    strangers: Strangers
    tasks: Tasks
    clock: Callable[[], datetime]
    entropy: Callable[[int], bytes]
    peers: Peers
    transactions: TransactionIssuer
    replay: Replay
    # Where proofs must hold a nonce of ours (RFC 9449 section 8).
    nonces: DpopNonces | None = None
    # What `Check` protects; whoever asks for a transaction token names one of these.
    services: Services = field(default_factory=lambda: Services.of((), (), None))

    @property
    def authority(self) -> Authority:
        """The keys as they are now."""
        return self.live.current

    @property
    def trust_domain(self) -> TrustDomain:
        """The trust domain of tasks."""
        return self.authority.trust_domain

    def token_jwks(self) -> Mapping[str, object]:
        """Return the keys of the broker's tokens, as they are now."""
        return self.authority.token_jwks()

    def bundle(self) -> Mapping[str, object]:
        """Return the SPIFFE bundle, as it is now."""
        return self.authority.bundle()

    def new_id(self, now: datetime) -> str:
        """Make the id of a decision, a record or a task."""
        return new_ulid(now, self.entropy(ENTROPY_BYTES))

    def new_token_name(self) -> str:
        """Make a `jti` or `txn` (CL-06)."""
        return new_token_name(self.entropy(MIN_ENTROPY))


def audiences_of(services: Services) -> Mapping[str, str]:
    """Return the services by the audience of their tokens.

    Raises:
        ConfigError: if two services have one audience: a token for one would be a token for the other.
    """
    audiences: dict[str, str] = {}
    for service in services.by_name.values():
        if service.audience in audiences:
            raise ConfigError(f"two services with one audience: {service.audience!r}")
        audiences[service.audience] = service.name
    return MappingProxyType(audiences)
