"""The identity authority's parts, opened in order: keys, what we present ourselves, and whom we trust.

- The first keys are recorded before they are made, as each later step is.
- One feed tells everybody who waits: of keys, of bundles, and of tasks that ended.
- Each listener knows the trust domains that the configuration names for it, and no other.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authz.audit import entry
from authz.audit.facts import FederationFacts, KeyFacts
from authz.audit.sink import Sink
from authz.config import Config
from authz.config_identity import Pkcs11Config
from authz.hosts.tls import Credential, ListenerTls
from authz.identity_service.federation import Federation
from authz.identity_service.known_bundles import Bundles, KnownBundles
from authz.identity_service.rotation import Rotation
from authz.identity_service.upstream import Upstream
from authz.own_identity import OwnIdentity
from authz.peers import Peers, domains_of
from identity.key_files import KeyStore
from identity.key_ring import KeyLife
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.names import ENTROPY_BYTES, new_ulid
from identity.pkcs11_key_store import Pkcs11KeyStore
from identity.qualified_name import domain_of
from identity.spiffe import SpiffeId, TrustDomain

DEPUTY_PATH: Final = "/deputy"
KEYS: Final = "keys"
_LOG = logging.getLogger(__name__)
_START: Final = "the start of the service"

Clock = Callable[[], datetime]
Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class IdentityParts:
    """Keys, trust, and what our servers present."""

    live: LiveAuthority
    rotation: Rotation
    federation: Federation
    known: KnownBundles
    upstream: Upstream | None
    credential: Callable[[], Credential]
    record_federation: Callable[[FederationFacts], Awaitable[None]]
    check_peers: Peers
    broker_peers: Peers
    key_store: str

    def check_tls(self) -> ListenerTls:
        """Return the TLS of the proxies that ask."""
        return ListenerTls(self.credential, self.check_peers)

    def broker_tls(self) -> ListenerTls:
        """Return the TLS of workloads and tasks."""
        return ListenerTls(self.credential, self.broker_peers)

    def is_ready(self, now: datetime) -> bool:
        """Say whether we have something to present."""
        return self.upstream is None or self.upstream.is_ready(now)


async def open_identity(
    config: Config, sink: Sink, clock: Clock, entropy: Entropy, stack: ExitStack
) -> IdentityParts:
    """Open the keys, and what is trusted beside them.

    Raises:
        AuthzError: if something is missing or cannot be had.
        IdentityError: if the keys on disk are not what they should be, or another process has them.
    """
    recorder = _Recorder(sink, clock, entropy)
    trust_domain = TrustDomain.parse(config.trust_domain)
    live = await _open_keys(config, trust_domain, recorder, clock, stack)
    federation = Federation.open(config.data_dir / KEYS, live.trust_bundle, feed=live.feed)
    stack.callback(federation.close)
    upstream = await _open_upstream(config, trust_domain, live, clock, stack)
    parts: list[Callable[[], Bundles]] = [upstream.bundles] if upstream else []
    known = KnownBundles(lambda: live.current, [*parts, federation.bundles])
    own = OwnIdentity(live, SpiffeId(trust_domain, DEPUTY_PATH), tuple(config.broker.names), clock)
    callers = [SpiffeId.parse(caller.id) for caller in config.check.callers]
    # An agent of another trust domain starts its tasks there: its hosts have no business at our broker.
    hosts = [host for agent in config.to_agents() if domain_of(agent.name) is None for host in agent.hosts]
    return IdentityParts(
        live=live,
        rotation=Rotation(live, recorder.keys, clock),
        federation=federation,
        known=known,
        upstream=upstream,
        credential=own.credential if upstream is None else upstream.credential,
        record_federation=recorder.federation,
        check_peers=Peers(known.trust, domains_of(callers)),
        broker_peers=Peers(known.trust, domains_of(hosts, trust_domain)),
        key_store="files" if config.identity.pkcs11 is None else "pkcs11",
    )


class _Recorder:
    """Writes what is ordered before it happens."""

    def __init__(self, sink: Sink, clock: Clock, entropy: Entropy) -> None:
        self._sink, self._clock, self._entropy = sink, clock, entropy

    async def keys(self, facts: KeyFacts) -> None:
        now = self._clock()
        await self._sink.append(entry.keys(facts, self._new_id(now), now))

    async def federation(self, facts: FederationFacts) -> None:
        now = self._clock()
        await self._sink.append(entry.federation(facts, self._new_id(now), now))

    def _new_id(self, now: datetime) -> str:
        return new_ulid(now, self._entropy(ENTROPY_BYTES))


async def _open_keys(
    config: Config, trust_domain: TrustDomain, recorder: _Recorder, clock: Clock, stack: ExitStack
) -> LiveAuthority:
    identity, store = config.identity, None
    if identity.pkcs11 is not None:
        store = _open_token(identity.pkcs11, stack)
    settings = AuthoritySettings(
        life=KeyLife(
            lifetime=timedelta(seconds=identity.key_seconds), lead=timedelta(seconds=identity.publish_seconds)
        ),
        refresh_hint=identity.refresh_hint_seconds,
        jwt_issuer=identity.jwt_issuer,
        wit=identity.wit_svid,
    )
    live = LiveAuthority.open(config.data_dir / KEYS, trust_domain, settings, clock(), store, begin=False)
    stack.callback(live.close)
    while due := live.due(clock()):
        for change in due:
            await recorder.keys(KeyFacts(change=change.action, role=change.role, kid=change.kid, by=_START))
            live.apply((change,), clock())
    return live


def _open_token(pkcs11: Pkcs11Config, stack: ExitStack) -> KeyStore:
    store = Pkcs11KeyStore.open(pkcs11.module, pkcs11.token_label, pkcs11.pin_file)
    stack.callback(store.close)
    return store


async def _open_upstream(
    config: Config, trust_domain: TrustDomain, live: LiveAuthority, clock: Clock, stack: ExitStack
) -> Upstream | None:
    above = config.identity.upstream
    if above is None:
        return None
    upstream = await asyncio.to_thread(
        Upstream.open, above.workload_api, trust_domain, clock, live.feed.publish, above.start_seconds
    )
    stack.callback(upstream.close)
    if missing := sorted(set(config.broker.names) - upstream.dns_names):
        _LOG.warning("the identity from SPIRE has no DNS names %s: who checks names refuses us", missing)
    return upstream
