"""What every process that answers `Check` has: its own audit log, its flow, and the records of its life.

- A policy that speaks from now on has its record before it speaks.
- What could not be written about strangers is counted again.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

from authz.audit import entry
from authz.audit.facts import DriftFacts, PolicyFacts
from authz.audit.log import AuditLog, LogSettings
from authz.audit.sink import Sink
from authz.audit.strangers import Rates, Strangers
from authz.broker_parts import REPLAY
from authz.codes import Code
from authz.config import Config
from authz.flow import Flow, Following, Rights
from authz.kuadrant.key_file import load_list_key
from authz.kuadrant.lists import AuthorizedLists
from authz.live_trust import LiveTrust
from authz.pins.change import PinChange
from authz.policy.live import LivePolicy
from authz.store.approvals import ApprovalFile, ApprovalLimits
from authz.store.approvals_database import APPROVALS_FILE
from authz.store.approving import SharedApprovals
from authz.store.arguments_key import load_or_create_arguments_key
from authz.store.pinning import SharedPins
from authz.store.pins import PinFile
from authz.store.pins_database import PINS_FILE
from authz.store.replay import ReplayFile
from authz.store.sessions import SESSIONS_FILE, SessionFile
from authz.store.sessions_shared import SharedSessions
from authz.store.spending import spender
from identity.authority import Authority
from identity.bundle import Bundle
from identity.names import ENTROPY_BYTES, new_ulid
from identity.spiffe import TrustDomain
from identity.transaction import TransactionIssuer

DISTRIBUTION: Final = "deputy-authz"
# Records a second that all strangers together may leave in the log, as a multiple of what one may.
_ALL_PEERS: Final = 10

Clock = Callable[[], datetime]
Entropy = Callable[[int], bytes]


def open_audit(config: Config, clock: Clock, entropy: Entropy) -> AuditLog:
    """Open the log.

    Raises:
        AuthzError: if it is not whole, or cannot be written.
    """
    settings = LogSettings(segment_bytes=config.audit.segment_bytes, durable=config.audit.durable)
    now = clock()
    return AuditLog.open(config.data_dir / "audit", settings, new_ulid(now, entropy(ENTROPY_BYTES)), now)


def policy_recorder(
    audit: AuditLog, clock: Clock, entropy: Entropy
) -> Callable[[PolicyFacts], Awaitable[None]]:
    """Return what records a change of the policy."""

    async def record(facts: PolicyFacts) -> None:
        now = clock()
        await audit.append(entry.policy(facts, new_ulid(now, entropy(ENTROPY_BYTES)), now))

    return record


def drift_recorder(audit: Sink, clock: Clock, entropy: Entropy) -> Callable[[PinChange], Awaitable[None]]:
    """Return what records that a tool changed."""

    async def record(change: PinChange) -> None:
        facts = DriftFacts(
            change=change.kind,
            service=change.service,
            tool=change.tool,
            accepted=change.accepted,
            seen=change.seen,
            seen_at=change.seen_at,
            code=Code.TOOL_CHANGED if change.kind == "changed" else "",
        )
        now = clock()
        await audit.append(entry.drift(facts, new_ulid(now, entropy(ENTROPY_BYTES)), now))

    return record


def new_strangers(config: Config) -> Strangers:
    """Return a budget for the records of strangers at one door."""
    one_peer = config.audit.refusals_per_second
    return Strangers(Rates(per_peer=one_peer, all_peers=_ALL_PEERS * one_peer))


@dataclass(frozen=True, slots=True)
class Memories:
    """What the processes of a machine remember together: what counts once, what waits, whose sessions are."""

    replay: ReplayFile
    # What waits for a person: the file, and how the flow asks it.
    requests: ApprovalFile
    approvals: SharedApprovals
    sessions: SharedSessions
    # What tools are: the file, and how the flow asks it.
    tools: PinFile
    pins: SharedPins


def open_memories(  # noqa: PLR0917 - all that remembers is opened here, once
    config: Config, directory: Path, audit: Sink, clock: Clock, entropy: Entropy, stack: ExitStack
) -> Memories:
    """Open all in the data_dir of the authority, so that what was spent at one process counts at none.

    Raises:
        StoreError: if a file is not ours alone, is damaged, or of another version.
    """
    replay = ReplayFile.open(directory / REPLAY)
    stack.callback(replay.close)
    limits = ApprovalLimits(config.approvals.pending_seconds, config.approvals.granted_seconds)
    requests = ApprovalFile.open(directory / APPROVALS_FILE, limits)
    stack.callback(requests.close)
    approvals = SharedApprovals(requests, config.broker.issuer, entropy)
    sessions = SessionFile.open(directory / SESSIONS_FILE)
    stack.callback(sessions.close)
    tools = PinFile.open(directory / PINS_FILE)
    stack.callback(tools.close)
    pins = SharedPins(tools, drift_recorder(audit, clock, entropy))
    return Memories(replay, requests, approvals, SharedSessions(sessions), tools, pins)


def open_flow(  # noqa: PLR0917 - all parts of the flow meet here, once
    config: Config,
    authority: Callable[[], Authority],
    federated: Callable[[], Mapping[TrustDomain, Bundle]],
    rights: Rights,
    policy: LivePolicy,
    sink: Sink,
    memories: Memories,
    clock: Clock,
    entropy: Entropy,
    following: Following | None = None,
) -> Flow:
    """Return the flow.

    Raises:
        StoreError: if the key of the arguments' hash cannot be had.
    """
    limits, issuer = config.limits, config.broker.issuer
    return Flow(
        services=config.to_services(),
        trust=LiveTrust(
            authority=authority,
            federated=federated,
            issuer=issuer,
            leeway=limits.clock_leeway_seconds,
            max_depth=limits.delegation_depth,
        ),
        rights=rights,
        policy=policy,
        sink=sink,
        strangers=new_strangers(config),
        transactions=TransactionIssuer(
            lambda: authority().token_key,
            issuer,
            authority().trust_domain,
            limits.transaction_token_seconds,
        ),
        spend=spender(memories.replay),
        arguments_key=load_or_create_arguments_key(config.data_dir / "arguments.key", entropy(32)),
        clock=clock,
        entropy=entropy,
        following=following,
        approvals=memories.approvals,
        sessions=memories.sessions,
        pins=memories.pins,
        signed_names=_signed_names(config, policy),
    )


def _signed_names(config: Config, policy: LivePolicy) -> AuthorizedLists | None:
    """Return what signs for Kuadrant's gateways.

    Raises:
        ConfigError: if its key cannot be had.
    """
    if config.kuadrant is None:
        return None
    return AuthorizedLists(
        gateways=config.kuadrant.to_gateways(config.to_services()),
        key=load_list_key(config.kuadrant.key),
        issuer=config.broker.issuer,
        policy=policy,
    )


async def write_summaries(
    strangers: Iterable[Strangers], audit: Sink, flow: Flow, *, final: bool = False
) -> None:
    """Record how many refusals of strangers were counted only.

    Raises:
        AuditError: if that cannot be written.
    """
    now = flow.clock()
    waiting = [(each, summary) for each in strangers for summary in each.due(now, final=final)]
    try:
        while waiting:
            await audit.append(entry.refused(waiting[0][1], flow.new_id(now), now))
            del waiting[0]
    finally:
        # What could not be written is counted again: a full disk loses no count.
        for each, summary in waiting:
            each.put_back(summary)


async def note(kind: Literal["start", "stop"], detail: str, audit: Sink, flow: Flow) -> None:
    """Record that the service begins or ends.

    Raises:
        AuditError: if that cannot be written.
    """
    now = flow.clock()
    await audit.append(entry.service(kind, version(DISTRIBUTION), detail, flow.new_id(now), now))
