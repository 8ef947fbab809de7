"""The parts of a replica: `Check` and nothing else, by keys and state that another process writes.

- It opens nothing for others to write to: no broker, no sockets, no administration. Its own are the audit
  log, with the key of its hashes, and its lease.
- Keys, bundles and state are read together, by one thread; what cannot be read in time is not answered by.
- Its certificate is an X.509-SVID of the deputy's own ID, which it issues itself, with the root's key file.
  That is no power that it did not have: it runs as the user whose files these are, on the machine where they
  lie, and any process of that user could. Replicas on other machines, over PostgreSQL, are to be attested and
  be given a certificate and a key for transaction tokens each; no key of the root will leave its machine.
- A lease is taken before the first answer and given back after the last one.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from authz.audit.log import AuditLog
from authz.check_parts import (
    DISTRIBUTION,
    Clock,
    Entropy,
    note,
    open_audit,
    open_flow,
    open_memories,
    policy_recorder,
    write_summaries,
)
from authz.config import Config
from authz.errors import ConfigError
from authz.flow import Flow
from authz.hosts.tls import ListenerTls
from authz.identity_parts import DEPUTY_PATH, KEYS
from authz.identity_service.federation import FILE_NAME
from authz.identity_service.known_bundles import KnownBundles
from authz.own_identity import OwnIdentity
from authz.peers import Peers, domains_of
from authz.policy.engines import engine_loader
from authz.policy.live import LivePolicy
from authz.store.changes import Progress
from authz.store.followed import FollowedState
from authz.store.leases import LeaseFiles
from authz.store.port import Lease
from authz.store.private import private_directory
from authz.store.sqlite_epochs import STATE_FILE, SqliteEpochs
from identity.bundle import Bundle
from identity.federation_document import parse_relationships
from identity.followed_file import FollowedFile
from identity.followed_keys import FollowedKeys
from identity.names import ENTROPY_BYTES, new_ulid
from identity.spiffe import SpiffeId, TrustDomain


@dataclass(frozen=True, slots=True)
class ReplicaParts:
    """What runs in a replica."""

    config: Config
    keys: FollowedKeys
    state: FollowedState
    audit: AuditLog
    policy: LivePolicy
    flow: Flow
    check_tls: ListenerTls

    @property
    def is_ready(self) -> bool:
        """Say whether calls can be decided and answered now."""
        return self.policy.ready and self.state.is_fresh

    async def write_summaries(self, *, final: bool = False) -> None:
        """Record how many refusals of strangers were counted only.

        Raises:
            AuditError: if that cannot be written.
        """
        await write_summaries([self.flow.strangers], self.audit, self.flow, final=final)


@asynccontextmanager
async def open_replica_parts(config: Config, clock: Clock, entropy: Entropy) -> AsyncIterator[ReplicaParts]:
    """Open everything, and close it on the way out.

    Raises:
        AuthzError: if something is missing or cannot be had.
        IdentityError: if the keys of the authority are not what they should be.
    """
    of = _followed(config)
    private_directory(config.data_dir)
    trust_domain = TrustDomain.parse(config.trust_domain)
    with ExitStack() as stack:
        audit = open_audit(config, clock, entropy)
        stack.callback(audit.close)
        keys = FollowedKeys.open(of / KEYS, trust_domain)
        bundles = follow_bundles(of / KEYS, trust_domain)
        leases, replica = LeaseFiles(of), new_ulid(clock(), entropy(ENTROPY_BYTES))
        leases.join()
        stack.callback(leases.end, replica)

        def acknowledge(progress: Progress, at: float) -> None:
            leases.acknowledge(
                Lease(replica, progress.term, progress.epoch, at, config.check.listen, version(DISTRIBUTION))
            )

        state = FollowedState(
            SqliteEpochs(of / STATE_FILE), acknowledge, clock, also=(keys.poll, bundles.poll)
        )
        stack.callback(state.close)
        state.start()
        memories = open_memories(config, of, audit, clock, entropy, stack)
        known = KnownBundles(lambda: keys.current, [lambda: bundles.value])
        own = OwnIdentity(keys, SpiffeId(trust_domain, DEPUTY_PATH), tuple(config.broker.names), clock)
        callers = domains_of(SpiffeId.parse(caller.id) for caller in config.check.callers)
        async with engine_loader(config.policy) as load:
            policy = await LivePolicy.open(config.policy.grants, load, policy_recorder(audit, clock, entropy))
            flow = open_flow(
                config,
                lambda: keys.current,
                known.federated,
                state,
                policy,
                audit,
                memories,
                clock,
                entropy,
                state,
            )
            tls = ListenerTls(own.credential, Peers(known.trust, callers))
            parts = ReplicaParts(config, keys, state, audit, policy, flow, tls)
            detail = f"replica {replica}, policy {policy.revision}"
            await note("start", detail, audit, flow)
            try:
                yield parts
            finally:
                await policy.close()
                await parts.write_summaries(final=True)
                await note("stop", detail, audit, flow)


def follow_bundles(path: Path, trust_domain: TrustDomain) -> FollowedFile[Mapping[TrustDomain, Bundle]]:
    """Return the bundles of other trust domains, as the authority keeps them.

    Raises:
        IdentityError: if they are not what they should be.
    """

    def parse(_: object, data: bytes | None) -> Mapping[TrustDomain, Bundle]:
        kept = () if data is None else parse_relationships(data, trust_domain)
        return MappingProxyType({each.trust_domain: each.bundle for each in kept if each.bundle is not None})

    bundles = FollowedFile(path, FILE_NAME, parse)
    bundles.poll()
    return bundles


def _followed(config: Config) -> Path:
    """Return the directory that is followed.

    Raises:
        ConfigError: if it is our own, or its keys are no files.
    """
    if config.replica is None:
        raise ConfigError("replica.of says which data_dir to follow: there is none")
    if config.replica.of.resolve() == config.data_dir.resolve():
        raise ConfigError("replica.of is data_dir itself: a replica needs a data_dir of its own")
    if config.identity.pkcs11 is not None or config.identity.upstream is not None:
        raise ConfigError(
            "a replica reads the key files of its authority: identity.pkcs11 and identity.upstream have none"
        )
    return config.replica.of
