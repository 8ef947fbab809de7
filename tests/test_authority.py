"""The authority: which key signs what, and that the two key sets never mix."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from identity.authority import Authority
from identity.bundle import Bundle
from identity.caller import Task
from identity.delegation import issue_delegation_token, verify_delegation_token
from identity.errors import (
    CertificateError,
    IssuanceUnavailableError,
    KeyMaterialError,
    TokenClaimsError,
    TokenError,
    TokenExpiredError,
)
from identity.jws import UnverifiedToken
from identity.jwt_svid import JwtSvid, verify_jwt_svid
from identity.key_ring import KeyRing, Stage
from identity.keys import KeySet, SigningKey
from identity.spiffe import SpiffeId, agent_task_id
from identity.x509_svid import X509Svid, verify_x509_svid
from tests.identity_world import AUDIENCE, ISSUER, LEEWAY, NOW, OTHER_TD, SECONDS, TD, delegation, task, ulid

AUTHORITY = Authority.generate(TD, NOW)
LEAF = SigningKey.generate().private_key.public_key()
TASK_ID = agent_task_id(TD, "triage", ulid(1))
END = NOW + timedelta(hours=1)


def x509_svid(der: bytes, now: datetime = NOW) -> X509Svid:
    return verify_x509_svid([der], AUTHORITY.roots, TD, now)


def jwt_svid(text: str) -> JwtSvid:
    token = UnverifiedToken.parse(text)
    return verify_jwt_svid(token, {TD: AUTHORITY.svid_keys}, audience=AUDIENCE, now=NOW, leeway=LEEWAY)


def test_task_svid_names_the_task_and_ends_with_it() -> None:
    assert x509_svid(AUTHORITY.issue_task_svid(task(), LEAF, NOW, 600)).spiffe_id == TASK_ID
    short = task(deadline=NOW + timedelta(seconds=7))
    assert x509_svid(AUTHORITY.issue_task_svid(short, LEAF, NOW, 600)).not_after == short.deadline


@pytest.mark.parametrize(
    "over", [task(ended_at=NOW), task(deadline=NOW), task(deadline=NOW - timedelta(seconds=1))]
)
def test_nothing_for_a_task_that_is_over(over: Task) -> None:
    with pytest.raises(CertificateError):
        AUTHORITY.issue_task_svid(over, LEAF, NOW, 600)


def test_workload_svid_of_this_trust_domain_only() -> None:
    workload = SpiffeId.parse("spiffe://mesh.example/ns/deputy/sa/envoy")
    der = AUTHORITY.issue_workload_svid(workload, LEAF, NOW, 600, dns_names=["localhost"])
    assert x509_svid(der).spiffe_id == workload
    with pytest.raises(CertificateError):
        AUTHORITY.issue_workload_svid(replace(workload, trust_domain=OTHER_TD), LEAF, NOW, 600)


def test_jwt_svid_of_this_trust_domain_only() -> None:
    assert jwt_svid(AUTHORITY.issue_jwt_svid(TASK_ID, AUDIENCE, NOW, 60, END)).expires_at == SECONDS + 60
    with pytest.raises(TokenClaimsError):
        AUTHORITY.issue_jwt_svid(replace(TASK_ID, trust_domain=OTHER_TD), AUDIENCE, NOW, 60, END)


def test_jwt_svid_ends_with_task_and_authority() -> None:
    assert (
        jwt_svid(AUTHORITY.issue_jwt_svid(TASK_ID, AUDIENCE, NOW, 600, NOW + timedelta(seconds=9))).expires_at
        == SECONDS + 9
    )
    late = AUTHORITY.ca.not_after
    with pytest.raises(TokenExpiredError):
        AUTHORITY.issue_jwt_svid(TASK_ID, AUDIENCE, late, 60, late + timedelta(hours=1))


def test_bundle_holds_what_verifies_svids_and_nothing_else() -> None:
    bundle = Bundle.parse(json.dumps(AUTHORITY.bundle()).encode(), TD)
    assert bundle.roots == AUTHORITY.roots
    assert set(bundle.jwt_keys.keys) == {AUTHORITY.jwt_key.kid}
    assert AUTHORITY.token_key.kid not in json.dumps(AUTHORITY.bundle())


def test_jwks_holds_the_token_key_and_nothing_else() -> None:
    keys = KeySet.parse_jwks(json.dumps(AUTHORITY.token_jwks()).encode(), use=None)
    assert set(keys.keys) == {AUTHORITY.token_key.kid}


@pytest.mark.parametrize("document", [AUTHORITY.bundle(), AUTHORITY.token_jwks()])
def test_nothing_private_is_published(document: dict[str, object]) -> None:
    text = json.dumps(document)
    for key in (AUTHORITY.ca.key, AUTHORITY.jwt_key, AUTHORITY.token_key):
        number = key.private_key.private_numbers().private_value
        assert str(number) not in text
        assert '"d"' not in text


def test_one_key_in_two_roles_is_refused() -> None:
    """A token for a human, signed by a key of SVIDs, would be an SVID for the human."""
    ca, jwt_key, token_key = AUTHORITY.ca, AUTHORITY.jwt_key, AUTHORITY.token_key
    for keys in ((jwt_key, jwt_key), (ca.key, token_key), (jwt_key, ca.key)):
        with pytest.raises(KeyMaterialError):
            Authority.of(ca, *keys, NOW)


def test_key_of_svids_cannot_delegate_and_key_of_tokens_cannot_identify() -> None:
    forged = issue_delegation_token(AUTHORITY.jwt_key, delegation())
    with pytest.raises(TokenError):
        verify_delegation_token(
            UnverifiedToken.parse(forged),
            AUTHORITY.token_keys,
            issuer=ISSUER,
            audience=AUDIENCE,
            now=NOW,
            leeway=LEEWAY,
            max_depth=4,
        )
    other = Authority.of(AUTHORITY.ca, AUTHORITY.token_key, AUTHORITY.jwt_key, NOW)
    with pytest.raises(TokenError):
        jwt_svid(other.issue_jwt_svid(TASK_ID, AUDIENCE, NOW, 60, END))


def test_authority_cannot_be_printed() -> None:
    assert "PRIVATE" not in repr(AUTHORITY)
    assert str(AUTHORITY.jwt_key.private_key.private_numbers().private_value) not in repr(AUTHORITY)


def test_an_authority_that_is_not_whole_is_none() -> None:
    """Else it would publish a root that signs nothing, or sign what nobody can verify."""
    slot = AUTHORITY.rings["x509"].slots[0]
    bare = {**AUTHORITY.rings, "x509": KeyRing("x509", (replace(slot, certificate=None),))}
    with pytest.raises(KeyMaterialError, match="without a certificate"):
        replace(AUTHORITY, rings=bare)
    retired = {**AUTHORITY.rings, "x509": KeyRing("x509", (replace(slot, stage=Stage.RETIRED),))}
    with pytest.raises(IssuanceUnavailableError, match="no key of role 'x509' is active"):
        replace(AUTHORITY, rings=retired)
    with pytest.raises(KeyMaterialError, match="the private key"):
        replace(AUTHORITY, keys={kid: key for kid, key in AUTHORITY.keys.items() if kid != slot.kid})
