"""Federation: what an operator gives, what may replace a bundle, when to ask again (rules/spiffe.md B)."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from identity.authority import Authority
from identity.base64url import encode_base64url
from identity.bundle import Bundle
from identity.errors import FederationError
from identity.federation import (
    DEFAULT_INTERVAL,
    MAX_BUNDLE,
    MAX_RELATIONSHIPS,
    Relationship,
    SpiffeProfile,
    WebProfile,
    check_relationships,
    parse_endpoint_url,
)
from identity.spiffe import SpiffeId, TrustDomain
from tests.federation_world import ENDPOINT, NOW, OURS, THEIRS, URL, bundle_bytes

THEIR_AUTHORITY = Authority.generate(THEIRS, NOW)
OUR_AUTHORITY = Authority.generate(OURS, NOW)
LATER = NOW + timedelta(minutes=10)


def web(**changes: Any) -> Relationship:
    given: dict[str, Any] = {"trust_domain": THEIRS.name, "url": URL, "profile": "https_web"}
    return Relationship.parse(**{**given, **changes})


def spiffe(**changes: Any) -> Relationship:
    bundle = bundle_bytes(THEIR_AUTHORITY)
    return web(**{"profile": "https_spiffe", "endpoint_id": str(ENDPOINT), "bundle": bundle, **changes})


def document(**changes: object) -> bytes:
    return bundle_bytes(THEIR_AUTHORITY, **changes)


# ---------------------------------------------------------------- what an operator gives


def test_b_4_url_profile_and_trust_domain_are_given() -> None:
    """B-4: three parameters, and the endpoint's ID where its certificate is an SVID."""
    assert web().profile == WebProfile()
    assert web(ca_file="/etc/ca.pem").profile == WebProfile("/etc/ca.pem")
    assert spiffe().profile == SpiffeProfile(ENDPOINT)
    assert (web().trust_domain, web().url, web().bundle) == (THEIRS, URL, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": "https"},
        {"profile": ""},
        {"profile": "HTTPS_WEB"},
        {"endpoint_id": str(ENDPOINT)},
        {"profile": "https_spiffe"},
        {"profile": "https_spiffe", "endpoint_id": "spiffe://mesh.example/x", "ca_file": "/etc/ca.pem"},
        {"profile": "https_spiffe", "endpoint_id": "spiffe://other.example"},
        {"profile": "https_spiffe", "endpoint_id": "https://other.example/x"},
        {"trust_domain": "Other.example"},
        {"trust_domain": "other.example\n"},
        {"trust_domain": ""},
        {"bundle": b"{}"},
        {"bundle": bundle_bytes(OUR_AUTHORITY)},
    ],
)
def test_b_4_nothing_is_inferred(changes: dict[str, Any]) -> None:
    """B-4: a parameter that is missing, malformed or of the other profile is refused."""
    with pytest.raises(FederationError):
        web(**changes)


def test_a_self_serving_endpoint_needs_a_first_bundle() -> None:
    """Federation section 5.2.2.2: nothing else could verify the first connection."""
    with pytest.raises(FederationError, match="needs a first bundle"):
        spiffe(bundle=None)
    assert spiffe(bundle=None, endpoint_id="spiffe://third.example/server").bundle is None


@pytest.mark.parametrize(
    "url",
    [
        "https://host.example.com/trust_domain",
        "https://host",
        "https://127.0.0.1:8443/bundle.json?v=1",
        "https://[::1]:8443/",
        "https://host/a%20b/c;d=e@f:g",
    ],
)
def test_b_4_a_url_of_an_endpoint(url: str) -> None:
    """B-4: https; path and query are free."""
    assert parse_endpoint_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "http://host/",
        "HTTPS://host/",
        "https:///path",
        "https://user@host/",
        "https://user:secret@host/",
        "https://host@evil/",
        "https://host\\@evil/",
        "https://host/#fragment",
        "https://host:0/",
        "https://host:65536/",
        "https://host:/",
        "https://host/a b",
        "https://host/\n",
        "https://host/bundle\n",
        "https://hóst/",
        "https://-host/",
        "https://[::1/",
        "spiffe://host/",
        "file:///etc/passwd",
        "https://host/" + "a" * 2048,
    ],
)
def test_b_4_refuses_a_url(url: str) -> None:
    """B-4, section 5.2.1.1: https, no userinfo; no character that two readers read in two ways."""
    with pytest.raises(FederationError):
        parse_endpoint_url(url)


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_our_error(text: str) -> None:
    with suppress(FederationError):
        assert parse_endpoint_url(text).startswith("https://")


def test_our_own_trust_domain_is_never_federated() -> None:
    """Whoever served our bundle could make IDs of ours."""
    with pytest.raises(FederationError, match="our own"):
        check_relationships([web(trust_domain=OURS.name)], OURS)


def test_one_relationship_a_trust_domain_and_not_too_many() -> None:
    with pytest.raises(FederationError, match="already"):
        check_relationships([web(), spiffe()], OURS)
    many = [web(trust_domain=f"td{number}") for number in range(MAX_RELATIONSHIPS)]
    assert len(check_relationships(reversed(many), OURS)) == MAX_RELATIONSHIPS
    with pytest.raises(FederationError, match="more than"):
        check_relationships([*many, web()], OURS)


# ---------------------------------------------------------------- what may replace a bundle


def test_b_2_a_newer_sequence_replaces_the_bundle() -> None:
    """B-2: the sequence grows."""
    new = spiffe().fetched(document(spiffe_sequence=7), LATER)
    assert new.bundle is not None
    assert (new.bundle.sequence, new.fetched_at, new.tried_at, new.problem) == (7, LATER, LATER, "")


def test_jw07_an_older_sequence_is_refused() -> None:
    """B-2, JW-07: `spiffe_sequence`; an old answer would bring back a key that was revoked."""
    kept = spiffe(bundle=document(spiffe_sequence=7))
    with pytest.raises(FederationError, match="sequence 6, older than 7"):
        kept.fetched(document(spiffe_sequence=6), LATER)


def test_b_2_other_content_under_the_same_sequence_is_taken_with_a_remark() -> None:
    """B-2: the publisher is at fault, but what it serves now is what it trusts now."""
    kept = spiffe(bundle=document(spiffe_sequence=7))
    same = kept.fetched(document(spiffe_sequence=7), LATER)
    assert (same.problem, same.bundle) == ("", kept.bundle)
    other = kept.fetched(bundle_bytes(Authority.generate(THEIRS, NOW), spiffe_sequence=7), LATER)
    assert other.problem.startswith("remark: other content")
    assert other.bundle != kept.bundle


def test_b_2_without_a_sequence_the_latest_counts() -> None:
    """B-2, section 4.2: the most recently retrieved bundle is up to date."""
    bare = json.dumps({"keys": THEIR_AUTHORITY.bundle()["keys"]}).encode()
    kept = spiffe(bundle=document(spiffe_sequence=7)).fetched(bare, LATER)
    assert kept.bundle is not None
    assert kept.bundle.sequence is None
    assert kept.fetched(document(spiffe_sequence=1), LATER).problem == ""


def test_b_1_a_bundle_without_keys_is_taken() -> None:
    """B-1: everything that the trust domain published is revoked."""
    empty = spiffe().fetched(document(keys=[], spiffe_sequence=9), LATER)
    assert empty.bundle is not None
    assert (empty.bundle.roots, tuple(empty.bundle.jwt_keys)) == ((), ())
    assert empty.problem.startswith("remark: a bundle without keys")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"null",
        b'{"keys":[],"keys":[]}',
        b'{"keys":[]}' + b" " * MAX_BUNDLE,
        bundle_bytes(OUR_AUTHORITY),
        document(spiffe_sequence="8"),
        document(keys=[*THEIR_AUTHORITY.bundle()["keys"], *OUR_AUTHORITY.bundle()["keys"]]),  # type: ignore[misc] # a list
    ],
)
def test_b_7_what_is_no_bundle_of_that_trust_domain_replaces_nothing(data: bytes) -> None:
    """B-7, X-7: duplicate members, a root of ours among theirs, or no bundle at all."""
    with pytest.raises(FederationError, match=r"not a bundle|longer"):
        spiffe().fetched(data, LATER)


@given(st.binary(max_size=200))
def test_any_answer_is_a_bundle_or_our_error(data: bytes) -> None:
    with suppress(FederationError):
        assert web().fetched(data, NOW).fetched_at == NOW


def test_b_6_a_failure_keeps_the_bundle() -> None:
    """B-6: only the attempt and its problem are noted."""
    kept = spiffe().fetched(document(), NOW)
    failed = kept.failed("down " * 1000, LATER)
    assert (failed.bundle, failed.fetched_at, failed.tried_at) == (kept.bundle, NOW, LATER)
    assert len(failed.problem) <= 400
    assert failed.fetched(document(), LATER).problem == ""


# ---------------------------------------------------------------- when to ask again


@pytest.mark.parametrize(
    ("hint", "seconds"),
    [(0, 30), (29, 30), (60, 60), (3600, 3600), (2_419_200, 86_400), (2**64 - 1, 86_400)],
)
def test_jw07_the_hint_is_followed_within_bounds(hint: int, seconds: int) -> None:
    """B-2, JW-07: `spiffe_refresh_hint`; nobody's hint makes us ask all the time, or never again."""
    kept = web(bundle=document(spiffe_refresh_hint=hint))
    assert kept.interval == timedelta(seconds=seconds)


def test_b_2_five_minutes_without_a_hint() -> None:
    """B-2, section 4.1."""
    bare = json.dumps({"keys": []}).encode()
    assert web().interval == web(bundle=bare).interval == DEFAULT_INTERVAL == timedelta(minutes=5)


def test_b_6_the_next_attempt_waits_for_the_interval_whatever_the_last_one_gave() -> None:
    """B-6: no aggressive retries."""
    fresh = web()
    assert fresh.is_due(NOW, 0)
    for tried in (fresh.failed("down", NOW), fresh.fetched(document(spiffe_refresh_hint=300), NOW)):
        assert not tried.is_due(NOW, 0)
        assert not tried.is_due(NOW + timedelta(seconds=299), 0)
        assert tried.is_due(NOW + timedelta(seconds=300), 0)
        assert not tried.is_due(NOW + timedelta(seconds=269), 1)
        assert tried.is_due(NOW + timedelta(seconds=270), 1)


def test_a_clock_that_jumps_back_does_not_stop_the_polling() -> None:
    tried = web().failed("down", NOW)
    assert tried.is_due(NOW - timedelta(days=400), 0)
    assert not tried.failed("down", NOW - timedelta(days=400)).is_due(NOW - timedelta(days=400), 0)


# ---------------------------------------------------------------- the standard's own example


def spire_root(trust_domain: str, serial: int) -> tuple[x509.Certificate, rsa.RSAPublicKey]:
    """Certificate #1 of the standard's Appendix A, as SPIRE makes them: RSA, `Certificate Sign` only."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)])
    others = "digital_signature content_commitment key_encipherment data_encipherment key_agreement crl_sign"
    usage = dict.fromkeys([*others.split(), "encipher_only", "decipher_only"], False)
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(datetime(2019, 1, 1, 8, 0, 45, tzinfo=UTC))
        .not_valid_after(datetime(2019, 4, 1, 8, 0, 45, tzinfo=UTC))
        .add_extension(x509.KeyUsage(key_cert_sign=True, **usage), critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key.public_key()


VECTORS = json.loads((Path(__file__).parent / "vectors" / "spiffe_bundle.json").read_bytes())


@pytest.mark.parametrize("vector", VECTORS["cases"], ids=lambda vector: vector["name"])
def test_the_example_of_the_standard_is_read(vector: dict[str, Any]) -> None:
    """SPIFFE Trust Domain and Bundle, Appendices A and B: what SPIRE serves."""
    # The certificates stand in the standard as text only; here they are made as that text says.
    text = json.dumps(vector["document"])
    for number in (1, 2):
        certificate, public_key = spire_root("example.com", number)
        der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        modulus = public_key.public_numbers().n.to_bytes(256)
        text = text.replace(f"<base64 DER encoding of Certificate #{number}>", der)
        text = text.replace("<base64urlUint-encoded value>", encode_base64url(modulus))
    relationship = web(trust_domain="example.com").fetched(text.encode(), NOW)
    bundle = relationship.bundle
    assert bundle is not None
    expected = vector["expect"]
    assert len(bundle.roots) == expected["roots"]
    assert len(tuple(bundle.jwt_keys)) == expected["jwt_keys"]
    assert bundle.sequence == expected["sequence"]
    assert relationship.interval == timedelta(seconds=expected["interval"])


def test_bundles_are_values() -> None:
    assert Bundle.parse(document(), THEIRS) == Bundle.parse(document(), THEIRS)
    assert replace(web(), problem="x") != web()
    assert "keys" not in repr(spiffe())
    assert isinstance(ENDPOINT, SpiffeId)
    assert isinstance(THEIRS, TrustDomain)
