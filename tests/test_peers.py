"""Who is at the other end: the roots of its own trust domain say, at every call, and nobody else's."""

from datetime import UTC, datetime, timedelta

import pytest

from authz.peers import MAX_PEERS, Peers, domains_of
from identity.errors import CertificateError
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles, verify_by_own_roots
from identity.x509_svid import MAX_CERTIFICATE, MAX_CHAIN
from tests.hostile_ca import HostileCa, Peer

MESH, SPIRE, EAST = (TrustDomain.parse(name) for name in ("mesh.example", "spire.example", "east.example"))
GATEWAY = "spiffe://mesh.example/ns/mesh/sa/gateway"
RUNNER = "spiffe://spire.example/ns/agents/sa/runner"
WEST = "spiffe://east.example/ns/west/sa/west"


class World:
    """A listener that knows two of three trust domains."""

    def __init__(self) -> None:
        self.mesh, self.spire, self.east = (HostileCa.root(name.name) for name in (MESH, SPIRE, EAST))
        self.bundles = TrustBundles(self.mesh.bundle, {SPIRE: self.spire.bundle, EAST: self.east.bundle})
        self.peers = Peers(lambda: self.bundles, frozenset({MESH, SPIRE}))
        self.now = datetime.now(UTC)

    def who(self, peer: Peer) -> str:
        return str(self.peers.verify(peer.ders, self.now).spiffe_id)

    def refuses(self, peer: Peer, why: str = ".") -> None:
        with pytest.raises(CertificateError, match=why):
            self.who(peer)

    def trust(self, **roots: tuple[HostileCa, ...]) -> None:
        """Change whom we trust; what is not named stays."""
        from dataclasses import replace

        def of(old: HostileCa, name: str) -> tuple[HostileCa, ...]:
            return roots.get(name, (old,))

        own, spire = of(self.mesh, "mesh"), of(self.spire, "spire")
        self.bundles = TrustBundles(
            replace(self.mesh.bundle, roots=tuple(ca.certificate for ca in own)),
            {SPIRE: replace(self.spire.bundle, roots=tuple(ca.certificate for ca in spire))},
        )


def test_x_7_a_peer_counts_by_the_roots_of_its_own_trust_domain() -> None:
    """X-7: each by its own."""
    world = World()
    assert world.who(world.mesh.issue(GATEWAY)) == GATEWAY
    assert world.who(world.spire.issue(RUNNER)) == RUNNER
    assert world.who(world.spire.below().issue(RUNNER)) == RUNNER


def test_x_7_a_federated_ca_cannot_name_the_gateway() -> None:
    """X-7: neither by itself, nor with a CA below it that calls itself ours, nor with our root beside it."""
    world = World()
    world.refuses(world.spire.issue(GATEWAY), "did not sign")
    world.refuses(world.spire.below(MESH.name).issue(GATEWAY), "did not sign")
    forged = world.spire.issue(GATEWAY)
    world.refuses(Peer(forged.chain + world.mesh.pem, forged.key), "did not sign")
    world.refuses(world.mesh.issue(RUNNER), "did not sign")


def test_a_domain_that_the_listener_does_not_know_counts_for_nothing_whoever_vouches_for_it() -> None:
    """TLS lets a cross-signed CA in; its own roots are known, but not here."""
    world = World()
    world.refuses(world.east.issue(WEST), "no roots of")
    world.refuses(world.east.vouched_for_by(world.spire).issue(WEST), "no roots of")


def test_only_the_roots_of_the_domains_that_are_named_are_loaded() -> None:
    world = World()
    assert world.peers.roots_pem() == world.mesh.pem + world.spire.pem
    world.peers.domains = frozenset({EAST})
    assert world.peers.roots_pem() == world.east.pem
    world.peers.domains = frozenset({TrustDomain.parse("unknown.example")})
    assert world.peers.roots_pem() == b""


@pytest.mark.parametrize("names_its_key", [True, False])
def test_a_root_that_looks_like_ours_is_not_given_to_tls_and_the_next_of_ours_is(names_its_key: bool) -> None:
    """A root is found by its name and tried once: the double would shut out all whom ours vouches for."""
    world = World()
    double = HostileCa.lookalike(SPIRE.name, world.mesh, names_its_key=names_its_key)
    world.trust(spire=(double, world.spire))
    assert world.peers.roots_pem() == world.mesh.pem + world.spire.pem
    same_name = HostileCa.lookalike(MESH.name, world.mesh, names_its_key=True)
    world.trust(mesh=(world.mesh, same_name))
    assert world.peers.roots_pem() == world.mesh.pem + same_name.pem + world.spire.pem


def test_a_root_that_two_domains_share_is_given_to_tls() -> None:
    """Two SPIREs below one CA of the company; each vouches by it for its own names alone."""
    world = World()
    shared = HostileCa(SPIRE.name, world.mesh.certificate, world.mesh.key)
    world.trust(spire=(shared,))
    assert world.who(shared.issue(RUNNER)) == RUNNER
    assert world.peers.roots_pem() == world.mesh.pem * 2


def test_a_root_that_is_withdrawn_counts_at_the_very_next_call() -> None:
    world = World()
    peer = world.spire.issue(RUNNER)
    assert world.who(peer) == RUNNER
    world.trust(spire=(HostileCa.root(SPIRE.name),))
    world.refuses(peer, "did not sign")
    world.trust(spire=())
    world.refuses(peer, "no roots")
    world.trust()
    assert world.who(peer) == RUNNER


def test_a_peer_that_is_remembered_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world, verified = World(), []

    def counted(*arguments: object) -> object:
        verified.append(1)
        return verify_by_own_roots(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr("authz.peers.verify_by_own_roots", counted)
    peer = world.spire.issue(RUNNER)
    for _ in range(5):
        world.who(peer)
    world.trust()  # another object that says the same, but for a domain that is not of this listener
    world.who(peer)
    assert len(verified) == 1
    forged = world.spire.issue(GATEWAY)
    for _ in range(2):
        world.refuses(forged)
    assert len(verified) == 3


@pytest.mark.parametrize("shorter", ["leaf", "intermediate", "root"])
def test_a_peer_is_forgotten_when_a_certificate_of_its_path_ends(shorter: str) -> None:
    world = World()
    short, long = timedelta(minutes=5), timedelta(minutes=50)
    world.spire = HostileCa.root(SPIRE.name, short if shorter == "root" else long)
    world.trust(spire=(world.spire,))
    below = world.spire.below(lifetime=short if shorter == "intermediate" else long)
    peer = below.issue(RUNNER, short if shorter == "leaf" else long)
    assert world.who(peer) == RUNNER
    world.now += timedelta(minutes=4)
    assert world.who(peer) == RUNNER
    world.now += timedelta(minutes=2)
    world.refuses(peer)


def test_a_clock_that_goes_back_has_everybody_verified_again() -> None:
    world = World()
    peer = world.spire.issue(RUNNER)
    assert world.who(peer) == RUNNER
    world.now -= timedelta(hours=2)
    world.refuses(peer)


def test_another_chain_of_the_same_leaf_is_another_peer() -> None:
    """Else a peer could be remembered by what it did not present."""
    world = World()
    peer = world.spire.below().issue(RUNNER)
    assert world.who(peer) == RUNNER
    with pytest.raises(CertificateError):
        world.peers.verify(peer.ders[:1], world.now)


@pytest.mark.parametrize(
    "chain", [(), (b"",), (b"\x30",), (b"x" * (MAX_CERTIFICATE + 1),), (b"x",) * (MAX_CHAIN + 1)]
)
def test_what_is_no_chain_is_nobody(chain: tuple[bytes, ...]) -> None:
    with pytest.raises(CertificateError):
        World().peers.verify(chain, datetime.now(UTC))


def test_the_memory_is_bounded() -> None:
    world = World()
    first = world.spire.issue(RUNNER)
    world.who(first)
    known = world.peers._current().peers  # its size is what is tested
    (found,) = known.values()
    known.update({number.to_bytes(32): found for number in range(MAX_PEERS - 1)})
    world.who(world.spire.issue(RUNNER))
    assert len(known) == MAX_PEERS
    assert world.who(first) == RUNNER


def test_the_domains_of_a_listener_are_those_of_the_names_in_its_configuration() -> None:
    ids = [SpiffeId.parse(GATEWAY), SpiffeId.parse(RUNNER)]
    assert domains_of(ids) == {MESH, SPIRE}
    assert domains_of([], EAST) == {EAST}
