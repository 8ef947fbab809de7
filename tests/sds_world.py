"""What the tests of secret discovery stand on: a source that the test changes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from identity.authority import Authority
from identity.bundle import Bundle
from identity.entitlement import Entitlement, HeldSvid, HeldWit, Peer
from identity.errors import AttestationError
from identity.feed import Feed
from identity.keys import SigningKey
from identity.live_authority import LiveAuthority
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles

TD = TrustDomain.parse("mesh.example")
OTHER = TrustDomain.parse("other.example")
ENVOY = SpiffeId.parse("spiffe://mesh.example/ns/gateway/sa/envoy")
SECOND = SpiffeId.parse("spiffe://mesh.example/ns/gateway/sa/second")
TTL = 600


def bundle_of(authority: Authority) -> Bundle:
    return authority.trust_bundle()


@dataclass
class FakeSource:
    """An authority whose SVIDs are kept until its CA changes, or until the test asks for new ones."""

    live: LiveAuthority
    federated: dict[TrustDomain, Bundle] = field(default_factory=dict)
    is_ready: bool = True
    wit_enabled: bool = False
    trouble: Exception | None = None
    now: datetime | None = None
    ttl: int = TTL
    renew_in: timedelta | None = None
    held: dict[SpiffeId, tuple[str, HeldSvid]] = field(default_factory=dict)
    issued: int = 0

    @property
    def changes(self) -> Feed:
        return self.live.feed

    def clock(self) -> datetime:
        return self.now or datetime.now(UTC)

    def bundles(self) -> TrustBundles:
        return TrustBundles(bundle_of(self.live.current), dict(self.federated))

    def change(self) -> None:
        self.live.feed.publish()

    async def x509_svid(self, entitlement: Entitlement) -> HeldSvid:
        if self.trouble is not None:
            raise self.trouble
        authority = self.live.current
        signer, held = self.held.get(entitlement.spiffe_id, ("", None))
        if held is None or signer != authority.ca.key.kid or self.clock() >= held.renew_at:
            held = self._issue(authority, entitlement)
            self.held[entitlement.spiffe_id] = (authority.ca.key.kid, held)
        return held

    def _issue(self, authority: Authority, entitlement: Entitlement) -> HeldSvid:
        self.issued += 1
        key, now = SigningKey.generate(), self.clock()
        leaf = authority.issue_workload_svid(
            entitlement.spiffe_id,
            key.private_key.public_key(),
            now=now,
            ttl=self.ttl,
            dns_names=entitlement.dns_names,
        )
        end = now + timedelta(seconds=self.ttl)
        return HeldSvid(entitlement.spiffe_id, (leaf,), key, end, now + (self.renew_in or (end - now) / 2))

    async def jwt_svid(self, entitlement: Entitlement, audiences: Sequence[str]) -> str:
        raise NotImplementedError

    async def wit_svid(self, entitlement: Entitlement) -> HeldWit:
        raise NotImplementedError


@dataclass
class FakeEntitlements:
    """The identities of whoever asks, as the test says."""

    mine: tuple[Entitlement, ...] = (Entitlement(ENVOY, dns_names=("localhost",)),)
    trouble: Exception | None = None

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        if self.trouble is not None:
            raise self.trouble
        return self.mine


@dataclass
class FakeProcess:
    """A caller that is there until the test says that it is gone."""

    is_gone: bool = False

    async def peer(self) -> Peer:
        if self.is_gone:
            raise AttestationError("a caller that is gone")
        return Peer(1, 1000, 1000)
