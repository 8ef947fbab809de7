"""A change is made only where what it was decided on is still so; and who may release whom."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from authz.errors import ChangedError
from authz.store.decided_on import DecidedOn
from authz.store.snapshot import State
from identity.caller import Agent
from identity.withdrawal import Kind, Withdrawal
from tests.state_world import HIRED, LEAD, NOW, RUNNER, again, load

RAISED = replace(HIRED, ceiling="contributor")
LOWERED = replace(HIRED, ceiling="viewer")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = load(tmp_path)
    yield state
    state._store.close()


def contain(by: str, kind: Kind = "agent", subject: str = "triage") -> Withdrawal:
    return Withdrawal(kind, subject, None, "looks stolen", by, NOW)


def author(state: State, kind: Kind = "agent", subject: str = "triage") -> str | None:
    found = state.withdrawals.containment(kind, subject)
    return None if found is None else found.by


def test_a_change_permitted_against_the_old_agent_does_not_undo_what_came_between(state: State) -> None:
    state.register_agent(HIRED, NOW)
    state.change_agent(LOWERED, NOW)
    with pytest.raises(ChangedError, match="'hired' was changed meanwhile: read it again"):
        state.change_agent(replace(HIRED, purpose="another"), NOW, DecidedOn(HIRED))
    assert state.agent("hired") == LOWERED
    state.change_agent(replace(LOWERED, purpose="another"), NOW, DecidedOn(LOWERED))


@pytest.mark.parametrize(
    "act",
    [
        lambda state: state.retire("hired", NOW, DecidedOn(HIRED)),
        lambda state: state.change_agent(HIRED, NOW, DecidedOn(HIRED)),
    ],
)
def test_what_was_retired_meanwhile_is_not_touched_again(state: State, act: Callable[[State], int]) -> None:
    state.register_agent(HIRED, NOW)
    state.retire("hired", NOW)
    epoch = state.epoch
    with pytest.raises(ChangedError):
        act(state)
    assert state.agent("hired") is None
    assert state.epoch == epoch


def test_an_agent_that_was_changed_meanwhile_is_not_retired_by_its_old_owner(state: State) -> None:
    state.register_agent(HIRED, NOW)
    state.change_agent(replace(HIRED, owner="another"), NOW)
    with pytest.raises(ChangedError):
        state.retire("hired", NOW, DecidedOn(HIRED))
    assert state.agent("hired") is not None


def test_the_agent_that_last_had_a_name_is_known_when_it_is_retired(state: State, tmp_path: Path) -> None:
    assert state.retired_agent("hired") is None
    state.register_agent(HIRED, NOW)
    assert state.retired_agent("hired") is None
    state.retire("hired", NOW)
    assert state.retired_agent("hired") == HIRED
    assert again(state, tmp_path).retired_agent("hired") == HIRED


@pytest.mark.parametrize("decided_on", [None, RAISED])
def test_a_registration_that_was_decided_on_another_last_agent_is_refused(
    state: State, decided_on: Agent | None
) -> None:
    state.register_agent(HIRED, NOW)
    state.retire("hired", NOW)
    with pytest.raises(ChangedError):
        state.register_agent(RAISED, NOW, DecidedOn(decided_on))
    assert state.agent("hired") is None
    state.register_agent(HIRED, NOW, DecidedOn(HIRED))


@pytest.mark.parametrize(
    ("kind", "subject"), [("agent", "triage"), ("human", LEAD), ("workload", str(RUNNER))]
)
def test_a_later_containment_takes_over_so_that_who_contained_in_advance_cannot_release(
    state: State, tmp_path: Path, kind: Kind, subject: str
) -> None:
    state.withdraw(contain("owner", kind, subject), NOW)
    epoch = state.epoch
    assert state.withdraw(contain("operator", kind, subject), NOW) > epoch
    assert author(state, kind, subject) == "operator"
    state = again(state, tmp_path)
    assert author(state, kind, subject) == "operator"
    state.release(kind, subject, "operator", "over", NOW)
    assert author(state, kind, subject) is None
    state = again(state, tmp_path)
    assert author(state, kind, subject) is None


def test_the_newest_of_three_containments_is_the_one_after_a_restart(state: State, tmp_path: Path) -> None:
    for by in ("first", "second", "first"):
        state.withdraw(contain(by), NOW)
    assert author(state) == "first"
    assert author(again(state, tmp_path)) == "first"


def test_the_same_containment_again_writes_nothing(state: State) -> None:
    epoch = state.withdraw(contain("owner"), NOW)
    assert state.withdraw(contain("owner"), NOW) == epoch


def test_a_containment_decided_on_nobody_does_not_take_over_one_that_came_between(state: State) -> None:
    """Else an owner whose order was under way could release what an operator stopped."""
    state.withdraw(contain("operator"), NOW)
    with pytest.raises(ChangedError):
        state.withdraw(contain("owner"), NOW, DecidedOn(None))
    assert author(state) == "operator"


def test_a_containment_goes_on_where_the_one_before_was_released_meanwhile(state: State) -> None:
    state.withdraw(contain("second-operator"), NOW, DecidedOn("operator"))
    assert author(state) == "second-operator"


def test_a_release_decided_on_ones_own_containment_releases_nobody_elses(state: State) -> None:
    state.withdraw(contain("owner"), NOW)
    state.withdraw(contain("operator"), NOW)
    with pytest.raises(ChangedError):
        state.release("agent", "triage", "owner", "over", NOW, DecidedOn("owner"))
    assert author(state) == "operator"
    state.release("agent", "triage", "second", "over", NOW, DecidedOn("operator"))
    assert author(state) is None
