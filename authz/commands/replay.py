"""A captured CheckRequest, decided again by the flow itself: with a log that forgets, and nothing written.

- Keys, registry, configuration and policy are those of the service; the time is an argument.
- The transaction token of an allow is signed with a key that is thrown away: nobody would believe it.
- The policy's question and its verdict are kept, so that they can be explained.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from authz.audit.arguments import KEY_BYTES, ArgumentsKey
from authz.audit.entry import Entry
from authz.audit.sink import Receipt
from authz.audit.strangers import Strangers
from authz.authenticate import Trust
from authz.check import check
from authz.commands.registry import open_registry
from authz.config import Config
from authz.errors import CodedError, ConfigError
from authz.flow import Flow
from authz.identity_service.federation import read_relationships
from authz.policy.port import Policy, Query
from authz.policy.verdict import Verdict
from authz.replay import ReplayMemory
from authz.request import Request
from authz.store.spending import spender
from identity.keys import SigningKey
from identity.live_authority import STATE_FILE, read_published
from identity.spiffe import SpiffeId, TrustDomain
from identity.transaction import TransactionIssuer


@dataclass(frozen=True, slots=True)
class Replayed:
    """What the record would say; question and verdict where the call came as far as the policy."""

    record: Mapping[str, Any]
    query: Mapping[str, Any] | None
    verdict: Verdict | None
    inexact: tuple[str, ...]


@dataclass(slots=True)
class _Asked:
    """A policy that remembers what it was asked."""

    policy: Policy
    query: Query | None = None
    verdict: Verdict | None = None
    failure: CodedError | None = None

    @property
    def revision(self) -> str:
        return self.policy.revision

    def payload_classes(self, service: str) -> frozenset[str]:
        return self.policy.payload_classes(service)

    async def decide(self, query: Query) -> Verdict:
        self.query = query
        try:
            self.verdict = await self.policy.decide(query)
        except CodedError as error:
            self.failure = error
            raise
        return self.verdict

    async def visible(self, query: Query) -> frozenset[str]:
        return await self.policy.visible(query)


@dataclass(slots=True)
class _Forgetful:
    """A log for the length of one call."""

    entries: list[Entry] = field(default_factory=list)

    async def append(self, entry: Entry) -> Receipt:
        self.entries.append(entry)
        return Receipt(len(self.entries), entry.id)


async def replay(
    config: Config, data: bytes, policy: Policy, *, at: datetime, asker: str | None, is_past: bool
) -> Replayed:
    """Decide a CheckRequest as the service would at a time.

    Raises:
        CodedError: if the policy gave no answer: then nothing can be said.
        AuthzError: if the service's files cannot be read.
        IdentityError: if its keys cannot be read.
    """
    if not (config.data_dir / "keys" / STATE_FILE).is_file():
        raise ConfigError(
            f"there are no keys in {str(config.data_dir)!r}: has 'deputy serve' run with this configuration?"
        )
    trust_domain = TrustDomain.parse(config.trust_domain)
    rings = read_published(config.data_dir / "keys", trust_domain).rings
    federated = {
        each.trust_domain: each.bundle.jwt_keys
        for each in read_relationships(config.data_dir / "keys", trust_domain)
        if each.bundle is not None
    }
    trust = Trust(
        trust_domain=trust_domain,
        issuer=config.broker.issuer,
        token_keys=rings["tokens"].public_keys,
        svid_keys={**federated, trust_domain: rings["jwt"].public_keys},
        leeway=config.limits.clock_leeway_seconds,
        max_depth=config.limits.delegation_depth,
    )
    asked, sink = _Asked(policy), _Forgetful()
    who_asks, notes = _asker(config, data, asker)
    with open_registry(config.data_dir / "state.db", at) as registry:
        flow = Flow(
            services=config.to_services(),
            trust=lambda: trust,
            rights=registry,
            policy=asked,
            sink=sink,
            strangers=Strangers(),
            transactions=TransactionIssuer(
                SigningKey.generate,
                config.broker.issuer,
                trust_domain,
                config.limits.transaction_token_seconds,
            ),
            spend=spender(ReplayMemory()),
            arguments_key=ArgumentsKey(os.urandom(KEY_BYTES)),
            clock=lambda: at,
            entropy=os.urandom,
        )
        await check(data, who_asks, flow)
    if asked.failure is not None:
        raise asked.failure
    when = "registry, grants and policy are those of today" if is_past else "it was decided as of now"
    return Replayed(sink.entries[0].fields, asked.query, asked.verdict, (*notes, when))


def _asker(config: Config, data: bytes, named: str | None) -> tuple[SpiffeId | None, tuple[str, ...]]:
    """Say which proxy asks: a capture does not hold it."""
    if named is not None:
        return SpiffeId.parse(named), ()
    callers = config.check.callers
    if not callers:
        return None, ()
    fitting = [caller for caller in callers if _service_of(data, config) in caller.may_ask]
    taken = (fitting or callers)[0].id
    if len(callers) == 1:
        return SpiffeId.parse(taken), ()
    return SpiffeId.parse(taken), (
        f"the proxy that asked is not in a capture; {taken} was assumed (--asker)",
    )


def _service_of(data: bytes, config: Config) -> str | None:
    services = config.to_services()
    try:
        request = Request.parse(data)
    except CodedError:
        return None
    service = services.by_host.get((request.destination, request.host))
    return request.extensions.get("service") or (service.name if service else None)
