"""Who may have which SVID, and who gives it: the words between a socket and the authority.

- An entitlement is one identity of one caller; no entitlement means PermissionDenied, never an empty answer.
- Each socket has its own `Entitlements`; a socket that is private to a task knows that task alone.
- Private keys are inside `SigningKey`, whose text shows nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from cryptography.hazmat.primitives import serialization

from identity.keys import SigningKey
from identity.spiffe import SpiffeId
from identity.trust_bundles import TrustBundles

MAX_HINT: Final = 1024  # bytes (SPIFFE Workload API section 5.2.1)

SvidKind = Literal["x509-svid", "jwt-svid", "wit-svid"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A process at the other end of a Unix socket; `executable_sha256` is None where it tells nothing."""

    pid: int
    uid: int
    gid: int
    executable_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One identity that a caller may have; `not_after` is the deadline of its task."""

    spiffe_id: SpiffeId
    hint: str = ""
    dns_names: tuple[str, ...] = ()
    not_after: datetime | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class HeldSvid:
    """An X.509-SVID with its key: `chain` is DER, the leaf first; from `renew_at` on there is a newer one."""

    spiffe_id: SpiffeId
    chain: tuple[bytes, ...]
    key: SigningKey = field(repr=False)
    not_after: datetime
    renew_at: datetime

    def reveal_key(self) -> bytes:
        """Return the private key as DER, PKCS#8."""
        return self.key.private_key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


@dataclass(frozen=True, slots=True)
class HeldWit:
    """A WIT-SVID with the key that its holder proves possession of."""

    spiffe_id: SpiffeId
    token: str = field(repr=False)
    key: SigningKey = field(repr=False)
    not_after: datetime
    renew_at: datetime


class Entitlements(Protocol):
    """What the callers of one socket may have."""

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        """Return the identities of a caller, the default one first.

        Raises:
            AttestationError: if who it is cannot be said for sure.
        """


class Changes(Protocol):
    """Something that changes while streams are open on it."""

    @property
    def version(self) -> int:
        """Count the changes."""

    async def wait(self, seen: int) -> int:
        """Wait for a version after the one seen, and return the newest."""


class SvidSource(Protocol):
    """Where SVIDs come from; each method raises IssuanceUnavailableError when nothing can be issued now."""

    @property
    def changes(self) -> Changes:
        """Changes of keys, bundles and entitlements."""

    @property
    def is_ready(self) -> bool:
        """Say whether anything can be issued yet."""

    @property
    def wit_enabled(self) -> bool:
        """Say whether WIT-SVIDs are served."""

    def clock(self) -> datetime:
        """Return the time."""

    def bundles(self) -> TrustBundles:
        """Return what verifies SVIDs, of every trust domain that is known."""

    async def x509_svid(self, entitlement: Entitlement) -> HeldSvid:
        """Return the current X.509-SVID of an identity."""

    async def jwt_svid(self, entitlement: Entitlement, audiences: Sequence[str]) -> str:
        """Sign a JWT-SVID; the audience must be one that is known.

        Raises:
            NotEntitledError: if it is not.
        """

    async def wit_svid(self, entitlement: Entitlement) -> HeldWit:
        """Return the current WIT-SVID of an identity."""


@dataclass(frozen=True, slots=True)
class Issuance:
    """An SVID that is about to be handed out: `thumbprint` of a certificate, `token_id` (hex) of a token."""

    kind: SvidKind
    entitlement: Entitlement
    expires_at: datetime
    thumbprint: str | None = None
    audience: str | None = None
    token_id: str | None = None


class Recorder(Protocol):
    """Evidence of what is issued, and the registry's note of it."""

    async def issued(self, issuance: Issuance) -> None:
        """Record an issuance before it happens; for a task, note the certificate as its newest.

        Raises:
            IssuanceUnavailableError: if it cannot be recorded; nothing is issued then.
            NotEntitledError: if the task is over.
        """
