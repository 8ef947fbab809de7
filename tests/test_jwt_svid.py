"""JWT-SVIDs: rules/spiffe.md J-1 to J-10, and tokens of other kinds in their place."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from identity.base64url import encode_base64url
from identity.bundle import JWT_USE, Bundle
from identity.errors import (
    TokenAlgorithmError,
    TokenAudienceError,
    TokenClaimsError,
    TokenExpiredError,
    TokenIssuerError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken, sign
from identity.jwt_svid import JwtSvid, issue_jwt_svid, verify_jwt_svid
from identity.keys import KeySet
from identity.signature_algorithms import SVID_ALGORITHMS, Algorithm
from identity.spiffe import SpiffeId, agent_task_id
from tests.foreign_keys import foreign_jwk, foreign_token
from tests.identity_world import (
    AUDIENCE,
    LEEWAY,
    NOW,
    OTHER_TD,
    SECONDS,
    STRANGER_KEY,
    SVID_KEY,
    SVID_KEYS,
    TD,
    TOKEN_KEY,
    delegation,
    forge,
    header_of,
    ulid,
)

TASK_ID = agent_task_id(TD, "nightly-report", ulid(1))
DEADLINE = NOW + timedelta(hours=1)


def issue(
    spiffe_id: SpiffeId = TASK_ID, audience: str = AUDIENCE, ttl: int = 60, not_after: datetime = DEADLINE
) -> str:
    return issue_jwt_svid(SVID_KEY, spiffe_id, audience=audience, now=NOW, ttl=ttl, not_after=not_after)


def check(text: str, now: datetime = NOW, audience: str = AUDIENCE, bundles: Any = SVID_KEYS) -> JwtSvid:
    return verify_jwt_svid(UnverifiedToken.parse(text), bundles, audience=audience, now=now, leeway=LEEWAY)


def forged(typ: str | None = "JWT", **claims: object) -> str:
    right = {"sub": str(TASK_ID), "aud": [AUDIENCE], "iat": SECONDS, "exp": SECONDS + 60}
    members = {name: value for name, value in (right | claims).items() if value is not ...}
    return forge(SVID_KEY, header_of(SVID_KEY, typ), members)


def test_verified_svid_names_the_task() -> None:
    svid = check(issue())
    assert (svid.spiffe_id, svid.expires_at) == (TASK_ID, SECONDS + 60)


def test_j_1_header_is_alg_kid_and_typ_and_nothing_else() -> None:
    """J-1: what we sign, and what we accept."""
    assert set(UnverifiedToken.parse(issue()).header) == {"alg", "kid", "typ"}
    for member in ("jku", "x5c", "cty", "nonce"):
        text = forge(
            SVID_KEY, header_of(SVID_KEY, "JWT", **{member: "x"}), {"sub": str(TASK_ID), "exp": SECONDS}
        )
        with pytest.raises(TokenMalformedError):
            check(text)


@pytest.mark.parametrize("alg", ["EdDSA", "none", "HS256", "ES256K"])
def test_j_2_refuses_other_algorithms(alg: str) -> None:
    """J-2, J-9: refused before anything else is processed."""
    with pytest.raises(TokenAlgorithmError):
        check(forge(SVID_KEY, {**header_of(SVID_KEY, "JWT"), "alg": alg}, {"sub": str(TASK_ID)}))


FOREIGN_ID = agent_task_id(OTHER_TD, "nightly-report", ulid(1))
FOREIGN = {"sub": str(FOREIGN_ID), "aud": [AUDIENCE], "exp": SECONDS + 60}


def check_foreign(text: str, *jwks: dict[str, object]) -> JwtSvid:
    """Verify an SVID of another trust domain with the bundle that it publishes."""
    document = {"keys": [{**jwk, "use": JWT_USE} for jwk in jwks]}
    bundle = Bundle.parse(json.dumps(document).encode(), OTHER_TD)
    return check(text, bundles={**SVID_KEYS, OTHER_TD: bundle.jwt_keys})


@pytest.mark.parametrize("algorithm", SVID_ALGORITHMS)
def test_j_2_accepts_each_of_the_nine_algorithms(algorithm: Algorithm) -> None:
    """J-2: as other authorities sign, with the key's algorithm named in their bundle or not."""
    text = foreign_token(algorithm, FOREIGN)
    for jwk in (foreign_jwk(algorithm), foreign_jwk(algorithm, alg=algorithm)):
        assert check_foreign(text, jwk).spiffe_id == FOREIGN_ID


@pytest.mark.parametrize(
    ("said", "jwk"),
    [
        ("ES256", foreign_jwk("ES384")),
        ("ES384", foreign_jwk("ES256")),
        ("ES512", foreign_jwk("ES384")),
        ("RS256", foreign_jwk("ES256")),
        ("PS512", foreign_jwk("ES512")),
        ("PS256", foreign_jwk("RS256", alg="RS256")),
        ("RS256", foreign_jwk("PS256", alg="PS256")),
        ("RS384", foreign_jwk("RS256", alg="RS256")),
        ("ES256", foreign_jwk("RS256", alg="RS256")),
        ("ES256", foreign_jwk("RS256")),
    ],
)
def test_j_2_refuses_algorithm_that_is_not_the_keys(said: Algorithm, jwk: dict[str, object]) -> None:
    """J-2, JW-01: also where a key could compute it; a header that lies over a right signature, too."""
    own = next(name for name in SVID_ALGORITHMS if jwk["kid"] == f"{name}-key")
    with pytest.raises(TokenAlgorithmError):
        check_foreign(foreign_token(said, FOREIGN, kid=jwk["kid"]), jwk)
    _, claims, signature = foreign_token(own, FOREIGN).split(".")
    header = encode_base64url(json.dumps({"alg": said, "kid": jwk["kid"]}).encode())
    with pytest.raises(TokenAlgorithmError):
        check_foreign(f"{header}.{claims}.{signature}", jwk)


@pytest.mark.parametrize("said", ["EdDSA", "Ed25519", "none", "HS256", "HS512", "ES256K", "RS1", "RSA-OAEP"])
def test_j_2_rsa_key_without_algorithm_verifies_nothing_beyond_the_list(said: str) -> None:
    """J-2: what a key does not name is not the token's to choose."""
    _, claims, signature = foreign_token("RS256", FOREIGN).split(".")
    header = encode_base64url(json.dumps({"alg": said, "kid": "RS256-key"}).encode())
    with pytest.raises(TokenAlgorithmError):
        check_foreign(f"{header}.{claims}.{signature}", foreign_jwk("RS256"))


@pytest.mark.parametrize("said", ["PS384", "RS512"])
def test_j_2_signature_of_another_algorithm_of_rsa_is_none(said: str) -> None:
    """J-2: the header is signed, and the padding is another."""
    _, claims, signature = foreign_token("RS256", FOREIGN).split(".")
    header = encode_base64url(json.dumps({"alg": said, "kid": "RS256-key"}).encode())
    with pytest.raises(TokenSignatureError):
        check_foreign(f"{header}.{claims}.{signature}", foreign_jwk("RS256"))


def test_b_3_keys_that_we_cannot_use_cost_the_others_nothing() -> None:
    """B-3: unknown kinds are ignored, EdDSA among them, which SPIFFE does not have (J-2)."""
    unusable: list[dict[str, object]] = [
        {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "e", "x": "A" * 43},
        {"kty": "EC", "crv": "secp256k1", "alg": "ES256K", "kid": "k", "x": "A" * 43, "y": "A" * 43},
        {**foreign_jwk("RS256"), "kid": "o", "alg": "RSA-OAEP"},
        {**foreign_jwk("ES384"), "kid": "x", "alg": "ES256"},
        {"kty": "new", "kid": "n"},
    ]
    text = foreign_token("ES384", FOREIGN)
    assert check_foreign(text, *unusable, foreign_jwk("ES384")).spiffe_id == FOREIGN_ID
    for jwk in unusable:
        with pytest.raises(TokenKeyError):
            check_foreign(foreign_token("RS256", FOREIGN, kid=jwk["kid"]), *unusable)


def test_what_we_issue_is_es256() -> None:
    assert UnverifiedToken.parse(issue()).header["alg"] == "ES256"


@pytest.mark.parametrize("typ", [None, "JWT", "JOSE", "jwt"])
def test_j_3_accepts_the_types_of_an_svid(typ: str | None) -> None:
    """J-3: absent, JWT or JOSE."""
    assert check(forged(typ)).spiffe_id == TASK_ID


@pytest.mark.parametrize("typ", ["wit+jwt", "at+jwt", "txntoken+jwt", "wpt+jwt", "dpop+jwt", "x"])
def test_j_9_refuses_other_types(typ: str) -> None:
    """J-9: a WIT is not a bearer token, an access token names somebody else."""
    with pytest.raises(TokenTypeError):
        check(forged(typ))


def test_j_4_refuses_svid_without_kid() -> None:
    """J-4: de facto mandatory."""
    with pytest.raises(TokenKeyError):
        check(forge(SVID_KEY, {"alg": "ES256", "typ": "JWT"}, {"sub": str(TASK_ID), "exp": SECONDS + 60}))


@pytest.mark.parametrize(
    "subject",
    [
        ...,
        "",
        7,
        None,
        [str(TASK_ID)],
        "https://idp.example#lead",
        "spiffe://mesh.example",
        "spiffe://mesh.example/",
        f"{TASK_ID}\n",
        f"{TASK_ID}/",
        f" {TASK_ID}",
        str(TASK_ID).replace("mesh", "MESH"),
        str(TASK_ID).replace("spiffe", "SPIFFE"),
        str(TASK_ID).replace("mesh.example", "mesh.example\n"),
        "spiffe://mesh.example/agent/../agent/x",
        "spiffe://mesh.example/" + "a" * 255,
        "spiffe://mesh.example:443/a",
        "spiffe://user@mesh.example/a",
        "spiffe://mesh.example/a?b",
        "spiffe://mesh.example/a#b",
    ],
)
def test_j_5_refuses_subject_that_is_not_a_workloads_id(subject: object) -> None:
    """J-5, ID-5: also with a newline, in upper case, without a path, overlong."""
    with pytest.raises(TokenClaimsError):
        check(forged(sub=subject))


@pytest.mark.parametrize(
    "audience",
    [
        ...,
        "",
        [],
        "billing",
        ["billing"],
        [AUDIENCE, "billing"],
        [AUDIENCE, AUDIENCE],
        None,
        7,
        {"a": AUDIENCE},
        [[AUDIENCE]],
    ],
)
def test_j_6_refuses_other_or_several_audiences(audience: object) -> None:
    """J-6, J-9: present, and one value, which is ours."""
    with pytest.raises(TokenAudienceError):
        check(forged(aud=audience))


def test_j_6_accepts_one_audience_as_text_or_list() -> None:
    """J-6: both forms of RFC 7519 section 4.1.3."""
    assert check(forged(aud=AUDIENCE)).spiffe_id == check(forged(aud=[AUDIENCE])).spiffe_id == TASK_ID


def test_audience_is_compared_exactly() -> None:
    for almost in (f"{AUDIENCE}/", AUDIENCE.upper(), f" {AUDIENCE}", AUDIENCE[:-1]):
        with pytest.raises(TokenAudienceError):
            check(forged(aud=almost))


def test_j_7_refuses_svid_without_expiry() -> None:
    """J-7: py-spiffe raised a KeyError here."""
    with pytest.raises(TokenClaimsError):
        check(forged(exp=...))


def test_expired_by_the_leeway_exactly() -> None:
    check(issue(), now=NOW + timedelta(seconds=60 + LEEWAY - 1))
    with pytest.raises(TokenExpiredError):
        check(issue(), now=NOW + timedelta(seconds=60 + LEEWAY))


def test_refuses_svid_of_the_future() -> None:
    check(issue(), now=NOW - timedelta(seconds=LEEWAY))
    with pytest.raises(TokenNotYetValidError):
        check(issue(), now=NOW - timedelta(seconds=LEEWAY + 1))


def test_expired_is_said_before_audience() -> None:
    with pytest.raises(TokenExpiredError):
        check(forged(aud="billing", exp=SECONDS - 60))


def test_j_8_extra_claims_are_let_through() -> None:
    """J-8: allowed; nothing reads them."""
    assert check(forged(extra={"a": 1})).spiffe_id == TASK_ID


def test_j_10_refuses_trust_domain_without_bundle() -> None:
    """J-10: the keys are those of the trust domain of `sub`, or none."""
    other = str(agent_task_id(OTHER_TD, "nightly-report", ulid(1)))
    with pytest.raises(TokenIssuerError):
        check(forged(sub=other))


def test_refuses_forgery_across_trust_domains() -> None:
    """A federated domain's key can never vouch for an ID of ours, nor ours for one of theirs."""
    bundles = {**SVID_KEYS, OTHER_TD: KeySet.of([STRANGER_KEY.public])}
    claims = {"aud": [AUDIENCE], "exp": SECONDS + 60}
    ours = forge(STRANGER_KEY, header_of(STRANGER_KEY, "JWT"), {**claims, "sub": str(TASK_ID)})
    with pytest.raises(TokenKeyError):
        check(ours, bundles=bundles)
    lying = forge(STRANGER_KEY, header_of(SVID_KEY, "JWT"), {**claims, "sub": str(TASK_ID)})
    with pytest.raises(TokenSignatureError):
        check(lying, bundles=bundles)
    theirs = str(agent_task_id(OTHER_TD, "nightly-report", ulid(1)))
    with pytest.raises(TokenKeyError):
        check(forged(sub=theirs), bundles=bundles)
    right = forge(STRANGER_KEY, header_of(STRANGER_KEY, "JWT"), {**claims, "sub": theirs})
    assert check(right, bundles=bundles).spiffe_id.trust_domain == OTHER_TD


def test_refuses_delegation_token_as_svid() -> None:
    """The two key sets are apart; and even with one key, type and subject would refuse it."""
    text = sign(TOKEN_KEY, "at+jwt", delegation().to_claims())
    with pytest.raises(TokenTypeError):
        check(text)
    with pytest.raises(TokenClaimsError):
        check(sign(TOKEN_KEY, "JWT", delegation().to_claims()))
    claims = {**delegation().to_claims(), "sub": str(TASK_ID)}
    with pytest.raises(TokenKeyError):
        check(sign(TOKEN_KEY, "JWT", claims))


def test_svid_never_outlives_what_stands_behind_it() -> None:
    assert check(issue(not_after=NOW + timedelta(seconds=5))).expires_at == SECONDS + 5
    with pytest.raises(TokenExpiredError):
        issue(not_after=NOW)


def test_nothing_is_issued_without_path_or_audience() -> None:
    with pytest.raises(TokenClaimsError):
        issue(TD.spiffe_id)
    with pytest.raises(TokenClaimsError):
        issue(audience="")


def test_real_client_accepts_what_we_issue() -> None:
    """Pyjwt stands for a client of a cloud; go-spiffe and py-spiffe come with the Workload API."""
    import jwt

    read = jwt.decode(
        issue(),
        SVID_KEY.public.public_key,
        algorithms=["ES256"],
        audience=AUDIENCE,
        options={"verify_exp": False, "verify_iat": False, "require": ["sub", "aud", "exp"]},
    )
    assert read["sub"] == str(TASK_ID)
