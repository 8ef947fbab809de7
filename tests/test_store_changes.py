"""The log of changes: who follows it misses nothing, and learns when it has to read everything."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from authz.errors import StoreError
from authz.store.changes import Change, Progress, read_changes, read_progress
from authz.store.snapshot import State
from identity.caller import Agent
from tests.state_world import (
    HIRED,
    NOW,
    RESOLVER,
    TRIAGE,
    again,
    broken_disk,
    consent,
    load,
    open_store,
    task,
    ulid,
    withdrawal,
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return load(tmp_path)


def progress(state: State) -> Progress:
    with state._store._engine.begin() as connection:
        return read_progress(connection)


def changes(state: State, after: int) -> tuple[Change, ...] | None:
    with state._store._engine.begin() as connection:
        return read_changes(connection, after, read_progress(connection).last)


def news(state: State, after: int) -> list[tuple[str, str]]:
    found = changes(state, after)
    assert found is not None
    assert [change.n for change in found] == list(range(after + 1, after + 1 + len(found)))
    return [(change.kind, change.subject) for change in found]


def test_every_change_is_told_once_in_its_order(state: State) -> None:
    seen = progress(state).last
    state.start_task(task(1), NOW)
    state.set_thumbprints({task(1).id: "t" * 43})
    state.add_consent(consent(2), NOW)
    state.register_agent(HIRED, NOW)
    state.change_agent(dataclasses.replace(HIRED, purpose="another"), NOW)
    state.withdraw(withdrawal("agent", "hired"), NOW)
    state.release("agent", "hired", "admin", "it was a mistake", NOW)
    state.revoke_consent(ulid(2), NOW)
    state.end_task(task(1).id, NOW)

    assert news(state, seen) == [
        ("task", task(1).id),
        ("task", task(1).id),
        ("consent", ulid(2)),
        ("agent", "hired"),
        ("agent", "hired"),
        ("withdrawal", "1"),
        ("release", "1"),
        ("consent", ulid(2)),
        ("withdrawal", "2"),
        ("task", task(1).id),
    ]
    assert progress(state).epoch == progress(state).last == state.epoch


def test_what_ends_with_an_agent_is_told_with_it(state: State) -> None:
    for number in (1, 2):
        state.start_task(task(number), NOW)
    state.start_task(task(3, "resolver"), NOW)
    state.add_consent(consent(4), NOW)
    seen = progress(state).last
    state.register_agents([RESOLVER], NOW)
    assert sorted(news(state, seen)) == [
        ("agent", "triage"),
        ("consent", ulid(4)),
        ("task", ulid(1)),
        ("task", ulid(2)),
    ]


def test_what_changes_nothing_is_not_told(state: State) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    seen = progress(state)
    state.withdraw(withdrawal("agent", "triage"), NOW)
    state.register_agents([TRIAGE, RESOLVER], NOW)
    state.end_task(ulid(9), NOW)
    state.retire("nobody", NOW)
    with pytest.raises(StoreError):
        state.start_task(task(1, "nobody"), NOW)
    assert progress(state) == seen


def test_gap_after_a_refusal_says_that_all_must_be_read(state: State) -> None:
    seen = progress(state).last
    with broken_disk(state), pytest.raises(StoreError):
        state.withdraw(withdrawal("token", "jti-1"), NOW)
    state.withdraw(withdrawal("token", "jti-2"), NOW)
    assert changes(state, seen) is None
    assert news(state, progress(state).last) == []


def test_old_rows_go_the_newest_never_and_a_follower_learns_of_it(state: State) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    before = progress(state)
    state.prune(NOW + timedelta(hours=1))
    assert news(state, before.last - 1) == [("withdrawal", "1")]
    assert changes(state, 1) is not None

    state.prune(NOW + timedelta(hours=3))
    assert progress(state) == before
    assert news(state, before.last - 1) == [("withdrawal", "1")]
    assert changes(state, 1) is None


def test_epoch_outlives_its_row(state: State, tmp_path: Path) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    epoch = state.epoch
    state.start_task(task(1), NOW)
    state.prune(NOW + timedelta(hours=3))
    assert again(state, tmp_path).epoch == epoch


def test_note_of_a_certificate_has_the_time_of_the_change_before(state: State) -> None:
    state.start_task(task(1), NOW)
    state.set_thumbprints({task(1).id: "t" * 43})
    with state._store._engine.begin() as connection:
        times = list(connection.exec_driver_sql("SELECT at FROM changes ORDER BY n DESC LIMIT 2"))
    assert times[0] == times[1]


def test_each_start_is_a_term_of_its_own(state: State, tmp_path: Path) -> None:
    terms = [progress(state).term]
    for _ in range(3):
        state = again(state, tmp_path)
        terms.append(progress(state).term)
    assert terms == [1, 2, 3, 4]


def test_process_that_came_back_from_a_pause_writes_nothing_any_more(state: State, tmp_path: Path) -> None:
    newer = State.load(open_store(tmp_path), NOW)
    newer.withdraw(withdrawal("agent", "triage"), NOW)
    with pytest.raises(StoreError, match="another process writes to this state now"):
        state.start_task(task(1), NOW)
    with pytest.raises(StoreError, match="another process writes to this state now"):
        state.release("agent", "triage", "admin", "it was a mistake", NOW)
    with pytest.raises(StoreError, match="until a restart only"):
        state.retire("resolver", NOW)

    assert newer._store.tasks(NOW) == ()
    assert {agent.name for agent in newer._store.agents()} == {"triage", "resolver"}
    assert state.agent("resolver") is None


def test_change_of_many_agents_is_one_step(state: State) -> None:
    seen = progress(state)
    many = [Agent(f"agent-{number}", "o", "s", "p", "observer") for number in range(50)]
    state.register_agents(many, NOW)
    assert len(news(state, seen.last)) == 52
    assert state.epoch == progress(state).epoch == seen.last + 52


@pytest.mark.parametrize("name", ["term", "epoch"])
def test_state_without_a_term_or_an_epoch_is_an_error(state: State, tmp_path: Path, name: str) -> None:
    with state._store._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM meta WHERE name = ?", (name,))
    state._store.close()
    with pytest.raises(StoreError, match="no term or no epoch"):
        open_store(tmp_path)
