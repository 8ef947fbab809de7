"""What a replica reads of a state: all changes, in order, whatever happened between two readings."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from authz.errors import StoreError
from authz.store.changes import KEPT_CHANGES, forget_changes
from authz.store.schema import SCHEMA_VERSION
from authz.store.sqlite import Store
from authz.store.sqlite_epochs import SqliteEpochs
from identity.consent import Consent
from identity.names import new_ulid
from identity.withdrawal import Standing
from tests.fakes import LEAD, agent
from tests.followed_world import Authority, Replica, new_task, utc, withdrawal


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    made = Authority(tmp_path / "data")
    yield made
    made.store.close()


@pytest.fixture
def replica(authority: Authority) -> Iterator[Replica]:
    made = Replica(authority.path)
    made.polled()
    yield made
    made.state._epochs.close()


def _consent() -> Consent:
    now = utc()
    return Consent.parse(
        id=new_ulid(now, os.urandom(10)),
        human=LEAD.uri,
        agent="triage",
        scopes=frozenset({"tickets:read"}),
        tools=None,
        delegates_to=frozenset(),
        created_at=now,
        expires_at=now + timedelta(hours=1),
        revoked_at=None,
    )


def _stands(replica: Replica, **standing: object) -> bool:
    found = replica.polled().withdrawals.find(Standing(**standing))  # type: ignore[arg-type]  # as it takes
    return found is None


def test_reads_everything_at_first(authority: Authority) -> None:
    task, consent = authority.start_task(), _consent()
    authority.state.add_consent(consent, utc())
    authority.state.withdraw(withdrawal("human", LEAD.uri), utc())
    replica = Replica(authority.path)
    state = replica.polled()
    assert state.agent("triage") == authority.state.agent("triage")
    assert state.task(task.id) == task
    assert state.consent(consent.id) == consent
    assert state.consents_of(LEAD.uri) == (consent,)
    assert not _stands(replica, human=LEAD.uri)
    assert (state.epoch, state.progress) == (authority.state.epoch, authority.store.progress())


def test_a_started_task_is_read_and_moves_no_epoch(authority: Authority, replica: Replica) -> None:
    before = replica.state.epoch
    task = authority.start_task()
    assert replica.state.task(task.id) is None
    assert replica.polled().task(task.id) == task
    assert replica.state.epoch == before


def test_an_ended_task_is_read(authority: Authority, replica: Replica) -> None:
    task = authority.start_task()
    replica.polled()
    authority.state.end_task(task.id, utc())
    ended = replica.polled().task(task.id)
    assert ended is not None
    assert ended.ended_at is not None
    assert replica.state.epoch == authority.state.epoch


def test_what_is_withdrawn_and_released_is_read(authority: Authority, replica: Replica) -> None:
    assert _stands(replica, agents=("triage",))
    authority.state.withdraw(withdrawal(), utc())
    authority.state.withdraw(withdrawal("token", "j" * 22, expires_at=utc() + timedelta(hours=1)), utc())
    assert not _stands(replica, agents=("triage",))
    assert not _stands(replica, jti="j" * 22)
    authority.state.release("agent", "triage", "the test", "over", utc())
    assert _stands(replica, agents=("triage",))
    assert not _stands(replica, jti="j" * 22)


def test_what_is_withdrawn_and_released_between_two_readings_stands(
    authority: Authority, replica: Replica
) -> None:
    authority.state.withdraw(withdrawal(), utc())
    authority.state.release("agent", "triage", "the test", "over", utc())
    assert _stands(replica, agents=("triage",))
    assert replica.state.epoch == authority.state.epoch


def test_an_agent_that_changes_or_retires_is_read(authority: Authority, replica: Replica) -> None:
    task = authority.start_task()
    authority.state.register_agents([agent("triage", ceiling="observer")], utc())
    state = replica.polled()
    lowered = state.agent("triage")
    assert lowered is not None
    assert (lowered.ceiling, state.agent("resolver")) == ("observer", None)
    authority.state.retire("triage", utc())
    ended = replica.polled().task(task.id)
    assert ended is not None
    assert (ended.ended_at is not None, replica.state.agent("triage")) == (True, None)


def test_a_grant_that_is_revoked_is_read(authority: Authority, replica: Replica) -> None:
    consent = _consent()
    authority.state.add_consent(consent, utc())
    assert replica.polled().consent(consent.id) == consent
    authority.state.revoke_consent(consent.id, utc())
    revoked = replica.polled().consent(consent.id)
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert not _stands(replica, grants=(consent.id,))


def test_a_gap_reads_everything(authority: Authority, replica: Replica) -> None:
    """A number that was reserved and not written, or rows that were forgotten."""
    authority.store.reserve()
    task = authority.start_task()
    authority.state.withdraw(withdrawal(), utc())
    assert replica.polled().task(task.id) == task
    assert not _stands(replica, agents=("triage",))


def test_rows_that_were_forgotten_are_a_gap(authority: Authority, replica: Replica) -> None:
    tasks = [authority.start_task() for _ in range(3)]
    with authority.store._transaction() as connection:
        forget_changes(connection, utc() + KEPT_CHANGES + timedelta(minutes=1))
    state = replica.polled()
    assert [state.task(task.id) for task in tasks] == tasks


def test_thousands_of_changes_between_two_readings_are_read(authority: Authority, replica: Replica) -> None:
    tasks = {task.id: "t" * 43 for task in (authority.start_task() for _ in range(1200))}
    authority.state.set_thumbprints(tasks)
    state = replica.polled()
    assert {task_id: state.task(task_id).thumbprint for task_id in tasks} == tasks  # type: ignore[union-attr]  # all are known


def test_nothing_is_read_where_nothing_changed(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(SqliteEpochs, "changes_after", read)
    for _ in range(3):
        replica.polled()


def test_what_ended_long_ago_leaves_memory(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    task = authority.start_task(deadline=timedelta(seconds=1))
    replica = Replica(authority.path)
    assert replica.polled().task(task.id) == task
    replica.state._now = lambda: utc() + timedelta(hours=1)
    assert replica.polled().task(task.id) is None


def test_a_restart_of_the_authority_is_followed(authority: Authority, replica: Replica) -> None:
    authority.restart()
    authority.state.withdraw(withdrawal(), utc())
    assert not _stands(replica, agents=("triage",))
    assert replica.state.progress.term == authority.term == 2


def test_writes_nothing(authority: Authority, replica: Replica) -> None:
    connection = replica.state._epochs._connection  # type: ignore[attr-defined]  # of SqliteEpochs
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM tasks")


def test_takes_the_writer_no_lock_and_keeps_it_from_nothing(authority: Authority, replica: Replica) -> None:
    for _ in range(20):
        authority.start_task()
        replica.polled()
    with closing(sqlite3.connect(authority.path)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    task = authority.start_task()
    assert replica.polled().task(task.id) == task


# ---- the state is gone, or another one


def _vanishes(path: Path) -> None:
    shutil.move(path.parent, path.parent.with_name("elsewhere"))


def _is_open_to_others(path: Path) -> None:
    path.chmod(0o644)


def _is_a_link(path: Path) -> None:
    path.rename(path.with_name("kept.db"))
    path.symlink_to("kept.db")


def _loses_its_index(path: Path) -> None:
    """Who restores a backup in place removes these; the old index would tell of no change for ever."""
    path.with_name("state.db-shm").unlink()


def _is_another_program_s(path: Path) -> None:
    path.rename(path.with_name("kept.db"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE t (x)")
    path.chmod(0o600)
    path.with_name("state.db-shm").touch()


def _is_damaged(path: Path) -> None:
    path.rename(path.with_name("kept.db"))
    path.write_bytes(os.urandom(8192))
    path.chmod(0o600)
    path.with_name("state.db-wal").unlink()  # it holds all pages still


def _is_of_another_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.chmod(0o600)
    copy.replace(path)


@pytest.mark.parametrize(
    "harm",
    [
        _vanishes,
        _is_open_to_others,
        _is_a_link,
        _loses_its_index,
        _is_another_program_s,
        _is_damaged,
        _is_of_another_version,
    ],
)
def test_a_state_that_cannot_be_read_is_an_error_and_changes_nothing(
    authority: Authority, replica: Replica, harm: Callable[[Path], None]
) -> None:
    authority.store.close()
    harm(authority.path)
    known = replica.state.progress
    for _ in range(2):
        with pytest.raises(StoreError):
            replica.polled()
    assert replica.state.progress == known
    assert replica.state.agent("triage") is not None


def _backup(authority: Authority, to: Path) -> Path:
    with closing(sqlite3.connect(authority.path)) as source, closing(sqlite3.connect(to)) as copy:
        source.backup(copy)
    to.chmod(0o600)
    return to


def _put_back(authority: Authority, backup: Path) -> None:
    authority.store.close()
    for name in ("state.db-wal", "state.db-shm"):
        authority.path.with_name(name).unlink(missing_ok=True)
    backup.replace(authority.path)
    authority.open()


def test_a_restored_backup_is_not_obeyed(authority: Authority, replica: Replica, tmp_path: Path) -> None:
    """It has not heard of the withdrawal: who obeyed it would allow again."""
    backup = _backup(authority, tmp_path / "backup.db")
    authority.state.withdraw(withdrawal(), utc())
    assert not _stands(replica, agents=("triage",))
    _put_back(authority, backup)
    with pytest.raises(StoreError, match="backup was restored"):
        replica.polled()
    assert replica.state.withdrawals.items


def test_a_restored_backup_that_went_on_is_not_obeyed_either(
    authority: Authority, replica: Replica, tmp_path: Path
) -> None:
    """Its numbers have passed ours, but what stood there is not what stands there now."""
    backup = _backup(authority, tmp_path / "backup.db")
    authority.state.withdraw(withdrawal(), utc())
    replica.polled()
    _put_back(authority, backup)
    for _ in range(5):
        authority.state.end_task(authority.start_task().id, utc())
    with pytest.raises(StoreError, match="another one than before"):
        replica.polled()


def test_an_older_term_is_not_obeyed(authority: Authority, replica: Replica) -> None:
    authority.restart()
    replica.polled()
    with closing(sqlite3.connect(authority.path)) as other, other:
        other.execute("UPDATE meta SET value = 1 WHERE name = 'term'")
    with pytest.raises(StoreError, match="went back"):
        replica.polled()


def test_a_copy_of_the_same_state_is_followed(authority: Authority, replica: Replica, tmp_path: Path) -> None:
    """Moved to another disk, say: nothing is lost in it."""
    authority.state.withdraw(withdrawal(), utc())
    replica.polled()
    _put_back(authority, _backup(authority, tmp_path / "backup.db"))
    authority.state.withdraw(withdrawal("agent", "resolver"), utc())
    assert not _stands(replica, agents=("resolver",))


def test_a_row_that_somebody_else_wrote_is_an_error(authority: Authority, replica: Replica) -> None:
    task = new_task()
    authority.state.start_task(task, utc())
    with closing(sqlite3.connect(authority.path)) as other, other:
        other.execute("UPDATE tasks SET workload = 'nobody' WHERE id = ?", (task.id,))
    with pytest.raises(StoreError, match="did not write"):
        replica.polled()
    assert replica.state.task(task.id) is None


def test_there_is_nothing_to_follow_yet(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "state.db")
    with pytest.raises(StoreError, match="cannot be read"):
        replica.polled()
    assert not (tmp_path / "state.db").exists()


def test_a_state_whose_authority_has_stopped_is_read(tmp_path: Path) -> None:
    """What it says still counts: nobody else changes it."""
    made = Authority(tmp_path / "data")
    made.state.withdraw(withdrawal(), utc())
    made.store.close()
    replica = Replica(made.path)
    assert not _stands(replica, agents=("triage",))
    made.open()
    made.state.withdraw(withdrawal("agent", "resolver"), utc())
    assert not _stands(replica, agents=("resolver",))
    Store.open(made.path).close()
    replica.state._epochs.close()
