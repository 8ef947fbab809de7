"""Names of agents: ours, and those of other trust domains."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.policy.grants import _AGENT  # what the grants accept must be what the registry accepts
from identity.caller import Hop
from identity.errors import AgentNameError, IdentityError
from identity.qualified_name import MAX_NAME, domain_of, hop_of, parse_registered_name, task_id_of
from identity.spiffe import MAX_ID_BYTES, SpiffeId, TrustDomain, agent_task_id
from tests.identity_world import OTHER_TD, TD, ulid

DOMAINS = st.from_regex(re.compile(r"[a-z0-9._-]{1,40}"), fullmatch=True).map(TrustDomain)
LABELS = st.from_regex(re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"), fullmatch=True)
LONGEST = f"{'d' * (MAX_NAME - len('/triage'))}/triage"

RIGHT = ["triage", "a", "a" * 63, "other.example/triage", "_td/0", "1.2.3.4/a-b", "-td./x", "..../x", LONGEST]
WRONG = [
    "",
    "/",
    "/triage",
    "other.example/",
    "other.example",
    "Other.example/triage",
    "other.example/Triage",
    "other.example//triage",
    "other.example/triage/",
    "other.example/team/triage",
    "other.example/agent/triage",
    "spiffe://other.example/agent/triage",
    "other.example:8443/triage",
    "user@other.example/triage",
    "other%2eexample/triage",
    "other.example/triage\n",
    "other.example\n/triage",
    "\nother.example/triage",
    "other.example/-triage",
    "öther.example/triage",
    "other.example\u2215triage",
    f"d{LONGEST}",
    f"other.example/{'a' * 64}",
    "x" * 300 + "/triage",
]


@pytest.mark.parametrize("name", RIGHT)
def test_registry_and_grants_accept_a_name(name: str) -> None:
    assert parse_registered_name(name) == name
    assert _AGENT.fullmatch(name)


@pytest.mark.parametrize("name", WRONG)
def test_registry_and_grants_refuse_a_name(name: str) -> None:
    with pytest.raises(AgentNameError):
        parse_registered_name(name)
    assert not _AGENT.fullmatch(name)


@given(st.text(alphabet="ab0-._/\nA:é", max_size=12) | st.text(max_size=40))
def test_any_text_is_a_name_for_both_or_for_neither(text: str) -> None:
    try:
        parse_registered_name(text)
    except AgentNameError:
        assert not _AGENT.fullmatch(text)
    else:
        assert _AGENT.fullmatch(text)


def test_the_longest_name_makes_the_longest_id() -> None:
    assert len(str(task_id_of(Hop(LONGEST, ulid(1)), TD))) == MAX_ID_BYTES


def test_ours_has_a_label_only_and_theirs_their_domain() -> None:
    assert hop_of(agent_task_id(TD, "triage", ulid(1)), TD) == Hop("triage", ulid(1))
    assert hop_of(agent_task_id(OTHER_TD, "triage", ulid(1)), TD) == Hop("other.example/triage", ulid(1))
    assert (domain_of("triage"), domain_of("other.example/triage")) == (None, OTHER_TD)


@pytest.mark.parametrize(
    "path", ["", "/agent/triage", "/agent/x/task/y", "/ns/agents/sa/runner", f"/agent/a/b/task/{ulid(1)}"]
)
def test_what_is_no_task_has_no_hop(path: str) -> None:
    assert hop_of(SpiffeId(OTHER_TD, path), TD) is None


@given(DOMAINS, DOMAINS, LABELS)
def test_an_id_and_its_name_say_the_same(own: TrustDomain, domain: TrustDomain, label: str) -> None:
    """Two runs have one name only if they are runs of one agent: no trust domain can take another's name."""
    try:
        spiffe_id = agent_task_id(domain, label, ulid(1))
    except IdentityError:
        return
    hop = hop_of(spiffe_id, own)
    assert hop is not None
    assert task_id_of(hop, own) == spiffe_id
    assert parse_registered_name(hop.agent) == hop.agent
    assert domain_of(hop.agent) == (None if domain == own else domain)


def test_a_hop_that_nobody_parsed_has_no_id() -> None:
    for agent, run in (("Other.example/x", ulid(1)), ("other.example/X", ulid(1)), ("x", "y")):
        with pytest.raises(IdentityError):
            task_id_of(Hop(agent, run), TD)
