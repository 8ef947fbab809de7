"""A SPIRE of the tests: our own Workload API server with an authority of another trust domain.

It runs in a thread with an event loop of its own, so that blocking clients can be tested, too.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from grpclib.const import Handler

from identity.authority import Authority
from identity.bundle import Bundle
from identity.entitlement import Entitlement, Issuance, Peer
from identity.key_ring import KeyChange
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.socket_server import SocketServer
from identity.spiffe import SpiffeId, TrustDomain
from identity.svid_source import IssuingSource, SvidSettings
from identity.trust_bundles import TrustBundles
from identity.workload_api import WorkloadApi

SPIRE = TrustDomain.parse("spire.example")
DEPUTY_OF_SPIRE = SpiffeId.parse("spiffe://spire.example/ns/deputy/sa/deputy")

Result = TypeVar("Result")


def now() -> datetime:
    return datetime.now(UTC)


class NoRecord:
    """Writes nothing down."""

    async def issued(self, issuance: Issuance) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class _Served:
    """A Workload API, with the JWT profile turned off or not."""

    api: WorkloadApi
    with_jwt: bool

    def __mapping__(self) -> Mapping[str, Handler]:
        methods = self.api.__mapping__()
        return {path: each for path, each in methods.items() if self.with_jwt or "JWT" not in path}


class SpireStandIn:
    """A Workload API on a socket; what it says can be changed while clients are connected."""

    def __init__(self, directory: Path, trust_domain: TrustDomain = SPIRE) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.path = directory / "agent.sock"
        self.live = LiveAuthority.open(directory / "keys", trust_domain, AuthoritySettings(), now())
        self.entitled: tuple[Entitlement, ...] = (
            Entitlement(SpiffeId(trust_domain, DEPUTY_OF_SPIRE.path), dns_names=("localhost",)),
        )
        self.federated: Mapping[TrustDomain, Bundle] = {}
        self.serves_jwt = True
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: SocketServer | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.path}"

    @property
    def authority(self) -> Authority:
        return self.live.current

    def of(self, peer: Peer) -> tuple[Entitlement, ...]:
        """Return what every caller may have."""
        return self.entitled

    def listen(self) -> None:
        async def listen() -> None:
            source = IssuingSource(
                self.live,
                lambda: TrustBundles(self.authority.trust_bundle(), self.federated),
                NoRecord(),
                SvidSettings(),
                clock=now,
                chance=lambda: 0.5,
            )
            self._server = SocketServer()
            await self._server.listen(self.path, [_Served(WorkloadApi(source, self), self.serves_jwt)])

        self._do(listen())

    def shut(self) -> None:
        async def shut() -> None:
            if self._server is not None:
                await self._server.close()
                self._server = None

        self._do(shut())

    def change(self, step: Callable[[], object]) -> None:
        """Change something, and let those who are connected hear of it."""
        step()
        self.live.feed.publish()

    def rotate(self) -> None:
        """Let another CA sign; the old root stays published."""
        self.live.apply([KeyChange("prepare", "x509"), KeyChange("activate", "x509")], now())

    def revoke_oldest_root(self) -> None:
        slot = next(iter(self.live.current.rings["x509"]))
        self.live.apply(
            [KeyChange("taint", "x509", slot.kid), KeyChange("revoke", "x509", slot.kid)], now(), force=True
        )

    def close(self) -> None:
        self.shut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
        self.live.close()

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=20)


@contextmanager
def spire(
    directory: Path, trust_domain: TrustDomain = SPIRE, path: Path | None = None
) -> Iterator[SpireStandIn]:
    """Run a SPIRE of the tests; its socket is in its directory, or at `path`."""
    stand_in = SpireStandIn(directory, trust_domain)
    stand_in.path = path or stand_in.path
    try:
        stand_in.listen()
        yield stand_in
    finally:
        stand_in.close()


def bundle_of(trust_domain: str) -> Bundle:
    """A bundle of somebody else."""
    return Authority.generate(TrustDomain.parse(trust_domain), now() - timedelta(hours=1)).trust_bundle()
