"""WIT-SVIDs: rules/spiffe.md W-1 to W-6, and a WIT where a bearer token is asked for."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity.base64url import encode_base64url
from identity.delegation import verify_delegation_token
from identity.errors import (
    KeyMaterialError,
    TokenAlgorithmError,
    TokenAudienceError,
    TokenClaimsError,
    TokenError,
    TokenExpiredError,
    TokenIssuerError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken
from identity.jwt_svid import issue_jwt_svid, verify_jwt_svid
from identity.keys import KeySet, SigningKey, VerificationKey
from identity.spiffe import SpiffeId, agent_task_id
from identity.wit_svid import UnprovenWit, issue_wit_svid, verify_wit_svid
from tests.fakes import World, reason
from tests.identity_world import (
    AUDIENCE,
    ISSUER,
    LEEWAY,
    NOW,
    OTHER_TD,
    SECONDS,
    STRANGER_KEY,
    SVID_KEY,
    TD,
    TOKEN_KEY,
    forge,
    header_of,
    ulid,
)

WIT_KEY = SigningKey.generate()
WIT_KEYS = {TD: KeySet.of([WIT_KEY.public])}
HOLDER = SigningKey.generate()
TASK_ID = agent_task_id(TD, "triage", ulid(1))
DEADLINE = NOW + timedelta(hours=1)
JWK: dict[str, Any] = {name: value for name, value in HOLDER.public.jwk().items() if name != "kid"}


def issue(
    spiffe_id: SpiffeId = TASK_ID,
    holder: SigningKey = HOLDER,
    ttl: int = 600,
    not_after: datetime = DEADLINE,
    now: datetime = NOW,
) -> str:
    public = holder.private_key.public_key()
    return issue_wit_svid(WIT_KEY, spiffe_id, public, now=now, ttl=ttl, not_after=not_after)


def verify(text: str, now: datetime = NOW, bundles: Any = WIT_KEYS) -> UnprovenWit:
    return verify_wit_svid(UnverifiedToken.parse(text), bundles, now=now, leeway=LEEWAY)


def forged(header: dict[str, object] | None = None, **claims: object) -> str:
    right = {"sub": str(TASK_ID), "cnf": {"jwk": JWK}, "exp": SECONDS + 600}
    members = {name: value for name, value in (right | claims).items() if value is not ...}
    return forge(WIT_KEY, header or header_of(WIT_KEY, "wit+jwt"), members)


def read(text: str) -> UnverifiedToken:
    return UnverifiedToken.parse(text)


def test_verified_wit_names_the_task_and_the_key_of_its_holder() -> None:
    wit = verify(issue())
    assert (wit.spiffe_id, wit.expires_at) == (TASK_ID, SECONDS + 600)
    assert wit.holder.public_key == HOLDER.private_key.public_key()


def test_w_1_header_is_kid_typ_and_alg_and_nothing_else() -> None:
    """W-1: what we sign, and what we accept."""
    assert dict(read(issue()).header) == {"alg": "ES256", "kid": WIT_KEY.kid, "typ": "wit+jwt"}
    assert verify(forged()).spiffe_id == TASK_ID
    for member in ("jku", "x5c", "jwk", "cty", "nonce"):
        with pytest.raises(TokenMalformedError):
            verify(forged(header_of(WIT_KEY, "wit+jwt", **{member: "x"})))


def test_w_1_refuses_wit_without_kid() -> None:
    """W-1: mandatory, unlike that of a JWT-SVID."""
    with pytest.raises(TokenKeyError):
        verify(forged({"alg": "ES256", "typ": "wit+jwt"}))


@pytest.mark.parametrize("typ", [None, "JWT", "JOSE", "at+jwt", "wpt+jwt", "txntoken+jwt", "wit"])
def test_w_1_refuses_other_types(typ: str | None) -> None:
    """W-1: `typ` is `wit+jwt`; a JWT-SVID is no WIT-SVID."""
    with pytest.raises(TokenTypeError):
        verify(forged(header_of(WIT_KEY, typ)))


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519", "none", "HS256", "ES256K"])
def test_w_1_refuses_other_algorithms(alg: str) -> None:
    """W-1: the list of JWT-SVIDs; no EdDSA, although WIMSE's own examples have it."""
    with pytest.raises(TokenAlgorithmError):
        verify(forged({**header_of(WIT_KEY, "wit+jwt"), "alg": alg}))


@pytest.mark.parametrize(
    "subject",
    [..., "", 7, [str(TASK_ID)], "spiffe://mesh.example", f"{TASK_ID}\n", "wimse://mesh.example/a"],
)
def test_w_2_refuses_subject_that_is_not_a_workloads_id(subject: object) -> None:
    """W-2: a SPIFFE ID, which a WIMSE identifier need not be."""
    with pytest.raises(TokenClaimsError):
        verify(forged(sub=subject))


def test_w_2_expires() -> None:
    """W-2: `exp` is there, and counts."""
    with pytest.raises(TokenClaimsError):
        verify(forged(exp=...))
    verify(issue(), now=NOW + timedelta(seconds=600 + LEEWAY - 1))
    with pytest.raises(TokenExpiredError):
        verify(issue(), now=NOW + timedelta(seconds=600 + LEEWAY))


@pytest.mark.parametrize(
    "cnf",
    [
        ...,
        None,
        {},
        "key",
        {"jwk": None},
        {"jwk": {}},
        {"jwk": [JWK]},
        {"jkt": WIT_KEY.kid},
        {"x5t#S256": WIT_KEY.kid},
        {"jwk": JWK, "jkt": WIT_KEY.kid},
        {"jwk": {**JWK, "x": "AA"}},
        {"jwk": {**JWK, "crv": "P-384"}},
        {"jwk": {**JWK, "d": "AA"}},
        {"jwk": {"kty": "oct", "alg": "ES256", "k": "AA"}},
    ],
)
def test_w_2_refuses_wit_without_exactly_one_public_key(cnf: object) -> None:
    """W-2: `cnf.jwk`, and nothing else that could be taken for the key."""
    with pytest.raises(TokenClaimsError):
        verify(forged(cnf=cnf))


@pytest.mark.parametrize("alg", [..., None, "EdDSA", "none", "HS256", "RS256", ["ES256"]])
def test_w_2_key_of_the_holder_names_an_algorithm_on_the_list(alg: object) -> None:
    """W-2: `cnf.jwk.alg` is there, on the list, and that of the key."""
    jwk = {name: value for name, value in {**JWK, "alg": alg}.items() if value is not ...}
    with pytest.raises(TokenClaimsError):
        verify(forged(cnf={"jwk": jwk}))


def test_w_2_our_own_key_names_its_algorithm_and_no_more_than_it_must() -> None:
    """W-2: as in the example of the standard: alg, crv, kty, x, y."""
    assert read(issue()).unverified_claims["cnf"] == {"jwk": JWK}
    assert set(JWK) == {"alg", "crv", "kty", "x", "y"}


def test_w_2_holder_of_another_issuer_may_have_an_rsa_key() -> None:
    public = rsa.generate_private_key(65537, 2048).public_key()
    jwk = VerificationKey("k", ("RS256",), public).jwk()
    assert verify(forged(cnf={"jwk": jwk})).holder.algorithms == ("RS256",)


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], [], "", None])
def test_w_3_refuses_wit_with_an_audience(audience: object) -> None:
    """W-3: whom it is for is said by the proof, never by the WIT."""
    assert "aud" not in read(issue()).unverified_claims
    with pytest.raises(TokenAudienceError):
        verify(forged(aud=audience))


@pytest.mark.parametrize("issuer", ["https://idp.example", "HTTPS://idp.example", "http://127.0.0.1"])
def test_w_4_refuses_issuer_that_could_be_discovered(issuer: str) -> None:
    """W-4: a cloud would take such a WIT for an ID token, without any proof."""
    assert "iss" not in read(issue()).unverified_claims
    with pytest.raises(TokenIssuerError):
        verify(forged(iss=issuer))


def test_w_4_accepts_issuer_that_is_a_spiffe_id() -> None:
    """W-4: `iss` may be there."""
    assert verify(forged(iss=str(TD.spiffe_id))).spiffe_id == TASK_ID
    for issuer in (7, "", None):
        with pytest.raises(TokenClaimsError):
            verify(forged(iss=issuer))


def test_w_5_the_same_wit_may_be_presented_again() -> None:
    """W-5: `jti` is for records; two processes of one workload may hold the same WIT."""
    text = issue()
    assert verify(text) == verify(text)
    assert verify(forged(jti=...)).spiffe_id == TASK_ID
    with pytest.raises(TokenClaimsError):
        verify(forged(jti=7))


def test_w_5_two_tasks_never_share_a_jti() -> None:
    """W-5: nor do two keys of one task, two moments or two ends."""
    jtis = [
        read(text).unverified_claims["jti"]
        for text in (
            *(issue(agent_task_id(TD, "triage", ulid(number))) for number in range(50)),
            issue(holder=SigningKey.generate()),
            issue(now=NOW + timedelta(seconds=1)),
            issue(ttl=599),
        )
    ]
    assert len(set(jtis)) == len(jtis)
    assert read(issue()).unverified_claims["jti"] == read(issue()).unverified_claims["jti"]


def test_iat_limits_nothing_and_nbf_does() -> None:
    """WIT-SVID sections 3.5 and 3.6."""
    assert verify(forged(iat=SECONDS + 300)).spiffe_id == TASK_ID
    assert verify(forged(nbf=SECONDS + LEEWAY)).spiffe_id == TASK_ID
    with pytest.raises(TokenNotYetValidError):
        verify(forged(nbf=SECONDS + LEEWAY + 1))


def test_w_6_wit_is_no_bearer_token_of_any_verifier() -> None:
    """W-6: whoever signed it, and with whichever of our keys."""
    claims = {
        "sub": str(TASK_ID), "aud": [AUDIENCE], "exp": SECONDS + 60, "iss": ISSUER, "cnf": {"jwk": JWK}
    }  # fmt: skip
    for key in (WIT_KEY, SVID_KEY, TOKEN_KEY):
        token = read(forge(key, header_of(key, "wit+jwt"), claims))
        keys = KeySet.of([key.public])
        with pytest.raises(TokenTypeError):
            verify_jwt_svid(token, {TD: keys}, audience=AUDIENCE, now=NOW, leeway=LEEWAY)
        with pytest.raises(TokenTypeError):
            verify_delegation_token(
                token, keys, issuer=ISSUER, audience=AUDIENCE, now=NOW, leeway=LEEWAY, max_depth=4
            )


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "WPT", "DPoP"])
def test_w_6_wit_in_authorization_at_check_is_refused(scheme: str) -> None:
    """W-6: of a task that may call with its own JWT-SVID; the WIT of the same task may not."""
    world = World()
    run = world.run("nightly-report", human=None)
    assert world.check(world.request(world.svid(run), run)).status.code == 0
    key = world.authority.jwt_key  # even if it were signed with the key for bearer tokens
    public = HOLDER.private_key.public_key()
    wit = issue_wit_svid(key, run.spiffe_id, public, now=NOW, ttl=60, not_after=DEADLINE)
    headers = [("content-type", "application/json"), ("authorization", f"{scheme} {wit}")]
    response = world.check(world.request(None, run, headers=headers))
    expected = "DPT-TOKEN-MISSING" if scheme == "WPT" else "DPT-TOKEN-TYPE"
    assert (response.status.code != 0, reason(response)) == (True, expected)
    assert wit not in response.SerializeToString().decode("latin-1")
    assert wit not in repr(world.records())


def test_w_6_wit_in_its_own_header_is_no_caller_at_check() -> None:
    """W-6: without a proof it says nothing; nobody reads it."""
    world = World()
    run = world.run("nightly-report", human=None)
    headers = [("content-type", "application/json"), ("workload-identity-token", issue(run.spiffe_id))]
    response = world.check(world.request(None, run, headers=headers))
    assert (response.status.code != 0, reason(response)) == (True, "DPT-TOKEN-MISSING")


def test_refuses_forgery_across_trust_domains() -> None:
    """A federated domain's key can never vouch for an ID of ours, nor is a stranger's domain believed."""
    bundles = {**WIT_KEYS, OTHER_TD: KeySet.of([STRANGER_KEY.public])}
    claims = {"sub": str(TASK_ID), "cnf": {"jwk": JWK}, "exp": SECONDS + 60}
    with pytest.raises(TokenKeyError):
        verify(forge(STRANGER_KEY, header_of(STRANGER_KEY, "wit+jwt"), claims), bundles=bundles)
    with pytest.raises(TokenSignatureError):
        verify(forge(STRANGER_KEY, header_of(WIT_KEY, "wit+jwt"), claims), bundles=bundles)
    theirs = {**claims, "sub": str(agent_task_id(OTHER_TD, "triage", ulid(1)))}
    right = forge(STRANGER_KEY, header_of(STRANGER_KEY, "wit+jwt"), theirs)
    assert verify(right, bundles=bundles).spiffe_id.trust_domain == OTHER_TD
    with pytest.raises(TokenIssuerError):
        verify(right)


def test_key_of_jwt_svids_signs_no_wit() -> None:
    """A bundle's `jwt-svid` keys verify no WIT-SVID."""
    text = issue_jwt_svid(SVID_KEY, TASK_ID, audience=AUDIENCE, now=NOW, ttl=60, not_after=DEADLINE)
    with pytest.raises(TokenTypeError):
        verify(text)
    signed = forge(SVID_KEY, header_of(SVID_KEY, "wit+jwt"), dict(read(issue()).unverified_claims))
    with pytest.raises(TokenKeyError):
        verify(signed)


def test_example_of_the_standard_is_read() -> None:
    """WIT-SVID appendix A; its signing key is not published, so one of ours signs the same."""
    header = {"alg": "ES256", "kid": "lQSi3hZFnda2D-XJkj1zl7foJouiwI4nrAyhy4jZiJg", "typ": "wit+jwt"}
    jwk = {
        "alg": "ES256",
        "crv": "P-256",
        "kty": "EC",
        "x": "rzP7mLCKAHWmsM6X0EwVISC_hI3ujcu95ffUkyeDGGo",
        "y": "uOrfDljtX9m3jY-hsyhLJYaxtGkzDv5e5kmCe58Z97g",
    }
    claims = {
        "cnf": {"jwk": jwk},
        "exp": 1765456503,
        "iat": 1765452903,
        "jti": "1yj19V4McOAzMcFi7qvsg_AgCxlrY5E_x509wlKKQtc",
        "sub": "spiffe://example.com/my-workload",
    }
    domain = SpiffeId.parse("spiffe://example.com/my-workload").trust_domain
    named = VerificationKey(str(header["kid"]), ("ES256",), WIT_KEY.public.public_key)
    text, bundles = forge(WIT_KEY, header, claims), {domain: KeySet.of([named])}
    wit = verify(text, now=NOW.fromtimestamp(1765452903, tz=NOW.tzinfo), bundles=bundles)
    assert wit.holder.jwk() == {**jwk, "kid": "cnf"}


def test_wit_never_outlives_what_stands_behind_it() -> None:
    assert verify(issue(not_after=NOW + timedelta(seconds=5))).expires_at == SECONDS + 5
    with pytest.raises(TokenExpiredError):
        issue(not_after=NOW)


def test_nothing_is_issued_for_a_whole_trust_domain_or_a_foreign_curve() -> None:
    with pytest.raises(TokenClaimsError):
        issue(TD.spiffe_id)
    foreign = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(KeyMaterialError):
        issue_wit_svid(WIT_KEY, TASK_ID, foreign, now=NOW, ttl=60, not_after=DEADLINE)


def test_hash_is_that_of_the_text() -> None:
    import hashlib

    text = issue()
    assert verify(text).hash == encode_base64url(hashlib.sha256(text.encode("ascii")).digest())


def test_every_error_is_a_token_error_and_holds_no_token() -> None:
    for text in (forged(aud="x"), forged(sub=7), forged(cnf={}), forged(header_of(WIT_KEY, "JWT"))):
        with pytest.raises(TokenError) as caught:
            verify(text)
        assert text[-40:] not in repr(caught.value)
    assert issue()[-40:] not in repr(verify(issue()))
