"""Proofs of possession for WIT-SVIDs: rules/spiffe.md W-7."""

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity.base64url import encode_base64url
from identity.errors import (
    TokenAlgorithmError,
    TokenAudienceError,
    TokenClaimsError,
    TokenError,
    TokenExpiredError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenSignatureError,
    TokenTypeError,
)
from identity.jws import UnverifiedToken
from identity.keys import KeySet, SigningKey
from identity.spiffe import agent_task_id
from identity.wit_svid import UnprovenWit, issue_wit_svid, verify_wit_svid
from identity.workload_proof import LEEWAY, ProvenWorkload, issue_workload_proof, verify_workload_proof
from tests.identity_world import NOW, SECONDS, TD, forge, header_of, ulid

TARGET = "https://tickets.mesh.example/mcp"
WIT_KEY, HOLDER, THIEF = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
TASK_ID = agent_task_id(TD, "triage", ulid(1))
ACCESS, TXN = "access-token", "transaction-token"


def issue_wit(holder: SigningKey = HOLDER, ttl: int = 600) -> str:
    public = holder.private_key.public_key()
    return issue_wit_svid(WIT_KEY, TASK_ID, public, now=NOW, ttl=ttl, not_after=NOW + timedelta(hours=1))


def verified(text: str) -> UnprovenWit:
    keys = {TD: KeySet.of([WIT_KEY.public])}
    return verify_wit_svid(UnverifiedToken.parse(text), keys, now=NOW, leeway=30)


WIT_TEXT = issue_wit()
WIT = verified(WIT_TEXT)


def prove(key: SigningKey = HOLDER, wit: str = WIT_TEXT, ttl: int = 60, **tokens: Any) -> str:
    given = {"audience": TARGET, "now": NOW, "entropy": bytes(range(16)), **tokens}
    return issue_workload_proof(key, wit, ttl=ttl, **given)


def check(proof: str, wit: UnprovenWit = WIT, now: datetime = NOW, **request: Any) -> ProvenWorkload:
    return verify_workload_proof(wit, proof, **{"audience": TARGET, "now": now, **request})


def digest(text: str) -> str:
    return encode_base64url(hashlib.sha256(text.encode()).digest())


def forged(header: dict[str, object] | None = None, key: SigningKey = HOLDER, **claims: object) -> str:
    right = {"aud": TARGET, "exp": SECONDS + 60, "jti": "j" * 22, "wth": digest(WIT_TEXT)}
    members = {name: value for name, value in (right | claims).items() if value is not ...}
    return forge(key, header or {"alg": "ES256", "typ": "wpt+jwt"}, members)


def test_w_7_proof_makes_a_caller_of_a_wit() -> None:
    """W-7: who, with which key, once."""
    proven = check(prove())
    assert (proven.spiffe_id, proven.holder) == (TASK_ID, WIT.holder)
    assert proven.proof_id == encode_base64url(bytes(range(16)))
    assert proven.expires_at == SECONDS + 60


@pytest.mark.parametrize("typ", [None, "JWT", "wit+jwt", "dpop+jwt", "at+jwt"])
def test_w_7_refuses_other_types(typ: str | None) -> None:
    """W-7: `typ` is `wpt+jwt`; the WIT itself proves nothing."""
    with pytest.raises(TokenTypeError):
        check(forged(header_of(HOLDER, typ)))
    with pytest.raises(TokenTypeError):
        check(WIT_TEXT)


def test_w_7_algorithm_is_that_of_the_holders_key() -> None:
    """W-7: `alg` == `cnf.jwk.alg`, whatever the header would like."""
    for alg in ("RS256", "EdDSA", "none", "HS256"):
        with pytest.raises(TokenAlgorithmError):
            check(forged({"alg": alg, "typ": "wpt+jwt"}))


@pytest.mark.parametrize("alg", ["RS256", "RS512", "PS256", "PS384", "ES384", "ES512"])
def test_w_7_holder_of_another_authority_proves_with_its_own_algorithm(alg: str) -> None:
    """W-7, W-2: one of the nine, the one that `cnf.jwk` names; of one RSA key not the others."""
    curve = {"ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}.get(alg)
    key: Any = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 2048)
    public = json.loads(jwt.get_algorithm_by_name(alg).to_jwk(key.public_key()))
    jwk = {name: value for name, value in public.items() if name != "key_ops"} | {"alg": alg}
    claims = {"sub": str(TASK_ID), "cnf": {"jwk": jwk}, "exp": SECONDS + 600}
    text = forge(WIT_KEY, header_of(WIT_KEY, "wit+jwt"), claims)
    said = {"aud": TARGET, "exp": SECONDS + 60, "jti": "j" * 22, "wth": digest(text)}
    proof = jwt.encode(said, key, alg, headers={"typ": "wpt+jwt"})
    assert check(proof, verified(text)).spiffe_id == TASK_ID
    if curve is None:
        other = jwt.encode(said, key, "RS384", headers={"typ": "wpt+jwt"})
        with pytest.raises(TokenAlgorithmError):
            check(other, verified(text))


@pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "nonce"])
def test_w_7_header_chooses_no_key(member: str) -> None:
    """W-7: a thief's proof that brings the thief's key along."""
    header: dict[str, object] = {"alg": "ES256", "typ": "wpt+jwt", member: THIEF.public.jwk()}
    with pytest.raises(TokenMalformedError):
        check(forged(header, key=THIEF))


def test_w_7_stolen_wit_without_its_key_is_worth_nothing() -> None:
    """W-7: signed by whoever else, also under the holder's or the issuer's name."""
    for key in (THIEF, WIT_KEY):
        with pytest.raises(TokenSignatureError):
            check(prove(key))
        for name in (HOLDER.kid, WIT_KEY.kid, "cnf"):
            with pytest.raises(TokenSignatureError):
                check(forged({"alg": "ES256", "typ": "wpt+jwt", "kid": name}, key=key))


@pytest.mark.parametrize(
    "audience",
    [
        ...,
        "",
        None,
        7,
        [],
        [TARGET, "https://billing.mesh.example/mcp"],
        f"{TARGET}?a=b",
        f"{TARGET}#a",
        f"{TARGET}/",
        TARGET.upper(),
        "https://billing.mesh.example/mcp",
        "tickets",
    ],
)
def test_w_7_refuses_other_audience(audience: object) -> None:
    """W-7: the target URI without its query, exactly; the proof of one service is none for another."""
    with pytest.raises(TokenAudienceError):
        check(forged(aud=audience))


def test_w_7_accepted_audience_is_given_and_has_no_query() -> None:
    """W-7: no part of the request is asked who we are."""
    assert check(forged(aud=[TARGET])).spiffe_id == TASK_ID
    for audience in ("", f"{TARGET}?a=b", f"{TARGET}#a"):
        with pytest.raises(ValueError, match="target URI"):
            check(prove(), audience=audience)


def test_w_7_lives_for_minutes_at_most() -> None:
    """W-7: `exp` in seconds to minutes; one for a day would be a bearer token for a day."""
    assert check(forged(exp=SECONDS + 300)).expires_at == SECONDS + 300
    with pytest.raises(TokenClaimsError):
        check(forged(exp=SECONDS + 300 + LEEWAY + 1))
    for text in (forged(exp=...), forged(exp="60"), forged(exp=None)):
        with pytest.raises(TokenError):
            check(text)
    for ttl in (0, -1, 301):
        with pytest.raises(ValueError, match="lifetime"):
            prove(ttl=ttl)


def test_w_7_expires() -> None:
    """W-7: the proof, and the WIT behind it."""
    check(prove(), now=NOW + timedelta(seconds=60 + LEEWAY - 1))
    with pytest.raises(TokenExpiredError):
        check(prove(), now=NOW + timedelta(seconds=60 + LEEWAY))
    text = issue_wit(ttl=5)
    proof = prove(wit=text)
    assert check(proof, verified(text)).expires_at == SECONDS + 5
    with pytest.raises(TokenExpiredError):
        check(proof, verified(text), now=NOW + timedelta(seconds=5 + LEEWAY))
    with pytest.raises(TokenNotYetValidError):
        check(forged(nbf=SECONDS + LEEWAY + 1))


@pytest.mark.parametrize("name", [..., "", 7, None, "j" * 256])
def test_w_7_refuses_proof_without_a_name(name: object) -> None:
    """W-7: `jti` is there, so that who counts proofs can."""
    with pytest.raises(TokenClaimsError):
        check(forged(jti=name))


@pytest.mark.parametrize("value", [..., "", None, 7, "ü", digest("other"), digest(WIT_TEXT) + "="])
def test_w_7_refuses_proof_of_another_wit(value: object) -> None:
    """W-7: `wth` is the hash of the WIT that is presented."""
    with pytest.raises(TokenClaimsError):
        check(forged(wth=value))


def test_w_7_proof_of_the_wit_before_is_none_for_the_next() -> None:
    """W-7: also with the same key."""
    renewed = verified(issue_wit(ttl=601))
    with pytest.raises(TokenClaimsError):
        check(prove(), renewed)


def test_w_7_refuses_proof_without_ath_while_an_access_token_is_there() -> None:
    """W-7: else a thief puts another person's access token beside somebody's proof."""
    assert check(prove(access_token=ACCESS), access_token=ACCESS).spiffe_id == TASK_ID
    for proof in (prove(), prove(access_token="other"), forged(ath=""), forged(ath=None), forged(ath=7)):
        with pytest.raises(TokenClaimsError):
            check(proof, access_token=ACCESS)


def test_w_7_refuses_proof_without_tth_while_a_transaction_token_is_there() -> None:
    """W-7: the same, for `Txn-Token`; one hash is not the other."""
    assert check(prove(transaction_token=TXN), transaction_token=TXN).spiffe_id == TASK_ID
    for proof in (prove(), prove(transaction_token="other"), prove(access_token=TXN), forged(tth=[])):
        with pytest.raises(TokenClaimsError):
            check(proof, transaction_token=TXN)
    both = prove(access_token=ACCESS, transaction_token=TXN)
    assert check(both, access_token=ACCESS, transaction_token=TXN).spiffe_id == TASK_ID


def test_w_7_refuses_proof_of_a_request_that_had_a_token() -> None:
    """W-7: somebody on the way took the token out, so that less would be checked."""
    for proof in (prove(access_token=ACCESS), prove(transaction_token=TXN), forged(ath=None)):
        with pytest.raises(TokenClaimsError):
            check(proof)


@pytest.mark.parametrize("oth", [{"x-context": digest("c")}, {"": ""}, [], None, "", 7, {"x-context": None}])
def test_w_7_refuses_oth_that_we_do_not_understand(oth: object) -> None:
    """W-7: an unknown entry says that something counts that we do not read."""
    with pytest.raises(TokenClaimsError):
        check(forged(oth=oth))


def test_w_7_other_tokens_are_covered_or_refused() -> None:
    """W-7: a token that is not covered must not influence anything; so with one, the proof is refused."""
    others = {"x-context": "c"}
    assert check(prove(other_tokens=others), other_tokens=others).spiffe_id == TASK_ID
    assert check(prove(other_tokens={"x-context": " c "}), other_tokens=others).spiffe_id == TASK_ID
    assert check(forged(oth={})).spiffe_id == TASK_ID
    for oth in (..., {}, {"x-context": digest("d")}, {"x-context": digest("c"), "x-more": digest("c")}):
        with pytest.raises(TokenClaimsError):
            check(forged(oth=oth), other_tokens=others)
    with pytest.raises(TokenClaimsError):
        check(forged(oth={"x-context": digest("c")}), other_tokens={**others, "x-more": "c"})


def test_names_of_two_proofs_differ() -> None:
    """Two tasks never share a jti: it is the entropy, of which there is enough."""
    names = {check(prove(entropy=number.to_bytes(16))).proof_id for number in range(50)}
    assert len(names) == 50
    with pytest.raises(ValueError, match="entropy"):
        prove(entropy=bytes(15))


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "." * 9000, WIT_TEXT[:-2], "é.é.é"])
def test_any_text_is_a_proof_or_our_error(text: str) -> None:
    with pytest.raises(TokenError) as caught:
        check(text)
    assert len(str(caught.value)) < 200


def test_error_holds_neither_proof_nor_token() -> None:
    proof = prove(access_token="other")
    with pytest.raises(TokenClaimsError) as caught:
        check(proof, access_token=ACCESS)
    assert proof[-30:] not in repr(caught.value)
    assert ACCESS not in repr(caught.value)
