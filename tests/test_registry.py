"""What commands read of a service's state: as it was then, and nothing is written."""

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from authz.commands.registry import Registry, open_registry
from authz.errors import StoreError
from authz.store.snapshot import State
from identity.withdrawal import Standing
from tests.state_world import LEAD, NOW, TRIAGE, consent, load, task, ulid, withdrawal

LATER = NOW + timedelta(minutes=1)
MUCH_LATER = NOW + timedelta(minutes=2)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return load(tmp_path)


def path(directory: Path) -> Path:
    return directory / "data" / "state.db"


def is_stopped(registry: Registry) -> bool:
    return registry.withdrawals.find(Standing(agents=("triage",))) is not None


def test_a_stop_counts_from_when_it_was_ordered_until_it_was_released(state: State, tmp_path: Path) -> None:
    state.withdraw(withdrawal("agent", "triage", at=LATER), LATER)
    state.release("agent", "triage", "admin", "it was a mistake", MUCH_LATER)
    seen: list[tuple[datetime, bool]] = []
    for at in (NOW, LATER, MUCH_LATER - timedelta(seconds=1), MUCH_LATER):
        with open_registry(path(tmp_path), at) as registry:
            seen.append((at, is_stopped(registry)))
            assert registry.epoch == state.epoch
            assert registry.agent("triage") == TRIAGE
            assert registry.agent("nobody") is None
    assert [stopped for _, stopped in seen] == [False, True, True, False]


def test_a_revoked_token_counts_until_it_is_forgotten(state: State, tmp_path: Path) -> None:
    state.withdraw(withdrawal("token", "jti-1", end=MUCH_LATER), NOW)
    for at, number in ((NOW, 1), (LATER, 1), (MUCH_LATER, 0)):
        with open_registry(path(tmp_path), at) as registry:
            assert len(registry.withdrawals) == number


def test_a_grant_counts_from_when_it_was_made_until_it_was_revoked(state: State, tmp_path: Path) -> None:
    given = consent(1, created_at=LATER)
    state.add_consent(given, LATER)
    state.revoke_consent(ulid(1), MUCH_LATER)
    revoked = dataclasses.replace(given, revoked_at=MUCH_LATER)
    for at, expected in ((NOW, None), (LATER, given), (MUCH_LATER, revoked)):
        with open_registry(path(tmp_path), at) as registry:
            assert registry.consent(ulid(1)) == expected
            assert registry.consents() == (() if expected is None else (expected,))
            assert registry.consent(ulid(2)) is None


def test_a_task_counts_until_it_was_ended(state: State, tmp_path: Path) -> None:
    state.start_task(task(1), NOW)
    state.end_task(task(1).id, LATER)
    for at, expected in ((NOW, task(1)), (LATER, dataclasses.replace(task(1), ended_at=LATER))):
        with open_registry(path(tmp_path), at) as registry:
            assert registry.task(task(1).id) == expected
            assert registry.task(ulid(2)) is None


def test_nothing_can_be_written(state: State, tmp_path: Path) -> None:
    state.add_consent(consent(1), NOW)
    with (
        open_registry(path(tmp_path), NOW) as registry,
        registry.engine.connect() as connection,
        pytest.raises(OperationalError, match="readonly"),
    ):
        connection.exec_driver_sql("DELETE FROM consents")
    assert state.consents_of(LEAD) == (consent(1),)


def test_state_of_an_older_program_is_an_error_that_says_what_to_do(state: State, tmp_path: Path) -> None:
    with state._store._engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 2")
    state._store.close()
    with pytest.raises(StoreError, match="schema version 2"), open_registry(path(tmp_path), NOW):
        pass


def test_no_state_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no state"), open_registry(path(tmp_path), NOW):
        pass


def test_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path(tmp_path).write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="cannot be read"), open_registry(path(tmp_path), NOW):
        pass
