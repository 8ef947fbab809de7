"""The tokens that a token was exchanged from: written, read, and what falls with them (CA-07)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from identity.caller import DpopBinding, Hop, Human, KeyBinding
from identity.claims import MIN_ENTROPY, new_token_name
from identity.delegation import MAX_PARENTS, Delegation, DelegationToken, issue_delegation_token
from identity.errors import ExchangeError, TokenClaimsError
from identity.exchange import Terms, narrow
from identity.id_jag import IdentityAssertion, issue_id_jag
from identity.jws import UnverifiedToken, VerifiedToken, verify
from identity.keys import KeySet, SigningKey
from identity.spiffe import TrustDomain
from identity.withdrawal import Standing, Withdrawal, Withdrawals

NOW = datetime(2026, 11, 21, 8, 0, 0, tzinfo=UTC)
TD = TrustDomain.parse("mesh.example")
KEY = SigningKey.generate()
TASK = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def name(number: int) -> str:
    return new_token_name(number.to_bytes(MIN_ENTROPY))


def delegation(**changes: Any) -> Delegation:
    plain: dict[str, Any] = {
        "issuer": "https://broker.mesh.example",
        "trust_domain": TD,
        "human": Human("https://idp.example", "lead"),
        "audience": "https://tickets.mesh.example",
        "scopes": frozenset({"tickets:read"}),
        "chain": (Hop("triage", TASK),),
        "binding": KeyBinding("A" * 43),
        "txn": name(1),
        "jti": name(2),
        "issued_at": 1,
        "expires_at": 2,
    }
    return Delegation(**{**plain, **changes})


def read(claims: dict[str, object]) -> DelegationToken:
    return DelegationToken.parse(VerifiedToken("at+jwt", "kid", claims, str(claims)))


def test_ca07_parents_are_written_and_read_in_order() -> None:
    """CA-07: the first one first; none are not written."""
    parents = tuple(name(number) for number in range(3, 3 + MAX_PARENTS))
    token = issue_delegation_token(KEY, delegation(parents=parents))
    verified = verify(UnverifiedToken.parse(token), KeySet.of([KEY.public]), typ=frozenset({"at+jwt"}))
    assert DelegationToken.parse(verified).parents == parents
    assert "parents" not in delegation().to_claims()
    assert read(delegation().to_claims()).parents == ()


@pytest.mark.parametrize(
    "parents",
    [
        "x",
        {},
        None,
        [1],
        [""],
        ["a b"],
        [["x"]],
        [name(3), None],
        [name(number) for number in range(MAX_PARENTS + 1)],
    ],
)
def test_ca07_parents_that_are_not_understood(parents: object) -> None:
    """CA-07: a token whose descent we cannot read could come of one that was taken back."""
    with pytest.raises(TokenClaimsError):
        read({**delegation().to_claims(), "parents": parents})


def test_ca07_no_parent_is_left_out_to_make_room() -> None:
    """CA-07: at the limit there is no next token, alone or for another presenter."""
    parents = tuple(name(number) for number in range(3, 3 + MAX_PARENTS))
    subject = read(delegation(parents=parents, expires_at=int(NOW.timestamp()) + 60).to_claims())
    for task in (TASK, "01ARZ3NDEKTSV4RRFFQ69G5FAW"):
        terms = Terms(
            issuer=subject.issuer,
            trust_domain=TD,
            audience=subject.audience,
            allowed_scopes=subject.scopes,
            presenter=Hop("triage", task),
            binding=subject.binding,
            task_deadline=NOW + timedelta(hours=1),
            max_ttl=300,
            max_depth=4,
        )
        with pytest.raises(ExchangeError):
            narrow(subject, terms, None, NOW, name(99))
        shorter = replace(subject, parents=parents[1:])
        assert narrow(shorter, terms, None, NOW, name(99)).parents == (*parents[1:], subject.jti)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub_profile": "service"},
        {"sub_profile": None},
        {"grants": [TASK] * 9},
        {"grants": ["x"]},
        {"authorization_details": []},
        {"authorization_details": [{"type": "other"}]},
        {"authorization_details": None},
        {"client_id": "resolver"},
        {"task": "01ARZ3NDEKTSV4RRFFQ69G5FAW"},
        {"cnf": {"jkt": "x"}},
        {"cnf": {"jkt": "A" * 43, "x5t#S256": "A" * 43}},
    ],
)
def test_tx12_a_claim_that_is_not_understood(claims: dict[str, object]) -> None:
    """TX-12, CL-08: what narrows is never passed over."""
    with pytest.raises(TokenClaimsError):
        read({**delegation().to_claims(), **claims})


def test_cl08_a_key_of_proofs_is_written_and_read() -> None:
    """CL-08: `cnf.jkt`, alone."""
    bound = delegation(binding=DpopBinding("A" * 43))
    assert bound.to_claims()["cnf"] == {"jkt": "A" * 43}
    assert read(bound.to_claims()).binding == bound.binding


def test_ca07_a_withdrawn_parent_is_found_among_many() -> None:
    """CA-07: at any place of the descent; the txn of a token is no token."""
    parents = (name(3), name(4), name(5))
    standing = Standing(jti=name(2), txn=name(1), parents=parents)
    for gone in parents:
        held = Withdrawals.of([Withdrawal("token", gone, None, "a drill", "tests", NOW)])
        found = held.find(standing)
        assert found is not None
        assert found.subject == gone
        assert held.find(Standing(jti=name(2), txn=gone, tasks=(gone,))) is None
    assert Withdrawals.of([Withdrawal("txn", name(3), None, "x", "x", NOW)]).find(standing) is None


def test_cl05_an_assertion_says_no_more_than_it_must() -> None:
    """CL-05: no groups, no binding, no task of ours beside the chain."""
    assertion = IdentityAssertion(
        issuer="https://broker.mesh.example",
        trust_domain=TD,
        human=Human("https://idp.example", "lead", ("boss",)),
        audience="https://as.example",
        client_id="triage-there",
        scopes=frozenset({"tickets:read"}),
        chain=(Hop("triage", TASK),),
        txn=name(1),
        jti=name(2),
        issued_at=1,
        expires_at=2,
    )
    token = UnverifiedToken.parse(issue_id_jag(KEY, assertion))
    assert token.typ == "oauth-id-jag+jwt"
    assert token.unverified_claims.keys() == {
        "iss", "sub", "aud", "client_id", "scope", "jti", "txn", "iat", "exp", "act"
    }  # fmt: skip
