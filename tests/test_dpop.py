"""Proofs of possession (RFC 9449): each line of CA-05, and each trick with the key, the URI and the time."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from identity.base64url import decode_base64url, encode_base64url
from identity.dpop import LEEWAY, PROOF_ALGORITHMS, PROOF_SECONDS, DpopProof
from identity.dpop_nonce import KEY_BYTES, DpopNonces
from identity.errors import DpopError, KeyMaterialError
from identity.http_uri import HttpUri
from identity.jwk_thumbprint import jwk_thumbprint
from identity.jws import MAX_TOKEN, UnverifiedToken
from identity.keys import VerificationKey
from tests.dpop_proofs import (
    HEADER,
    JWK,
    KEY,
    METHOD,
    URI,
    ath,
    claims,
    foreign_proof,
    forged,
    proof,
    unsigned,
    with_header,
    with_key,
)
from tests.identity_world import NOW, SECONDS, STRANGER_KEY, forge, forge_bytes

TOKEN = "the.access.token"
NONCES = DpopNonces(bytes(KEY_BYTES), "https://broker.mesh.example")

# RFC 9449 sections 4.2 and 7.1, the key of section 4.1 and its thumbprint of section 6.1.
RFC_HEADER = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZ"
    "OXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIs"
    "ImNydiI6IlAtMjU2In19"
)
RFC_AT_TOKEN_ENDPOINT = (
    f"{RFC_HEADER}."
    "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva"
    "2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ."
    "2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
RFC_AT_RESOURCE = (
    f"{RFC_HEADER}."
    "eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wc"
    "m90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0"
    "NBcWtzbVFFbyJ9."
    "2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
RFC_TOKEN = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
RFC_JKT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def verify(
    text: str,
    *,
    method: str = METHOD,
    uri: str = URI,
    at: float = SECONDS,
    token: str | None = None,
    nonces: tuple[str, ...] | None = None,
) -> DpopProof:
    targets = (HttpUri.parse(uri),)
    now = datetime.fromtimestamp(at, UTC)
    return DpopProof.verify(text, method=method, targets=targets, now=now, access_token=token, nonces=nonces)


def reason(text: str, **options: object) -> str:
    """Say why a proof is refused."""
    with pytest.raises(DpopError) as refused:
        verify(text, **options)  # type: ignore[arg-type]  # the options of one case
    return refused.value.reason


# ---------------------------------------------------------------- what counts


def test_proof_of_another_library_says_whose_key_it_is() -> None:
    found = verify(proof())
    assert found.jkt == jwk_thumbprint(JWK) == KEY.kid
    assert (found.jti, found.issued_at) == ("j" * 22, SECONDS)
    assert found.key == VerificationKey(KEY.kid, ("ES256",), KEY.public.public_key)
    assert found.replay_key == f"{KEY.kid} {'j' * 22}"


def test_proof_of_rfc_9449_section_4_2() -> None:
    found = verify(RFC_AT_TOKEN_ENDPOINT, uri="https://server.example.com/token", at=1562262616)
    assert (found.jkt, found.jti, found.issued_at) == (RFC_JKT, "-BwC3ESc6acc2lTc", 1562262616)


def test_proof_of_rfc_9449_section_7_1() -> None:
    uri = "https://resource.example.org/protectedresource"
    found = verify(RFC_AT_RESOURCE, method="GET", uri=uri, at=1562262618, token=RFC_TOKEN)
    assert (found.jkt, found.jti) == (RFC_JKT, "e1j3V_bKic8-LAEB")
    assert reason(RFC_AT_RESOURCE, method="GET", uri=uri, at=1562262618, token=f"{RFC_TOKEN}x") == "token"


def test_thumbprint_of_rfc_7638_section_3_1() -> None:
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
        "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
        "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
        "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    jwk: dict[str, object] = {"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert jwk_thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "oct", "k": "AA"},
        {"kty": ["EC"]},
        {"kty": "EC", "crv": "P-256", "x": "AA"},
        {"kty": "RSA", "n": "AA", "e": 3},
        {"kty": "RSA", "n": 'A","x":"', "e": "AQAB"},
        {"kty": "RSA", "n": "A\\", "e": "AQAB"},
        {"kty": "RSA", "n": "\u00e9", "e": "AQAB"},
        {"kty": "RSA", "n": "A\n", "e": "AQAB"},
    ],
)
def test_thumbprint_of_what_is_no_key_is_refused(jwk: dict[str, object]) -> None:
    with pytest.raises(KeyMaterialError):
        jwk_thumbprint(jwk)


@pytest.mark.parametrize("algorithm", PROOF_ALGORITHMS)
def test_ca05_each_algorithm_of_the_list(algorithm: str) -> None:
    """CA-05: `alg` is asymmetric; the thumbprint is what another library computes."""
    text, thumbprint = foreign_proof(algorithm)
    assert verify(text).jkt == thumbprint


@pytest.mark.parametrize("typ", ["dpop+jwt", "DPoP+JWT", "application/dpop+jwt"])
def test_jw04_type_in_each_of_its_forms(typ: str) -> None:
    """JW-04: the full media type, and any case."""
    assert verify(with_header(typ=typ)).jkt == KEY.kid


def test_key_may_have_what_browsers_write() -> None:
    assert verify(with_key(ext=True, key_ops=["verify"], use="sig", alg="ES256", kid="k")).jkt == KEY.kid


# ---------------------------------------------------------------- type, header, key, algorithm


@pytest.mark.parametrize(
    "typ",
    [None, "JWT", "at+jwt", "txntoken+jwt", "wpt+jwt", "dpop", "dpop+jwt ", "dpop+jwt,JWT", "dpop+\u212awt"],
)
def test_ca05_another_type_is_no_proof(typ: str | None) -> None:
    """CA-05: `typ` is `dpop+jwt`; no other kind of token stands for a proof."""
    assert reason(with_header(typ=typ)) in {"type", "malformed"}


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS256", "HS512", "ES256K", "EdDSA", "Ed25519", "RS1", ""]
)
def test_ca05_an_algorithm_that_is_not_on_the_list(algorithm: str) -> None:
    """CA-05: no `none`, and no secret that two share."""
    assert reason(with_header(alg=algorithm)) == "algorithm"
    assert reason(unsigned({**HEADER, "alg": algorithm})) == "algorithm"


def test_mac_with_the_public_key_is_no_proof() -> None:
    assert reason(with_header(alg="HS256", jwk={"kty": "oct", "k": JWK["x"]})) == "algorithm"
    assert reason(with_header(jwk={"kty": "oct", "k": JWK["x"]})) == "key"


@pytest.mark.parametrize("algorithm", ["ES384", "ES512", "RS256", "PS256"])
def test_algorithm_is_that_of_the_key(algorithm: str) -> None:
    """JW-01: the curve says the algorithm, the header does not."""
    assert reason(with_header(alg=algorithm)) == "algorithm"


def test_algorithm_that_the_key_names_is_the_only_one() -> None:
    assert reason(with_key(alg="ES384")) == "key"


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"])
def test_ca05_a_key_with_a_private_part(member: str) -> None:
    """CA-05: the embedded key has no private part, not even an empty one."""
    private = KEY.private_key.private_numbers().private_value.to_bytes(32)
    assert reason(with_key(**{member: encode_base64url(private)})) == "key"
    assert reason(with_key(**{member: ""})) == "key"


@pytest.mark.parametrize("member", ["jku", "x5u", "x5c", "x5t", "x5t#S256", "cty", "url", "nonce"])
def test_ca05_header_that_names_a_key_elsewhere(member: str) -> None:
    """CA-05, JW-02: the key is the embedded one; nothing is fetched, nothing else is believed."""
    assert reason(with_header(**{member: "https://evil.example/keys"})) == "malformed"
    assert reason(with_key(**{member: "https://evil.example/keys"})) == "key"


@pytest.mark.parametrize(
    "members", [{"crit": ["x"]}, {"crit": []}, {"b64": False}, {"zip": "DEF"}, {"enc": "A128GCM"}]
)
def test_jw03_extension_of_the_header(members: dict[str, object]) -> None:
    """JW-03: `crit`, `b64`, `zip` and `enc` are refused before anything else is read."""
    assert reason(with_header(**members)) == "malformed"


def test_kid_of_another_key_chooses_nothing() -> None:
    """JW-02: `kid` is an opaque name, and the embedded key the only one."""
    assert verify(with_header(kid=STRANGER_KEY.kid)).jkt == KEY.kid
    assert verify(with_key(kid=STRANGER_KEY.kid)).key.kid == KEY.kid
    assert reason(forge(STRANGER_KEY, {**HEADER, "kid": STRANGER_KEY.kid}, claims())) == "signature"


@pytest.mark.parametrize("kid", [7, None, ["a"], "k" * 256])
def test_kid_that_is_no_name(kid: object) -> None:
    header = {**HEADER, "kid": kid}
    assert reason(forged(header)) == "malformed"
    assert reason(forged({**HEADER, "jwk": {**JWK, "kid": kid}})) == "key"


def test_another_key_than_the_embedded_one_did_not_sign() -> None:
    assert reason(forge(STRANGER_KEY, HEADER, claims())) == "signature"


def test_signature_covers_header_and_claims() -> None:
    header, body, signature = proof().split(".")
    other = encode_base64url(json.dumps(claims(htm="GET")).encode())
    assert reason(f"{header}.{other}.{signature}", method="GET") == "signature"
    stranger = encode_base64url(json.dumps({**HEADER, "jwk": STRANGER_KEY.public.jwk()}).encode())
    assert reason(f"{stranger}.{body}.{signature}") == "signature"


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        "key",
        [],
        {},
        [dict(JWK)],
        {**JWK, "crv": "secp256k1"},
        {**JWK, "crv": "P-384"},
        {**JWK, "kty": "OKP"},
        {**JWK, "kty": ["EC"]},
        {**JWK, "x": JWK["y"]},
        {**JWK, "x": f"{JWK['x']}="},
        {**JWK, "x": f"AA{JWK['x']}"},
        {**JWK, "x": 7},
        {**JWK, "x": "A" * 4000},
        {**JWK, "use": "enc"},
        {**JWK, "use": "x509-svid"},
        {**JWK, "key_ops": ["sign"]},
        {**JWK, "key_ops": ["sign", "verify"]},
        {**JWK, "ext": "yes"},
        {**JWK, "unknown": "member"},
        {"kty": "EC", "crv": "P-256", "x": encode_base64url(bytes(32)), "y": encode_base64url(bytes(32))},
        {"kty": "RSA", "n": encode_base64url(b"\xff" * 128), "e": "AQAB"},
        {"kty": "RSA", "n": encode_base64url(b"\xff" * 640), "e": "AQAB"},
        {"kty": "RSA", "n": encode_base64url(b"\xff" * 256), "e": "AQ"},
        {"kty": "RSA", "n": encode_base64url(b"\xff" * 256), "e": encode_base64url(b"\xff" * 256)},
    ],
)
def test_ca05_embedded_key_that_we_do_not_accept(jwk: object) -> None:
    """CA-05, JW-01: the header holds one public key, EC on a curve of ours or RSA of 2048 to 4096 bits."""
    header = {**HEADER, "jwk": jwk, "alg": "RS256" if isinstance(jwk, dict) and "n" in jwk else "ES256"}
    assert reason(forged(header)) == "key"


def test_rsa_key_of_many_bits_costs_a_stranger_nothing_of_ours() -> None:
    numbers = rsa.RSAPublicNumbers(65537, (1 << 6143) + 1)
    jwk = VerificationKey("k", ("RS256",), numbers.public_key()).jwk()
    assert reason(with_header(alg="RS256", jwk={name: jwk[name] for name in ("kty", "n", "e")})) == "key"


def test_rsa_key_in_two_spellings_has_one_thumbprint() -> None:
    text, thumbprint = foreign_proof("RS256")
    header = UnverifiedToken.parse(text).header
    jwk = header["jwk"]
    assert isinstance(jwk, dict)
    longer = {**jwk, "n": encode_base64url(b"\0" + decode_base64url(jwk["n"]))}
    assert jwk_thumbprint(longer) != thumbprint
    # The header is not what was signed, but the key is looked at first: it is the same one.
    with pytest.raises(DpopError) as refused:
        verify(
            ".".join([encode_base64url(json.dumps({**header, "jwk": longer}).encode()), *text.split(".")[1:]])
        )
    assert refused.value.reason == "signature"


# ---------------------------------------------------------------- form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        "...",
        f"{proof()}.",
        f" {proof()}",
        f"{proof()}\n",
        f"{proof()},{proof()}",
        f"{proof()}, {proof(jti='k' * 22)}",
        "\u00e9" + proof(),
        "\ud800",
        "A" * (MAX_TOKEN + 1),
        forged(body=claims(htu=f"https://a.example/{'a' * MAX_TOKEN}")),
        forge_bytes(KEY, b'{"typ":"dpop+jwt","typ":"at+jwt","alg":"ES256"}', b"{}"),
        forge_bytes(KEY, json.dumps(dict(HEADER)).encode(), b'{"iat":1,"iat":2}'),
        forge_bytes(KEY, json.dumps(dict(HEADER)).encode(), b'["a"]'),
        forge_bytes(KEY, json.dumps(dict(HEADER)).encode(), b'{"iat":' + b"[" * 60 + b"]" * 60 + b"}"),
    ],
    ids=range(16),
)
def test_ca05_what_is_not_exactly_one_compact_jws(text: str) -> None:
    """CA-05, JW-05: one proof, read strictly; two that a proxy joined with a comma are none."""
    assert reason(text) == "malformed"


def test_huge_key_is_not_read() -> None:
    assert reason(with_key(x="A" * MAX_TOKEN)) == "malformed"


def test_signature_of_another_length() -> None:
    assert reason(f"{proof().rpartition('.')[0]}.AAAA") == "signature"


# ---------------------------------------------------------------- htm and htu


@pytest.mark.parametrize("method", ["GET", "post", "Post", "POST ", "PUT", "", None, 7, ["POST"]])
def test_ca05_proof_for_another_method(method: object) -> None:
    """CA-05: `htm` is the method, to the letter."""
    assert reason(forged(body=claims(htm=method))) == "method"


@pytest.mark.parametrize(
    "uri",
    [
        "https://TICKETS.mesh.example:8443/mcp",
        "HTTPS://tickets.mesh.example:8443/mcp",
        "https://tickets.mesh.example:8443/%6dcp",
        "https://tickets.mesh.example:8443/x/../mcp",
        "https://tickets.mesh.example:8443/mcp?token=1",
        "https://tickets.mesh.example:8443/mcp#part",
        "https://tickets.mesh.example:08443/mcp",
    ],
)
def test_ca05_uri_in_another_spelling(uri: str) -> None:
    """CA-05: `htu` is compared in its normal form, without query and fragment (section 4.3)."""
    assert verify(proof(htu=uri)).jkt == KEY.kid


@pytest.mark.parametrize(
    "uri",
    [
        "https://tickets.mesh.example/mcp",
        "http://tickets.mesh.example:8443/mcp",
        "https://billing.mesh.example:8443/mcp",
        "https://tickets.mesh.example:8443/",
        "https://tickets.mesh.example:8443/mcp/",
        "https://tickets.mesh.example:8443/mcp%2F",
        "https://tickets.mesh.example:8443/%2Fmcp",
        "https://tickets.mesh.example:8443//mcp",
        "https://tickets.mesh.example:8443@evil.example/mcp",
        "https://lead@tickets.mesh.example:8443/mcp",
        "https://tic\u212aets.mesh.example:8443/mcp",
        "https://ti\u0441kets.mesh.example:8443/mcp",
        "https://tickets.mesh.example:8443\\mcp",
        "/mcp",
        "",
        None,
        7,
        ["https://tickets.mesh.example:8443/mcp"],
    ],
)
def test_ca05_proof_for_another_uri(uri: object) -> None:
    """CA-05: a proof for another place, or for what is no place, is refused."""
    assert reason(forged(body=claims(htu=uri))) == "uri"


def test_no_target_is_no_proof() -> None:
    with pytest.raises(DpopError):
        DpopProof.verify(proof(), method=METHOD, targets=(), now=NOW)


# ---------------------------------------------------------------- time and jti


@pytest.mark.parametrize("age", [PROOF_SECONDS, 0, -LEEWAY])
def test_ca05_window_of_iat_is_closed(age: int) -> None:
    """CA-05: from 60 s before now to 30 s after, both ends in."""
    assert verify(proof(iat=SECONDS - age)).issued_at == SECONDS - age


@pytest.mark.parametrize(
    ("at", "expect"),
    [
        (PROOF_SECONDS + 0.001, "expired"),
        (PROOF_SECONDS + 1, "expired"),
        (-LEEWAY - 0.001, "future"),
        (-LEEWAY - 1, "future"),
    ],
)
def test_ca05_outside_of_the_window(at: float, expect: str) -> None:
    """CA-05: a moment too late or too early is too much."""
    assert reason(proof(), at=SECONDS + at) == expect


@pytest.mark.parametrize("iat", [None, "1", -1, 1.5, True, [1]])
def test_iat_that_is_no_whole_number(iat: object) -> None:
    assert reason(forged(body=claims(iat=iat))) == "malformed"


def test_iat_in_milliseconds_is_far_in_the_future() -> None:
    assert reason(proof(iat=SECONDS * 1000)) == "future"


def test_proof_may_say_that_it_ends_or_begins() -> None:
    assert verify(proof(exp=SECONDS + 5, nbf=SECONDS)).jkt == KEY.kid
    assert reason(proof(exp=SECONDS - LEEWAY)) == "expired"
    assert reason(proof(nbf=SECONDS + LEEWAY + 1)) == "future"


def test_proof_is_remembered_for_as_long_as_it_counts() -> None:
    """JW-09: forgetting it at `replay_until` lets nobody show it again."""
    for iat in (SECONDS - PROOF_SECONDS, SECONDS, SECONDS + LEEWAY):
        found = verify(proof(iat=iat))
        assert reason(proof(iat=iat), at=found.replay_until) == "expired"
        assert found.replay_until > SECONDS


@pytest.mark.parametrize(
    "jti", ["j" * 16, "j" * 128, "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d", "!\"#$%&'()*+,-./~"]
)
def test_ca05_jti_of_16_to_128_characters(jti: str) -> None:
    """CA-05: a UUID and whatever else is a name."""
    assert verify(proof(jti=jti)).jti == jti


@pytest.mark.parametrize(
    "jti",
    [
        None,
        "",
        "j" * 15,
        "j" * 129,
        "j" * 4000,
        7,
        ["j" * 22],
        "j" * 20 + " ",
        "j" * 20 + "\n",
        "\u00e9" * 20,
    ],
)
def test_ca05_jti_that_is_no_name(jti: object) -> None:
    """CA-05: a name that cannot be unique, or cannot be kept."""
    assert reason(forged(body=claims(jti=jti))) == "jti"


def test_two_keys_share_no_name() -> None:
    """JW-09: nobody can spend the name of another's proof."""
    stranger = {name: STRANGER_KEY.public.jwk()[name] for name in ("kty", "crv", "x", "y")}
    other = verify(forge(STRANGER_KEY, {**HEADER, "jwk": stranger}, claims()))
    assert other.jti == verify(proof()).jti
    assert other.replay_key != verify(proof()).replay_key


# ---------------------------------------------------------------- token, nonce, key


def test_ca05_ath_is_the_hash_of_the_access_token() -> None:
    """CA-05: with an access token, `ath` is required and is its hash."""
    assert verify(proof(TOKEN), token=TOKEN).jkt == KEY.kid


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        ath("another.access.token"),
        ath(TOKEN) + "=",
        ath(TOKEN).lower(),
        7,
        [ath(TOKEN)],
        "\u00e9",
        TOKEN,
    ],
)
def test_ca05_proof_for_another_token(said: object) -> None:
    """CA-05: a proof for another token, or for none, is refused."""
    assert reason(forged(body=claims(ath=said)), token=TOKEN) == "token"


def test_proof_for_a_token_does_not_count_without_it() -> None:
    assert reason(proof(TOKEN)) == "token"


def test_ca05_nonce_of_now_and_of_the_slot_before() -> None:
    """CA-05, section 8: the nonce that was given lately is required, and an older one is not enough."""
    given = NONCES.current(NOW)
    assert verify(proof(nonce=given), nonces=NONCES.valid(NOW)).jkt == KEY.kid
    later = NOW + timedelta(seconds=NONCES.seconds)
    assert given in NONCES.valid(later)
    assert given != NONCES.current(later)
    assert given not in NONCES.valid(later + timedelta(seconds=NONCES.seconds))


@pytest.mark.parametrize("nonce", [None, "", "guessed", 7, ["a"], "\u00e9"])
def test_ca05_whoever_lacks_a_nonce_is_given_one(nonce: object) -> None:
    """CA-05, TX-06: the error is `use_dpop_nonce`, so that the client can try again."""
    with pytest.raises(DpopError) as refused:
        verify(forged(body=claims(nonce=nonce)), nonces=NONCES.valid(NOW))
    assert (refused.value.reason, refused.value.error) == ("nonce", "use_dpop_nonce")


def test_tx06_any_other_fault_of_a_proof_has_one_name() -> None:
    """TX-06: `invalid_dpop_proof`."""
    with pytest.raises(DpopError) as refused:
        verify("not a proof")
    assert refused.value.error == "invalid_dpop_proof"


def test_nonce_of_another_place_or_key_does_not_count() -> None:
    others = (
        DpopNonces(bytes(KEY_BYTES), "https://tickets.mesh.example"),
        DpopNonces(b"k" * KEY_BYTES, NONCES.place),
    )
    for other in others:
        assert not set(other.valid(NOW)) & set(NONCES.valid(NOW))


def test_processes_with_one_key_know_each_others_nonces() -> None:
    assert DpopNonces(bytes(KEY_BYTES), NONCES.place).current(NOW) == NONCES.current(NOW)


def test_nonces_take_a_key_that_cannot_be_guessed_and_do_not_show_it() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        DpopNonces(b"short", "place")
    with pytest.raises(ValueError, match="a second"):
        DpopNonces(bytes(KEY_BYTES), "place", seconds=0)
    assert "key" not in repr(DpopNonces(b"K" * KEY_BYTES, "place"))


def test_ca05_proof_of_another_key_than_the_token_s() -> None:
    """CA-05: whoever has a proof of their own and a token of somebody else has nothing."""
    found = verify(proof())
    found.require_key(KEY.kid)
    for other in (STRANGER_KEY.kid, "", KEY.kid.lower(), f"{KEY.kid}=", "\u00e9"):
        with pytest.raises(DpopError) as refused:
            found.require_key(other)
        assert refused.value.reason == "binding"


# ---------------------------------------------------------------- what a flood of proofs costs others


@pytest.mark.parametrize("make", [proof, lambda: proof(TOKEN), lambda: forge(STRANGER_KEY, HEADER, claims())])
def test_no_message_and_no_repr_holds_the_proof(make: Callable[[], str]) -> None:
    text = make()
    try:
        shown = repr(verify(text))
    except DpopError as error:
        shown = f"{error} {error!r} {error.__cause__!r}"
    assert not [part for part in text.split(".") if part in shown]
