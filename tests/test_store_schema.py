"""A state that an earlier version wrote: brought up to date whole, with all that it held."""

import dataclasses
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store.followed import FollowedState
from authz.store.rows import agent_row, consent_row, task_row
from authz.store.schema import APPLICATION_ID, SCHEMA_VERSION
from authz.store.snapshot import State
from authz.store.sqlite import Store
from authz.store.sqlite_epochs import SqliteEpochs
from authz.store.withdrawal_log import WithdrawalLog
from identity.withdrawal import Withdrawal
from tests.state_world import LEAD, NOW, RESOLVER, TRIAGE, consent, is_denied, task, ulid, withdrawal

JTI, TXN, OTHER_JTI = "J" * 22, "T" * 22, "K" * 22

# The tables of version 3, as that version made them.
VERSION_3 = """\
CREATE TABLE agents (
    name VARCHAR NOT NULL, owner VARCHAR NOT NULL, sponsor VARCHAR NOT NULL, purpose VARCHAR NOT NULL,
    ceiling VARCHAR NOT NULL, autonomous BOOLEAN NOT NULL, hosts VARCHAR NOT NULL, max_depth INTEGER NOT NULL,
    expires_at VARCHAR, sandbox VARCHAR, retired_at VARCHAR, clients VARCHAR DEFAULT '[]' NOT NULL,
    managed_by VARCHAR DEFAULT 'file' NOT NULL, PRIMARY KEY (name)
);
CREATE TABLE changes (
    n INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind VARCHAR NOT NULL, subject VARCHAR NOT NULL,
    at VARCHAR NOT NULL
);
CREATE INDEX changes_at ON changes (at);
CREATE TABLE meta (name VARCHAR NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name));
CREATE TABLE withdrawals (
    n INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, kind VARCHAR NOT NULL, subject VARCHAR NOT NULL,
    "before" INTEGER, reason VARCHAR NOT NULL, "by" VARCHAR NOT NULL, at VARCHAR NOT NULL, expires_at VARCHAR,
    released_at VARCHAR, released_by VARCHAR, release_reason VARCHAR
);
CREATE INDEX withdrawals_expires_at ON withdrawals (expires_at);
CREATE INDEX withdrawals_subject ON withdrawals (kind, subject);
CREATE TABLE consents (
    id VARCHAR NOT NULL, human VARCHAR NOT NULL, agent VARCHAR NOT NULL, scopes VARCHAR NOT NULL,
    tools VARCHAR,
    delegates_to VARCHAR NOT NULL, created_at VARCHAR NOT NULL, expires_at VARCHAR NOT NULL,
    revoked_at VARCHAR, PRIMARY KEY (id), FOREIGN KEY(agent) REFERENCES agents (name)
);
CREATE INDEX consents_agent ON consents (agent);
CREATE INDEX consents_expires_at ON consents (expires_at);
CREATE INDEX consents_human ON consents (human, created_at);
CREATE TABLE tasks (
    id VARCHAR NOT NULL, agent VARCHAR NOT NULL, human VARCHAR, workload VARCHAR NOT NULL,
    started_at VARCHAR NOT NULL, deadline VARCHAR NOT NULL, ended_at VARCHAR, thumbprint VARCHAR,
    origin VARCHAR, PRIMARY KEY (id), FOREIGN KEY(agent) REFERENCES agents (name)
);
CREATE INDEX tasks_agent ON tasks (agent);
CREATE INDEX tasks_deadline ON tasks (deadline);
INSERT INTO meta (name, value) VALUES ('term', 4), ('epoch', 9);
INSERT INTO changes VALUES (9, 'withdrawal', '7', '2026-09-01T12:00:00.000000Z');
"""
HELD = (
    withdrawal("human", LEAD),
    withdrawal("task", ulid(1)),
    withdrawal("token", JTI),
    withdrawal("txn", TXN),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as version 3 left it, with something of everything."""
    path = tmp_path / "data" / "state.db"
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(VERSION_3)
        for agent in (TRIAGE, RESOLVER):
            _insert(connection, "agents", agent_row(agent, "file"))
        _insert(connection, "tasks", task_row(task(1)))
        _insert(connection, "consents", consent_row(consent(5)))
        for number, one in enumerate(HELD, 4):
            _insert(connection, "withdrawals", {"n": number, **_row_3(one)})
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 3")
    return path


def _row_3(one: Withdrawal) -> dict[str, object]:
    at, end = timestamp(one.at), None if one.expires_at is None else timestamp(one.expires_at)
    names = ("kind", "subject", "before", "reason", "by", "at", "expires_at")
    return dict(zip(names, (one.kind, one.subject, one.before, one.reason, one.by, at, end), strict=True))


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, object]) -> None:
    names, marks = ", ".join(f'"{name}"' for name in row), ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)


def _version(path: Path) -> object:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def _columns(path: Path) -> dict[str, set[tuple[str, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        return {
            name: {tuple(map(str, row[1:5])) for row in connection.execute(f"PRAGMA table_info({name})")}
            for name in names
        }


def test_a_file_of_version_3_keeps_all_that_it_held_and_nobody_is_invented(path: Path) -> None:
    """Whose an earlier token was is not known: it stays withdrawn, and nobody is told."""
    state = State.load(Store.open(path), NOW)

    assert _version(path) == SCHEMA_VERSION
    assert set(state.withdrawals.items) == set(HELD)
    assert {one.human for one in state.withdrawals.items} == {None}
    assert is_denied(state, jti=JTI)
    assert is_denied(state, txn=TXN)
    assert state.task(ulid(1)) == task(1)
    assert state.consent(ulid(5)) == consent(5)
    assert state.epoch == 9
    told = [(one.number, one.withdrawal.kind, one.human) for one in WithdrawalLog(path).after(0, 9)]
    assert told == [(4, "human", LEAD), (5, "task", LEAD), (6, "token", None), (7, "txn", None)]
    state._store.close()


def test_what_is_withdrawn_after_the_step_keeps_whose_it_was(path: Path) -> None:
    state = State.load(Store.open(path), NOW)
    known = dataclasses.replace(withdrawal("token", OTHER_JTI), human=LEAD)
    assert state.withdraw(known, NOW) > 9
    (last,) = WithdrawalLog(path).after(7, 9)
    assert (last.withdrawal, last.human) == (known, LEAD)
    # And one of before, whose person is known now.
    epoch = state.withdraw(dataclasses.replace(withdrawal("token", JTI), human=LEAD), NOW)
    assert [one.human for one in WithdrawalLog(path).after(last.number, 9)] == [LEAD]
    assert state.withdraw(withdrawal("token", JTI), NOW) == epoch
    state._store.close()

    again = State.load(Store.open(path), NOW)
    held = [one.human for one in again.withdrawals.items if one.kind == "token"]
    assert held == [LEAD, LEAD]
    # Whoever revokes very many tokens of one person fills the memory with their name once.
    assert held[0] is held[1]
    again._store.close()


def test_a_file_that_was_brought_up_to_date_is_as_a_new_one(path: Path, tmp_path: Path) -> None:
    Store.open(path).close()
    Store.open(tmp_path / "new" / "state.db").close()
    assert _columns(path) == _columns(tmp_path / "new" / "state.db")


def test_a_step_that_fails_changes_nothing(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE withdrawals ADD COLUMN human VARCHAR")
    before = _columns(path)
    with pytest.raises(StoreError, match="duplicate column"):
        Store.open(path)
    assert (_version(path), _columns(path)) == (3, before)


def test_a_row_whose_person_somebody_else_wrote_is_not_read(path: Path) -> None:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE withdrawals SET human = 'nobody' WHERE kind = 'token'")
    store = Store.open(path)
    with pytest.raises(StoreError, match="a withdrawal that we did not write"):
        State.load(store, NOW)
    store.close()


# ---------------------------------------------------------------- who follows


def _follower(path: Path) -> FollowedState:
    return FollowedState(SqliteEpochs(path), lambda _progress, _at: None, lambda: NOW, clock=lambda: 1.0)


def test_a_replica_waits_for_the_authority_to_bring_the_file_up_to_date(path: Path) -> None:
    replica = _follower(path)
    with closing(sqlite3.connect(path)) as earlier:  # the authority, as it ran before
        earlier.execute("SELECT count(*) FROM agents").fetchone()
        with pytest.raises(StoreError, match="schema version 3, this program knows 4"):
            replica.poll()
    store = Store.open(path)
    replica.poll()
    assert set(replica.withdrawals.items) == set(HELD)
    replica.close()
    store.close()


def test_a_replica_obeys_no_file_that_a_newer_authority_took_over(path: Path) -> None:
    """What it would not understand of it could be what takes a right away."""
    store = Store.open(path)
    replica = _follower(path)
    replica.poll()
    known = replica.epoch
    with store._transaction() as connection:
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for _ in range(2):
        with pytest.raises(StoreError, match=f"has schema version {SCHEMA_VERSION + 1}"):
            replica.poll()
    assert replica.epoch == known
    with store._transaction() as connection:
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    replica.poll()
    replica.close()
    store.close()


def test_a_replica_reads_whose_it_was_as_the_authority_wrote_it(path: Path) -> None:
    state = State.load(Store.open(path), NOW)
    replica = _follower(path)
    replica.poll()
    known = dataclasses.replace(withdrawal("txn", "U" * 22, at=NOW + timedelta(seconds=1)), human=LEAD)
    state.withdraw(known, NOW)
    replica.poll()
    assert replica.withdrawals.standing(known) == known
    replica.close()
    state._store.close()
