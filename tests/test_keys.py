"""Keys: what signs, what verifies, and what a published set may hold."""

import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from identity.base64url import encode_base64url
from identity.errors import KeyMaterialError, TokenSignatureError
from identity.keys import MAX_KEYS, MAX_SET_BYTES, KeySet, SigningKey, VerificationKey

KEY = SigningKey.generate()
RSA_KEY = rsa.generate_private_key(65537, 2048)


def uint(value: int) -> str:
    return encode_base64url(value.to_bytes((value.bit_length() + 7) // 8))


def rsa_jwk(n: int | None = None, e: int = 65537, **more: object) -> dict[str, object]:
    n = RSA_KEY.public_key().public_numbers().n if n is None else n
    return {"kty": "RSA", "kid": "r1", "n": uint(n), "e": uint(e), **more}


def ec_jwk(**changes: object) -> dict[str, object]:
    return {**KEY.public.jwk(), **changes}


def without(jwk: Mapping[str, object], member: str) -> dict[str, object]:
    return {name: value for name, value in jwk.items() if name != member}


def test_kid_is_the_thumbprint_of_rfc_7638() -> None:
    """The vector of RFC 7638 section 3.1 is RSA; this one is computed by joserfc, an independent library."""
    from joserfc.jwk import ECKey

    members: Any = without(KEY.public.jwk(), "kid")
    assert ECKey.import_key(members).thumbprint() == KEY.kid


def test_signature_is_raw_and_verifies() -> None:
    signature = KEY.sign(b"data")
    assert len(signature) == 64
    KEY.public.verify(signature, b"data")


@pytest.mark.parametrize(
    "signature", [b"", b"\x00" * 64, b"\xff" * 64, b"\x00" * 63, b"\x00" * 65, b"\x00" * 32 + b"\x01" * 32]
)
def test_refuses_signature_that_is_no_signature(signature: bytes) -> None:
    """CVE-2022-21449: a signature of zeros verified everything."""
    with pytest.raises(TokenSignatureError):
        KEY.public.verify(signature, b"data")


def test_refuses_der_signature() -> None:
    der = KEY.private_key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    with pytest.raises(TokenSignatureError):
        KEY.public.verify(der, b"data")


def test_rsa_key_verifies_rs256() -> None:
    key = VerificationKey.parse_jwk(rsa_jwk())
    signature = RSA_KEY.sign(b"data", padding.PKCS1v15(), hashes.SHA256())
    key.verify(signature, b"data")
    with pytest.raises(TokenSignatureError):
        key.verify(signature, b"other")
    pss = RSA_KEY.sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    with pytest.raises(TokenSignatureError):
        key.verify(pss, b"data")


def test_jwk_round_trip() -> None:
    for jwk in (ec_jwk(), rsa_jwk()):
        key = VerificationKey.parse_jwk(jwk)
        assert VerificationKey.parse_jwk(key.jwk()) == key
    assert KEY.public.jwk()["alg"] == "ES256"
    assert VerificationKey.parse_jwk(rsa_jwk()).jwk()["alg"] == "RS256"


def test_pem_round_trip() -> None:
    assert SigningKey.parse_pem(KEY.reveal_pem()).kid == KEY.kid


def foreign_pem(key: Any, password: bytes | None = None) -> bytes:
    encryption: Any = (
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    )
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return pem


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"junk",
        KEY.reveal_pem()[:-40],
        foreign_pem(RSA_KEY),
        foreign_pem(ec.generate_private_key(ec.SECP384R1())),
        foreign_pem(ec.generate_private_key(ec.SECP256K1())),
        foreign_pem(ed25519.Ed25519PrivateKey.generate()),
        foreign_pem(ec.generate_private_key(ec.SECP256R1()), b"password"),
    ],
    ids=["empty", "junk", "truncated", "rsa", "p384", "secp256k1", "ed25519", "encrypted"],
)
def test_refuses_private_key_that_is_not_p_256(pem: bytes) -> None:
    with pytest.raises(KeyMaterialError):
        SigningKey.parse_pem(pem)


def test_private_key_cannot_be_printed() -> None:
    secret = uint(KEY.private_key.private_numbers().private_value)
    for text in (repr(KEY), str(KEY), f"{KEY!r:>10}", repr({"key": KEY}), repr([KEY.public])):
        assert secret not in text
        assert "PRIVATE" not in text
        assert KEY.kid in text
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "EC"},
        without(ec_jwk(), "kid"),
        ec_jwk(kid=""),
        ec_jwk(kid="k" * 256),
        ec_jwk(kid=7),
        ec_jwk(alg="RS256"),
        ec_jwk(alg="none"),
        ec_jwk(alg="HS256"),
        ec_jwk(alg="ES256K"),
        ec_jwk(crv="secp256k1"),
        ec_jwk(crv="P-384"),
        without(ec_jwk(), "x"),
        without(ec_jwk(), "y"),
        ec_jwk(x=uint(5)),
        ec_jwk(x=encode_base64url(b"\x00" * 32), y=encode_base64url(b"\x00" * 32)),
        ec_jwk(y=encode_base64url(b"\x01" * 32)),
        ec_jwk(x=str(KEY.public.jwk()["x"]) + "="),
        ec_jwk(x=7),
        ec_jwk(key_ops=["sign"]),
        ec_jwk(key_ops=["sign", "verify"]),
        ec_jwk(d=encode_base64url(b"\x01" * 32)),
        {"kty": "oct", "kid": "o", "k": encode_base64url(b"secret")},
        {"kty": "oct", "kid": "o"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "o", "x": encode_base64url(b"\x01" * 32)},
        rsa_jwk(alg="PS256"),
        rsa_jwk(alg="RS1"),
        rsa_jwk(e=1),
        rsa_jwk(e=2),
        rsa_jwk(e=65536),
        rsa_jwk(e=2**33 + 1),
        rsa_jwk(n=RSA_KEY.public_key().public_numbers().n >> 1024),
        rsa_jwk(n=2**8192 + 1),
        rsa_jwk(p=uint(7)),
        without(rsa_jwk(), "n"),
        rsa_jwk(crv="P-256"),
    ],
)
def test_jw_01_refuses_key_that_is_weak_malformed_private_or_of_another_kind(jwk: dict[str, object]) -> None:
    """JW-01: algorithm by `kty` and `crv`; RSA of 2048 bits or more; e not 1; no symmetric keys."""
    with pytest.raises(KeyMaterialError):
        VerificationKey.parse_jwk(jwk)


def test_jw_01_refuses_key_that_roca_breaks() -> None:
    """JW-01, CVE-2017-15361: primes of the form k*M + (65537^a mod M), M a product of small primes."""
    small = [prime for prime in range(2, 168) if all(prime % divisor for divisor in range(2, prime))]
    product = 1
    for prime in small:
        product *= prime
    n = 1
    for power in (1234, 98765):
        n *= (2**1030 // product) * product + pow(65537, power, product)
    assert n.bit_length() >= 2048
    with pytest.raises(KeyMaterialError):
        VerificationKey.parse_jwk(rsa_jwk(n=n))


def test_message_about_a_key_does_not_show_it() -> None:
    secret = encode_base64url(b"\x07" * 32)
    with pytest.raises(KeyMaterialError) as caught:
        KeySet.parse_jwks({"keys": [ec_jwk(d=secret)]}, use=None)
    assert secret not in str(caught.value)


def test_set_finds_keys_by_kid() -> None:
    keys = KeySet.parse_jwks(json.dumps({"keys": [ec_jwk(), rsa_jwk(use="sig")]}).encode(), use=None)
    assert keys.get(KEY.kid) == KEY.public
    assert {key.algorithm for key in keys} == {"ES256", "RS256"}


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR 1=1 --", "a\x00b", "k" * 10_000, "", KEY.kid.lower()]
)
def test_jw_02_kid_is_an_opaque_name(kid: str) -> None:
    """JW-02: paths, SQL, NUL and 10 kB are names that nobody has."""
    assert KeySet.of([KEY.public]).get(kid) is None


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "OKP", "crv": "Ed25519", "kid": "o", "x": "AA"},
        rsa_jwk(use="enc"),
        ec_jwk(use="jwt-svid"),
        ec_jwk(use="x509-svid"),
        ec_jwk(alg="ES384"),
        {"kty": "new"},
        {},
    ],
)
def test_set_leaves_out_keys_of_another_use_or_kind(entry: dict[str, object]) -> None:
    keys = KeySet.parse_jwks({"keys": [entry, rsa_jwk()]}, use=None)
    assert set(keys.keys) == {"r1"}


def test_uses_never_mix() -> None:
    jwks = {"keys": [ec_jwk(use="jwt-svid"), rsa_jwk(use="sig"), ec_jwk(kid="wit", use="wit-svid")]}
    assert set(KeySet.parse_jwks(jwks, use="jwt-svid").keys) == {KEY.kid}
    assert set(KeySet.parse_jwks(jwks, use=None).keys) == {"r1"}


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[7]}',
        b'{"keys":["k"]}',
        b'{"keys":[],"keys":[]}',
        b'{"keys":[{"use":7}]}',
        b'{"keys":[' + b" " * MAX_SET_BYTES + b"]}",
        json.dumps({"keys": [{}] * (MAX_KEYS + 1)}).encode(),
        json.dumps({"keys": [ec_jwk(), ec_jwk()]}).encode(),
        json.dumps({"keys": [ec_jwk(), {"kty": "oct", "k": "AA"}]}).encode(),
        json.dumps({"keys": [ec_jwk(), rsa_jwk(use="enc", d="AA")]}).encode(),
        json.dumps({"keys": [ec_jwk(x="AA")]}).encode(),
        json.dumps({"keys": [without(ec_jwk(), "kid")]}).encode(),
    ],
)
def test_jw_07_refuses_set_that_is_malformed_or_holds_a_secret(source: bytes) -> None:
    """JW-07: size, number, duplicate kid, private or symmetric keys anywhere in it."""
    with pytest.raises(KeyMaterialError):
        KeySet.parse_jwks(source, use=None)


def test_set_of_too_many_keys_of_ours_is_refused() -> None:
    keys = [VerificationKey(str(number), "ES256", KEY.public.public_key) for number in range(MAX_KEYS + 1)]
    with pytest.raises(KeyMaterialError):
        KeySet.of(keys)
    with pytest.raises(KeyMaterialError):
        VerificationKey.of(ec.generate_private_key(ec.SECP384R1()).public_key())
