"""Whatever a peer presents: an X.509-SVID of a domain that is known, or our own error."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.hosts.tls import ders_of
from authz.peers import Peers
from identity.errors import CertificateError
from identity.spiffe import TrustDomain
from identity.trust_bundles import TrustBundles
from identity.x509_svid import MAX_CERTIFICATE, MAX_CHAIN
from tests.hostile_ca import HostileCa

CA = HostileCa.root("mesh.example")
NOW = datetime.now(UTC)
PEER = CA.issue("spiffe://mesh.example/ns/mesh/sa/gateway")
BELOW = CA.below().issue("spiffe://mesh.example/ns/mesh/sa/gateway")
PEERS = Peers(lambda: TrustBundles(CA.bundle), frozenset({TrustDomain.parse("mesh.example")}))

mutated = st.tuples(st.integers(0, len(PEER.leaf) - 1), st.integers(0, 255)).map(
    lambda at: PEER.leaf[: at[0]] + bytes([at[1]]) + PEER.leaf[at[0] + 1 :]
)
certificates = st.one_of(st.binary(max_size=200), mutated, st.sampled_from([PEER.leaf, *BELOW.ders, b""]))


@given(st.lists(certificates, max_size=MAX_CHAIN + 1))
def test_any_chain_is_a_peer_or_our_error(chain: list[bytes]) -> None:
    try:
        found = PEERS.verify(chain, NOW)
    except CertificateError:
        return
    assert chain[0] in {PEER.leaf, BELOW.leaf}
    assert found.spiffe_id.trust_domain.name == "mesh.example"


@given(st.binary(max_size=300).map(lambda junk: BELOW.chain[:100] + junk + BELOW.chain[100:]) | st.binary())
def test_any_pem_is_a_chain_or_our_error(pem: bytes) -> None:
    try:
        chain = ders_of(pem)
    except CertificateError:
        return
    assert all(isinstance(der, bytes) for der in chain)


@pytest.mark.parametrize("size", [0, 1, 2, MAX_CHAIN])
def test_a_chain_reads_back_as_it_was_sent(size: int) -> None:
    assert ders_of(PEER.chain * size) == (PEER.leaf,) * size


@pytest.mark.parametrize(
    "pem", [PEER.chain + b"x", b"x" + PEER.chain, PEER.chain[:-30], PEER.chain * 200, b"\xff" + PEER.chain]
)
def test_what_is_not_only_certificates_is_refused(pem: bytes) -> None:
    assert len(PEER.chain * 200) > MAX_CHAIN * MAX_CERTIFICATE
    with pytest.raises(CertificateError):
        ders_of(pem)
