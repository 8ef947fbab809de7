"""Keys: what signs, what verifies, and what a published set may hold."""

import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from identity.base64url import encode_base64url
from identity.errors import KeyMaterialError, TokenAlgorithmError, TokenSignatureError
from identity.keys import _ROCA_PRIMES, MAX_KEYS, MAX_SET_BYTES, KeySet, SigningKey, VerificationKey
from identity.signature_algorithms import SVID_ALGORITHMS, Algorithm
from tests.foreign_keys import foreign_jwk, foreign_signature

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
    key.verify(signature, b"data", "RS256")
    with pytest.raises(TokenSignatureError):
        key.verify(signature, b"other", "RS256")
    pss = RSA_KEY.sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    with pytest.raises(TokenSignatureError):
        key.verify(pss, b"data", "RS256")


@pytest.mark.parametrize("algorithm", SVID_ALGORITHMS)
def test_j_2_each_algorithm_verifies_real_signatures(algorithm: Algorithm) -> None:
    """J-2: as another library signs them, and of this key and these bytes alone."""
    key = VerificationKey.parse_jwk(foreign_jwk(algorithm))
    assert algorithm in key.algorithms
    signed = foreign_signature(algorithm, b"data")
    key.verify(signed, b"data", algorithm)
    for wrong in (signed[:-1], signed + b"\x00", bytes(len(signed)), signed[::-1], b""):
        with pytest.raises(TokenSignatureError):
            key.verify(wrong, b"data", algorithm)
    with pytest.raises(TokenSignatureError):
        key.verify(signed, b"other", algorithm)


@pytest.mark.parametrize("named", SVID_ALGORITHMS)
@pytest.mark.parametrize("asked", [*SVID_ALGORITHMS, "none", "HS256", "EdDSA", "ES256K", "RS1", "", None, 7])
def test_jw01_key_with_an_algorithm_verifies_no_other(named: Algorithm, asked: object) -> None:
    """JW-01: the curve fixes it, or the publisher; whatever a token says, nothing is computed."""
    key = VerificationKey.parse_jwk(foreign_jwk(named, alg=named))
    assert key.algorithms == (named,)
    with pytest.raises(TokenSignatureError if asked == named else TokenAlgorithmError):
        key.verify(bytes(132), b"data", asked)


def test_j_2_rsa_key_without_algorithm_verifies_those_of_rsa() -> None:
    """J-2: SPIRE names none. The list is ours, whatever the token says."""
    key = VerificationKey.parse_jwk(rsa_jwk())
    assert key.algorithms == ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    for asked in ("ES256", "RS1", "HS256", "none", "RSA-OAEP", "rs256", None):
        with pytest.raises(TokenAlgorithmError):
            key.verify(bytes(256), b"data", asked)


@pytest.mark.parametrize("size", [0, 20, 31, 33, 64, "longest"])
def test_j_2_pss_salt_is_as_long_as_its_hash(size: Any) -> None:
    """RFC 7518 section 3.5: another salt is another algorithm."""
    key = VerificationKey.parse_jwk(rsa_jwk(alg="PS256"))
    salt = padding.PSS.MAX_LENGTH if size == "longest" else size
    signature = RSA_KEY.sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
    with pytest.raises(TokenSignatureError):
        key.verify(signature, b"data", "PS256")


@pytest.mark.parametrize("alg", ["RS384", "RS512", "PS256", "PS384", "PS512", "ES384", "ES512"])
def test_jw01_providers_of_people_sign_with_two_algorithms(alg: Algorithm) -> None:
    """JW-01: the list is the issuer's, too; what an SVID may be signed with says nothing of an ID token."""
    jwk = foreign_jwk(alg, alg=alg)
    assert not KeySet.parse_jwks({"keys": [jwk]}, use=None).keys
    assert KeySet.parse_jwks({"keys": [{**jwk, "use": "jwt-svid"}]}, use="jwt-svid").keys
    unnamed = KeySet.parse_jwks({"keys": [rsa_jwk()]}, use=None).get("r1")
    assert unnamed is not None
    assert unnamed.algorithms == ("RS256",)


def test_jwk_round_trip() -> None:
    for jwk in (ec_jwk(), rsa_jwk(), *(foreign_jwk(algorithm) for algorithm in SVID_ALGORITHMS)):
        key = VerificationKey.parse_jwk(jwk)
        assert VerificationKey.parse_jwk(key.jwk()) == key
    assert KEY.public.jwk()["alg"] == "ES256"
    assert VerificationKey.parse_jwk(rsa_jwk(alg="RS256")).jwk()["alg"] == "RS256"
    assert "alg" not in VerificationKey.parse_jwk(rsa_jwk()).jwk()


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
        ec_jwk(alg="ES384"),
        ec_jwk(crv="P-384", alg="ES256"),
        ec_jwk(crv="P-521"),
        ec_jwk(crv=["P-256"]),
        ec_jwk(alg=["ES256"]),
        ec_jwk(alg="PS256"),
        foreign_jwk("ES384", crv="P-256"),
        foreign_jwk("ES512", crv="P-384"),
        foreign_jwk("ES512", alg="ES384"),
        foreign_jwk("ES512", x=encode_base64url(b"\xff" * 66)),
        rsa_jwk(alg="RSA-OAEP"),
        rsa_jwk(alg="ES256"),
        rsa_jwk(alg=["RS256"]),
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
def test_jw01_refuses_key_that_is_weak_malformed_private_or_of_another_kind(jwk: dict[str, object]) -> None:
    """JW-01: algorithm by `kty` and `crv`; RSA of 2048 bits or more; e not 1; no symmetric keys."""
    with pytest.raises(KeyMaterialError):
        VerificationKey.parse_jwk(jwk)


def test_jw01_refuses_key_that_roca_breaks() -> None:
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


def test_jw01_the_form_of_roca_is_looked_for_where_it_says_something() -> None:
    """JW-01: the primes up to 167 of which 65537 does not generate every residue; a good key passes."""
    primes = [prime for prime in range(3, 168) if all(prime % divisor for divisor in range(2, prime))]
    powers = {prime: {pow(65537, power, prime) for power in range(prime)} for prime in primes}
    assert tuple(prime for prime in primes if len(powers[prime]) < prime - 1) == _ROCA_PRIMES
    for bits in (2048, 3072):
        n = rsa.generate_private_key(65537, bits).public_key().public_numbers().n
        assert VerificationKey.parse_jwk(rsa_jwk(n=n)).kid == "r1"


def test_message_about_a_key_does_not_show_it() -> None:
    secret = encode_base64url(b"\x07" * 32)
    with pytest.raises(KeyMaterialError) as caught:
        KeySet.parse_jwks({"keys": [ec_jwk(d=secret)]}, use=None)
    assert secret not in str(caught.value)


def test_set_finds_keys_by_kid() -> None:
    keys = KeySet.parse_jwks(json.dumps({"keys": [ec_jwk(), rsa_jwk(use="sig")]}).encode(), use=None)
    assert keys.get(KEY.kid) == KEY.public
    assert {key.algorithms for key in keys} == {("ES256",), ("RS256",)}


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR 1=1 --", "a\x00b", "k" * 10_000, "", KEY.kid.lower()]
)
def test_jw02_kid_is_an_opaque_name(kid: str) -> None:
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
        ec_jwk(crv="secp256k1", alg="ES256K"),
        rsa_jwk(alg="RSA-OAEP"),
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
def test_jw07_refuses_set_that_is_malformed_or_holds_a_secret(source: bytes) -> None:
    """JW-07: size, number, duplicate kid, private or symmetric keys anywhere in it."""
    with pytest.raises(KeyMaterialError):
        KeySet.parse_jwks(source, use=None)


def test_set_of_too_many_keys_of_ours_is_refused() -> None:
    keys = [VerificationKey(str(number), ("ES256",), KEY.public.public_key) for number in range(MAX_KEYS + 1)]
    with pytest.raises(KeyMaterialError):
        KeySet.of(keys)
    with pytest.raises(KeyMaterialError):
        VerificationKey.of(ec.generate_private_key(ec.SECP384R1()).public_key())
