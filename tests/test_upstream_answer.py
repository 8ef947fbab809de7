"""What another authority's Workload API said, read by our own rules."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.upstream_answer import (
    MAX_DOMAINS,
    MAX_ROOTS,
    Roots,
    SameTrustDomainError,
    ServingIdentity,
    bundles_of,
    read_jwt_keys,
    read_roots,
    serving_identity,
)
from identity.authority import Authority
from identity.errors import CertificateError
from identity.keys import KeySet, SigningKey
from identity.signature_algorithms import SVID_ALGORITHMS, Algorithm
from identity.spiffe import SpiffeId, TrustDomain
from tests.foreign_keys import foreign_jwk, foreign_signature

DNS = ("deputy.example", "127.0.0.1")
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
OWN, SPIRE, EAST = (TrustDomain.parse(name) for name in ("agents.example", "spire.example", "east.example"))
CA = Authority.generate(SPIRE, NOW - timedelta(hours=1))
OTHER = Authority.generate(EAST, NOW - timedelta(hours=1))
ROOTS: Roots = {SPIRE: CA.roots, EAST: OTHER.roots}
_DER = serialization.Encoding.DER
KEY = ec.generate_private_key(ec.SECP256R1())


def leaf(
    authority: Authority = CA, path: str = "/ns/deputy/sa/deputy", ttl: int = 600, key: Any = KEY
) -> x509.Certificate:
    spiffe_id = SpiffeId(authority.trust_domain, path)
    der = authority.issue_workload_svid(spiffe_id, key.public_key(), NOW, ttl, DNS)
    return x509.load_der_x509_certificate(der)


def read(
    *chain: x509.Certificate, key: object = KEY, now: datetime = NOW, own: TrustDomain = OWN
) -> ServingIdentity:
    return serving_identity(chain, key, ROOTS, own, now)


# ---- our identity


def test_an_identity_is_read_with_its_names_and_its_key() -> None:
    found = read(leaf())
    assert str(found.svid.spiffe_id) == "spiffe://spire.example/ns/deputy/sa/deputy"
    assert found.dns_names == {"deputy.example"}
    assert x509.load_pem_x509_certificate(found.chain) == leaf_of(found)
    assert b"PRIVATE" in found.key
    assert "PRIVATE" not in repr(found)


def leaf_of(found: ServingIdentity) -> x509.Certificate:
    return found.svid.certificate


def test_an_rsa_identity_serves_as_well() -> None:
    key = rsa.generate_private_key(65537, 2048)
    assert read(leaf(key=key), key=key).svid.spiffe_id.trust_domain == SPIRE


def test_an_identity_of_our_own_trust_domain_is_refused_whoever_signed_it() -> None:
    with pytest.raises(SameTrustDomainError, match="our own trust domain"):
        read(leaf(), own=SPIRE)


@pytest.mark.parametrize("seconds", [-3600, 601, 7200], ids=["not valid yet", "run out", "root still valid"])
def test_an_identity_that_is_not_valid_now_is_refused(seconds: int) -> None:
    with pytest.raises(CertificateError):
        read(leaf(), now=NOW + timedelta(seconds=seconds))


def test_x_7_a_root_of_another_domain_does_not_vouch_for_our_identity() -> None:
    """X-7: SPIRE's federated domain signs SPIRE's name."""
    forged = Authority.generate(SPIRE, NOW - timedelta(hours=1))
    with pytest.raises(CertificateError):
        serving_identity([leaf(forged)], KEY, {SPIRE: CA.roots, EAST: forged.roots}, OWN, NOW)


def test_a_domain_without_roots_vouches_for_nobody() -> None:
    with pytest.raises(CertificateError, match="no roots"):
        serving_identity([leaf()], KEY, {}, OWN, NOW)


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate(), b"key", None]
)
def test_a_key_that_is_not_the_certificates_is_refused(key: object) -> None:
    with pytest.raises(CertificateError, match="a key that"):
        read(leaf(), key=key)


def test_no_certificate_is_no_identity() -> None:
    with pytest.raises(CertificateError, match="no certificate"):
        read()


def test_a_ca_is_no_identity() -> None:
    with pytest.raises(CertificateError):
        read(CA.ca.certificate, key=CA.ca.key.private_key)


# ---- roots


def root(*uris: str, ca: bool = True, signs: bool | None = True) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "corporate root")])
    builder = (
        x509.CertificateBuilder(name, name, KEY.public_key(), 1 + len(uris))
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(KEY.public_key()), critical=False)
    )
    if signs is not None:
        usage = x509.KeyUsage(
            digital_signature=not signs,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=signs,
            crl_sign=signs,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


def test_roots_are_read_by_trust_domain_in_a_fixed_order_and_without_ours() -> None:
    roots = {root(), root("spiffe://spire.example")}
    found, refused = read_roots({"spire.example": roots, "agents.example": {root()}}, OWN)
    assert refused == ()
    assert found.keys() == {SPIRE}
    assert found == read_roots({"spiffe://spire.example": list(reversed(list(roots)))}, OWN)[0]


def test_a_root_that_has_never_heard_of_spiffe_counts() -> None:
    """Below an UpstreamAuthority, SPIRE publishes the root of the company."""
    for corporate in (root(), root("https://pki.example/root")):
        assert read_roots({"spire.example": [corporate]}, OWN) == ({SPIRE: (corporate,)}, ())


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (root("spiffe://east.example"), "of another trust domain"),
        (root("spiffe://spire.example", "spiffe://east.example"), "of another trust domain"),
        (root("SPIFFE://east.example"), "of another trust domain"),
        (root("spiffe://spire.example/path"), "of another trust domain"),
        (root(ca=False), "no CA"),
        (root(signs=False), "may not sign"),
        (root(signs=None), "may not sign"),
        (leaf(), "no CA"),
    ],
)
def test_a_bundle_with_such_a_root_is_refused_and_costs_the_others_nothing(
    bad: x509.Certificate, why: str
) -> None:
    found, (refused,) = read_roots({"spire.example": [root(), bad], "east.example": OTHER.roots}, OWN)
    assert found == {EAST: OTHER.roots}
    assert refused.startswith("the bundle of 'spire.example': ")
    assert why in refused


@pytest.mark.parametrize("name", ["", "spire.example\n", "Spire.example", "spire.example/x", "spire:1"])
def test_id_2_a_name_that_is_no_trust_domain_is_refused(name: str) -> None:
    """ID-2: the package would take some of them."""
    found, refused = read_roots({name: [root()]}, OWN)
    assert found == {}
    assert len(refused) == 1
    assert "\n" not in refused[0]


def test_more_roots_and_domains_than_anybody_needs_are_refused() -> None:
    found, refused = read_roots({"spire.example": [root()] * (MAX_ROOTS + 1)}, OWN)
    assert (found, len(refused)) == ({}, 1)
    found, refused = read_roots({f"d{number}.example": [root()] for number in range(MAX_DOMAINS + 1)}, OWN)
    assert (len(found), len(refused)) == (MAX_DOMAINS, 1)


def test_an_unreadable_root_is_refused() -> None:
    unreadable = root()

    class Unreadable:
        def public_bytes(self, _: object) -> bytes:
            return unreadable.public_bytes(_DER)[:-1]

    found, (refused,) = read_roots({"spire.example": [Unreadable()]}, OWN)  # type: ignore[list-item]  # what it would be
    assert found == {}
    assert "cannot read" in refused


# ---- keys of JWT-SVIDs


def jwks(*keys: dict[str, object]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def jwk(use: str | None = None, **more: object) -> dict[str, object]:
    key = {**SigningKey.generate().public.jwk(), **more}
    return key if use is None else {**key, "use": use}


def test_keys_that_say_jwt_svid_or_nothing_count() -> None:
    """SPIRE leaves `use` out."""
    plain, named = jwk(), jwk("jwt-svid")
    found, refused = read_jwt_keys({"spiffe://spire.example": jwks(plain, named)}, OWN)
    assert refused == ()
    assert {key.kid for key in found[SPIRE]} == {plain["kid"], named["kid"]}


@pytest.mark.parametrize("algorithm", SVID_ALGORITHMS)
def test_j_2_keys_of_spire_verify_each_algorithm(algorithm: Algorithm) -> None:
    """J-2: it names neither use nor algorithm, and may sign with RSA or another curve."""
    found, refused = read_jwt_keys({"spire.example": jwks(foreign_jwk(algorithm))}, OWN)
    (key,) = found[SPIRE]
    key.verify(foreign_signature(algorithm, b"data"), b"data", algorithm)
    assert refused == ()


@pytest.mark.parametrize("use", ["wit-svid", "x509-svid", "sig", "enc", "JWT-SVID"])
def test_a_5_keys_of_other_uses_are_left_out(use: str) -> None:
    """A-5: the package takes them all."""
    kept = jwk()
    found, _ = read_jwt_keys({"spire.example": jwks(kept, jwk(use))}, OWN)
    assert [key.kid for key in found[SPIRE]] == [kept["kid"]]


def test_an_x509_entry_without_a_kid_is_left_out_and_refuses_nothing() -> None:
    """The package's own reading fails on it."""
    entry = jwk("x509-svid", x5c=[base64.b64encode(b"x").decode()])
    del entry["kid"]
    found, refused = read_jwt_keys({"spire.example": jwks(jwk(), entry)}, OWN)
    assert (len(list(found[SPIRE])), refused) == (1, ())


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"\xff", b'{"keys":[1]}',
        jwks(jwk(d="c2VjcmV0")), jwks(jwk("wit-svid", d="c2VjcmV0")), jwks({"kty": "oct", "k": "c2VjcmV0"}),
        jwks(jwk(x="AA")), b" " * (256 * 1024 + 1),
    ],
)  # fmt: skip
def test_a_set_that_is_malformed_or_private_is_refused_and_costs_the_others_nothing(document: bytes) -> None:
    found, (refused,) = read_jwt_keys({"spire.example": document, "east.example": jwks(jwk())}, OWN)
    assert found.keys() == {EAST}
    assert "spire.example" in refused
    assert "c2VjcmV0" not in refused


def test_an_empty_set_is_a_set_and_ours_is_left_out() -> None:
    found, refused = read_jwt_keys({"spire.example": jwks(), "agents.example": jwks(jwk())}, OWN)
    assert (found, refused) == ({SPIRE: KeySet.of(())}, ())


def test_a_domain_that_has_only_roots_or_only_keys_has_a_bundle() -> None:
    keys, _ = read_jwt_keys({"east.example": jwks(jwk())}, OWN)
    found = bundles_of({SPIRE: CA.roots}, keys)
    assert (found[SPIRE].roots, list(found[SPIRE].jwt_keys)) == (CA.roots, [])
    assert (found[EAST].roots, found[EAST].jwt_keys) == ((), keys[EAST])
