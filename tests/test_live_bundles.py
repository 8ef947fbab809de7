"""Whose bundles count now, and that asking again costs nothing."""

from datetime import UTC, datetime, timedelta

from authz.live_bundles import Federated, LiveBundles
from identity.authority import Authority
from identity.bundle import Bundle
from identity.spiffe import TrustDomain
from tests.fakes import DOMAIN

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
EAST, SPIRE = TrustDomain.parse("east.example"), TrustDomain.parse("spire.example")


def bundle(trust_domain: TrustDomain) -> Bundle:
    return Authority.generate(trust_domain, NOW - timedelta(hours=1)).trust_bundle()


class World:
    """An authority and two sources that are set."""

    def __init__(self) -> None:
        self.authority = Authority.generate(DOMAIN, NOW)
        self.fetched: Federated = {}
        self.upstream: Federated = {}
        self.bundles = LiveBundles(lambda: self.authority, (lambda: self.fetched, lambda: self.upstream))


def test_every_source_is_joined_and_ours_is_the_authoritys() -> None:
    world = World()
    world.fetched, world.upstream = {EAST: bundle(EAST)}, {SPIRE: bundle(SPIRE)}
    found = world.bundles()
    assert found.own == world.authority.trust_bundle()
    assert found.federated == {**world.fetched, **world.upstream}
    assert world.bundles.federated() is found.federated


def test_nobody_else_speaks_for_our_own_trust_domain() -> None:
    world = World()
    world.fetched = {DOMAIN: bundle(DOMAIN)}
    assert world.bundles().all == {DOMAIN: world.authority.trust_bundle()}


def test_the_later_source_speaks_for_a_domain_that_two_know() -> None:
    world = World()
    world.fetched, world.upstream = {EAST: bundle(EAST)}, {EAST: bundle(EAST)}
    assert world.bundles().of(EAST) is world.upstream[EAST]


def test_nothing_new_is_made_until_something_changes() -> None:
    world = World()
    world.fetched = {EAST: bundle(EAST)}
    before = world.bundles()
    assert world.bundles() is before
    world.authority = Authority.generate(DOMAIN, NOW)
    rotated = world.bundles()
    assert rotated.own == world.authority.trust_bundle()
    assert rotated.federated is before.federated  # whoever follows the others alone sees no change
    world.fetched = {}
    assert world.bundles().federated == {}
