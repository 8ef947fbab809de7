"""Token exchange only narrows: rules/token-exchange.md sections 2.1 and 2.4."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from identity.caller import Hop, KeyBinding, WorkloadBinding
from identity.delegation import Delegation, DelegationToken
from identity.errors import ChainError, ExchangeError
from identity.exchange import SignedIn, Terms, narrow
from tests.identity_world import ISSUER, LEAD, NOW, OTHER_TD, RUNNER, SECONDS, TD, THUMBPRINT, delegation, hop

READ, WRITE, ADMIN = "tickets:read", "tickets:write", "tickets:admin"
JTI = "N" * 22
SIGNED_IN = SignedIn(LEAD, SECONDS + 600, "T" * 22)


def terms(**changes: Any) -> Terms:
    right = Terms(
        issuer=ISSUER,
        trust_domain=TD,
        audience="tickets",
        allowed_scopes=frozenset({READ, WRITE}),
        presenter=hop("resolver", 1),
        binding=KeyBinding(THUMBPRINT),
        task_deadline=NOW + timedelta(hours=1),
        max_ttl=300,
        max_depth=4,
    )
    return replace(right, **changes)


def parent(**changes: Any) -> DelegationToken:
    said = delegation(chain=(hop("resolver", 1),), **changes)
    return DelegationToken(**{name: getattr(said, name) for name in Delegation.__slots__}, token_id="0" * 64)


def test_start_of_a_chain_is_the_human_who_signed_in() -> None:
    given = narrow(SIGNED_IN, terms(), None, NOW, JTI)
    assert given == delegation(chain=(hop("resolver", 1),), jti=JTI)


def test_id01_new_presenter_is_outermost_and_the_human_stays() -> None:
    """ID-01, CL-06: `sub` and `txn` never change."""
    given = narrow(parent(), terms(presenter=hop("triage", 2)), None, NOW, JTI)
    assert given.chain == (hop("triage", 2), hop("resolver", 1))
    assert (given.human, given.txn, given.client_id) == (LEAD, parent().txn, "triage")


def test_id05_presenter_that_continues_collapses() -> None:
    """ID-05: the same actor twice in a row is one."""
    assert narrow(parent(), terms(), None, NOW, JTI).chain == parent().chain


def test_id05_refuses_agent_that_comes_back() -> None:
    """ID-05: a cycle."""
    chain = (hop("triage", 2), hop("resolver", 1))
    subject = replace(parent(), chain=chain)
    for presenter in (hop("resolver", 3), hop("resolver", 1), hop("other", 2)):
        with pytest.raises(ChainError) as caught:
            narrow(subject, terms(presenter=presenter), None, NOW, JTI)
        assert caught.value.reason == "cycle"


def test_id04_depth_counts_the_new_actor() -> None:
    """ID-04: over it is an error, nothing is cut off."""
    subject = replace(parent(), chain=tuple(hop(f"agent-{number}", number) for number in range(4)))
    assert len(narrow(subject, terms(presenter=hop("new", 9), max_depth=5), None, NOW, JTI).chain) == 5
    with pytest.raises(ChainError) as caught:
        narrow(subject, terms(presenter=hop("new", 9)), None, NOW, JTI)
    assert caught.value.reason == "depth"


@pytest.mark.parametrize(
    ("requested", "granted"),
    [
        (None, {READ}),
        ({READ}, {READ}),
        ({READ, WRITE}, {READ}),
        ({READ, ADMIN, "x"}, {READ}),
    ],
)
def test_nr01_granted_is_requested_and_held_and_allowed(
    requested: set[str] | None, granted: set[str]
) -> None:
    """NR-01: the intersection; NR-02: without a request, that of the rest and never a default."""
    asked = None if requested is None else frozenset(requested)
    subject = parent(scopes=frozenset({READ, ADMIN}))
    assert narrow(subject, terms(), asked, NOW, JTI).scopes == granted


@pytest.mark.parametrize(
    "requested", [{WRITE}, {"tickets"}, {"tickets:"}, {"tickets:rea"}, {"TICKETS:READ"}, set()]
)
def test_nr01_nothing_left_is_invalid_scope(requested: set[str]) -> None:
    """NR-01: no prefix is guessed."""
    with pytest.raises(ExchangeError) as caught:
        narrow(parent(scopes=frozenset({READ})), terms(), frozenset(requested), NOW, JTI)
    assert caught.value.error == "invalid_scope"


def test_nr01_policy_that_allows_nothing() -> None:
    """NR-01: empty is `invalid_scope`."""
    with pytest.raises(ExchangeError) as caught:
        narrow(SIGNED_IN, terms(allowed_scopes=frozenset()), None, NOW, JTI)
    assert caught.value.error == "invalid_scope"


@pytest.mark.parametrize(
    ("subject_left", "task_left", "max_ttl", "expected"),
    [(600, 3600, 300, 300), (100, 3600, 300, 100), (600, 50, 300, 50), (1, 1, 1, 1)],
)
def test_cl07_lifetime_is_the_least(subject_left: int, task_left: int, max_ttl: int, expected: int) -> None:
    """CL-07: of the subject, the task and the class maximum."""
    limits = terms(task_deadline=NOW + timedelta(seconds=task_left), max_ttl=max_ttl)
    for subject in (
        replace(SIGNED_IN, expires_at=SECONDS + subject_left),
        parent(expires_at=SECONDS + subject_left),
    ):
        given = narrow(subject, limits, None, NOW, JTI)
        assert (given.issued_at, given.expires_at) == (SECONDS, SECONDS + expected)


def test_cl04_nothing_from_an_expired_subject_or_task() -> None:
    """CL-04, CL-07: the leeway is for clocks, not for lifetimes."""
    for subject in (parent(expires_at=SECONDS), replace(SIGNED_IN, expires_at=SECONDS - 1)):
        with pytest.raises(ExchangeError) as caught:
            narrow(subject, terms(), None, NOW, JTI)
        assert caught.value.error == "invalid_request"
    with pytest.raises(ExchangeError):
        narrow(SIGNED_IN, terms(task_deadline=NOW), None, NOW, JTI)


@pytest.mark.parametrize("binding", [KeyBinding(THUMBPRINT), WorkloadBinding(RUNNER)])
def test_tx11_output_is_bound_to_the_new_presenter(binding: Any) -> None:
    """TX-11: the subject's binding is neither lost nor inherited: it is the new presenter's."""
    other = KeyBinding(THUMBPRINT[::-1])
    assert narrow(parent(binding=other), terms(binding=binding), None, NOW, JTI).binding == binding


def test_tx12_subject_cannot_choose_issuer_audience_or_name() -> None:
    """TX-12: what the broker says stands."""
    subject = parent(audience="billing", jti="P" * 22)
    given = narrow(subject, terms(), None, NOW, JTI)
    assert (given.audience, given.jti, given.issuer) == ("tickets", JTI, ISSUER)


@pytest.mark.parametrize("changes", [{"issuer": "https://evil.example"}, {"trust_domain": OTHER_TD}])
def test_subject_of_another_issuer_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ExchangeError) as caught:
        narrow(parent(**changes), terms(), None, NOW, JTI)
    assert caught.value.error == "invalid_request"


def test_tx06_description_says_nothing_of_policy() -> None:
    """TX-06: no internals."""
    with pytest.raises(ExchangeError) as caught:
        narrow(parent(scopes=frozenset({READ})), terms(), frozenset({ADMIN}), NOW, JTI)
    assert READ not in caught.value.description
    assert "resolver" not in caught.value.description


def test_inherited_hops_are_the_very_same() -> None:
    chain: tuple[Hop, ...] = (hop("a", 1), hop("b", 2))
    given = narrow(replace(parent(), chain=chain), terms(presenter=hop("c", 3)), None, NOW, JTI)
    assert given.chain[1:] == chain
