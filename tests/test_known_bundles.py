"""Whose bundles count now, and that asking again costs nothing."""

from datetime import UTC, datetime, timedelta

from authz.identity_service.known_bundles import Bundles, KnownBundles
from identity.authority import Authority
from identity.bundle import Bundle
from identity.spiffe import TrustDomain
from tests.fakes import DOMAIN

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
EAST, SPIRE = TrustDomain.parse("east.example"), TrustDomain.parse("spire.example")


def bundle(trust_domain: TrustDomain) -> Bundle:
    return Authority.generate(trust_domain, NOW - timedelta(hours=1)).trust_bundle()


class World:
    """An authority and two parts that are set."""

    def __init__(self) -> None:
        self.authority = Authority.generate(DOMAIN, NOW)
        self.fetched: Bundles = {}
        self.upstream: Bundles = {}
        self.known = KnownBundles(lambda: self.authority, (lambda: self.upstream, lambda: self.fetched))


def test_every_part_is_joined_and_ours_is_the_authoritys() -> None:
    world = World()
    world.fetched, world.upstream = {EAST: bundle(EAST)}, {SPIRE: bundle(SPIRE)}
    found = world.known.trust()
    assert found.own == world.authority.trust_bundle()
    assert found.federated == {**world.fetched, **world.upstream}
    assert world.known.federated() is found.federated


def test_nobody_else_speaks_for_our_own_trust_domain() -> None:
    world = World()
    world.fetched = {DOMAIN: bundle(DOMAIN)}
    assert world.known.trust().all == {DOMAIN: world.authority.trust_bundle()}


def test_the_first_part_speaks_for_a_domain_that_two_know() -> None:
    world = World()
    world.fetched, world.upstream = {EAST: bundle(EAST)}, {EAST: bundle(EAST)}
    assert world.known.trust().of(EAST) is world.upstream[EAST]


def test_nothing_new_is_made_until_something_changes() -> None:
    world = World()
    world.fetched = {EAST: bundle(EAST)}
    before = world.known.trust()
    assert world.known.trust() is before
    world.authority = Authority.generate(DOMAIN, NOW)
    rotated = world.known.trust()
    assert rotated.own == world.authority.trust_bundle()
    assert rotated.federated is before.federated  # whoever follows the others alone sees no change
    world.fetched = {}
    assert world.known.trust().federated == {}
