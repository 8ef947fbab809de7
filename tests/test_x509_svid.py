"""X.509-SVIDs: rules/spiffe.md ID-6 and X-1 to X-8, each with the certificate that breaks it."""

import ssl
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from identity.certificate_authority import CertificateAuthority, authority_domain
from identity.errors import CertificateError, KeyMaterialError
from identity.keys import SigningKey
from identity.spiffe import SpiffeId, agent_task_id
from identity.x509_svid import (
    MAX_CERTIFICATE,
    X509Svid,
    issue_x509_svid,
    leaf_spiffe_id,
    parse_csr,
    thumbprint,
    verify_x509_svid,
)
from tests.identity_world import NOW, OTHER_TD, TD, ulid

CA = CertificateAuthority.generate(TD, NOW)
OTHER_CA = CertificateAuthority.generate(OTHER_TD, NOW)
SECOND_CA = CertificateAuthority.generate(TD, NOW)
LEAF_KEY = SigningKey.generate()
PUBLIC = LEAF_KEY.private_key.public_key()
TASK_ID = agent_task_id(TD, "triage", ulid(1))
TEN_MINUTES = timedelta(minutes=10)


def issue(
    ca: CertificateAuthority = CA, spiffe_id: SpiffeId = TASK_ID, now: datetime = NOW, **more: Any
) -> bytes:
    parts = {"public_key": PUBLIC, "not_after": now + TEN_MINUTES, **more}
    return issue_x509_svid(ca=ca, spiffe_id=spiffe_id, now=now, **parts)


def check(
    *chain: bytes, now: datetime = NOW, roots: Sequence[x509.Certificate] = (CA.certificate,)
) -> X509Svid:
    return verify_x509_svid(chain, roots, TD, now)


def usage(*names: str) -> x509.KeyUsage:
    all_names = [
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ]
    return x509.KeyUsage(**{name: name in names for name in all_names})


def uris(*texts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in texts])


Extension = tuple[x509.ExtensionType, bool]
RIGHT: dict[str, Extension] = {
    "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
    "usage": (usage("digital_signature"), True),
    "names": (uris(str(TASK_ID)), True),
    "issuer": (x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.key.private_key.public_key()), False),
}


def forge(
    ca: CertificateAuthority = CA,
    subject: x509.Name = x509.Name([]),  # noqa: B008 - immutable
    extensions: Iterable[Extension] | None = None,
    public_key: Any = PUBLIC,
    signer: Any = None,
    **changes: Extension | None,
) -> bytes:
    """Sign whatever a careless authority could sign."""
    parts = [part for part in (RIGHT | changes).values() if part] if extensions is None else extensions
    builder = x509.CertificateBuilder(
        ca.certificate.subject, subject, public_key, x509.random_serial_number()
    )
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + TEN_MINUTES)
    for value, critical in parts:
        builder = builder.add_extension(value, critical)
    certificate = builder.sign(signer or ca.key.private_key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.DER)


def extension(der: bytes, kind: Any) -> Any:
    return x509.load_der_x509_certificate(der).extensions.get_extension_for_class(kind)


def test_verified_svid_has_id_thumbprint_and_end() -> None:
    der = issue()
    svid = check(der)
    assert (svid.spiffe_id, svid.not_after) == (TASK_ID, NOW + TEN_MINUTES)
    assert svid.thumbprint == thumbprint(der)
    assert len(svid.thumbprint) == 43
    assert leaf_spiffe_id(der) == TASK_ID


def test_thumbprint_is_the_hash_that_envoy_forwards() -> None:
    """CL-08: `Hash=` of XFCC is hex of the same SHA-256 of the DER."""
    from identity.base64url import decode_base64url

    der = issue()
    fingerprint = x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256())
    assert decode_base64url(thumbprint(der)) == fingerprint


def test_x_1_one_uri_name() -> None:
    """X-1: exactly one; other kinds of names are allowed."""
    der = issue(dns_names=["localhost", "127.0.0.1", "::1"])
    names = extension(der, x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(TASK_ID)]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert check(der).spiffe_id == TASK_ID


@pytest.mark.parametrize(
    "names",
    [
        None,
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
        uris(str(TASK_ID), "spiffe://mesh.example/agent/resolver"),
        uris(str(TASK_ID), str(TASK_ID)),
        uris(str(TASK_ID), "https://mesh.example"),
        uris("https://mesh.example/agent/triage"),
        uris("spiffe://mesh.example"),
        uris("spiffe://mesh.example/"),
        uris("spiffe://MESH.example/agent/triage"),
        uris("spiffe://mesh.example/agent/triage\n"),
        uris("spiffe://mesh.example\n/agent/triage"),
        uris("spiffe://mesh.example/agent/%74riage"),
        uris("spiffe://mesh.example/agent/../x"),
        uris("spiffe://mesh.example/" + "a" * 255),
    ],
)
def test_x_1_id_6_refuses_leaf_without_exactly_one_id(names: Any) -> None:
    """X-1, ID-5, ID-6: none, two, no path, or a text that only looks like an ID."""
    der = forge(names=names and (names, True))
    for verify in (check, leaf_spiffe_id):
        with pytest.raises(CertificateError):
            verify(der)


def test_x_2_names_are_critical_where_the_subject_is_empty() -> None:
    """X-2: nobody may overlook the one name that there is."""
    assert extension(issue(), x509.SubjectAlternativeName).critical
    assert not x509.load_der_x509_certificate(issue()).subject.rdns
    with pytest.raises(CertificateError):
        check(forge(names=(uris(str(TASK_ID)), False)))
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "triage")])
    assert check(forge(subject=named, names=(uris(str(TASK_ID)), False))).spiffe_id == TASK_ID


def test_x_3_leaf_says_that_it_is_no_ca() -> None:
    """X-3: the extension is there; py-spiffe rejects a leaf without it."""
    assert extension(issue(), x509.BasicConstraints).value.ca is False
    with pytest.raises(CertificateError):
        check(forge(constraints=None))
    with pytest.raises(CertificateError):
        check(forge(constraints=(x509.BasicConstraints(ca=True, path_length=None), True)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        (usage("digital_signature"), False),
        (usage("key_agreement"), True),
        (usage("digital_signature", "key_cert_sign"), True),
        (usage("digital_signature", "crl_sign"), True),
        (usage("key_cert_sign"), True),
    ],
)
def test_x_4_key_usage(value: Any) -> None:
    """X-4: present, critical, signs, and signs no certificates or lists."""
    with pytest.raises(CertificateError):
        check(forge(usage=value))


def test_x_4_key_usage_of_ours() -> None:
    """X-4: critical, and signs only."""
    found = extension(issue(), x509.KeyUsage)
    assert found.critical
    assert found.value == usage("digital_signature")


def test_x_5_both_sides_of_a_connection() -> None:
    """X-5: if extended key usage is there, it has client and server."""
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    assert set(extension(issue(), x509.ExtendedKeyUsage).value) == {server, client}
    assert check(forge()).spiffe_id == TASK_ID
    for purposes in ([server], [client], [ExtendedKeyUsageOID.CODE_SIGNING]):
        with pytest.raises(CertificateError):
            check(forge(purpose=(x509.ExtendedKeyUsage(purposes), False)))


def test_x_6_authority_signs_and_does_not_authenticate() -> None:
    """X-6: cA, keyCertSign, critical, the ID of the trust domain without a path; pathLen 0."""
    ca = CA.certificate
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    found = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert (found.critical, found.value) == (True, usage("key_cert_sign", "crl_sign"))
    assert authority_domain(ca) == TD
    assert ca.issuer == ca.subject
    with pytest.raises(CertificateError):
        check(ca.public_bytes(serialization.Encoding.DER))
    with pytest.raises(CertificateError):
        leaf_spiffe_id(ca.public_bytes(serialization.Encoding.DER))


def test_x_7_root_of_another_trust_domain_cannot_vouch_for_ours() -> None:
    """X-7: with the other's root only, with both, and under our own root's name."""
    forged = forge(ca=OTHER_CA)
    with pytest.raises(CertificateError):
        check(forged)
    # Even a caller who merged the roots is told whose ID it is; so roots are kept apart, by trust domain.
    theirs = issue(OTHER_CA, agent_task_id(OTHER_TD, "triage", ulid(1)))
    with pytest.raises(CertificateError, match="another trust domain"):
        check(theirs, roots=[CA.certificate, OTHER_CA.certificate])
    with pytest.raises(CertificateError):
        check(forge(signer=OTHER_CA.key.private_key))


def test_x_7_authority_issues_for_its_own_trust_domain_only() -> None:
    """X-7: it does not try to speak for another."""
    for foreign in (agent_task_id(OTHER_TD, "triage", ulid(1)), TD.spiffe_id):
        with pytest.raises(CertificateError):
            issue(spiffe_id=foreign)


def test_x_7_any_root_of_the_trust_domain() -> None:
    """X-7: every root of the bundle, during a rotation of them too."""
    roots = [CA.certificate, SECOND_CA.certificate]
    assert check(issue(SECOND_CA), roots=roots).spiffe_id == check(issue(), roots=roots).spiffe_id


def test_x_8_leaf_names_the_key_of_its_authority() -> None:
    """X-8: with it `cryptography.x509.verification` accepts the leaf, without it does not."""
    authority = extension(issue(), x509.AuthorityKeyIdentifier).value
    subject = CA.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == subject.key_identifier
    with pytest.raises(CertificateError):
        check(forge(issuer=None))


def intermediate(path_length: int | None) -> tuple[CertificateAuthority, CertificateAuthority]:
    """Make an authority with one below it, as SPIRE has under an upstream authority."""
    top, below = CertificateAuthority.generate(TD, NOW), SigningKey.generate()
    key = top.key.private_key
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "below")])

    def signed(subject: x509.Name, public_key: Any, length: int | None) -> x509.Certificate:
        return (
            x509.CertificateBuilder(top.certificate.subject, subject, public_key, x509.random_serial_number())
            .not_valid_before(NOW)
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
            .add_extension(usage("key_cert_sign"), critical=True)
            .add_extension(uris(str(TD.spiffe_id)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )

    root = signed(top.certificate.subject, key.public_key(), path_length)
    middle = signed(name, below.private_key.public_key(), 0)
    return CertificateAuthority(TD, root, top.key), CertificateAuthority(TD, middle, below)


def test_x_8_one_intermediate_is_accepted() -> None:
    """X-8: as SPIRE has one; without it in the chain there is no path."""
    root, middle = intermediate(None)
    chain = [issue(middle), middle.certificate.public_bytes(serialization.Encoding.DER)]
    assert check(*chain, roots=[root.certificate]).spiffe_id == TASK_ID
    with pytest.raises(CertificateError):
        check(chain[0], roots=[root.certificate])


def test_authority_of_ours_has_no_authority_below_it() -> None:
    """A path length of 0: who steals a leaf's signer cannot make authorities."""
    root, middle = intermediate(0)
    chain = [issue(middle), middle.certificate.public_bytes(serialization.Encoding.DER)]
    with pytest.raises(CertificateError):
        check(*chain, roots=[root.certificate])


def test_leaf_cannot_sign_a_leaf() -> None:
    """A stolen SVID's key signs a second SVID."""
    stolen = issue()
    holder = CertificateAuthority(TD, x509.load_der_x509_certificate(stolen), LEAF_KEY)
    forged = issue_x509_svid(
        ca=holder, spiffe_id=TASK_ID, public_key=PUBLIC, not_after=NOW + timedelta(minutes=5), now=NOW
    )
    with pytest.raises(CertificateError):
        check(forged, stolen)


def test_lifetime_is_capped_and_exact() -> None:
    der = issue(not_after=NOW + timedelta(days=400))
    assert check(der).not_after == CA.not_after
    certificate = x509.load_der_x509_certificate(
        issue(not_after=NOW + timedelta(seconds=5, microseconds=999))
    )
    assert certificate.not_valid_before_utc == NOW - timedelta(seconds=10)
    assert certificate.not_valid_after_utc == NOW + timedelta(seconds=5)
    for over in (NOW, NOW - timedelta(seconds=1), NOW + timedelta(microseconds=999_999)):
        with pytest.raises(CertificateError):
            issue(not_after=over)


def test_expired_authority_issues_nothing() -> None:
    with pytest.raises(CertificateError):
        issue(now=CA.not_after)
    with pytest.raises(CertificateError):
        issue(now=CA.not_after + timedelta(days=1))


def test_verified_only_within_its_time() -> None:
    der = issue()
    assert check(der, now=NOW - timedelta(seconds=10)).spiffe_id == TASK_ID
    assert check(der, now=NOW + TEN_MINUTES).spiffe_id == TASK_ID
    for moment in (NOW - timedelta(seconds=11), NOW + TEN_MINUTES + timedelta(seconds=1)):
        with pytest.raises(CertificateError):
            check(der, now=moment)
    with pytest.raises(CertificateError):
        check(issue(not_after=CA.not_after), now=CA.not_after + timedelta(seconds=1))


def test_empty_chain_or_empty_roots_are_no_pass() -> None:
    with pytest.raises(CertificateError):
        check()
    with pytest.raises(CertificateError):
        check(issue(), roots=[])
    with pytest.raises(CertificateError):
        check(*[issue()] * 5)


@pytest.mark.parametrize(
    "der", [b"", b"junk", issue()[:-1], issue() + b"\x00", b"\x30" * MAX_CERTIFICATE * 2]
)
def test_malformed_certificate_is_our_error(der: bytes) -> None:
    for verify in (check, leaf_spiffe_id):
        with pytest.raises(CertificateError):
            verify(der)
    with pytest.raises(CertificateError):
        check(issue(), der)


def test_duplicate_extension_is_our_error() -> None:
    """A second name of another ID; `cryptography` has an exception of its own for it, no ValueError."""
    right = forge()
    marker = bytes.fromhex("0603551d11")  # the object identifier of the names
    other = bytes.fromhex("0603551d0f")  # that of the key usage, so that it stands twice
    der = right.replace(marker, other)
    assert der != right
    with pytest.raises(CertificateError):
        leaf_spiffe_id(der)


def test_p_256_only_is_not_asked_of_foreign_leaves_but_of_requests() -> None:
    foreign = rsa.generate_private_key(65537, 2048).public_key()
    assert check(forge(public_key=foreign)).spiffe_id == TASK_ID


def csr_pem(key: Any, algorithm: Any = hashes.SHA256()) -> bytes:  # noqa: B008 - immutable
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "spiffe://mesh.example/agent/root")])
    builder = x509.CertificateSigningRequestBuilder(name).add_extension(
        uris("spiffe://mesh.example/agent/resolver"), critical=False
    )
    pem: bytes = builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)
    return pem


def test_request_gives_its_key_and_none_of_its_names() -> None:
    """What a request says about itself never reaches a certificate."""
    public_key = parse_csr(csr_pem(LEAF_KEY.private_key))
    assert public_key == PUBLIC
    assert check(issue(public_key=public_key)).spiffe_id == TASK_ID


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"junk",
        csr_pem(LEAF_KEY.private_key)[:-60],
        csr_pem(ec.generate_private_key(ec.SECP384R1())),
        csr_pem(ec.generate_private_key(ec.SECP256K1())),
        csr_pem(rsa.generate_private_key(65537, 2048)),
        csr_pem(ed25519.Ed25519PrivateKey.generate(), None),
        LEAF_KEY.reveal_pem(),
        CA.certificate_pem(),
        b"\n" * MAX_CERTIFICATE + csr_pem(LEAF_KEY.private_key),
    ],
)
def test_refuses_request_that_is_malformed_or_of_another_kind(pem: bytes) -> None:
    with pytest.raises(CertificateError):
        parse_csr(pem)


def test_refuses_request_for_a_key_that_its_maker_does_not_hold() -> None:
    """Proof of possession: the public key of somebody else under one's own signature."""
    victim = SigningKey.generate()
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    own = PUBLIC.public_bytes(encoding, form)
    theirs = victim.private_key.public_key().public_bytes(encoding, form)
    request = x509.load_pem_x509_csr(csr_pem(LEAF_KEY.private_key)).public_bytes(encoding)
    forged = x509.load_der_x509_csr(request.replace(own, theirs))
    with pytest.raises(CertificateError, match="not signed by its key"):
        parse_csr(forged.public_bytes(serialization.Encoding.PEM))


def test_authority_round_trip() -> None:
    read = CertificateAuthority.parse_pem(CA.certificate_pem(), CA.key.reveal_pem())
    assert (read.trust_domain, read.certificate, read.key.kid) == (TD, CA.certificate, CA.key.kid)


def test_refuses_authority_with_the_key_of_another() -> None:
    with pytest.raises(KeyMaterialError):
        CertificateAuthority.parse_pem(CA.certificate_pem(), OTHER_CA.key.reveal_pem())


def pem_of(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


CA_CONSTRAINTS = (x509.BasicConstraints(ca=True, path_length=0), True)
CA_USAGE = (usage("key_cert_sign"), True)


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"junk",
        pem_of(issue()),
        pem_of(forge(constraints=CA_CONSTRAINTS, usage=CA_USAGE)),
        pem_of(forge(constraints=CA_CONSTRAINTS, usage=CA_USAGE, names=None)),
        pem_of(
            forge(constraints=CA_CONSTRAINTS, usage=CA_USAGE, names=(uris("https://mesh.example"), False))
        ),
        pem_of(
            forge(
                constraints=CA_CONSTRAINTS,
                usage=(usage("digital_signature"), True),
                names=(uris("spiffe://mesh.example"), False),
            )
        ),
        pem_of(
            forge(
                constraints=CA_CONSTRAINTS,
                usage=(usage("key_cert_sign"), False),
                names=(uris("spiffe://mesh.example"), False),
            )
        ),
        pem_of(forge(usage=CA_USAGE, names=(uris("spiffe://mesh.example"), False))),
        pem_of(
            forge(
                constraints=CA_CONSTRAINTS,
                usage=CA_USAGE,
                names=(uris("spiffe://mesh.example", "spiffe://other.example"), False),
            )
        ),
    ],
)
def test_refuses_certificate_that_is_no_authority_of_a_trust_domain(pem: bytes) -> None:
    with pytest.raises(CertificateError):
        CertificateAuthority.parse_pem(pem, LEAF_KEY.reveal_pem())


def test_authority_cannot_be_printed() -> None:
    assert "PRIVATE" not in repr(CA)


def tls_side(der: bytes, directory: Path, *, server: bool) -> ssl.SSLContext:
    (directory / "leaf.pem").write_bytes(pem_of(der))
    (directory / "key.pem").write_bytes(LEAF_KEY.reveal_pem())
    (directory / "roots.pem").write_bytes(TLS_CA.certificate_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED
    # Python 3.13 asks for strict certificates by default; earlier ones are asked here.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(directory / "roots.pem")
    context.load_cert_chain(directory / "leaf.pem", directory / "key.pem")
    return context


# OpenSSL has no clock as an argument, and the tests before these take their time.
REAL_NOW = datetime.now(UTC)
AN_HOUR: dict[str, Any] = {"now": REAL_NOW, "not_after": REAL_NOW + timedelta(hours=1)}
TLS_CA = CertificateAuthority.generate(TD, REAL_NOW)


def handshake(client: ssl.SSLObject, server: ssl.SSLObject) -> None:
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return
    pytest.fail("the handshake does not end")


def connect(client_der: bytes, server_der: bytes, directory: Path) -> ssl.SSLObject:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context = tls_side(client_der, directory, server=False)
    server_context = tls_side(server_der, directory, server=True)
    client = client_context.wrap_bio(down, up, server_hostname="localhost")
    server = server_context.wrap_bio(up, down, server_side=True)
    handshake(client, server)
    return server


def test_real_tls_on_both_sides(tmp_path: Path) -> None:
    """OpenSSL, strict: the leaf of a task against the leaf of a server with a DNS name."""
    task_leaf = issue(TLS_CA, **AN_HOUR)
    server_id = SpiffeId.parse("spiffe://mesh.example/ns/deputy/sa/broker")
    server_leaf = issue(TLS_CA, server_id, **AN_HOUR, dns_names=["localhost"])
    server = connect(task_leaf, server_leaf, tmp_path)
    peer = server.getpeercert(binary_form=True)
    assert peer is not None
    assert leaf_spiffe_id(peer) == TASK_ID
    assert verify_x509_svid([peer], [TLS_CA.certificate], TD, REAL_NOW).thumbprint == thumbprint(task_leaf)


def test_real_tls_refuses_peer_of_another_authority(tmp_path: Path) -> None:
    stranger = CertificateAuthority.generate(TD, REAL_NOW)
    server_leaf = issue(TLS_CA, **AN_HOUR, dns_names=["localhost"])
    with pytest.raises(ssl.SSLError):
        connect(issue(stranger, **AN_HOUR), server_leaf, tmp_path)
