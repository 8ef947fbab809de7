"""What the hot path knows: a revocation wins every race, and memory is bounded."""

import dataclasses
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from authz.errors import StoreError
from authz.store import held_tasks
from authz.store.held_tasks import KEPT_TASKS
from authz.store.snapshot import State
from authz.store.sqlite import Store
from identity.caller import Agent, Task
from identity.names import new_ulid
from identity.spiffe import SpiffeId

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
TRIAGE = Agent("triage", "support", "ops", "sorts tickets", "observer", hosts=frozenset({RUNNER}))
RESOLVER = Agent("resolver", "support", "ops", "closes tickets", "contributor")


def task(number: int, agent: str = "triage", minutes: int = 60) -> Task:
    deadline = NOW + timedelta(minutes=minutes)
    return Task(new_ulid(NOW, number.to_bytes(10)), agent, None, RUNNER, NOW, deadline)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "data" / "state.db")


@pytest.fixture
def state(store: Store) -> State:
    state = State.load(store, NOW)
    state.register_agents([TRIAGE, RESOLVER], NOW)
    return state


def break_disk(store: Store) -> None:
    """Let every later write fail, as on a disk that went read-only."""
    with store._engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")


def test_state_is_read_from_disk_at_start(tmp_path: Path, store: Store, state: State) -> None:
    state.start_task(task(1), NOW)
    state.start_task(task(2), NOW)
    state.end_task(task(2).id, NOW)
    store.close()

    again = State.load(Store.open(tmp_path / "data" / "state.db"), NOW)

    assert again.snapshot().agents == {"triage": TRIAGE, "resolver": RESOLVER}
    assert again.task(task(1).id) == task(1)
    assert again.task(task(2).id) == dataclasses.replace(task(2), ended_at=NOW)


def test_unknown_is_none(state: State) -> None:
    assert state.agent("nobody") is None
    assert state.task(task(1).id) is None
    assert state.end_task(task(1).id, NOW) is None


def test_started_task_is_known_and_moves_no_epoch(state: State) -> None:
    epoch = state.epoch
    state.start_task(task(1), NOW)
    state.set_thumbprint(task(1).id, "t" * 43)

    assert state.task(task(1).id) == dataclasses.replace(task(1), thumbprint="t" * 43)
    assert state.epoch == epoch


def test_every_withdrawal_moves_the_epoch(state: State) -> None:
    state.start_task(task(1), NOW)
    epochs = [state.epoch]
    state.end_task(task(1).id, NOW)
    epochs.append(state.epoch)
    state.register_agents([TRIAGE, dataclasses.replace(RESOLVER, ceiling="observer")], NOW)
    epochs.append(state.epoch)
    state.retire("triage", NOW)
    epochs.append(state.epoch)
    state.register_agents([], NOW)
    epochs.append(state.epoch)

    assert epochs == sorted(set(epochs))


def test_who_waits_for_withdrawals_is_told_once_each_after_the_epoch_moved(
    store: Store, state: State
) -> None:
    told: list[int] = []
    state.on_withdrawal(lambda: told.append(state.epoch))
    state.start_task(task(1), NOW)
    assert told == []
    state.end_task(task(1).id, NOW)
    state.retire("triage", NOW)
    break_disk(store)
    with pytest.raises(StoreError):
        state.retire("resolver", NOW)
    assert told == sorted(set(told))
    assert len(told) == 3


def test_new_agent_and_the_same_list_move_no_epoch(state: State) -> None:
    epoch = state.epoch
    nightly = Agent("nightly-report", "data", "ops", "reports", "observer", autonomous=True)
    state.register_agents([TRIAGE, RESOLVER, nightly], NOW)
    state.register_agents([TRIAGE, RESOLVER, nightly], NOW)

    assert state.agent("nightly-report") == nightly
    assert state.epoch == epoch


def test_revocation_while_deciding_is_seen_by_the_second_reading(state: State) -> None:
    state.start_task(task(1), NOW)

    before = state.epoch
    decided_on = state.task(task(1).id)
    state.end_task(task(1).id, NOW)

    assert decided_on is not None
    assert decided_on.is_live(NOW)
    assert state.epoch != before


def test_whoever_sees_the_new_epoch_sees_the_new_rights(state: State) -> None:
    # A reader at every step of the writer: were the epoch first, one would see it with the old rights.
    state.start_task(task(1), NOW)
    before = state.epoch
    seen: list[tuple[bool, bool]] = []

    class Watched(dict[str, Task]):
        def __setitem__(self, key: str, value: Task) -> None:
            look()
            super().__setitem__(key, value)
            look()

    def look() -> None:
        read_epoch = state.epoch
        found = state.task(task(1).id)
        assert found is not None
        seen.append((read_epoch != before, found.is_live(NOW)))

    state._tasks._by_id = Watched(state._tasks.copy())
    state.end_task(task(1).id, NOW)
    look()

    assert seen == [(False, True), (False, False), (True, False)]


def test_no_reader_decides_on_old_rights_with_the_new_epoch(state: State) -> None:
    for number in range(30):
        state.start_task(task(number), NOW)
    acknowledged: set[str] = set()
    wrong: list[str] = []
    stop = threading.Event()

    def decide() -> None:
        while not stop.is_set():
            for number in range(30):
                task_id = task(number).id
                was_acknowledged = task_id in acknowledged
                before = state.epoch
                found = state.task(task_id)
                allowed = found is not None and found.is_live(NOW)
                if allowed and was_acknowledged and state.epoch == before:
                    wrong.append(task_id)

    readers = [threading.Thread(target=decide) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(30):
        state.end_task(task(number).id, NOW)
        acknowledged.add(task(number).id)
    stop.set()
    for reader in readers:
        reader.join()

    assert wrong == []


def test_retired_agent_is_gone_with_its_tasks(state: State) -> None:
    state.start_task(task(1), NOW)
    state.start_task(task(2, "resolver"), NOW)
    state.retire("triage", NOW)

    assert state.agent("triage") is None
    assert state.task(task(1).id) == dataclasses.replace(task(1), ended_at=NOW)
    assert state.task(task(2, "resolver").id) == task(2, "resolver")
    with pytest.raises(StoreError, match="no agent 'triage'"):
        state.start_task(task(3), NOW)


def test_agent_that_is_no_longer_listed_is_gone_with_its_tasks(state: State) -> None:
    state.start_task(task(1), NOW)
    state.register_agents([RESOLVER], NOW)
    state.register_agents([RESOLVER, TRIAGE], NOW)

    assert state.agent("triage") == TRIAGE
    assert state.task(task(1).id) == dataclasses.replace(task(1), ended_at=NOW)


def test_withdrawal_holds_in_memory_though_the_disk_refuses(store: Store, state: State) -> None:
    state.start_task(task(1), NOW)
    state.start_task(task(2, "resolver"), NOW)
    epoch = state.epoch
    break_disk(store)

    with pytest.raises(StoreError, match="has ended until a restart only"):
        state.end_task(task(1).id, NOW)
    with pytest.raises(StoreError, match="is retired until a restart only"):
        state.retire("resolver", NOW)

    ended = state.task(task(1).id)
    assert ended is not None
    assert not ended.is_live(NOW)
    assert state.agent("resolver") is None
    assert state.epoch >= epoch + 2


def test_grant_needs_the_disk(store: Store, state: State) -> None:
    break_disk(store)
    bigger = dataclasses.replace(TRIAGE, ceiling="operator")

    with pytest.raises(StoreError):
        state.start_task(task(1), NOW)
    with pytest.raises(StoreError):
        state.register_agents([bigger, RESOLVER], NOW)

    assert state.task(task(1).id) is None
    assert state.agent("triage") == TRIAGE


def test_tasks_leave_memory_after_their_deadline(state: State) -> None:
    state.start_task(task(1, minutes=5), NOW)
    state.start_task(task(2, minutes=50), NOW)
    just_before = NOW + timedelta(minutes=5) + KEPT_TASKS - timedelta(seconds=1)

    state.prune(just_before)
    assert state.task(task(1).id) is not None
    state.prune(just_before + timedelta(seconds=1))

    assert list(state.snapshot().tasks) == [task(2).id]
    assert state.snapshot().epoch == state.epoch


def test_number_of_running_tasks_is_bounded(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_tasks, "MAX_TASKS", 3)
    for number in range(3):
        state.start_task(task(number, minutes=5), NOW)
    with pytest.raises(StoreError, match="3 tasks are running"):
        state.start_task(task(9), NOW)

    state.start_task(task(9), NOW + timedelta(minutes=5) + KEPT_TASKS)
    assert list(state.snapshot().tasks) == [task(9).id]


def test_memory_of_ended_tasks_is_bounded(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_tasks, "MAX_ENDED", 3)
    for number in range(20):
        state.start_task(task(number), NOW)
        state.end_task(task(number).id, NOW)
    state.prune(NOW)

    assert list(state.snapshot().tasks) == [task(number).id for number in (17, 18, 19)]
    assert len(state._tasks._deadlines) <= 12


def test_old_tasks_leave_the_disk_in_time(store: Store, state: State) -> None:
    state.start_task(task(1), NOW)
    state.prune(NOW + timedelta(days=29))
    assert store.tasks(NOW) == (task(1),)

    state.prune(NOW + timedelta(days=31))
    assert store.tasks(NOW) == ()


def test_snapshot_does_not_move(state: State) -> None:
    taken = state.snapshot()
    state.start_task(task(1), NOW)
    state.retire("resolver", NOW)

    assert dict(taken.agents) == {"triage": TRIAGE, "resolver": RESOLVER}
    assert dict(taken.tasks) == {}
    assert taken.epoch != state.epoch
    with pytest.raises(TypeError):
        taken.tasks["x"] = task(1)  # type: ignore[index]  # what the type forbids, for once
