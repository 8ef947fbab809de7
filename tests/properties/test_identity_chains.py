"""NR-05: authority only narrows over any chain of exchanges, whatever the presenters ask for."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from identity.actor_chain import check_chain
from identity.caller import Binding, Hop, KeyBinding, WorkloadBinding
from identity.delegation import Delegation, DelegationToken, issue_delegation_token, verify_delegation_token
from identity.errors import ChainError, ExchangeError
from identity.exchange import SignedIn, Subject, Terms, narrow
from identity.jws import UnverifiedToken
from tests.identity_world import (
    AUDIENCE,
    ISSUER,
    LEAD,
    NOW,
    RUNNER,
    SECONDS,
    TD,
    THUMBPRINT,
    TOKEN_KEY,
    TOKEN_KEYS,
    ulid,
)

SCOPES = ["tickets:read", "tickets:write", "billing:read", "billing:write", "tickets", ""]
scope_sets = st.frozensets(st.sampled_from(SCOPES[:5]))
bindings: st.SearchStrategy[Binding] = st.sampled_from([KeyBinding(THUMBPRINT), WorkloadBinding(RUNNER)])


@st.composite
def steps(draw: st.DrawFn) -> tuple[Terms, frozenset[str] | None, int]:
    """Draw one exchange: who presents, what policy allows, what is asked for, how many seconds later."""
    agent, task = draw(st.sampled_from("abcde")), draw(st.integers(0, 12))
    terms = Terms(
        issuer=ISSUER,
        trust_domain=TD,
        audience=AUDIENCE,
        allowed_scopes=draw(scope_sets | st.just(frozenset(SCOPES[:4]))),
        presenter=Hop(agent, ulid(task)),
        binding=draw(bindings),
        task_deadline=NOW + timedelta(seconds=draw(st.integers(0, 400))),
        max_ttl=draw(st.integers(1, 600)),
        max_depth=draw(st.integers(1, 8)),
    )
    return terms, draw(st.none() | scope_sets), draw(st.integers(0, 20))


def over_the_wire(said: Delegation, seconds: int) -> DelegationToken:
    return verify_delegation_token(
        UnverifiedToken.parse(issue_delegation_token(TOKEN_KEY, said)),
        TOKEN_KEYS,
        issuer=ISSUER,
        audience=AUDIENCE,
        now=NOW + timedelta(seconds=seconds),
        leeway=0,
        max_depth=8,
    )


@given(st.lists(steps(), min_size=1, max_size=7))
def test_nr05_random_chains_only_narrow(exchanges: list[tuple[Terms, frozenset[str] | None, int]]) -> None:
    """NR-05: scopes, end, human, `txn`, depth, cycles, inherited hops; refused ones change nothing."""
    start = SignedIn(LEAD, SECONDS + 300, "T" * 22)
    subject: Subject = start
    seconds = 0
    for number, (terms, requested, later) in enumerate(exchanges):
        seconds += later
        now = NOW + timedelta(seconds=seconds)
        try:
            given_now = narrow(subject, terms, requested, now, f"{number:022}")
        except (ExchangeError, ChainError):
            continue
        parent_scopes = subject.scopes if isinstance(subject, DelegationToken) else terms.allowed_scopes
        assert given_now.scopes
        assert given_now.scopes <= parent_scopes & terms.allowed_scopes
        assert requested is None or given_now.scopes <= requested
        assert given_now.expires_at <= min(subject.expires_at, terms.task_deadline.timestamp())
        assert given_now.expires_at - given_now.issued_at <= terms.max_ttl
        assert (given_now.human, given_now.txn) == (LEAD, start.txn)
        assert given_now.binding == terms.binding
        inherited = subject.chain if isinstance(subject, DelegationToken) else ()
        assert given_now.chain in (inherited, (terms.presenter, *inherited))
        assert given_now.chain[0] == terms.presenter
        check_chain(given_now.chain, terms.max_depth)
        subject = over_the_wire(given_now, seconds)
        assert subject.chain == given_now.chain


@given(st.lists(st.builds(Hop, st.sampled_from("abc"), st.integers(0, 9).map(ulid)), max_size=8))
def test_id05_accepted_chain_never_comes_back(hops: list[Hop]) -> None:
    """ID-05, said in another way: what lies between two hops of one agent is that agent."""
    try:
        check_chain(tuple(hops), 8)
    except ChainError:
        return
    for first, one in enumerate(hops):
        for last in range(first + 1, len(hops)):
            assert one.task != hops[last].task
            if one.agent == hops[last].agent:
                assert {hop.agent for hop in hops[first : last + 1]} == {one.agent}
