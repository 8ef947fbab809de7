"""What a name of secret discovery stands for, and that no secret trusts or shows more than it should."""

import re
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from identity.authority import Authority
from identity.bundle import Bundle
from identity.certificate_authority import CertificateAuthority
from identity.entitlement import Entitlement, HeldSvid
from identity.keys import KeySet, SigningKey
from identity.pb import sds_pb2 as pb
from identity.sds_secrets import (
    NamedSecret,
    Roots,
    certificate_secret,
    every_name,
    meaning,
    nobody_root,
    nobody_secret,
    roots_secret,
    trust_domain_of,
)
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles
from tests.identity_world import NOW
from tests.sds_world import ENVOY, SECOND
from tests.sds_world import domains as domains_of
from tests.socket_world import MESH as TD
from tests.socket_world import OTHER

AUTHORITY, FOREIGN = Authority.generate(TD, NOW), Authority.generate(OTHER, NOW)
OWN, FEDERATED = AUTHORITY.trust_bundle(), FOREIGN.trust_bundle()
BUNDLES = TrustBundles(OWN, {OTHER: FEDERATED})
MINE = (Entitlement(ENVOY), Entitlement(SECOND))
NOBODY = nobody_root(NOW)


def without_roots(trust_domain: TrustDomain) -> Bundle:
    return Bundle(trust_domain, (), KeySet.of(()), sequence=2, refresh_hint=60)


def held(ttl: int = 600) -> HeldSvid:
    key, end = SigningKey.generate(), NOW + timedelta(seconds=ttl)
    leaf = AUTHORITY.issue_workload_svid(ENVOY, key.private_key.public_key(), now=NOW, ttl=ttl)
    return HeldSvid(ENVOY, (leaf,), key, end, NOW)


def secret(named: NamedSecret) -> pb.Secret:
    assert named.body.type_url.endswith(".v3.Secret")
    read = pb.Secret.FromString(named.body.value)
    assert read.name == named.name
    return read


def certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)


def domains(named: NamedSecret) -> dict[str, list[x509.Certificate]]:
    return domains_of(secret(named))


def roots_of(name: str, bundles: TrustBundles = BUNDLES) -> NamedSecret:
    found = meaning(name, MINE, bundles)
    assert isinstance(found, Roots)
    return roots_secret(name, found, NOBODY)


# ---- names


def test_default_is_the_first_identity_and_each_id_is_itself() -> None:
    assert meaning("default", MINE, BUNDLES) == MINE[0]
    assert [meaning(str(one.spiffe_id), MINE, BUNDLES) for one in MINE] == list(MINE)
    assert meaning("default", (), BUNDLES) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Default",
        "default ",
        "rootca",
        "all",
        "*",
        "envoy",
        "mesh.example",
        "spiffe://MESH.example",
        "spiffe://mesh.example/",
        "spiffe://mesh.example\n",
        "spiffe://stranger.example",
        f"{ENVOY}/more",
        f"{ENVOY}\x00",
        "spiffe://mesh.example/ns/gateway/sa/another",
        "spiffe://other.example/ns/gateway/sa/envoy",
    ],
)
def test_another_spelling_or_anothers_name_stands_for_nothing(name: str) -> None:
    assert meaning(name, MINE, BUNDLES) is None


def test_an_identity_named_like_a_trust_domain_does_not_hide_its_roots() -> None:
    """An ID without a path is never a workload's (ID-6), so roots win over an entitlement to one."""
    twisted = (Entitlement(TD.spiffe_id),)
    assert isinstance(meaning(str(TD.spiffe_id), twisted, BUNDLES), Roots)


def test_who_names_nothing_gets_its_ids_and_each_trust_domain() -> None:
    assert every_name(MINE, BUNDLES) == (
        str(ENVOY),
        str(SECOND),
        "spiffe://mesh.example",
        "spiffe://other.example",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("spiffe://gone.example", "gone.example"), (str(ENVOY), None), ("ROOTCA", None), ("spiffe://", None)],
)
def test_the_name_of_a_trust_domain_is_known_as_one(name: str, expected: str | None) -> None:
    found = trust_domain_of(name)
    assert (found.name if found else None) == expected


# ---- certificates


def test_a_certificate_comes_with_its_key_as_pkcs8() -> None:
    svid = held()
    certificate = secret(certificate_secret("default", svid)).tls_certificate
    (leaf,) = certificates(certificate.certificate_chain.inline_bytes)
    assert certificate.private_key.inline_bytes.startswith(b"-----BEGIN PRIVATE KEY-----")
    key = serialization.load_pem_private_key(certificate.private_key.inline_bytes, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == leaf.public_key()
    assert leaf.public_bytes(serialization.Encoding.DER) == svid.chain[0]


def test_the_chain_is_whole_and_the_leaf_is_first() -> None:
    svid = held()
    root = AUTHORITY.ca.certificate.public_bytes(serialization.Encoding.DER)
    longer = HeldSvid(ENVOY, (*svid.chain, root), svid.key, svid.not_after, svid.renew_at)
    chain = secret(certificate_secret("x", longer)).tls_certificate.certificate_chain.inline_bytes
    assert [one.public_bytes(serialization.Encoding.DER) for one in certificates(chain)] == [
        svid.chain[0],
        root,
    ]


def test_the_text_of_a_secret_shows_no_key_and_its_version_depends_on_none() -> None:
    svid = held()
    named = certificate_secret("default", svid)
    assert "PRIVATE" not in repr(named)
    assert re.fullmatch(r"NamedSecret\(name='default', version='[0-9a-f]{32}'\)", repr(named))
    other_key = HeldSvid(ENVOY, svid.chain, SigningKey.generate(), svid.not_after, svid.renew_at)
    assert certificate_secret("default", other_key).version == named.version


def test_a_version_is_that_of_the_content() -> None:
    svid = held()
    assert certificate_secret("default", svid).version == certificate_secret("default", svid).version
    assert certificate_secret("default", svid).version != certificate_secret("default", held()).version
    assert roots_of("ALL").version == roots_of("ALL").version
    assert roots_of("ALL").version != roots_of("ALL", TrustBundles(OWN)).version


# ---- roots


def test_rootca_is_our_own_roots_and_no_others() -> None:
    context = secret(roots_of("ROOTCA")).validation_context
    assert not context.HasField("custom_validator_config")
    assert tuple(certificates(context.trusted_ca.inline_bytes)) == OWN.roots


@pytest.mark.parametrize(("name", "bundle"), [(str(TD.spiffe_id), OWN), (str(OTHER.spiffe_id), FEDERATED)])
def test_x7_the_name_of_a_trust_domain_is_that_domain_alone(name: str, bundle: Bundle) -> None:
    """X-7: as a validator of one domain, which refuses an ID of any other."""
    assert domains(roots_of(name)) == {bundle.trust_domain.name: list(bundle.roots)}


def test_x7_all_holds_each_domain_apart() -> None:
    """X-7: bundles are never merged."""
    assert domains(roots_of("ALL")) == {
        "mesh.example": list(OWN.roots),
        "other.example": list(FEDERATED.roots),
    }


def test_a_domain_without_roots_is_left_out_of_all_which_refuses_it() -> None:
    bundles = TrustBundles(OWN, {OTHER: without_roots(OTHER)})
    assert domains(roots_of("ALL", bundles)) == {"mesh.example": list(OWN.roots)}


@pytest.mark.parametrize("name", ["ALL", "ROOTCA", "spiffe://mesh.example", "spiffe://other.example"])
def test_b1_without_any_root_nobody_is_trusted_and_not_everybody(name: str) -> None:
    """B-1: an empty bundle means that everything is revoked; an empty context would mean that nothing is."""
    bundles = TrustBundles(without_roots(TD), {OTHER: without_roots(OTHER)})
    named = roots_of(name, bundles)
    if name == "ROOTCA":
        found = [certificates(secret(named).validation_context.trusted_ca.inline_bytes)]
    else:
        found = list(domains(named).values())
    assert found == [[NOBODY]]


def test_a_domain_that_is_trusted_no_more_becomes_a_root_of_nobody() -> None:
    assert domains(nobody_secret("spiffe://gone.example", TrustDomain.parse("gone.example"), NOBODY)) == {
        "gone.example": [NOBODY]
    }


def test_the_root_of_nobody_is_another_each_time_and_signs_for_no_domain_of_ours() -> None:
    again = nobody_root(NOW)
    assert again.public_key() != NOBODY.public_key()
    names = NOBODY.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://nobody.invalid"]


def test_several_roots_of_one_domain_are_all_sent() -> None:
    """While a CA rotates, both are accepted."""
    second = CertificateAuthority.generate(TD, NOW).certificate
    both = Bundle(TD, (*OWN.roots, second), KeySet.of(()), sequence=2, refresh_hint=60)
    context = secret(roots_of("ROOTCA", TrustBundles(both))).validation_context
    assert tuple(certificates(context.trusted_ca.inline_bytes)) == (*OWN.roots, second)


def test_ids_of_the_tests_are_of_the_trust_domains_that_they_are_to_be_of() -> None:
    assert SpiffeId.parse(str(ENVOY)).trust_domain == TD
