"""Under a SPIRE: our identity and its bundles come from its Workload API, and count by our own rules.

The SPIRE is a real server of the standard, of another trust domain, and the client the PyPI package.
"""

import asyncio
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from authz.errors import ConfigError
from authz.hosts.tls import ListenerTls
from authz.identity_service.upstream import Upstream
from authz.parts import open_parts
from authz.peers import Peers, domains_of
from identity.entitlement import Entitlement
from identity.keys import SigningKey
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles
from identity.x509_svid import verify_x509_svid
from tests.hostile_ca import HostileCa, Peer
from tests.service_files import ServiceFiles
from tests.spire_stand_in import DEPUTY_OF_SPIRE, SPIRE, SpireStandIn, bundle_of, now, spire
from tests.test_tls_domains import called, check_server_of

_DER = serialization.Encoding.DER
OWN = TrustDomain.parse("agents.example")
EAST = TrustDomain.parse("east.example")


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dpt-") as directory:
        yield Path(directory) / "spire"


def connected(to: SpireStandIn, changed: Callable[[], None] = lambda: None) -> Upstream:
    return Upstream.open(to.address, OWN, now, changed, start_seconds=20)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def chain_of(upstream: Upstream) -> list[bytes]:
    pem = upstream.credential().certificate_chain
    return [cert.public_bytes(_DER) for cert in x509.load_pem_x509_certificates(pem)]


def test_our_identity_and_the_bundles_come_from_spire(place: Path) -> None:
    with spire(place) as above, closing(connected(above)) as upstream:
        assert upstream.spiffe_id == DEPUTY_OF_SPIRE
        assert upstream.dns_names == {"localhost"}
        verify_x509_svid(chain_of(upstream), above.authority.roots, SPIRE, now())
        bundle = upstream.bundles()[SPIRE]
        assert bundle.roots == above.authority.roots
        assert bundle.jwt_keys == above.authority.svid_keys
        assert upstream.is_ready(now())
        assert upstream.problem == ""


def test_the_key_is_in_no_text(place: Path) -> None:
    with spire(place) as above, closing(connected(above)) as upstream:
        assert "PRIVATE" not in repr(upstream.credential()) + repr(vars(upstream))


def test_a_rotation_reaches_us_without_our_asking(place: Path) -> None:
    with spire(place) as above:
        told: list[None] = []
        with closing(connected(above, lambda: told.append(None))) as upstream:
            before, heard = upstream.credential(), len(told)
            above.rotate()
            until(lambda: upstream.credential() != before and upstream.bundles()[SPIRE].roots[1:] != ())
            verify_x509_svid(chain_of(upstream), [above.authority.ca.certificate], SPIRE, now())
            until(lambda: len(told) > heard)


def test_a_1_a_root_and_a_domain_that_are_not_in_the_next_message_are_trusted_no_more(place: Path) -> None:
    """A-1: absence is redaction."""
    with spire(place) as above:
        above.federated = {EAST: bundle_of("east.example")}
        with closing(connected(above)) as upstream:
            assert upstream.bundles().keys() == {SPIRE, EAST}
            assert upstream.bundles()[EAST].jwt_keys == above.federated[EAST].jwt_keys
            above.change(lambda: setattr(above, "federated", {}))
            until(lambda: upstream.bundles().keys() == {SPIRE})
            above.rotate()
            above.revoke_oldest_root()
            until(lambda: upstream.bundles()[SPIRE].roots == above.authority.roots)
            assert len(above.authority.roots) == 1


def test_the_bundles_are_one_object_until_they_change(place: Path) -> None:
    with spire(place) as above, closing(connected(above)) as upstream:
        before, credential = upstream.bundles(), upstream.credential()
        above.change(lambda: setattr(above, "entitled", (Entitlement(DEPUTY_OF_SPIRE),)))
        until(lambda: upstream.credential() != credential)
        assert upstream.bundles() is before


def test_a_bundle_of_our_own_trust_domain_is_not_taken_from_spire(place: Path) -> None:
    """What SPIRE believes of us is its affair; who may sign our tasks is ours."""
    with spire(place) as above:
        above.federated = {OWN: bundle_of(OWN.name)}
        with closing(connected(above)) as upstream:
            assert upstream.bundles().keys() == {SPIRE}


# ---- what is wrong at the start


def refused(address: str, seconds: float = 20) -> str:
    with pytest.raises(ConfigError) as caught:
        Upstream.open(address, OWN, now, start_seconds=seconds)
    return str(caught.value)


def test_no_socket_is_one_sentence(place: Path) -> None:
    assert refused(f"unix://{place}/none.sock", 0.3) == (
        f"there is no socket at 'unix://{place}/none.sock': "
        "is the SPIRE agent running, and its socket mounted here?"
    )


def test_a_socket_that_nobody_serves_is_one_sentence(place: Path) -> None:
    import socket

    place.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(place / "agent.sock"))
    assert "does not answer" in refused(f"unix://{place}/agent.sock", 1)


def test_a_socket_that_accepts_and_says_nothing_holds_the_start_up_no_longer_than_it_may(place: Path) -> None:
    import socket

    place.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(place / "agent.sock"))
        silent.listen()
        assert "did not answer in 0.5 seconds" in refused(f"unix://{place}/agent.sock", 0.5)


def test_who_is_entitled_to_nothing_is_told_to_register(place: Path) -> None:
    with spire(place) as above:
        above.entitled = ()
        assert "has no identity for this process: register it in SPIRE" in refused(above.address, 1)


def test_a_registration_that_comes_while_we_wait_is_enough(place: Path) -> None:
    """A SPIRE agent learns of a new entry some seconds after it was made."""
    import threading

    with spire(place) as above:
        entitled, above.entitled = above.entitled, ()
        threading.Timer(0.5, lambda: setattr(above, "entitled", entitled)).start()
        with closing(connected(above)) as upstream:
            assert upstream.is_ready(now())


def test_a_spire_of_our_own_trust_domain_is_refused_at_once(place: Path) -> None:
    with spire(place, OWN) as above:
        sentence = refused(above.address, 3600)
    assert "is of 'agents.example' too: name another trust domain in trust_domain" in sentence


def test_an_identity_that_is_not_valid_by_our_clock_is_refused(place: Path) -> None:
    with spire(place) as above, pytest.raises(ConfigError, match="is refused: an X"):
        Upstream.open(above.address, OWN, lambda: now() + timedelta(hours=2), start_seconds=1)


def test_a_8_a_workload_api_without_jwt_svids_is_enough(place: Path) -> None:
    """A-8: operators may turn the JWT profile off; then no JWT-SVID of SPIRE's counts."""
    with spire(place) as above:
        above.shut()
        above.serves_jwt = False
        above.listen()
        with closing(connected(above)) as upstream:
            assert upstream.is_ready(now())
            assert list(upstream.bundles()[SPIRE].jwt_keys) == []
            assert "no JWT bundles" in upstream.problem


def test_a_5_a_package_that_hides_what_jwt_keys_are_for_gives_none(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A-5: another version of it may read the bundles by itself; keys of WIT-SVIDs would be among them."""
    monkeypatch.delattr("authz.identity_service.upstream._Client._create_jwt_bundle_set")
    with spire(place) as above, closing(connected(above)) as upstream:
        assert list(upstream.bundles()[SPIRE].jwt_keys) == []
        assert "hides" in upstream.problem


# ---- what goes wrong later


def test_while_the_socket_is_lost_we_serve_on_and_when_it_is_back_we_follow(place: Path) -> None:
    with spire(place) as above, closing(connected(above)) as upstream:
        before = upstream.credential()
        above.shut()
        until(lambda: upstream.problem != "")
        assert upstream.credential() == before
        assert upstream.bundles().keys() == {SPIRE}
        assert upstream.is_ready(now())
        assert not upstream.is_ready(now() + timedelta(seconds=601))
        above.rotate()
        above.listen()
        until(lambda: upstream.credential() != before and upstream.problem == "")
        verify_x509_svid(chain_of(upstream), [above.authority.ca.certificate], SPIRE, now())


def test_a_1_who_loses_its_identity_is_not_ready_until_it_has_one_again(place: Path) -> None:
    """A-1: PermissionDenied on an open stream takes the identity back."""
    with spire(place) as above, closing(connected(above)) as upstream:
        entitled = above.entitled
        above.change(lambda: setattr(above, "entitled", ()))
        until(lambda: not upstream.is_ready(now()))
        assert "has no identity for this process" in upstream.problem
        above.change(lambda: setattr(above, "entitled", entitled))
        until(lambda: upstream.is_ready(now()))


def test_an_identity_of_our_own_trust_domain_never_replaces_the_one_that_we_have(place: Path) -> None:
    """Whoever takes SPIRE's socket cannot make us present a name of our own tasks' trust domain."""
    with spire(place) as above, closing(connected(above)) as upstream:
        before = upstream.credential()
        above.shut()
        with spire(place.with_name("other"), OWN, above.path):
            until(lambda: "is of 'agents.example' too" in upstream.problem)
            assert upstream.credential() == before
            until(lambda: upstream.bundles() == {})


def test_closing_ends_the_threads(place: Path) -> None:
    import threading

    with spire(place) as above:
        before = threading.active_count()
        upstream = connected(above)
        upstream.close()
        until(lambda: threading.active_count() <= before)


# ---- the servers under a SPIRE


def test_check_serves_with_spires_identity_and_knows_spires_proxies_by_spires_roots(place: Path) -> None:
    """Tasks live in our domain, the mesh in SPIRE's: neither CA speaks for a name of the other."""
    ours = HostileCa.root(OWN.name)
    gateway = "spiffe://spire.example/ns/mesh/sa/gateway"

    def issued(above: SpireStandIn, name: str) -> Peer:
        key = SigningKey.generate()
        der = above.authority.issue_workload_svid(
            SpiffeId.parse(name), key.private_key.public_key(), now(), 600
        )
        return Peer(ssl.DER_cert_to_PEM_cert(der).encode(), key.reveal_pem())

    async def scenario(above: SpireStandIn, upstream: Upstream) -> None:
        bundles = TrustBundles(ours.bundle)
        peers = Peers(
            lambda: replace(bundles, federated=upstream.bundles()),
            domains_of([SpiffeId.parse(gateway)], OWN),
        )
        async with check_server_of(ListenerTls(upstream.credential, peers)) as server:
            server.roots = above.authority.ca.certificate_pem()
            old = issued(above, gateway)
            assert await called(server, old) == "accepted"
            assert await called(server, ours.issue(gateway)) == "refused"
            assert await called(server, ours.issue(f"spiffe://{OWN}/ns/mesh/sa/waypoint")) == "accepted"
            before = upstream.credential()
            above.rotate()
            above.revoke_oldest_root()
            await asyncio.to_thread(
                until,
                lambda: (
                    upstream.credential() != before
                    and upstream.bundles()[SPIRE].roots == above.authority.roots
                ),
            )
            server.roots = above.authority.ca.certificate_pem()
            assert await called(server, old) == "shut out"
            assert await called(server, issued(above, gateway)) == "accepted"

    with spire(place) as above, closing(connected(above)) as upstream:
        asyncio.run(scenario(above, upstream))


def test_the_service_stands_under_spire_as_its_configuration_says(place: Path, tmp_path: Path) -> None:
    """The whole of it: what it presents, whom it trusts, and when it is ready."""

    async def scenario(above: SpireStandIn, files: ServiceFiles) -> None:
        async with open_parts(files.config(), now, os.urandom) as parts:
            identity = parts.identity
            leaf = x509.load_pem_x509_certificate(identity.credential().certificate_chain)
            verify_x509_svid([leaf.public_bytes(_DER)], above.authority.roots, SPIRE, now())
            trusted = identity.known.trust()
            assert trusted.own.trust_domain.name == "mesh.example"
            assert trusted.federated.keys() == {SPIRE}
            assert trusted.jwt_keys[SPIRE] == above.authority.svid_keys
            # Nobody of SPIRE's domain is named in the configuration, so no listener lets any of them in.
            assert identity.broker_peers.roots_pem() == identity.check_peers.roots_pem()
            assert identity.is_ready(now())
            above.change(lambda: setattr(above, "entitled", ()))
            await asyncio.to_thread(until, lambda: not identity.is_ready(now()))

    with spire(place) as above:
        extra = f"identity: {{upstream: {{workload_api: '{above.address}', start_seconds: 20}}}}\n"
        asyncio.run(scenario(above, ServiceFiles(tmp_path / "service", extra)))


def test_the_service_does_not_start_under_a_spire_of_its_own_trust_domain(
    place: Path, tmp_path: Path
) -> None:
    async def start(files: ServiceFiles) -> None:
        async with open_parts(files.config(), now, os.urandom):
            pass

    with spire(place, TrustDomain.parse("mesh.example")) as above:
        extra = f"identity: {{upstream: {{workload_api: '{above.address}'}}}}\n"
        with pytest.raises(ConfigError, match="name another trust domain"):
            asyncio.run(start(ServiceFiles(tmp_path / "service", extra)))
