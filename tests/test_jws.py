"""The guard in front of every token: rules/token-exchange.md section 2.6, one test a trick."""

import base64
import hashlib
import hmac
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from identity.base64url import encode_base64url
from identity.claims import integer_claim, lifetime, new_token_name, text_claim, token_name_claim
from identity.errors import (
    TokenAlgorithmError,
    TokenClaimsError,
    TokenError,
    TokenExpiredError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import MAX_LEEWAY, MAX_TOKEN, UnverifiedToken, check_times, sign, verify
from identity.keys import KeySet, SigningKey, VerificationKey
from identity.signature_algorithms import SVID_ALGORITHMS, Algorithm
from tests.foreign_keys import foreign_token
from tests.identity_world import (
    LEEWAY,
    NOW,
    SECONDS,
    STRANGER_KEY,
    TOKEN_KEY,
    TOKEN_KEYS,
    forge,
    forge_bytes,
    header_of,
)

TYP = frozenset({"at+jwt"})
CLAIMS = {"sub": "somebody", "exp": SECONDS + 60}
RIGHT = sign(TOKEN_KEY, "at+jwt", CLAIMS)


def check(text: str, keys: KeySet = TOKEN_KEYS, **options: Any) -> Any:
    return verify(UnverifiedToken.parse(text), keys, **{"typ": TYP, **options})


def with_header(**more: object) -> str:
    return forge(TOKEN_KEY, header_of(TOKEN_KEY, "at+jwt", **more), CLAIMS)


def test_verified_token_has_its_claims_and_a_name() -> None:
    token = check(RIGHT)
    assert token.claims == CLAIMS
    assert token.token_id == hashlib.sha256(RIGHT.encode()).hexdigest()
    assert (token.typ, token.kid) == ("at+jwt", TOKEN_KEY.kid)


def test_header_of_ours_is_alg_kid_and_typ() -> None:
    assert dict(UnverifiedToken.parse(RIGHT).header) == header_of(TOKEN_KEY, "at+jwt")


def test_another_library_reads_what_we_sign_and_we_what_it_signs() -> None:
    import jwt

    pem = TOKEN_KEY.reveal_pem()
    read = jwt.decode(RIGHT, TOKEN_KEY.public.public_key, algorithms=["ES256"], options={"verify_exp": False})
    assert read == CLAIMS
    theirs = jwt.encode(CLAIMS, pem, "ES256", headers={"typ": "at+jwt", "kid": TOKEN_KEY.kid})
    assert check(theirs).claims == CLAIMS


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", "HS256", "ES256K", "RS1", "EdDSA", "ES384", "PS256"]
)
def test_jw01_refuses_algorithm_that_is_not_on_our_list(alg: str) -> None:
    """JW-01: the list is ours; the header only repeats what the key has."""
    with pytest.raises(TokenAlgorithmError):
        check(with_header(alg=alg))


@pytest.mark.parametrize(
    "alg", [None, 7, True, ["ES256"], {"ES256": 1}, "es256", "ES256 ", "ES256\n", "\u0395S256"]
)
def test_jw01_refuses_algorithm_that_only_looks_like_one(alg: object) -> None:
    """JW-01: the whole text counts, in its case, and it is a text."""
    with pytest.raises(TokenAlgorithmError):
        check(with_header(alg=alg))


def test_jw01_refuses_none_without_signature() -> None:
    """JW-01: no `none`, with or without a third part."""
    header = encode_base64url(json.dumps({"alg": "none", "kid": TOKEN_KEY.kid, "typ": "at+jwt"}).encode())
    claims = encode_base64url(json.dumps(CLAIMS).encode())
    for text in (f"{header}.{claims}.", f"{header}.{claims}"):
        with pytest.raises(TokenMalformedError):
            check(text)
    with pytest.raises(TokenAlgorithmError):
        check(f"{header}.{claims}.AA")


def test_nothing_behind_a_wrong_algorithm_is_read() -> None:
    """J-9: wrong alg is refused before processing, so claims that are not even JSON make no other answer."""
    text = forge_bytes(TOKEN_KEY, json.dumps(header_of(TOKEN_KEY, "at+jwt", alg="none")).encode(), b"{{{")
    with pytest.raises(TokenAlgorithmError):
        UnverifiedToken.parse(text)


RSA_KEY = rsa.generate_private_key(65537, 2048)
RSA_PUBLIC = VerificationKey("r1", ("RS256",), RSA_KEY.public_key())
RSA_KEYS = KeySet.of([RSA_PUBLIC, TOKEN_KEY.public])


def rsa_token(alg: str, signature: Any) -> str:
    header = encode_base64url(json.dumps({"alg": alg, "kid": "r1", "typ": "at+jwt"}).encode())
    signing_input = f"{header}.{encode_base64url(json.dumps(CLAIMS).encode())}"
    return f"{signing_input}.{encode_base64url(signature(signing_input.encode()))}"


def test_jw01_rs256_of_a_provider_verifies() -> None:
    """JW-01: the list has RS256, for keys that are RSA."""
    text = rsa_token("RS256", lambda data: RSA_KEY.sign(data, padding.PKCS1v15(), hashes.SHA256()))
    assert check(text, RSA_KEYS).claims == CLAIMS


def test_jw01_refuses_hmac_with_the_public_key_as_secret() -> None:
    """JW-01: the classical confusion: a public key, which everybody has, is the secret of HS256."""
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        secret = RSA_KEY.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        for alg in ("HS256", "RS256", "ES256"):
            text = rsa_token(alg, lambda data, secret=secret: hmac.new(secret, data, hashlib.sha256).digest())
            with pytest.raises((TokenAlgorithmError, TokenSignatureError)):
                check(text, RSA_KEYS)


def test_jw01_algorithm_is_the_keys_not_the_headers() -> None:
    """JW-01: both are on our list, but each key has one."""
    text = rsa_token("ES256", lambda data: RSA_KEY.sign(data, padding.PKCS1v15(), hashes.SHA256()))
    with pytest.raises(TokenAlgorithmError):
        check(text, RSA_KEYS)
    with pytest.raises(TokenAlgorithmError):
        check(with_header(alg="RS256"), RSA_KEYS)


@pytest.mark.parametrize("algorithm", SVID_ALGORITHMS[1:])
def test_jw01_tokens_of_ours_are_es256(algorithm: Algorithm) -> None:
    """JW-01: our list for SVIDs is longer; the keys of our own tokens have one algorithm."""
    with pytest.raises(TokenAlgorithmError):
        check(foreign_token(algorithm, CLAIMS, typ="at+jwt", kid=TOKEN_KEY.kid))


@pytest.mark.parametrize("kid", ["../../dev/null", "' OR '1'='1", "a\x00", "k" * 3000, "", STRANGER_KEY.kid])
def test_jw02_kid_is_an_opaque_name(kid: str) -> None:
    """JW-02: also the kid of another issuer, whose key is then not looked for elsewhere."""
    with pytest.raises(TokenKeyError):
        check(with_header(kid=kid))


@pytest.mark.parametrize("kid", [None, 7, ["k"], {"k": 1}])
def test_jw02_kid_that_is_no_text(kid: object) -> None:
    """JW-02: a name is a text."""
    with pytest.raises(TokenKeyError):
        check(with_header(kid=kid))


def test_jw02_kid_of_ours_with_the_signature_of_another() -> None:
    """JW-02: a name proves nothing."""
    with pytest.raises(TokenSignatureError):
        check(forge(STRANGER_KEY, header_of(TOKEN_KEY, "at+jwt"), CLAIMS))


def test_jw02_key_in_the_header_is_never_used() -> None:
    """JW-02: `jwk`, `jku`, `x5u`, `x5c` name the forger's own key."""
    own: dict[str, object] = {
        "jwk": STRANGER_KEY.public.jwk(),
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "x5c": ["AA=="],
    }
    for member, value in own.items():
        forged = forge(STRANGER_KEY, header_of(TOKEN_KEY, "at+jwt", **{member: value}), CLAIMS)
        with pytest.raises(TokenSignatureError):
            check(forged, header_members=None)
        with pytest.raises(TokenMalformedError):
            check(forged)
        # In a provider's token such a member is ignored, and the right key still verifies.
        ignored = with_header(**{member: value})
        assert check(ignored, header_members=None).claims == CLAIMS


@pytest.mark.parametrize("crit", [[], ["exp"], ["alg"], ["b64"], ["unknown"], "exp", None])
def test_jw03_refuses_crit(crit: object) -> None:
    """JW-03: unknown, empty, or naming a registered header."""
    with pytest.raises(TokenMalformedError):
        check(with_header(crit=crit), header_members=None)


@pytest.mark.parametrize("member", [{"b64": False}, {"b64": True}, {"zip": "DEF"}, {"enc": "A128GCM"}])
def test_jw03_refuses_extension(member: dict[str, object]) -> None:
    """JW-03: `b64:false`, `zip` and JWE members."""
    with pytest.raises(TokenMalformedError):
        check(with_header(**member), header_members=None)


def test_jw03_refuses_jwe() -> None:
    """JW-03: JWE where JWS is expected."""
    with pytest.raises(TokenMalformedError):
        check("eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0.AA.AA.AA.AA")


TYPES = [
    "at+jwt",
    "txntoken+jwt",
    "oauth-id-jag+jwt",
    "dpop+jwt",
    "secevent+jwt",
    "logout+jwt",
    "token-introspection+jwt",
    "wit+jwt",
    "wpt+jwt",
    "jwt",
]


@pytest.mark.parametrize("asked", TYPES)
def test_jw04_no_type_stands_for_another(asked: str) -> None:
    """JW-04: the matrix of all types."""
    for typ in TYPES:
        text = forge(TOKEN_KEY, header_of(TOKEN_KEY, typ), CLAIMS)
        if typ == asked:
            assert check(text, typ=frozenset({asked})).typ == asked
        else:
            with pytest.raises(TokenTypeError):
                check(text, typ=frozenset({asked}))


@pytest.mark.parametrize("typ", ["AT+JWT", "application/at+jwt", "Application/AT+jwt"])
def test_jw04_accepts_the_full_form_in_any_case(typ: str) -> None:
    """JW-04: full `application/…` form, case-insensitive."""
    assert check(forge(TOKEN_KEY, header_of(TOKEN_KEY, typ), CLAIMS)).typ == "at+jwt"


@pytest.mark.parametrize(
    "typ", ["at+jwt ", "at+jwt\n", "text/at+jwt", "application/application/at+jwt", "at"]
)
def test_jw04_refuses_almost_the_type(typ: str) -> None:
    """JW-04: the whole text counts."""
    with pytest.raises(TokenTypeError):
        check(forge(TOKEN_KEY, header_of(TOKEN_KEY, typ), CLAIMS))


@pytest.mark.parametrize("typ", ["", 7, None, ["at+jwt"], "txnto\u212aen+jwt"])
def test_jw04_refuses_type_that_is_no_media_type(typ: object) -> None:
    """JW-04: the Kelvin sign becomes `k` in lower case."""
    header = {**header_of(TOKEN_KEY, None), "typ": typ}
    with pytest.raises(TokenMalformedError):
        check(forge(TOKEN_KEY, header, CLAIMS), typ=frozenset({"txntoken+jwt", ""}))


def test_absent_type_is_a_type_of_its_own() -> None:
    text = forge(TOKEN_KEY, header_of(TOKEN_KEY, None), CLAIMS)
    assert check(text, typ=frozenset({""})).typ == ""
    with pytest.raises(TokenTypeError):
        check(text)


@pytest.mark.parametrize(
    "claims",
    [
        b'{"sub":"a","sub":"b"}',
        b'{"sub":"a","s\\u0075b":"b"}',
        b'{"sub":"a"}{}',
        b'{"sub":"\xff"}',
        b'\xef\xbb\xbf{"sub":"a"}',
        b'{"exp":NaN}',
        b'{"exp":1e400}',
        b'{"exp":Infinity}',
        b'{"n":' + b"9" * 400 + b"}",
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b"[]",
        b'"text"',
        b"null",
        b"",
        b"{",
        '{"sub":"a"}'.encode("utf-16"),
        b'{"sub":"\\ud800"}',
        b"{" + b",".join(b'"%d":1' % number for number in range(600)) + b"}",
    ],
)
def test_jw05_refuses_claims_that_are_not_strict_json(claims: bytes) -> None:
    """JW-05: duplicate members, trailing data, non-UTF-8, NaN, 1e400, nesting, and what is no object."""
    with pytest.raises(TokenMalformedError):
        UnverifiedToken.parse(forge_bytes(TOKEN_KEY, b'{"alg":"ES256"}', claims))


@pytest.mark.parametrize(
    "header", [b'{"alg":"none","alg":"ES256"}', b'{"alg":"ES256"}x', b"[]", b'"ES256"', b"{}x"]
)
def test_jw05_refuses_header_that_is_not_strict_json(header: bytes) -> None:
    """JW-05: the header too."""
    with pytest.raises(TokenMalformedError):
        UnverifiedToken.parse(forge_bytes(TOKEN_KEY, header, b"{}"))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1", 1.5, 1.0, True, None, [1], -1, {"a": 1}])
def test_jw05_refuses_time_that_is_not_a_whole_number_before_any_crypto(name: str, value: object) -> None:
    """JW-05: `exp` as text, float, bool, negative."""
    text = forge(STRANGER_KEY, header_of(TOKEN_KEY, "at+jwt"), {"exp": SECONDS, name: value})
    with pytest.raises(TokenClaimsError):
        UnverifiedToken.parse(text)


@pytest.mark.parametrize("value", [2**53, 10**30])
def test_jw05_refuses_time_beyond_what_everybody_reads(value: int) -> None:
    """JW-05: huge integers."""
    with pytest.raises(TokenMalformedError):
        UnverifiedToken.parse(forge(TOKEN_KEY, header_of(TOKEN_KEY, "at+jwt"), {"exp": value}))


def test_jw05_refuses_deep_act_before_signature_work() -> None:
    """JW-05, ID-04: 10,000 nested `act`: too long for a token, and short ones nest too deep for its JSON."""
    nested = b'{"act":' * 10_000 + b"{}" + b"}" * 10_000
    with pytest.raises(TokenMalformedError, match="compact JWS"):
        UnverifiedToken.parse(forge_bytes(TOKEN_KEY, b'{"alg":"ES256"}', nested))
    shorter = b'{"act":' * 500 + b"{}" + b"}" * 500
    with pytest.raises(TokenMalformedError, match="nests deeper than 32"):
        UnverifiedToken.parse(forge_bytes(TOKEN_KEY, b'{"alg":"ES256"}', shorter))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a",
        "a.b",
        "a.b.c.d",
        RIGHT + "=",
        RIGHT + "\n",
        "\n" + RIGHT,
        RIGHT + " ",
        " " + RIGHT,
        RIGHT + ".",
        RIGHT.replace(".", "..", 1),
        RIGHT.replace(".", ".\n", 1),
        RIGHT.replace(".", "\u3002", 1),
        "Bearer " + RIGHT,
        RIGHT + "," + RIGHT,
        RIGHT + "\x00",
        RIGHT[:-1] + "\u0661",
        "\uff41" + RIGHT[1:],
        RIGHT + "A" * MAX_TOKEN,
        "A" * 1024 * 1024,
    ],
)
def test_jw05_refuses_what_is_not_compact_jws(text: str) -> None:
    """JW-05: alphabet, padding, white space, size; Unicode digits and letters are none of ours."""
    with pytest.raises(TokenMalformedError):
        UnverifiedToken.parse(text)


def test_jw05_refuses_second_text_of_the_same_signature() -> None:
    """JW-05: the last character of 64 bytes has four unused bits, so 15 other texts decode alike."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    signature = RIGHT.rsplit(".", 1)[1]
    others = [signature[:-1] + last for last in alphabet if last != signature[-1]]
    same = [
        o for o in others if base64.urlsafe_b64decode(o + "==") == base64.urlsafe_b64decode(signature + "==")
    ]
    assert len(same) == 15
    for other in same:
        with pytest.raises(TokenMalformedError):
            UnverifiedToken.parse(RIGHT.rsplit(".", 1)[0] + "." + other)


@pytest.mark.parametrize("position", range(0, len(RIGHT), 7))
def test_tampered_anywhere_is_refused(position: int) -> None:
    other = "A" if RIGHT[position] != "A" else "B"
    with pytest.raises(TokenError):
        check(RIGHT[:position] + other + RIGHT[position + 1 :])


def test_signature_of_other_claims_is_refused() -> None:
    other = sign(TOKEN_KEY, "at+jwt", {**CLAIMS, "sub": "somebody-else"})
    with pytest.raises(TokenSignatureError):
        check(RIGHT.rsplit(".", 1)[0] + "." + other.rsplit(".", 1)[1])


def test_der_signature_is_refused() -> None:
    signing_input, _, signature = RIGHT.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    assert decode_dss_signature(der)
    with pytest.raises(TokenSignatureError):
        check(f"{signing_input}.{encode_base64url(der)}")


def test_empty_key_set_verifies_nothing() -> None:
    with pytest.raises(TokenKeyError):
        check(RIGHT, KeySet.of([]))


def test_key_of_two_issuers_under_one_kid_stays_apart() -> None:
    """A foreign set may have our kid for its own key; only the set that was chosen is looked at."""
    foreign = KeySet.of([VerificationKey(TOKEN_KEY.kid, ("ES256",), STRANGER_KEY.public.public_key)])
    with pytest.raises(TokenSignatureError):
        check(RIGHT, foreign)


def test_token_cannot_be_printed() -> None:
    unverified = UnverifiedToken.parse(RIGHT)
    texts = [repr(unverified), str(unverified), repr(check(RIGHT)), f"{unverified}"]
    for text in texts:
        assert not any(part in text for part in RIGHT.split("."))
        assert "somebody" not in text


def test_message_never_holds_the_token() -> None:
    bad = [
        RIGHT + "A" * MAX_TOKEN,
        RIGHT[:-2] + "AA",
        with_header(kid="x"),
        with_header(alg="none"),
        RIGHT + "=",
    ]
    for text in bad:
        with pytest.raises(TokenError) as caught:
            check(text)
        assert not any(part in str(caught.value) for part in text.split(".") if len(part) > 8)


def test_claims_cannot_be_changed_after_verification() -> None:
    claims: Any = check(RIGHT).claims
    with pytest.raises(TypeError):
        claims["sub"] = "somebody-else"


@pytest.mark.parametrize("leeway", [0, 30, MAX_LEEWAY])
def test_jw06_exp_with_leeway_is_exact(leeway: int) -> None:
    """JW-06: frozen clock at the leeway and one second on either side of it."""
    claims = {"exp": SECONDS}
    check_times(claims, NOW + timedelta(seconds=leeway - 1), leeway)
    for late in (leeway, leeway + 1):
        with pytest.raises(TokenExpiredError):
            check_times(claims, NOW + timedelta(seconds=late), leeway)


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize("leeway", [0, 30, MAX_LEEWAY])
def test_jw06_nbf_and_iat_with_leeway_are_exact(name: str, leeway: int) -> None:
    """JW-06: frozen clock at -skew and one second on either side of it."""
    claims = {"exp": SECONDS + 600, name: SECONDS}
    for early in (leeway, leeway - 1):
        check_times(claims, NOW - timedelta(seconds=early), leeway)
    with pytest.raises(TokenNotYetValidError):
        check_times(claims, NOW - timedelta(seconds=leeway + 1), leeway)


def test_jw06_expired_counts_to_the_microsecond() -> None:
    """JW-06: the end itself has expired."""
    check_times({"exp": SECONDS}, NOW - timedelta(microseconds=1), 0)
    with pytest.raises(TokenExpiredError):
        check_times({"exp": SECONDS}, NOW, 0)


def test_exp_must_be_there() -> None:
    with pytest.raises(TokenClaimsError):
        check_times({}, NOW, LEEWAY)


@pytest.mark.parametrize("leeway", [-1, MAX_LEEWAY + 1])
def test_jw06_leeway_has_a_limit(leeway: int) -> None:
    """JW-06: skew of at most 60 s."""
    with pytest.raises(ValueError, match="leeway"):
        check_times({"exp": SECONDS}, NOW, leeway)


def test_nothing_is_signed_that_we_would_refuse_for_its_length() -> None:
    with pytest.raises(TokenMalformedError):
        sign(TOKEN_KEY, "at+jwt", {"groups": ["g" * 64] * 200})


def test_nothing_is_signed_that_is_not_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        sign(TOKEN_KEY, "at+jwt", {"n": float("nan")})


def test_cl07_lifetime_is_the_least_of_all() -> None:
    """CL-07: nothing is issued to outlive what stands behind it."""
    assert lifetime(NOW, 60, SECONDS + 300) == (SECONDS, SECONDS + 60)
    assert lifetime(NOW, 600, SECONDS + 300) == (SECONDS, SECONDS + 300)
    assert lifetime(NOW + timedelta(microseconds=999_999), 60, SECONDS + 300) == (SECONDS, SECONDS + 60)
    for not_after in (SECONDS, SECONDS - 1):
        with pytest.raises(TokenExpiredError):
            lifetime(NOW, 60, not_after)
    with pytest.raises(ValueError, match="lifetime"):
        lifetime(NOW, 0, SECONDS + 300)


def test_cl06_name_of_a_token_has_128_random_bits() -> None:
    """CL-06: `jti` and `txn`."""
    assert token_name_claim({"jti": new_token_name(bytes(16))}, "jti") == "A" * 22
    with pytest.raises(ValueError, match="entropy"):
        new_token_name(bytes(15))


@pytest.mark.parametrize(
    "value", ["", "short", "x" * 65, "x" * 15 + " ", "x" * 20 + "\n", 7, None, ["x" * 20]]
)
def test_cl06_refuses_name_that_is_none_of_ours(value: object) -> None:
    """CL-06: 128 random bits have one form."""
    with pytest.raises(TokenClaimsError):
        token_name_claim({"jti": value}, "jti")


@pytest.mark.parametrize("value", [None, "", 7, True, ["a"], {"a": 1}])
def test_text_claim_is_text_and_not_empty(value: object) -> None:
    with pytest.raises(TokenClaimsError):
        text_claim({"iss": value}, "iss")
    with pytest.raises(TokenClaimsError):
        text_claim({}, "iss")


@pytest.mark.parametrize("value", [True, False, 1.0, "1", -1, None])
def test_integer_claim_is_a_whole_number(value: object) -> None:
    with pytest.raises(TokenClaimsError):
        integer_claim({"exp": value}, "exp")


def test_only_the_guard_makes_verified_tokens() -> None:
    """STYLE 8: a verified token is what `verify` returned, and nothing else makes one."""
    root = Path(__file__).resolve().parent.parent
    files = [*root.glob("identity/**/*.py"), *root.glob("authz/**/*.py")]
    makers = [file.name for file in files if re.search(r"\bVerifiedToken\(", file.read_text())]
    assert makers == ["jws.py"]


def test_key_that_signs_is_never_taken_from_a_token() -> None:
    stolen = SigningKey.generate()
    with pytest.raises(TokenKeyError):
        check(forge(stolen, header_of(stolen, "at+jwt"), CLAIMS))
