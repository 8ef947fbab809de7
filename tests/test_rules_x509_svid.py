"""X.509-SVIDs, rules X-1 to X-8, as other people's code reads them; our own reading is in test_x509_svid.py.

The readers are PyPI `spiffe`, plain `cryptography.x509.verification` and OpenSSL.
"""

import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import spiffe
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from identity.bundle import Bundle
from identity.certificate_authority import CertificateAuthority, authority_domain
from identity.errors import CertificateError
from identity.keys import KeySet, SigningKey
from identity.spiffe import SpiffeId, agent_task_id
from identity.trust_bundles import TrustBundles
from identity.x509_svid import issue_x509_svid
from tests.identity_world import NOW, OTHER_TD, RUNNER, TD, ulid

CA, OTHER_CA = CertificateAuthority.generate(TD, NOW), CertificateAuthority.generate(OTHER_TD, NOW)
KEY = SigningKey.generate()
PUBLIC = KEY.private_key.public_key()
TASK_ID, THEIR_TASK_ID = (agent_task_id(domain, "triage", ulid(1)) for domain in (TD, OTHER_TD))
DER = serialization.Encoding.DER


def issue(
    ca: CertificateAuthority = CA, spiffe_id: SpiffeId = TASK_ID, now: datetime = NOW, **more: Any
) -> bytes:
    end = now + timedelta(minutes=10)
    return issue_x509_svid(ca=ca, spiffe_id=spiffe_id, public_key=PUBLIC, not_after=end, now=now, **more)


def usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
    none = dict.fromkeys([*others, "encipher_only", "decipher_only"], False)
    return x509.KeyUsage(digital_signature=digital_signature, key_cert_sign=key_cert_sign, **none)


def uri(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])


def signed_by(ca: CertificateAuthority, extensions: Sequence[tuple[x509.ExtensionType, bool]]) -> bytes:
    """Sign a certificate with nothing in it but what is given."""
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x")])
    builder = (
        x509.CertificateBuilder(ca.certificate.subject, name, PUBLIC, x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(minutes=10))
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(ca.key.private_key, hashes.SHA256()).public_bytes(DER)


def leaf_parts(spiffe_id: SpiffeId) -> list[tuple[x509.ExtensionType, bool]]:
    """Return all that an X.509-SVID with a subject needs, but for the name of its signer's key."""
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage(digital_signature=True), True),
        (uri(str(spiffe_id)), False),
    ]


def plain_verify(der: bytes, roots: Sequence[x509.Certificate], *more: bytes) -> list[x509.Certificate]:
    """Verify as somebody would who knows nothing of SPIFFE."""
    verifier = PolicyBuilder().store(Store(list(roots))).time(NOW).build_client_verifier()
    leaf, *others = (x509.load_der_x509_certificate(part) for part in (der, *more))
    return list(verifier.verify(leaf, others).chain)


@pytest.mark.parametrize("spiffe_id", [TASK_ID, RUNNER])
@pytest.mark.parametrize("names", [(), ("localhost", "127.0.0.1")])
def test_x_1_to_x_5_other_peoples_client_reads_what_we_issue(
    spiffe_id: SpiffeId, names: tuple[str, ...]
) -> None:
    """X-1, X-2, X-3, X-4, X-5: PyPI `spiffe` checks the name, the constraints and the usage."""
    key = KEY.private_key.private_bytes(DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    svid = spiffe.X509Svid.parse_raw(issue(spiffe_id=spiffe_id, dns_names=names), key)
    assert str(svid.spiffe_id) == str(spiffe_id)
    assert svid.leaf.public_key() == PUBLIC


def test_x_2_a_reader_that_knows_no_names_refuses_the_leaf() -> None:
    """X-2: the subject is empty, so the names are critical; who cannot read them must not pass over them."""
    leaf = x509.load_der_x509_certificate(issue())
    critical = {part.oid for part in leaf.extensions if part.critical}
    assert x509.SubjectAlternativeName.oid in critical
    assert list(leaf.subject) == []


RIGHT_CA: dict[str, tuple[x509.ExtensionType, bool]] = {
    "constraints": (x509.BasicConstraints(ca=True, path_length=0), True),
    "usage": (usage(key_cert_sign=True), True),
    "names": (uri("spiffe://mesh.example"), False),
}


@pytest.mark.parametrize(
    "change",
    [
        {"constraints": None},
        {"constraints": (x509.BasicConstraints(ca=False, path_length=None), True)},
        {"usage": None},
        {"usage": (usage(key_cert_sign=True), False)},
        {"usage": (usage(digital_signature=True), True)},
        {"names": None},
        {"names": (uri("spiffe://mesh.example", "spiffe://other.example"), False)},
        {"names": (uri("spiffe://mesh.example/ca"), False)},
        {"names": (uri("spiffe://mesh.example/"), False)},
        {"names": (uri("https://mesh.example"), False)},
        {"names": (uri("spiffe://MESH.example"), False)},
        {"names": (x509.SubjectAlternativeName([x509.DNSName("mesh.example")]), False)},
    ],
)
def test_x_6_refuses_root_that_is_not_the_authority_of_one_trust_domain(change: dict[str, Any]) -> None:
    """X-6: cA, keyCertSign in a critical key usage, and the ID of one trust domain without a path."""
    right = x509.load_der_x509_certificate(signed_by(CA, list(RIGHT_CA.values())))
    assert authority_domain(right) == TD
    parts = [part for part in (RIGHT_CA | change).values() if part is not None]
    with pytest.raises(CertificateError):
        authority_domain(x509.load_der_x509_certificate(signed_by(CA, parts)))


def test_x_6_openssl_refuses_our_authority_as_a_peer(tmp_path: Path) -> None:
    """X-6: an authority's certificate authenticates nobody, although everybody trusts it."""
    ca = CertificateAuthority.generate(TD, datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(ca.certificate_pem())
    (tmp_path / "key.pem").write_bytes(ca.key.reveal_pem())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    client = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    client.check_hostname = False  # so that the certificate's purpose is what is judged
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up)
    answering = server.wrap_bio(up, down, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(asking, answering)


def handshake(*sides: ssl.SSLObject) -> None:
    for side in sides * 5:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()


def bundles(**more: Any) -> TrustBundles:
    ours = Bundle(TD, (CA.certificate,), KeySet.of(()), 1, None)
    theirs = Bundle(OTHER_TD, (OTHER_CA.certificate,), KeySet.of(()), 1, None)
    return TrustBundles(ours, more.get("federated", {OTHER_TD: theirs}))


def test_x_7_each_trust_domain_vouches_for_its_own_ids_only() -> None:
    """X-7: the root that counts is that of the domain in the leaf; a federated authority forges in vain."""
    trusted = bundles()
    assert trusted.verify_x509([issue()], NOW).spiffe_id == TASK_ID
    assert trusted.verify_x509([issue(OTHER_CA, THEIR_TASK_ID)], NOW).spiffe_id == THEIR_TASK_ID
    for signer, named in ((OTHER_CA, TASK_ID), (CA, THEIR_TASK_ID)):
        # The signer's own check is what a thief of its key goes around.
        aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.private_key.public_key())
        forged = signed_by(
            signer,
            [*leaf_parts(named), (aki, False)],
        )
        # With the roots merged it would have passed: that is what must never be done.
        assert plain_verify(forged, [CA.certificate, OTHER_CA.certificate])
        with pytest.raises(CertificateError):
            trusted.verify_x509([forged], NOW)
        with pytest.raises(CertificateError):
            trusted.verify_x509([forged, signer.certificate.public_bytes(DER)], NOW)


def test_x_7_trust_domain_without_a_bundle_is_a_stranger() -> None:
    """X-7: also one whose bundle was taken away, or is empty."""
    svid = issue(OTHER_CA, THEIR_TASK_ID)
    emptied = Bundle(OTHER_TD, (), KeySet.of(()), 2, None)
    for federated in ({}, {OTHER_TD: emptied}):
        with pytest.raises(CertificateError):
            bundles(federated=federated).verify_x509([svid], NOW)


def test_x_7_roots_under_another_name_are_refused() -> None:
    """X-7: a bundle filed under a domain that is not its own would let the one speak for the other."""
    theirs = Bundle(OTHER_TD, (OTHER_CA.certificate,), KeySet.of(()), 1, None)
    with pytest.raises(CertificateError):
        bundles(federated={TD: theirs})
    with pytest.raises(CertificateError):
        bundles(federated={TD: Bundle(TD, (OTHER_CA.certificate,), KeySet.of(()), 1, None)})


def test_x_8_a_plain_verifier_accepts_what_we_issue_and_no_authority() -> None:
    """X-8: RFC 5280 is verified by a library; what it lacks of SPIFFE is added, nothing of it is replaced."""
    assert len(plain_verify(issue(), [CA.certificate])) == 2
    with pytest.raises(VerificationError):
        plain_verify(issue(), [OTHER_CA.certificate])
    with pytest.raises(VerificationError):
        plain_verify(CA.certificate.public_bytes(DER), [CA.certificate])
    with pytest.raises(VerificationError, match=r"2\.5\.29\.35"):
        plain_verify(signed_by(CA, leaf_parts(TASK_ID)), [CA.certificate])
