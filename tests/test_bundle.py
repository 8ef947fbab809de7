"""SPIFFE bundles: rules/spiffe.md B-1 to B-3 and B-7."""

import base64
import json
import warnings
from datetime import timedelta
from typing import Any, Literal, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from identity.bundle import Bundle, encode_bundle
from identity.certificate_authority import SIGNS_CERTIFICATES, CertificateAuthority
from identity.errors import CertificateError, KeyMaterialError
from identity.keys import MAX_SET_BYTES, SigningKey
from identity.spiffe import agent_task_id
from identity.x509_svid import issue_x509_svid
from tests.identity_world import NOW, OTHER_TD, STRANGER_KEY, SVID_KEY, TD, TOKEN_KEY, ulid

CA = CertificateAuthority.generate(TD, NOW)
RIGHT: dict[str, Any] = encode_bundle([CA.certificate], [SVID_KEY.public], 7)
ROOT, JWT = RIGHT["keys"]
WIT_KEY = SigningKey.generate()
(WIT,) = cast("list[dict[str, Any]]", encode_bundle([], [], 7, wit_keys=[WIT_KEY.public])["keys"])


def parse(document: object) -> Bundle:
    return Bundle.parse(json.dumps(document).encode(), TD)


def with_keys(*keys: object, **more: object) -> dict[str, object]:
    return {**RIGHT, "keys": list(keys), **more}


def test_round_trip() -> None:
    bundle = parse(RIGHT)
    assert (bundle.trust_domain, bundle.sequence, bundle.refresh_hint) == (TD, 7, 60)
    assert bundle.roots == (CA.certificate,)
    assert bundle.jwt_keys.get(SVID_KEY.kid) == SVID_KEY.public


def test_b_3_keys_of_wit_svids_read_back_and_are_no_keys_of_jwt_svids() -> None:
    """B-3: three uses, three sets; a bearer token is never verified with a key for bound ones."""
    bundle = parse(encode_bundle([CA.certificate], [SVID_KEY.public], 7, wit_keys=[WIT_KEY.public]))
    assert list(bundle.wit_keys) == [WIT_KEY.public]
    assert list(bundle.jwt_keys) == [SVID_KEY.public]
    assert not set(parse(RIGHT).wit_keys)


@pytest.mark.parametrize("use", ["jwt-svid", "wit-svid", "sig", "new", None])
def test_b_3_refuses_name_of_a_wit_key_that_another_key_has(use: str | None) -> None:
    """B-3: unique across all JWKs, also across those of a use or kind that we ignore."""
    other = {**STRANGER_KEY.public.jwk(), "kid": WIT_KEY.kid} | ({} if use is None else {"use": use})
    for entry in (other, {**other, "kty": "OKP", "crv": "Ed25519"}):
        for entries in ([WIT, entry], [entry, WIT]):
            with pytest.raises(KeyMaterialError):
                parse(with_keys(ROOT, JWT, *entries))


def test_b_3_refuses_wit_key_without_kid() -> None:
    """B-3: the kid is required."""
    with pytest.raises(KeyMaterialError):
        parse(with_keys(without(WIT, "kid")))


def test_b_3_publishes_no_name_twice() -> None:
    """B-3: one key for bearer tokens and for bound ones would make one stand for the other."""
    with pytest.raises(KeyMaterialError):
        encode_bundle([], [SVID_KEY.public], 1, wit_keys=[SVID_KEY.public])
    with pytest.raises(KeyMaterialError):
        encode_bundle([], [], 1, wit_keys=[WIT_KEY.public, WIT_KEY.public])


def test_b_3_form_of_the_entries() -> None:
    """B-3: a root has one certificate and no kid; a key of JWT-SVIDs and of WIT-SVIDs has a kid."""
    assert (WIT["use"], WIT["kid"], WIT["alg"]) == ("wit-svid", WIT_KEY.kid, "ES256")
    assert (ROOT["use"], JWT["use"]) == ("x509-svid", "jwt-svid")
    assert "kid" not in ROOT
    assert JWT["kid"] == SVID_KEY.kid
    assert x509.load_der_x509_certificate(base64.b64decode(*ROOT["x5c"])) == CA.certificate


def test_b_1_empty_bundle_revokes_everything() -> None:
    """B-1: `keys` is required, and may be empty."""
    bundle = parse(with_keys())
    assert bundle.roots == ()
    assert not set(bundle.jwt_keys)
    documents: list[object] = [{}, {"keys": None}, {"keys": {}}, [], "keys", {"keys": [7]}]
    for document in documents:
        with pytest.raises(KeyMaterialError):
            parse(document)


def test_b_2_sequence_of_64_bits() -> None:
    """B-2: at least 64 bits; both numbers may be absent."""
    assert parse({**RIGHT, "spiffe_sequence": 2**64 - 1}).sequence == 2**64 - 1
    bare = parse({"keys": RIGHT["keys"]})
    assert (bare.sequence, bare.refresh_hint) == (None, None)


@pytest.mark.parametrize("name", ["spiffe_sequence", "spiffe_refresh_hint"])
@pytest.mark.parametrize("value", [-1, 1.5, "7", True, None, 2**64])
def test_b_2_numbers_are_whole(name: str, value: object) -> None:
    """B-2: no bool, no fraction, no text, nothing below zero or beyond 64 bits."""
    with pytest.raises(KeyMaterialError):
        parse({**RIGHT, name: value})


@pytest.mark.parametrize(
    "entry",
    [
        {"use": "wit-svid", "kty": "EC"},
        {"use": "new", "kty": "new"},
        {"kty": "EC"},
        {**TOKEN_KEY.public.jwk(), "use": "sig"},
        TOKEN_KEY.public.jwk(),
        {**JWT, "kty": "OKP", "crv": "Ed25519"},
    ],
)
def test_b_3_unknown_uses_and_kinds_are_left_out(entry: dict[str, object]) -> None:
    """B-3: such a JWK is ignored; that of a token is never taken for one of SVIDs."""
    bundle = parse(with_keys(entry, ROOT, JWT))
    assert not set(bundle.wit_keys)
    assert set(bundle.jwt_keys.keys) == {SVID_KEY.kid}
    assert len(bundle.roots) == 1


def without(jwk: dict[str, Any], name: str) -> dict[str, Any]:
    return {member: value for member, value in jwk.items() if member != name}


@pytest.mark.parametrize(
    "entry",
    [
        without(JWT, "kid"),
        {**JWT, "x": "AA"},
        {**JWT, "d": "AA"},
        {**ROOT, "d": "AA"},
        {"use": "x509-svid", "kty": "oct", "k": "AA"},
        {"use": 7},
    ],
)
def test_malformed_or_private_entry_refuses_the_bundle(entry: dict[str, object]) -> None:
    with pytest.raises(KeyMaterialError):
        parse(with_keys(entry))
    with pytest.raises(KeyMaterialError):
        parse(with_keys(JWT, JWT))


def b64(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()


LEAF = issue_x509_svid(
    ca=CA,
    spiffe_id=agent_task_id(TD, "triage", ulid(1)),
    public_key=CA.key.private_key.public_key(),
    not_after=NOW + timedelta(minutes=5),
    now=NOW,
)


@pytest.mark.parametrize(
    "entry",
    [
        {**ROOT, "kid": "x"},
        without(ROOT, "x5c"),
        {**ROOT, "x5c": []},
        {**ROOT, "x5c": ROOT["x5c"] * 2},
        {**ROOT, "x5c": ROOT["x5c"][0]},
        {**ROOT, "x5c": [7]},
        {**ROOT, "x5c": ["AAAA"]},
        {**ROOT, "x5c": [ROOT["x5c"][0] + "\n"]},
        {**ROOT, "x5c": [ROOT["x5c"][0][:40] + "\n" + ROOT["x5c"][0][40:]]},
        {**ROOT, "x5c": [base64.b64encode(LEAF).decode()]},
        {**ROOT, "x5c": [b64(CertificateAuthority.generate(OTHER_TD, NOW).certificate)]},
    ],
)
def test_b_3_refuses_root_that_is_not_one_authority_of_this_domain(entry: dict[str, object]) -> None:
    """B-3, X-7: a root of another trust domain in our bundle would let it forge our IDs."""
    with pytest.raises(CertificateError):
        parse(with_keys(entry))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"keys":[],"keys":[]}',
        b'\xef\xbb\xbf{"keys":[]}',
        b'{"keys":[]}' + b" " * MAX_SET_BYTES,
        json.dumps({"keys": [{}] * 101}).encode(),
    ],
)
def test_b_7_refuses_duplicate_keys_and_what_is_not_json(data: bytes) -> None:
    """B-7: duplicate members; a document without a limit."""
    with pytest.raises(KeyMaterialError):
        Bundle.parse(data, TD)


def test_root_of_ours_is_on_p_256() -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(CertificateError):
        encode_bundle([certificate], [], 1)


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_root_whose_serial_number_is_not_positive_is_refused(action: Literal["error", "ignore"]) -> None:
    """RFC 5280 section 4.1.2.2; cryptography warns of it today, and will not read it some day."""
    der = bytearray(base64.b64decode(ROOT["x5c"][0]))
    der[15] |= 0x80  # the first byte of the serial number
    root = {**ROOT, "x5c": [base64.b64encode(der).decode()]}
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(CertificateError):
            parse(with_keys(root, JWT))


def test_x6_root_that_names_no_trust_domain_is_one() -> None:
    """X-6: the name is a SHOULD; an authority that stands below another has a root that never heard of it."""
    key, name = SigningKey.generate(), x509.Name([])
    root = (
        x509.CertificateBuilder(name, name, key.private_key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .sign(key.private_key, hashes.SHA256())
    )
    assert parse(with_keys({"kty": "EC", "use": "x509-svid", "x5c": [b64(root)]})).roots == (root,)


def test_x6_root_with_an_extension_that_stands_twice_is_our_error() -> None:
    """X-6: which of the two would count? `cryptography` has an exception of its own for it, no ValueError."""
    der = CA.certificate.public_bytes(serialization.Encoding.DER)
    names, usage = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d0f")  # their object identifiers
    twice = base64.b64encode(der.replace(names, usage)).decode()
    with pytest.raises(CertificateError, match="cannot read"):
        parse(with_keys({**ROOT, "x5c": [twice]}))
