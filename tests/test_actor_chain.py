"""The chain of agents: rules/token-exchange.md section 2.3."""

from typing import Any

import pytest

from identity.actor_chain import check_chain, encode_act, parse_act
from identity.caller import Hop
from identity.errors import ChainError, TokenClaimsError
from tests.identity_world import ISSUER, OTHER_TD, TD, hop, ulid

ONE = (hop("triage", 1),)
TWO = (hop("triage", 2), hop("resolver", 1))
RIGHT: dict[str, Any] = encode_act(TWO, ISSUER, TD)


def test_id01_outermost_is_the_presenter() -> None:
    """ID-01: innermost is the first agent."""
    assert RIGHT["sub"] == "spiffe://mesh.example/agent/triage"
    assert RIGHT["act"]["sub"] == "spiffe://mesh.example/agent/resolver"
    assert "act" not in RIGHT["act"]


def test_id02_instance_is_the_task() -> None:
    """ID-02: the class in `sub`, the instance beside it."""
    assert (RIGHT["agent_instance"], RIGHT["act"]["agent_instance"]) == (ulid(2), ulid(1))


@pytest.mark.parametrize("chain", [ONE, TWO, tuple(hop(f"agent-{number}", number) for number in range(8))])
def test_round_trip(chain: tuple[Hop, ...]) -> None:
    assert parse_act(encode_act(chain, ISSUER, TD), ISSUER, 8) == (TD, chain)


def changed(**changes: object) -> dict[str, object]:
    return {name: value for name, value in (RIGHT | changes).items() if value is not ...}


@pytest.mark.parametrize(
    "act",
    [
        {},
        [],
        "act",
        7,
        [RIGHT],
        changed(iss=...),
        changed(iss="https://other.example"),
        changed(iss=7),
        changed(sub=...),
        changed(sub=""),
        changed(sub=7),
        changed(sub="triage"),
        changed(sub="spiffe://mesh.example/agent/Triage"),
        changed(sub="spiffe://mesh.example/agent/triage/task/" + ulid(2)),
        changed(sub="spiffe://mesh.example/ns/agents/sa/runner"),
        changed(sub="spiffe://mesh.example/agent/triage\n"),
        changed(sub="spiffe://mesh.example/agent/"),
        changed(sub="spiffe://other.example/agent/triage"),
        changed(sub_profile=...),
        changed(sub_profile="user"),
        changed(sub_profile="service ai_agent"),
        changed(agent_instance=...),
        changed(agent_instance="task"),
        changed(agent_instance=ulid(2).lower()),
        changed(agent_instance=ulid(2) + "\n"),
        changed(agent_instance="\u0660" * 26),
        changed(client_profile="x"),
        changed(cnf={"x5t#S256": "x"}),
        changed(act=None),
        changed(act={}),
        changed(act=[]),
        changed(act="x"),
        changed(act=changed(act=..., sub="https://idp.example#lead", agent_instance=ulid(1))),
    ],
)
def test_id03_refuses_actor_that_is_not_wholly_ours(act: object) -> None:
    """ID-03, ID-07, CL-08: issuer and subject, unclassified profiles, members that we do not know."""
    with pytest.raises(TokenClaimsError):
        parse_act(act, ISSUER, 4)


def test_chain_of_one_trust_domain() -> None:
    inner = encode_act((hop("resolver", 1),), ISSUER, OTHER_TD)
    with pytest.raises(TokenClaimsError):
        parse_act(changed(act=inner), ISSUER, 4)


def deep(depth: int) -> dict[str, object]:
    return encode_act(tuple(hop(f"agent-{number}", number) for number in range(depth)), ISSUER, TD)


@pytest.mark.parametrize("limit", [1, 4, 8])
def test_id04_depth_limit_is_exact_and_never_truncates(limit: int) -> None:
    """ID-04: over it is an error."""
    assert len(parse_act(deep(limit), ISSUER, limit)[1]) == limit
    with pytest.raises(ChainError) as caught:
        parse_act(deep(limit + 1), ISSUER, limit)
    assert caught.value.reason == "depth"


def test_id04_ten_thousand_actors_do_not_exhaust_the_stack() -> None:
    """ID-04: depth 10,000, before signature work."""
    act: dict[str, object] = {}
    for number in range(10_000):
        act = {**changed(act=..., agent_instance=ulid(number)), **({"act": act} if act else {})}
    with pytest.raises(ChainError) as caught:
        parse_act(act, ISSUER, 8)
    assert caught.value.reason == "depth"


@pytest.mark.parametrize(
    "chain",
    [
        (hop("a", 1), hop("b", 2), hop("a", 3)),
        (hop("a", 1), hop("b", 2), hop("c", 3), hop("b", 4)),
        (hop("a", 1), hop("a", 2), hop("b", 3), hop("a", 4)),
        (hop("a", 1), hop("a", 1)),
        (hop("a", 1), hop("b", 1)),
        (hop("a", 1), hop("b", 2), hop("c", 1)),
    ],
)
def test_id05_refuses_chain_that_comes_back(chain: tuple[Hop, ...]) -> None:
    """ID-05: a deeper cycle is denied; a task belongs to one agent and acts once."""
    with pytest.raises(ChainError) as caught:
        check_chain(chain, 8)
    assert caught.value.reason == "cycle"
    with pytest.raises(ChainError):
        parse_act(encode_act(chain, ISSUER, TD), ISSUER, 8)


def test_id05_agent_may_hand_over_to_another_task_of_its_own() -> None:
    """ID-05: the same actor twice in a row is no cycle."""
    check_chain((hop("a", 1), hop("a", 2), hop("b", 3)), 4)


def test_empty_chain_is_no_chain() -> None:
    with pytest.raises(ChainError):
        check_chain((), 4)
    with pytest.raises(TokenClaimsError):
        parse_act(None, ISSUER, 4)


@pytest.mark.parametrize("limit", [0, -1, 9])
def test_limit_itself_has_a_cap(limit: int) -> None:
    with pytest.raises(ValueError, match="depth limit"):
        check_chain(ONE, limit)
