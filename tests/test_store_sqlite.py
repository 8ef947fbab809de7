"""The state on disk: whole changes, checked at start, refused when in doubt."""

import dataclasses
import sqlite3
import stat
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from authz.errors import StoreError
from authz.store.agents import Registration
from authz.store.rows import task_row
from authz.store.schema import APPLICATION_ID, FIRST_EPOCH, SCHEMA_VERSION
from authz.store.sqlite import Store
from identity.caller import Agent, Task
from identity.names import new_ulid
from identity.spiffe import SpiffeId

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
OTHER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/other")

TRIAGE = Agent("triage", "support", "ops", "sorts tickets", "observer", hosts=frozenset({RUNNER, OTHER}))
RESOLVER = Agent(
    "resolver",
    "support",
    "ops",
    "closes tickets",
    "contributor",
    autonomous=True,
    max_depth=2,
    expires_at=NOW + timedelta(days=9, microseconds=1),
    sandbox="gvisor",
)


def task(number: int, agent: str = "triage", human: str | None = "https://idp.example#lead") -> Task:
    return Task(new_ulid(NOW, number.to_bytes(10)), agent, human, RUNNER, NOW, NOW + timedelta(hours=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "state.db"


@pytest.fixture
def store(path: Path) -> Store:
    store = Store.open(path)
    store.register_agents([TRIAGE, RESOLVER], NOW)
    return store


def test_agents_and_tasks_come_back_as_they_were(path: Path, store: Store) -> None:
    east = timezone(timedelta(hours=9))
    started = dataclasses.replace(task(1), started_at=NOW.astimezone(east), thumbprint="t" * 43)
    store.start_task(started)
    store.start_task(task(2, "resolver", None))
    store.close()

    again = Store.open(path)
    assert again.agents() == (RESOLVER, TRIAGE)
    assert set(again.tasks(NOW)) == {started, task(2, "resolver", None)}
    again.close()


def test_file_is_for_us_alone(path: Path, store: Store) -> None:
    store.start_task(task(1))

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {
        "state.db": 0o600,
        "state.db-wal": 0o600,
        "state.db-shm": 0o600,
    }
    store.close()


def test_refuses_files_that_others_can_get_at(path: Path, store: Store) -> None:
    store.close()
    path.chmod(0o604)
    with pytest.raises(StoreError, match="chmod 600"):
        Store.open(path)
    path.chmod(0o600)
    path.parent.chmod(0o701)
    with pytest.raises(StoreError, match="chmod 700"):
        Store.open(path)


def test_refuses_a_link(path: Path, store: Store) -> None:
    store.close()
    path.rename(path.with_name("elsewhere.db"))
    path.symlink_to("elsewhere.db")

    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(path)


def test_registration_is_idempotent_and_says_what_changed(store: Store) -> None:
    assert store.register_agents([TRIAGE, RESOLVER], NOW) == Registration((), (), ())

    smaller = dataclasses.replace(TRIAGE, hosts=frozenset({RUNNER}))
    nightly = Agent("nightly-report", "data", "ops", "reports", "observer", autonomous=True)
    changes = store.register_agents([smaller, nightly], NOW)

    assert changes == Registration(("nightly-report",), ("triage",), ("resolver",))
    assert store.agents() == (nightly, smaller)
    store.close()


def test_refuses_an_agent_that_is_listed_twice(store: Store) -> None:
    with pytest.raises(StoreError, match="registered twice"):
        store.register_agents([TRIAGE, dataclasses.replace(TRIAGE, ceiling="operator")], NOW)
    assert store.agents() == (RESOLVER, TRIAGE)
    store.close()


def test_tasks_of_a_retired_agent_end_and_do_not_come_back_with_it(store: Store) -> None:
    store.start_task(task(1))
    store.register_agents([RESOLVER], NOW + timedelta(minutes=1))
    store.register_agents([RESOLVER, TRIAGE], NOW + timedelta(minutes=2))

    assert store.agents() == (RESOLVER, TRIAGE)
    assert [task.ended_at for task in store.tasks(NOW)] == [NOW + timedelta(minutes=1)]
    store.close()


def test_no_task_starts_for_an_agent_that_is_not_registered(store: Store) -> None:
    store.retire("triage", NOW)
    for agent in ("triage", "unknown"):
        with pytest.raises(StoreError, match=f"no agent '{agent}' is registered"):
            store.start_task(task(1, agent))
    assert store.tasks(NOW) == ()
    store.close()


def test_task_id_is_used_once(store: Store) -> None:
    store.start_task(task(1))
    with pytest.raises(StoreError, match="name is taken"):
        store.start_task(task(1, "resolver", None))
    assert store.tasks(NOW) == (task(1),)
    store.close()


def test_task_ends_once(store: Store) -> None:
    store.start_task(task(1))
    store.end_task(task(1).id, NOW + timedelta(minutes=1))
    store.end_task(task(1).id, NOW + timedelta(minutes=2))
    store.end_task(task(2).id, NOW)

    assert [task.ended_at for task in store.tasks(NOW)] == [NOW + timedelta(minutes=1)]
    store.close()


def test_thumbprint_is_for_a_running_task_only(store: Store) -> None:
    store.start_task(task(1))
    store.set_thumbprint(task(1).id, "t" * 43)
    assert [task.thumbprint for task in store.tasks(NOW)] == ["t" * 43]

    store.end_task(task(1).id, NOW)
    for number in (1, 2):
        with pytest.raises(StoreError, match="is running"):
            store.set_thumbprint(task(number).id, "u" * 43)
    store.close()


def test_thumbprints_of_many_tasks_are_one_write(store: Store) -> None:
    for number in (1, 2, 3):
        store.start_task(task(number))
    store.end_task(task(2).id, NOW)
    marks = {task(number).id: str(number) * 43 for number in (1, 2, 3, 4)}
    assert store.set_thumbprints(marks) == {task(2).id, task(4).id}
    assert [each.thumbprint for each in store.tasks(NOW)] == ["1" * 43, None, "3" * 43]
    assert store.set_thumbprints({}) == frozenset()
    store.close()


def test_tasks_are_forgotten_after_their_deadline(store: Store) -> None:
    store.start_task(task(1))
    store.forget_tasks(NOW + timedelta(hours=1))
    assert store.tasks(NOW) == (task(1),)
    assert store.tasks(NOW + timedelta(hours=1)) == ()

    store.forget_tasks(NOW + timedelta(hours=1, microseconds=1))
    assert store.tasks(NOW) == ()
    store.close()


def test_refuses_a_newer_schema(path: Path, store: Store) -> None:
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()

    with pytest.raises(
        StoreError, match=f"has schema version {SCHEMA_VERSION + 1}, this program knows {SCHEMA_VERSION}"
    ):
        Store.open(path)


# The tables of version 2, as that version made them.
VERSION_2 = """\
CREATE TABLE agents (
    name VARCHAR NOT NULL, owner VARCHAR NOT NULL, sponsor VARCHAR NOT NULL, purpose VARCHAR NOT NULL,
    ceiling VARCHAR NOT NULL, autonomous BOOLEAN NOT NULL, hosts VARCHAR NOT NULL, max_depth INTEGER NOT NULL,
    expires_at VARCHAR, sandbox VARCHAR, retired_at VARCHAR, PRIMARY KEY (name)
);
CREATE TABLE tasks (
    id VARCHAR NOT NULL, agent VARCHAR NOT NULL, human VARCHAR, workload VARCHAR NOT NULL,
    started_at VARCHAR NOT NULL, deadline VARCHAR NOT NULL, ended_at VARCHAR, thumbprint VARCHAR,
    origin VARCHAR, PRIMARY KEY (id), FOREIGN KEY(agent) REFERENCES agents (name)
);
CREATE INDEX tasks_agent ON tasks (agent);
CREATE INDEX tasks_deadline ON tasks (deadline);
INSERT INTO agents VALUES (
    'triage', 'support', 'ops', 'sorts tickets', 'observer', 0,
    'spiffe://mesh.example/ns/agents/sa/other spiffe://mesh.example/ns/agents/sa/runner', 4, NULL, NULL, NULL
);
INSERT INTO agents VALUES (
    'resolver', 'support', 'ops', 'closes tickets', 'contributor', 1, '', 2,
    '2026-09-10T12:00:00.000001Z', 'gvisor', NULL
);
INSERT INTO agents VALUES (
    'gone', 'support', 'ops', 'left', 'observer', 0, '', 4, NULL, NULL, '2026-08-01T12:00:00.000000Z'
);
"""


def _version_2(path: Path, *tasks: Task) -> None:
    """Make a file as version 2 left it."""
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_2)
        for each in tasks:
            row = task_row(each)
            marks = ", ".join(f":{name}" for name in row)
            connection.execute(f"INSERT INTO tasks ({', '.join(row)}) VALUES ({marks})", row)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 2")
    connection.close()


def _columns(path: Path) -> dict[str, set[tuple[str, ...]]]:
    with sqlite3.connect(path) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
        found = {
            # Name, type, whether it may be empty, and its default; a column that came later stands elsewhere.
            name: {tuple(map(str, row[1:5])) for row in connection.execute(f"PRAGMA table_info({name})")}
            for name in names
        }
    connection.close()
    return found


def test_a_file_of_version_2_is_brought_up_to_date_and_keeps_all_that_it_held(path: Path) -> None:
    running = dataclasses.replace(task(1), origin="uid:1000", thumbprint="t" * 43)
    ended = dataclasses.replace(task(2, "resolver", None), ended_at=NOW)
    _version_2(path, running, ended)

    store = Store.open(path)

    assert store.agents() == (RESOLVER, TRIAGE)
    assert {name: entry.managed_by for name, entry in store.registered().items()} == {
        "resolver": "file",
        "triage": "file",
    }
    assert set(store.tasks(NOW)) == {running, ended}
    assert store.consents(NOW) == ()
    assert store.withdrawals(NOW) == ()
    assert store.epoch() == FIRST_EPOCH
    assert store.register_agents([TRIAGE, RESOLVER], NOW) == Registration((), (), ())
    store.end_task(running.id, NOW)
    assert store.epoch() > FIRST_EPOCH
    store.close()


def test_a_file_that_was_brought_up_to_date_is_as_a_new_one(path: Path, tmp_path: Path) -> None:
    _version_2(path)
    Store.open(path).close()
    Store.open(tmp_path / "new" / "state.db").close()
    assert _columns(path) == _columns(tmp_path / "new" / "state.db")


def _version_1(path: Path, *tasks: Task) -> None:
    _version_2(path, *tasks)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE tasks DROP COLUMN origin")
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def test_a_file_of_version_1_is_brought_up_to_date_and_keeps_its_tasks(path: Path) -> None:
    _version_1(path, task(1))

    again = Store.open(path)
    assert again.tasks(NOW) == (task(1),)
    bound = dataclasses.replace(task(2), origin="uid:1000")
    again.start_task(bound)
    assert bound in again.tasks(NOW)
    again.close()


def test_a_file_that_cannot_be_brought_up_to_date_stays_as_it_was(path: Path, store: Store) -> None:
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")  # though the column is there
    connection.close()

    with pytest.raises(StoreError, match="duplicate column"):
        Store.open(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_refuses_a_database_of_another_program(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()

    with pytest.raises(StoreError, match="database of another program"):
        Store.open(path)


@pytest.mark.parametrize("content", [b"x" * 5000, b"SQLite format 3\x00" + b"x" * 5000])
def test_refuses_what_is_no_database(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    path.write_bytes(content)

    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)
    assert path.read_bytes() == content


def test_refuses_a_database_with_a_damaged_page(path: Path, store: Store) -> None:
    for number in range(200):
        store.start_task(task(number))
    store.close()
    data = bytearray(path.read_bytes())
    assert len(data) > 5 * 4096
    data[4 * 4096 : 5 * 4096] = b"\xff" * 4096
    path.write_bytes(data)

    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)


def test_refuses_a_truncated_database(path: Path, store: Store) -> None:
    store.close()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE agents SET hosts = 'https://evil.example'",
        "UPDATE agents SET expires_at = 'tomorrow'",
        "UPDATE agents SET max_depth = 'deep'",
        "UPDATE agents SET name = 'Not A Name' WHERE name = 'triage'",
    ],
)
def test_row_that_we_did_not_write_is_an_error(path: Path, store: Store, change: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    connection.close()

    with pytest.raises(StoreError, match="an agent that we did not write"):
        store.agents()
    store.close()


def test_task_row_that_we_did_not_write_is_an_error(path: Path, store: Store) -> None:
    store.start_task(task(1))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tasks SET workload = ''")
    connection.close()

    with pytest.raises(StoreError, match="a task that we did not write"):
        store.tasks(NOW)
    store.close()


def test_lock_of_another_process_is_an_error_and_no_change(path: Path, store: Store) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="database is locked"):
        store.start_task(task(1))
    other.execute("ROLLBACK")
    other.close()

    store.start_task(task(1))
    assert store.tasks(NOW) == (task(1),)
    store.close()


def test_full_disk_is_an_error_and_no_change(store: Store) -> None:
    fill_disk(store)
    started = start_until_full(store)

    assert started > 0
    with pytest.raises(StoreError, match="full"):
        store.start_task(task(started))
    assert len(store.tasks(NOW)) == started
    store.close()


def start_until_full(store: Store) -> int:
    """Start tasks until the disk is full, and return how many."""
    for number in range(1000):
        try:
            store.start_task(task(number))
        except StoreError:
            return number
    raise AssertionError("the disk has no end")


def fill_disk(store: Store) -> None:
    """Let the file grow no more."""
    with store._engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")


def test_changes_survive_without_a_clean_close(path: Path, store: Store) -> None:
    store.start_task(task(1))
    # As a crash leaves it: the write-ahead log holds what the file does not yet.
    copy = path.parent.parent / "copy"
    copy.mkdir(mode=0o700)
    for file in path.parent.iterdir():
        (copy / file.name).touch(0o600)
        (copy / file.name).write_bytes(file.read_bytes())
    store.close()

    recovered = Store.open(copy / "state.db")
    assert recovered.tasks(NOW) == (task(1),)
    recovered.close()


def test_settings_are_those_that_we_promise(path: Path, store: Store) -> None:
    with store._engine.begin() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "busy_timeout",
                "application_id",
                "user_version",
            )
        }
    store.close()

    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 250,
        "application_id": APPLICATION_ID,
        "user_version": SCHEMA_VERSION,
    }
    assert path.read_bytes().startswith(b"SQLite format 3\x00")
