"""JW-01 to JW-06, asked of every kind of token that something here reads: no reader has a rule of its own."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from identity.base64url import encode_base64url
from identity.errors import (
    DpopError,
    TokenAlgorithmError,
    TokenError,
    TokenExpiredError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import MAX_TOKEN
from tests.identity_world import LEEWAY, NOW, SECONDS, STRANGER_KEY, forge
from tests.token_readers import READERS, Reader

each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name.replace(" ", "-"))
# What a proof calls the same.
REASONS = {
    TokenAlgorithmError: {"algorithm", "malformed"},
    TokenTypeError: {"type"},
    TokenMalformedError: {"malformed"},
    TokenSignatureError: {"signature"},
}


def refused(reader: Reader, text: str, error: type[TokenError]) -> None:
    with pytest.raises((error, DpopError)) as raised:
        reader.read(text, NOW)
    if isinstance(raised.value, DpopError):
        assert raised.value.reason in REASONS[error]


@each_reader
def test_what_is_right_is_read(reader: Reader) -> None:
    """Without this one the others would prove nothing."""
    assert reader.read(reader.token(), NOW)


# ---------------------------------------------------------------- JW-01


@each_reader
@pytest.mark.parametrize(
    "alg",
    ["none", "None", "NONE", "nOnE", "", "HS256", "HS384", "HS512", "ES256K", "RS1", "EdDSA", "Ed25519",
     "Ed448", "ES384", "RS256", "PS256", "es256", "ES256 ", "dir", "RSA-OAEP", "PBES2-HS256+A128KW", None, 7,
     ["ES256"]],
    ids=str,
)  # fmt: skip
def test_jw01_refuses_algorithm(reader: Reader, alg: object) -> None:
    """JW-01: a constant of ours and the key's; `EdDSA` and `Ed25519` name none of them."""
    refused(reader, reader.token(reader.header(alg=alg)), TokenAlgorithmError)


@each_reader
@pytest.mark.parametrize("alg", ["none", "NONE", "ES256"])
@pytest.mark.parametrize("signature", ["", "AA", encode_base64url(bytes(64))], ids=["none", "one", "zeros"])
def test_jw01_refuses_token_without_signature(reader: Reader, alg: str, signature: str) -> None:
    """JW-01: no `none`, and no signature that stands for none (CVE-2022-21449)."""
    head = reader.token(reader.header(alg=alg)).rpartition(".")[0]
    with pytest.raises((TokenError, DpopError)):
        reader.read(f"{head}.{signature}", NOW)
    with pytest.raises((TokenError, DpopError)):
        reader.read(head, NOW)


@each_reader
@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
@pytest.mark.parametrize("alg", ["HS256", "ES256"])
def test_jw01_refuses_hmac_with_the_public_key(
    reader: Reader, encoding: serialization.Encoding, alg: str
) -> None:
    """JW-01: no HS* with public keys."""
    secret = reader.key.private_key.public_key().public_bytes(
        encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head = reader.token(reader.header(alg=alg)).rpartition(".")[0]
    forged = encode_base64url(hmac.new(secret, head.encode(), hashlib.sha256).digest())
    error = TokenAlgorithmError if alg == "HS256" else TokenSignatureError
    refused(reader, f"{head}.{forged}", error)


@each_reader
def test_jw01_refuses_signature_of_another_key(reader: Reader) -> None:
    """JW-01: the key that the issuer has, and no other."""
    refused(reader, forge(STRANGER_KEY, reader.header(), dict(reader.claims)), TokenSignatureError)


# ---------------------------------------------------------------- JW-02


@pytest.mark.parametrize("reader", [one for one in READERS if one.has_kid], ids=lambda reader: reader.name)
@pytest.mark.parametrize(
    "kid",
    ["../../../../dev/null", "/etc/passwd", "' OR '1'='1", "x' UNION SELECT 'key", "a\x00", "|id", "k" * 3000,
     "", STRANGER_KEY.kid, None, 7, ["kid"], {"kid": "kid"}],
    ids=lambda kid: repr(kid)[:20],
)  # fmt: skip
def test_jw02_kid_is_an_opaque_name(reader: Reader, kid: object) -> None:
    """JW-02: paths, SQL, NUL, a kid of another issuer: names that the issuer does not have."""
    refused(reader, reader.token(reader.header(kid=kid)), TokenKeyError)


@each_reader
def test_jw02_kid_of_10_kb(reader: Reader) -> None:
    """JW-02: longer than a whole token may be."""
    refused(reader, reader.token(reader.header(kid="k" * 10_000)), TokenMalformedError)


@each_reader
def test_jw02_duplicate_kid(reader: Reader) -> None:
    """JW-02, JW-05: two readers could take two keys."""
    header = json.dumps(reader.header(kid="other")).encode()
    twice = header[:-1] + b',"kid":"' + reader.key.kid.encode() + b'"}'
    refused(reader, reader.token_of(json.dumps(dict(reader.claims)).encode(), twice), TokenMalformedError)


# The key of a DPoP proof stands in its header: tests/test_dpop.py.
@pytest.mark.parametrize("reader", [one for one in READERS if not one.header_more], ids=lambda one: one.name)
@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c"])
def test_jw02_key_in_the_header_makes_nothing_good(reader: Reader, member: str) -> None:
    """JW-02: refused or ignored, and never followed."""
    own = {
        "jku": "https://evil.example/jwks",
        "x5u": "https://evil.example/cert",
        "jwk": STRANGER_KEY.public.jwk(),
        "x5c": ["AA=="],
    }[member]
    forged = forge(STRANGER_KEY, reader.header(**{member: own}), dict(reader.claims))
    with pytest.raises((TokenSignatureError, TokenMalformedError, DpopError)):
        reader.read(forged, NOW)


# ---------------------------------------------------------------- JW-03


@each_reader
@pytest.mark.parametrize(
    "member",
    [{"crit": []}, {"crit": ["exp"]}, {"crit": ["alg"]}, {"crit": ["kid"]}, {"crit": ["b64"], "b64": True},
     {"crit": ["unknown"], "unknown": 1}, {"crit": "exp"}, {"crit": None}, {"crit": {}}, {"b64": False},
     {"b64": True}, {"crit": ["b64"], "b64": False}, {"zip": "DEF"}, {"zip": None}, {"enc": "A128GCM"}],
    ids=str,
)  # fmt: skip
def test_jw03_refuses_extension(reader: Reader, member: dict[str, object]) -> None:
    """JW-03: any unknown `crit`, empty `crit`, one that names a registered header; `b64:false`; `zip`."""
    refused(reader, reader.token(reader.header(**member)), TokenMalformedError)


@each_reader
def test_jw03_refuses_jwe(reader: Reader) -> None:
    """JW-03: JWE where JWS is expected; one that costs 200 ms to refuse elsewhere."""
    header = {"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2s": "AAAA", "p2c": 1_000_000}
    jwe = ".".join([encode_base64url(json.dumps(header).encode()), "AAAA", "AAAA", "AAAA", "AAAA"])
    refused(reader, jwe, TokenMalformedError)


@each_reader
def test_jw03_refuses_json_serialization(reader: Reader) -> None:
    """JW-03: RFC 7515 section 7.2; several signatures, or an unprotected header, have no place here."""
    protected, payload, signature = reader.token().split(".")
    for flat in (
        {"protected": protected, "payload": payload, "signature": signature},
        {"payload": payload, "signatures": [{"protected": protected, "signature": signature}]},
    ):
        refused(reader, json.dumps(flat), TokenMalformedError)
    refused(reader, f"{protected}..{signature}", TokenMalformedError)


# ---------------------------------------------------------------- JW-04

TYPS = [
    "at+jwt", "txntoken+jwt", "oauth-id-jag+jwt", "dpop+jwt", "secevent+jwt", "logout+jwt",
    "token-introspection+jwt", "jwt", "jose", "wit+jwt", "wpt+jwt", None,
]  # fmt: skip


def spellings(typ: str | None) -> list[str | None]:
    if typ is None:
        return [None]
    return [typ, typ.upper(), typ.title(), f"application/{typ}", f"APPLICATION/{typ.upper()}"]


@each_reader
@pytest.mark.parametrize("typ", TYPS, ids=str)
def test_jw04_no_kind_of_token_stands_for_another(reader: Reader, typ: str | None) -> None:
    """JW-04: the matrix of all readers and all types, in the full `application/` form and any case, too."""
    for spelling in spellings(typ):
        header = {name: value for name, value in reader.header(typ=spelling).items() if value is not None}
        text = reader.token(header)
        if typ in reader.typs:
            assert reader.read(text, NOW)
        else:
            refused(reader, text, TokenTypeError)


@each_reader
@pytest.mark.parametrize("other", READERS, ids=lambda reader: reader.name.replace(" ", "-"))
def test_jw04_no_right_token_of_one_kind_is_one_of_another(reader: Reader, other: Reader) -> None:
    """JW-04: what is right somewhere, signed with the key of here: type and claims tell the kinds apart."""
    if reader is other:
        return
    for header in (other.header(kid=reader.key.kid), reader.header()):
        with pytest.raises((TokenError, DpopError)):
            reader.read(forge(reader.key, header, dict(other.claims)), NOW)


@each_reader
@pytest.mark.parametrize(
    "almost", [" ", "\n", "\x00", ";charset=utf-8", "application/application/", "text/", "x-", "+json"]
)
def test_jw04_refuses_almost_the_type(reader: Reader, almost: str) -> None:
    """JW-04: the whole text counts."""
    right = str(reader.typs[0])
    wrong = almost + right if almost.endswith(("/", "-")) else right + almost
    refused(reader, reader.token(reader.header(typ=wrong)), TokenTypeError)


# ---------------------------------------------------------------- JW-05


@each_reader
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    ["1", "1.5", "1.0", "true", "null", "[1]", "-1", "-0.5", "{}", '"2026-01-01"', "1e400", "-1e400", "NaN",
     "Infinity", "-Infinity", "9" * 400, str(2**53), "1e3", "0x10", "01", "+1"],
)  # fmt: skip
def test_jw05_refuses_time_that_is_no_whole_number(reader: Reader, name: str, value: str) -> None:
    """JW-05: `exp` as text, float, NaN, 1e400, negative, huge; before crypto, so a stranger's key will do."""
    value = '"1"' if value == "1" else value
    claims = {member: kept for member, kept in reader.claims.items() if member != name}
    text = json.dumps(claims)[:-1] + f',"{name}":{value}}}'
    with pytest.raises((TokenError, DpopError)) as raised:
        reader.read(reader.token_of(text.encode()), NOW)
    assert not isinstance(raised.value, TokenSignatureError | TokenExpiredError)


Change = Callable[[bytes], bytes]
NESTED = b'{"a":' * 33 + b"1" + b"}" * 33
NOT_STRICT: dict[str, Change] = {
    "duplicate member": lambda claims: claims[:-1] + b',"iat":1,"iat":1}',
    "duplicate by escape": lambda claims: claims[:-1] + b',"su\\u0062":1,"sub":1}',
    "trailing object": lambda claims: claims + b"{}",
    "trailing byte": lambda claims: claims + b"\x00",
    "comma": lambda claims: claims[:-1] + b",}",
    "comment": lambda claims: claims + b"//",
    "byte order mark": lambda claims: b"\xef\xbb\xbf" + claims,
    "not UTF-8": lambda claims: claims[:-1] + b',"x":"\xff"}',
    "overlong UTF-8": lambda claims: claims[:-1] + b',"x":"\xc0\xaf"}',
    "UTF-16": lambda claims: claims.decode().encode("utf-16"),
    "lone surrogate": lambda claims: claims[:-1] + b',"x":"\\ud800"}',
    "NaN": lambda claims: claims[:-1] + b',"x":NaN}',
    "1e400": lambda claims: claims[:-1] + b',"x":1e400}',
    "huge integer": lambda claims: claims[:-1] + b',"x":' + b"9" * 400 + b"}",
    "nested 33 deep": lambda claims: claims[:-1] + b',"x":' + NESTED + b"}",
    "a thousand members": lambda claims: (
        claims[:-1] + b"," + b",".join(b'"m%d":1' % number for number in range(1000)) + b"}"
    ),
    "an array": lambda claims: b"[" + claims + b"]",
    "nothing": lambda claims: b"",
}


@each_reader
@pytest.mark.parametrize("change", NOT_STRICT)
def test_jw05_refuses_claims_that_are_not_strict_json(reader: Reader, change: str) -> None:
    """JW-05: duplicate JSON members, trailing data, non-UTF-8, huge ints, nesting > 32."""
    claims = NOT_STRICT[change](json.dumps(dict(reader.claims)).encode())
    refused(reader, reader.token_of(claims), TokenMalformedError)


@each_reader
@pytest.mark.parametrize("change", NOT_STRICT)
def test_jw05_refuses_header_that_is_not_strict_json(reader: Reader, change: str) -> None:
    """JW-05: the header is read as strictly as the claims."""
    header = NOT_STRICT[change](json.dumps(reader.header(sub=1)).encode())
    claims = json.dumps(dict(reader.claims)).encode()
    refused(reader, reader.token_of(claims, header), TokenMalformedError)


@each_reader
@pytest.mark.parametrize("size", [MAX_TOKEN, 16 * 1024 + 1, 1 << 20])
def test_jw05_refuses_token_of(reader: Reader, size: int) -> None:
    """JW-05: token > 16 kB; ours end at 8 kB."""
    refused(reader, reader.token(x="x" * size), TokenMalformedError)


@each_reader
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "=",
        lambda text: text + "==",
        lambda text: text.replace(".", "=.", 1),
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace(".", ".\r\n", 1),
        lambda text: text + ".",
        lambda text: text + "." + text,
        lambda text: text[:-1] + "+",
        lambda text: text[:-1] + "/",
        lambda text: text[:-1] + "\u00e9",
        lambda text: "\ufeff" + text,
        lambda text: text + "A",
        lambda text: "Bearer " + text,
        lambda text: text.split(".")[0],
        lambda text: "",
    ],
)
def test_jw05_refuses_wrong_alphabet_and_padding(reader: Reader, change: Callable[[str], str]) -> None:
    """JW-05: wrong base64 alphabet or padding, and what is no compact JWS."""
    with pytest.raises((TokenMalformedError, DpopError, TokenSignatureError)) as raised:
        reader.read(change(reader.token()), NOW)
    assert getattr(raised.value, "reason", "malformed") in {"malformed", "signature"}


@each_reader
def test_jw05_refuses_second_text_of_one_signature(reader: Reader) -> None:
    """JW-05: unused bits of the last character; a standard decoder reads the same bytes."""
    text = reader.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(text[-1])
    other = text[:-1] + alphabet[last ^ 1]
    signature = [base64.urlsafe_b64decode(one.rpartition(".")[2] + "==") for one in (text, other)]
    assert signature[0] == signature[1]
    refused(reader, other, TokenMalformedError)


# ---------------------------------------------------------------- JW-06


@pytest.mark.parametrize(
    "reader", [one for one in READERS if "exp" in one.claims], ids=lambda reader: reader.name
)
def test_jw06_exp_is_exact_at_the_skew(reader: Reader) -> None:
    """JW-06: frozen clock at +skew, and one second on either side of it."""
    end = int(reader.claims["exp"]) - SECONDS
    assert reader.read(reader.token(), NOW + timedelta(seconds=end + LEEWAY - 1))
    for late in (LEEWAY, LEEWAY + 1):
        with pytest.raises(TokenExpiredError):
            reader.read(reader.token(), NOW + timedelta(seconds=end + late))


# A WIT-SVID is not limited by `iat` (WIT-SVID section 3.6).
LIMITED_BY_IAT = [one for one in READERS if "iat" in one.claims and one.name != "WIT-SVID"]


@pytest.mark.parametrize("reader", LIMITED_BY_IAT, ids=lambda reader: reader.name)
def test_jw06_iat_is_exact_at_the_skew(reader: Reader) -> None:
    """JW-06: frozen clock at -skew, and one second on either side of it."""
    for early in (LEEWAY - 1, LEEWAY):
        assert reader.read(reader.token(), NOW - timedelta(seconds=early))
    with pytest.raises((TokenNotYetValidError, DpopError)):
        reader.read(reader.token(), NOW - timedelta(seconds=LEEWAY + 1))


# ---------------------------------------------------------------- no reader beside these

GUARD = re.compile(r"\bverify\((?:[^()]|\([^()]*\))*\btyp=|\.verify\(token\.signature")
IN_THE_MATRIX = {
    "access_token", "delegation", "dpop", "id_token", "jwt_svid", "security_event", "transaction", "wit_svid",
    "workload_proof",
}  # fmt: skip
# The guard itself, and what tells an operator about a token and gives nobody anything for it.
BESIDE = {"jws", "inspect_jwt", "token_inspection"}


def test_nothing_else_verifies_tokens() -> None:
    """A new kind of token comes into the matrix, or this fails."""
    root = Path(__file__).resolve().parent.parent
    files = [*root.glob("identity/**/*.py"), *root.glob("authz/**/*.py")]
    guards = {path.stem for path in files if GUARD.search(path.read_text("utf-8"))}
    assert IN_THE_MATRIX <= guards <= IN_THE_MATRIX | BESIDE
