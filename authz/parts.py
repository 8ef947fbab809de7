"""The parts of the service, opened in order and closed in the reverse order.

- Keys, store, audit log and policy are checked here; what is wrong is an error before anything listens.
- The registry is the list of the configuration; what changed since the last start is in the audit log, before
  it counts: a start that fails in between does not lose the record.
- Strangers at the broker and at `Check` have budgets of their own: anybody can reach the broker under many
  addresses, and that must not hide what a peer of the mesh tries at `Check`.
- A policy that speaks from now on has its record before it speaks.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

from authz.audit import entry
from authz.audit.facts import RegistryChange, RegistryFacts
from authz.audit.log import AuditLog
from authz.audit.sink import Sink
from authz.audit.strangers import Strangers
from authz.broker.deps import Broker
from authz.broker.event_parts import open_inbox, open_outbox
from authz.broker.events_endpoint import Inbox
from authz.broker.events_outgoing import Outbox
from authz.broker.human import OpenIdPeople
from authz.broker_parts import broker_settings, nonces, providers
from authz.check_parts import (
    Clock,
    Entropy,
    Memories,
    new_strangers,
    note,
    open_audit,
    open_flow,
    open_memories,
    policy_recorder,
    write_summaries,
)
from authz.config import Config
from authz.flow import Flow
from authz.identity_parts import IdentityParts, open_identity
from authz.policy.engines import engine_loader
from authz.policy.live import LivePolicy
from authz.store.agents import Registration
from authz.store.private import private_directory
from authz.store.snapshot import State
from authz.store.sqlite import Store
from identity.live_authority import LiveAuthority
from identity.names import ENTROPY_BYTES, new_ulid


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs, and what must be told when time passes or the end comes."""

    config: Config
    identity: IdentityParts
    state: State
    audit: AuditLog
    strangers: tuple[Strangers, ...]
    policy: LivePolicy
    flow: Flow
    broker: Broker
    # Who tells us of sessions that ended, and whom we tell.
    inbox: Inbox | None
    outbox: Outbox
    memories: Memories
    clock: Clock

    @property
    def authority(self) -> LiveAuthority:
        """The keys."""
        return self.identity.live

    @property
    def is_ready(self) -> bool:
        """Say whether calls can be decided and answered now."""
        return self.policy.ready and self.identity.is_ready(self.clock())

    async def write_summaries(self, *, final: bool = False) -> None:
        """Record how many refusals of strangers were counted only.

        Raises:
            AuditError: if that cannot be written.
        """
        await write_summaries(self.strangers, self.audit, self.flow, final=final)

    async def note(self, kind: Literal["start", "stop"]) -> None:
        """Record that the service begins or ends.

        Raises:
            AuditError: if that cannot be written.
        """
        await note(kind, f"policy {self.policy.revision}", self.audit, self.flow)


@asynccontextmanager
async def open_parts(config: Config, clock: Clock, entropy: Entropy) -> AsyncIterator[Parts]:
    """Open everything, and close it on the way out.

    Raises:
        AuthzError: if something is missing or cannot be had.
        IdentityError: if the keys on disk are not what they should be.
    """
    private_directory(config.data_dir)
    with ExitStack() as stack:
        audit = open_audit(config, clock, entropy)
        stack.callback(audit.close)
        identity = await open_identity(config, audit, clock, entropy, stack)
        store = Store.open(config.data_dir / "state.db")
        stack.callback(store.close)
        state = State.load(store, clock())
        memories = open_memories(config, config.data_dir, audit, clock, entropy, stack)
        state.on_withdrawal(identity.live.feed.publish)
        await _register(config, state, audit, clock, entropy)
        async with engine_loader(config.policy) as load:
            policy = await LivePolicy.open(config.policy.grants, load, policy_recorder(audit, clock, entropy))
            parts = _wire(config, identity, state, audit, policy, memories, clock, entropy)
            await parts.note("start")
            try:
                yield parts
            finally:
                await policy.close()
                await parts.write_summaries(final=True)
                await parts.note("stop")


async def _register(config: Config, state: State, audit: Sink, clock: Clock, entropy: Entropy) -> None:
    """Record what the configuration's list changes in the registry, and change it."""
    now, agents = clock(), config.to_agents()
    registration: Registration = state.compare_agents(agents)
    changes: tuple[tuple[RegistryChange, tuple[str, ...]], ...] = (
        ("agent-registered", registration.registered),
        ("agent-changed", registration.changed),
        ("agent-retired", registration.retired),
    )
    records = [
        entry.registry(
            RegistryFacts(change=change, agent=name, by="deputy.yaml"),
            new_ulid(now, entropy(ENTROPY_BYTES)),
            now,
        )
        for change, names in changes
        for name in names
    ]
    # One wait for the disk, however long the list: with the last record all before it are there.
    records[-1:] = [replace(last, is_durable=True) for last in records[-1:]]
    for record in records:
        await audit.append(record)
    state.register_agents(agents, now)


def _wire(  # noqa: PLR0917 - all parts meet here, once
    config: Config,
    identity: IdentityParts,
    state: State,
    audit: AuditLog,
    policy: LivePolicy,
    memories: Memories,
    clock: Clock,
    entropy: Entropy,
) -> Parts:
    authority = identity.live
    flow = open_flow(
        config,
        lambda: authority.current,
        identity.known.federated,
        state,
        policy,
        audit,
        memories,
        clock,
        entropy,
    )
    broker = Broker(
        settings=broker_settings(config, flow.services),
        live=authority,
        people=OpenIdPeople(
            providers(config), config.limits.clock_leeway_seconds, audience=config.broker.issuer
        ),
        policy=policy,
        sink=audit,
        strangers=new_strangers(config),
        tasks=state,
        clock=clock,
        entropy=entropy,
        peers=identity.broker_peers,
        transactions=flow.transactions,
        replay=memories.replay,
        nonces=nonces(config, entropy(32)),
        services=flow.services,
    )
    strangers = (flow.strangers, broker.strangers)
    inbox, outbox = _open_events(config, state, audit, flow, authority, clock)
    return Parts(
        config,
        identity,
        state,
        audit,
        strangers,
        policy,
        flow,
        broker,
        inbox,
        outbox,
        memories,
        clock,
    )


def _open_events(  # noqa: PLR0917 - as above
    config: Config, state: State, audit: AuditLog, flow: Flow, authority: LiveAuthority, clock: Clock
) -> tuple[Inbox | None, Outbox]:
    issuer = config.broker.issuer
    inbox = None
    if config.events.transmitters:
        inbox = open_inbox(
            config.events,
            issuer=issuer,
            leeway=config.limits.clock_leeway_seconds,
            state=state,
            data_dir=config.data_dir,
            clock=clock,
        )
    outbox = open_outbox(
        config.events,
        issuer=issuer,
        token_key=lambda: authority.current.token_key,
        sink=audit,
        data_dir=config.data_dir,
        clock=clock,
        new_id=flow.new_id,
    )
    return inbox, outbox
