"""Withdrawals and the epoch: the next reading sees them, no restart loses them, no refusal undoes them."""

import dataclasses
import shutil
import sqlite3
import tracemalloc
from datetime import timedelta
from pathlib import Path

import pytest

from authz.audit.record import timestamp
from authz.epochs import require_epoch
from authz.errors import StoreError
from authz.store import held_withdrawals
from authz.store.held_withdrawals import KEPT_LINEAGE, KEPT_TOKEN, kept_until
from authz.store.snapshot import State
from identity.errors import WithdrawalError
from identity.withdrawal import KINDS, Kind
from tests.state_world import (
    HIRED,
    LEAD,
    NOW,
    RESOLVER,
    RUNNER,
    TRIAGE,
    again,
    broken_disk,
    consent,
    is_denied,
    load,
    open_store,
    task,
    ulid,
    withdrawal,
)

SUBJECTS: dict[Kind, tuple[str, dict[str, object]]] = {
    "token": ("jti-1", {"jti": "jti-1"}),
    "txn": ("txn-1", {"txn": "txn-1"}),
    "task": (ulid(1), {"tasks": (ulid(2), ulid(1))}),
    "grant": (ulid(3), {"grants": (ulid(3),)}),
    "agent": ("triage", {"agents": ("resolver", "triage")}),
    "workload": (str(RUNNER), {"workloads": (str(RUNNER),)}),
    "human": (LEAD, {"human": LEAD}),
}


@pytest.fixture
def state(tmp_path: Path) -> State:
    return load(tmp_path)


def test_every_kind_can_be_withdrawn() -> None:
    assert SUBJECTS.keys() == KINDS


@pytest.mark.parametrize("kind", sorted(SUBJECTS))
def test_withdrawal_counts_at_the_next_reading_and_after_a_restart(
    state: State, tmp_path: Path, kind: Kind
) -> None:
    subject, acting = SUBJECTS[kind]
    assert not is_denied(state, **acting)
    epoch = state.epoch

    assert state.withdraw(withdrawal(kind, subject), NOW) == state.epoch > epoch

    assert is_denied(state, **acting)
    restarted = again(state, tmp_path)
    assert is_denied(restarted, **acting)
    assert restarted.epoch == state.epoch


def test_a_person_who_signs_out_each_second_makes_nobody_read_it_all(state: State, tmp_path: Path) -> None:
    """Each sign-out read all earlier ones, under the lock that everybody who writes waits for."""
    for second in range(40):
        now = NOW + timedelta(seconds=second)
        state.withdraw(withdrawal("human", LEAD, before=int(now.timestamp())), now)
    last = int(NOW.timestamp()) + 39
    with sqlite3.connect(tmp_path / "data" / "state.db") as database:
        alive = "SELECT count(*) FROM withdrawals WHERE expires_at IS NULL AND released_at IS NULL"
        assert database.execute(alive).fetchone() == (1,)
    database.close()
    restarted = again(state, tmp_path, NOW + timedelta(seconds=40))
    assert [item.before for item in restarted.withdrawals.items] == [last]
    assert is_denied(restarted, human=LEAD, issued_at=last)
    assert not is_denied(restarted, human=LEAD, issued_at=last + 1)


def test_the_epoch_moves_after_what_is_withdrawn_is_in_memory(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, bool]] = []
    before = state.epoch

    def look() -> None:
        seen.append((state.epoch != before, is_denied(state, jti="jti-1")))

    for step in ("put", "aligned"):
        original = getattr(state._withdrawals, step)

        def watched(*given: object, original: object = original) -> object:
            look()
            result = original(*given)  # type: ignore[operator]  # the method
            look()
            return result

        monkeypatch.setattr(state._withdrawals, step, watched, raising=True)
    state.on_withdrawal(look)
    state.withdraw(withdrawal("token", "jti-1"), NOW)

    assert (True, False) not in seen
    assert seen[-1] == (True, True)


def test_who_waits_is_told_once_when_the_epoch_has_moved(state: State) -> None:
    told: list[int] = []
    state.on_withdrawal(lambda: told.append(state.epoch))
    state.withdraw(withdrawal("agent", "triage"), NOW)
    state.withdraw(withdrawal("agent", "triage"), NOW)
    state.release("agent", "triage", "admin", "it was a mistake", NOW)
    state.add_consent(consent(1), NOW)
    state.revoke_consent(ulid(1), NOW)

    assert len(told) == len(set(told)) == 3
    assert told == sorted(told)


@pytest.mark.parametrize("kind", sorted(SUBJECTS))
def test_the_same_withdrawal_is_written_once(state: State, kind: Kind) -> None:
    subject, acting = SUBJECTS[kind]
    first = state.withdraw(withdrawal(kind, subject), NOW)
    assert state.withdraw(withdrawal(kind, subject), NOW) == first
    assert rows(state, "withdrawals") == 1
    assert is_denied(state, **acting)


def test_revoking_one_token_again_and_again_moves_no_epoch_and_writes_nothing(state: State) -> None:
    first = state.withdraw(withdrawal("token", "jti-1"), NOW)
    for second in range(60):
        later = NOW + timedelta(seconds=second)
        assert state.withdraw(withdrawal("token", "jti-1", at=later), later) == first
    assert rows(state, "withdrawals") == 1


def test_a_withdrawal_that_lasts_much_longer_takes_the_place_of_a_shorter_one(state: State) -> None:
    short, long = NOW + timedelta(minutes=1), NOW + timedelta(hours=1)
    state.withdraw(withdrawal("token", "jti-1", end=short), NOW)
    state.withdraw(withdrawal("token", "jti-1", end=long), NOW)
    state.prune(short)
    assert is_denied(state, jti="jti-1")
    state.prune(long)
    assert not is_denied(state, jti="jti-1")


def test_a_later_session_revoked_takes_back_more_and_an_earlier_one_nothing_less(
    state: State, tmp_path: Path
) -> None:
    second = int(NOW.timestamp())
    state.withdraw(withdrawal("human", LEAD, before=second), NOW)
    state.withdraw(withdrawal("human", LEAD, before=second + 60), NOW)
    epoch = state.epoch
    state.withdraw(withdrawal("human", LEAD, before=second + 30), NOW)

    assert state.epoch == epoch
    for each in (state, again(state, tmp_path)):
        assert is_denied(each, human=LEAD, issued_at=second + 60)
        assert not is_denied(each, human=LEAD, issued_at=second + 61)


def test_session_revoked_outlives_the_release_of_the_person(state: State, tmp_path: Path) -> None:
    second = int(NOW.timestamp())
    state.withdraw(withdrawal("human", LEAD), NOW)
    state.withdraw(withdrawal("human", LEAD, before=second), NOW)
    state.release("human", LEAD, "admin", "they are back", NOW)

    for each in (state, again(state, tmp_path)):
        assert is_denied(each, human=LEAD, issued_at=second)
        assert not is_denied(each, human=LEAD, issued_at=second + 1)


def test_withdrawal_holds_in_memory_though_the_disk_refuses(state: State) -> None:
    epoch = state.epoch
    with broken_disk(state):
        with pytest.raises(StoreError, match="token 'jti-1' is withdrawn until a restart only"):
            state.withdraw(withdrawal("token", "jti-1"), NOW)
        assert is_denied(state, jti="jti-1")
        assert state.epoch > epoch


def test_withdrawal_that_the_disk_refused_is_written_when_it_is_asked_for_again(
    state: State, tmp_path: Path
) -> None:
    with broken_disk(state), pytest.raises(StoreError):
        state.withdraw(withdrawal("token", "jti-1"), NOW)
    in_memory = state.epoch

    assert state.withdraw(withdrawal("token", "jti-1"), NOW) > in_memory
    restarted = again(state, tmp_path)
    assert is_denied(restarted, jti="jti-1")
    assert restarted.epoch == state.epoch


def test_no_number_is_used_twice_after_a_refusal(state: State) -> None:
    with broken_disk(state), pytest.raises(StoreError):
        state.withdraw(withdrawal("token", "jti-1"), NOW)
    lost = state.epoch
    state.start_task(task(1), NOW)
    state.end_task(task(1).id, NOW)

    assert lost not in numbers(state)
    assert state.epoch == max(numbers(state)) > lost


def test_stop_that_the_disk_refused_can_be_released(state: State) -> None:
    with broken_disk(state), pytest.raises(StoreError):
        state.withdraw(withdrawal("agent", "triage"), NOW)
    epoch = state.epoch
    assert state.release("agent", "triage", "admin", "it was a mistake", NOW) > epoch
    assert not is_denied(state, agents=("triage",))


@pytest.mark.parametrize("kind", ["agent", "workload", "human"])
def test_release_brings_back(state: State, tmp_path: Path, kind: Kind) -> None:
    subject, acting = SUBJECTS[kind]
    stopped = state.withdraw(withdrawal(kind, subject), NOW)
    released = state.release(kind, subject, "admin", "it was a mistake", NOW + timedelta(minutes=1))

    assert released == state.epoch > stopped
    assert not is_denied(state, **acting)
    assert not is_denied(again(state, tmp_path), **acting)


def test_release_is_not_believed_before_the_disk_has_it(state: State) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    with broken_disk(state):
        with pytest.raises(StoreError):
            state.release("agent", "triage", "admin", "it was a mistake", NOW)
        assert is_denied(state, agents=("triage",))


@pytest.mark.parametrize("kind", ["token", "txn", "task", "grant"])
def test_what_was_revoked_is_never_released(state: State, kind: Kind) -> None:
    subject, acting = SUBJECTS[kind]
    state.withdraw(withdrawal(kind, subject), NOW)
    with pytest.raises(StoreError, match="never comes back"):
        state.release(kind, subject, "admin", "it was a mistake", NOW)
    assert is_denied(state, **acting)


def test_release_of_what_is_not_stopped_is_an_error(state: State) -> None:
    state.withdraw(withdrawal("human", LEAD, before=1), NOW)
    for kind, subject in (("agent", "triage"), ("human", LEAD)):
        with pytest.raises(StoreError, match="is stopped, so nothing is released"):
            state.release(kind, subject, "admin", "why not", NOW)  # type: ignore[arg-type]  # both are kinds


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 501])
def test_release_needs_a_reason(state: State, reason: str) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    with pytest.raises(WithdrawalError, match="reason"):
        state.release("agent", "triage", "admin", reason, NOW)
    assert is_denied(state, agents=("triage",))


def test_who_released_when_and_why_is_kept(state: State) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    state.release("agent", "triage", "second-admin", "it was a mistake", NOW + timedelta(minutes=1))
    query = "SELECT by, reason, at, released_by, release_reason, released_at FROM withdrawals"
    assert read(state, query) == [
        (
            "admin",
            "stolen",
            timestamp(NOW),
            "second-admin",
            "it was a mistake",
            timestamp(NOW + timedelta(minutes=1)),
        )
    ]


def test_stopping_an_agent_ends_none_of_its_tasks_so_that_release_lets_them_go_on(
    state: State, tmp_path: Path
) -> None:
    state.start_task(task(1), NOW)
    state.withdraw(withdrawal("agent", "triage"), NOW)
    running = state.task(task(1).id)

    assert running is not None
    assert running.is_live(NOW)
    assert is_denied(state, agents=("triage",), tasks=(task(1).id,))
    restarted = again(state, tmp_path)
    restarted.release("agent", "triage", "admin", "it was a mistake", NOW)
    assert not is_denied(restarted, agents=("triage",), tasks=(task(1).id,))
    assert restarted.task(task(1).id) == task(1)


def test_nobody_escapes_a_stop_by_registering_the_name_anew(state: State, tmp_path: Path) -> None:
    state.register_agent(HIRED, NOW)
    state.withdraw(withdrawal("agent", "hired"), NOW)
    state.retire("hired", NOW)
    state.register_agent(dataclasses.replace(HIRED, owner="somebody-else"), NOW)
    state.change_agent(dataclasses.replace(HIRED, purpose="another"), NOW)

    assert is_denied(state, agents=("hired",))
    assert is_denied(again(state, tmp_path), agents=("hired",))


def test_epoch_outlives_the_process(state: State, tmp_path: Path) -> None:
    state.start_task(task(1), NOW)
    epochs = [state.epoch, *(state.withdraw(withdrawal("token", f"jti-{n}"), NOW) for n in range(5))]
    for _ in range(3):
        state = again(state, tmp_path)
        assert state.epoch == epochs[-1]
        epochs.append(state.withdraw(withdrawal("token", f"jti-{len(epochs)}"), NOW))
    assert epochs == sorted(set(epochs))


def test_what_gives_rights_moves_no_epoch(state: State) -> None:
    epoch = state.epoch
    state.start_task(task(1), NOW)
    state.set_thumbprint(task(1).id, "t" * 43)
    state.add_consent(consent(1), NOW)
    state.register_agent(HIRED, NOW)
    state.end_task(ulid(99), NOW)
    state.retire("nobody", NOW)
    assert state.epoch == epoch


def test_reach_is_at_once_what_is_known_and_an_error_beyond(state: State) -> None:
    epoch = state.withdraw(withdrawal("token", "jti-1"), NOW)
    for known in (0, 1, epoch):
        require_epoch(known, state.epoch)
    with pytest.raises(StoreError, match="was a backup restored"):
        require_epoch(epoch + 1, state.epoch)


def test_token_of_before_a_restore_names_an_epoch_that_the_restored_state_has_not(
    state: State, tmp_path: Path
) -> None:
    state.withdraw(withdrawal("token", "jti-1"), NOW)
    state._store.close()
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    state = State.load(open_store(tmp_path), NOW)
    min_epoch = state.withdraw(withdrawal("agent", "triage"), NOW)
    state._store.close()
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "backup").rename(tmp_path / "data")

    restored = State.load(open_store(tmp_path), NOW)
    assert restored.epoch < min_epoch
    with pytest.raises(StoreError):
        require_epoch(min_epoch, restored.epoch)


def test_ended_withdrawals_leave_memory_and_later_the_disk(state: State) -> None:
    state.withdraw(withdrawal("token", "jti-1"), NOW)
    state.withdraw(withdrawal("task", ulid(1)), NOW)
    state.withdraw(withdrawal("agent", "triage"), NOW)
    state.prune(NOW + KEPT_TOKEN - timedelta(seconds=1))
    assert len(state.withdrawals) == 3
    state.prune(NOW + KEPT_TOKEN)
    assert len(state.withdrawals) == 2
    state.prune(NOW + KEPT_LINEAGE)
    assert [each.kind for each in state.withdrawals.items] == ["agent"]

    state.prune(NOW + timedelta(days=32))
    assert rows(state, "withdrawals") == 1
    assert is_denied(state, agents=("triage",))


def test_number_of_tokens_that_anybody_can_revoke_is_bounded_and_hinders_no_administrator(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_withdrawals, "MAX_WITHDRAWALS", 3)
    for number in range(3):
        state.withdraw(withdrawal("token", f"jti-{number}"), NOW)
    epoch = state.epoch
    with pytest.raises(StoreError, match="3 withdrawals are held"):
        state.withdraw(withdrawal("token", "jti-9"), NOW)
    assert state.withdraw(withdrawal("token", "jti-1"), NOW) == epoch, "it is revoked already"
    assert not is_denied(state, jti="jti-9")

    for kind, (subject, acting) in SUBJECTS.items():
        if kind != "token":
            state.withdraw(withdrawal(kind, subject), NOW)
            assert is_denied(state, **acting)
    monkeypatch.setattr(held_withdrawals, "MAX_WITHDRAWALS", 7)
    state.withdraw(withdrawal("token", "jti-9"), NOW + KEPT_TOKEN)
    assert is_denied(state, jti="jti-9")
    assert len(state.withdrawals) == 7


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_can_be_released_lasts_until_then_and_the_rest_ends(kind: Kind) -> None:
    end = kept_until(kind, NOW)
    assert (end is None) == (kind in {"agent", "workload", "human"})
    # Longer than what the configuration allows: tokens five minutes, tasks a day, clocks a minute apart.
    if end is not None:
        assert end - NOW > timedelta(minutes=6) if kind == "token" else timedelta(days=1, minutes=1)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE withdrawals SET kind = 'everything'",
        "UPDATE withdrawals SET reason = ''",
        "UPDATE withdrawals SET before = 'yesterday'",
        "UPDATE withdrawals SET at = 'yesterday'",
        "UPDATE withdrawals SET subject = 'Not A Name'",
    ],
)
def test_withdrawal_that_we_did_not_write_is_an_error(state: State, change: str) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    write(state, change)
    with pytest.raises(StoreError, match="a withdrawal that we did not write"):
        state._store.withdrawals(NOW)


def test_crash_after_a_withdrawal_loses_nothing(state: State, tmp_path: Path) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    state.add_consent(consent(1), NOW)
    epoch = state.revoke_consent(ulid(1), NOW)
    # As a crash leaves it: the write-ahead log holds what the file does not yet.
    copy = tmp_path / "crashed" / "data"
    copy.mkdir(parents=True, mode=0o700)
    for file in (tmp_path / "data").iterdir():
        (copy / file.name).touch(0o600)
        (copy / file.name).write_bytes(file.read_bytes())

    recovered = State.load(open_store(tmp_path / "crashed"), NOW)
    assert recovered.epoch == epoch
    assert is_denied(recovered, agents=("triage",))
    assert is_denied(recovered, grants=(ulid(1),))


def test_half_of_a_change_is_never_on_disk(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.add_consent(consent(1), NOW)

    def crash(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    # The grant is marked already; then the process dies.
    monkeypatch.setattr("authz.store.rights.withdraw", crash)
    with pytest.raises(sqlite3.OperationalError):
        state.revoke_consent(ulid(1), NOW)
    monkeypatch.undo()

    restarted = again(state, tmp_path)
    assert restarted.consent(ulid(1)) == consent(1)
    assert not is_denied(restarted, grants=(ulid(1),))
    assert state.consent(ulid(1)) != consent(1), "in memory it is revoked all the same"


@pytest.mark.full
def test_300_000_withdrawals_load_in_bounded_memory_and_one_more_costs_little(tmp_path: Path) -> None:
    state = load(tmp_path)
    end = timestamp(NOW + timedelta(minutes=5))
    given = (
        ("token", f"{n:032x}", "revoked by its holder", LEAD, timestamp(NOW), end) for n in range(300_000)
    )
    path = tmp_path / "data" / "state.db"
    state._store.close()
    with sqlite3.connect(path) as connection:
        insert = (
            "INSERT INTO withdrawals (kind, subject, reason, by, at, expires_at) VALUES (?, ?, ?, ?, ?, ?)"
        )
        connection.executemany(insert, given)
    connection.close()

    tracemalloc.start()
    state = State.load(open_store(tmp_path), NOW)
    held, _ = tracemalloc.get_traced_memory()
    assert len(state.withdrawals) == 300_000
    assert held < 400 * 2**20

    tracemalloc.reset_peak()
    state.withdraw(withdrawal("token", "one-more"), NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - held < 2**20, "nothing is copied for one more"
    state.prune(NOW + timedelta(minutes=10))
    assert len(state.withdrawals) == 0


def test_list_of_deputy_yaml_leaves_withdrawals_alone(state: State) -> None:
    state.withdraw(withdrawal("agent", "triage"), NOW)
    state.register_agents([RESOLVER], NOW)
    state.register_agents([RESOLVER, TRIAGE], NOW)
    assert is_denied(state, agents=("triage",))


def rows(state: State, table: str) -> int:
    ((number,),) = read(state, f"SELECT count(*) FROM {table}")
    return int(str(number))


def numbers(state: State) -> list[int]:
    return [int(str(n)) for (n,) in read(state, "SELECT n FROM changes ORDER BY n")]


def read(state: State, query: str) -> list[tuple[object, ...]]:
    with state._store._engine.begin() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def write(state: State, statement: str) -> None:
    with state._store._engine.begin() as connection:
        connection.exec_driver_sql(statement)
