"""Sessions of MCP: whose each is; in several processes, over time, when full, when the file is of no use."""

import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from authz.codes import Code
from authz.errors import AuthenticationError, StoreError
from authz.sessions.port import Owner
from authz.sessions.session_key import MAX_SESSION_ID, is_session_id, owner_key, session_key
from authz.store.sessions import SESSIONS_FILE, TOUCH_SECONDS, Presented, SessionFile, SessionLimits, Whose
from authz.store.sessions_shared import MAX_WAITING_OF_OWNER, SEEN, SharedSessions
from tests.damaged_database import damage_database
from tests.fakes import NOW

ROOT = Path(__file__).parent.parent
ID = "3f2c0a5e-9a1b-4c7d-8e6f-0123456789ab"
ALICE = "https://idp.example#alice"
OURS = Owner(ALICE, "resolver")
THEIRS = Owner(ALICE, "triage")
DAY = 24 * 3600
SEEN_SECONDS = int(SEEN.total_seconds())
WEEK = 7 * DAY


@dataclass
class Desk:
    """A file of sessions, and the time."""

    directory: Path
    limits: SessionLimits = field(default_factory=SessionLimits)
    after: float = 0

    def __post_init__(self) -> None:
        self.file = SessionFile.open(self.path, self.limits)
        self.sessions = SharedSessions(self.file)

    @property
    def path(self) -> Path:
        return self.directory / SESSIONS_FILE

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.after)

    def bind(self, owner: Owner = OURS, session_id: str = ID, service: str = "docs") -> Code | None:
        """Present an id to the port; None where it is, or is now, the owner's."""
        return asyncio.run(self._bind(owner, session_id, service))

    async def _bind(self, owner: Owner, session_id: str, service: str) -> Code | None:
        try:
            await self.sessions.bind(service, session_id, owner, self.now)
        except AuthenticationError as error:
            assert session_id not in str(error)
            return error.code
        return None

    def has(self, owner: Owner, session_id: str = ID) -> bool:
        """Ask the file, as another process would."""
        presented = Presented(session_key("docs", session_id), owner_key(owner), int(self.now.timestamp()))
        return self.file.bind([presented]) == ["own"]

    def rows(self, query: str = "SELECT * FROM sessions") -> list[tuple[object, ...]]:
        with sqlite3.connect(self.path) as other:
            found = other.execute(query).fetchall()
        other.close()
        return found


Make = Callable[..., Desk]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Desk] = []

    def desk(**limits: int) -> Desk:
        made.append(Desk(tmp_path / "data", SessionLimits(**limits)))
        return made[-1]

    yield desk
    for each in made:
        each.file.close()


# ---------------------------------------------------------------- whose


def test_who_is_first_to_present_a_session_has_it(make: Make) -> None:
    desk = make()
    assert [desk.bind(), desk.bind(), desk.bind()] == [None, None, None]


@pytest.mark.parametrize(
    "thief",
    [
        Owner(ALICE, "triage"),
        Owner("https://idp.example#olga", "resolver"),
        Owner(None, "resolver"),
        Owner("https://idp.example#olga", "triage"),
    ],
    ids=["another agent", "for another person", "for nobody", "both"],
)
def test_an_id_that_was_stolen_is_of_no_use(make: Make, thief: Owner) -> None:
    desk, elsewhere = make(), make()
    assert desk.bind() is None
    assert desk.bind(thief) is Code.SESSION_OTHERS
    assert elsewhere.bind(thief) is Code.SESSION_OTHERS
    assert [desk.bind(), elsewhere.bind()] == [None, None]


def test_who_acts_for_a_person_has_no_session_of_who_acts_for_nobody(make: Make) -> None:
    desk = make()
    assert desk.bind(Owner(None, "resolver")) is None
    assert desk.bind(OURS) is Code.SESSION_OTHERS


def test_the_same_id_at_another_service_is_another_session(make: Make) -> None:
    """Two servers may count from one; neither's sessions lock the other's."""
    desk = make()
    assert desk.bind(OURS, "1", "docs") is None
    assert desk.bind(THEIRS, "1", "tickets") is None
    assert desk.bind(THEIRS, "1", "docs") is Code.SESSION_OTHERS


def test_keys_do_not_run_into_each_other() -> None:
    sessions = {session_key(service, each) for service, each in [("a", "bc"), ("ab", "c"), ("abc", "d")]}
    owners = {
        owner_key(owner)
        for owner in [
            Owner(None, "null"),
            Owner("null", "null"),
            Owner("", "x"),
            Owner(None, "x"),
            Owner('a","b', "c"),
            Owner("a", 'b","c'),
        ]
    }
    assert (len(sessions), len(owners)) == (3, 6)


@pytest.mark.parametrize("byte", range(256))
def test_an_id_is_visible_ascii_without_the_comma_of_two_headers(byte: int) -> None:
    """A proxy that joins two headers shows us one id, and the server the first of the two."""
    is_allowed = 0x21 <= byte <= 0x7E and byte != ord(",")
    assert is_session_id(chr(byte)) == is_session_id(f"a{chr(byte)}b") == is_allowed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("x", True),
        ("x" * MAX_SESSION_ID, True),
        ("x" * (MAX_SESSION_ID + 1), False),
        ("x" * 10_000, False),
        ("abc\n", False),
        ("é", False),
        ("\u2028", False),
        ("\ud800", False),
    ],
)
def test_an_id_is_no_longer_than_512(text: str, expected: bool) -> None:
    assert is_session_id(text) is expected


@pytest.mark.parametrize("text", ["", "a,b", "x" * 10_000, "\ud800"])
def test_what_a_server_calls_a_session_must_be_one(make: Make, text: str) -> None:
    """What ext_proc reads in an answer comes to the port unseen by the inspector."""
    desk = make()
    with pytest.raises(AuthenticationError) as refused:
        asyncio.run(desk.sessions.bind("docs", text, OURS, NOW))
    assert refused.value.code is Code.SESSION_UNKNOWN
    assert desk.rows() == []


# ---------------------------------------------------------------- time


def test_a_session_in_use_stays_bound_and_the_file_is_written_rarely(make: Make) -> None:
    desk = make()
    desk.bind()
    for desk.after in range(0, TOUCH_SECONDS, SEEN_SECONDS):
        assert desk.bind() is None
    assert desk.rows("SELECT used_at FROM sessions") == [(int(NOW.timestamp()),)]
    desk.after = TOUCH_SECONDS
    assert desk.bind() is None
    assert desk.rows("SELECT used_at FROM sessions") == [(int(NOW.timestamp()) + TOUCH_SECONDS,)]


def test_what_was_seen_a_moment_ago_costs_no_file(make: Make) -> None:
    desk = make()
    desk.bind()
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    desk.after = SEEN_SECONDS - 1
    assert desk.bind() is None
    assert desk.bind(THEIRS) is Code.SESSION_OTHERS
    desk.after = SEEN_SECONDS
    assert desk.bind() is Code.SESSION_UNKNOWN
    other.execute("ROLLBACK")
    other.close()
    assert desk.bind() is None


def test_a_session_that_was_used_within_the_week_is_still_its_owners(make: Make) -> None:
    desk = make()
    desk.bind()
    for _ in range(3):
        desk.after += WEEK - 1
        desk.file.sweep(desk.now)
        assert desk.bind(THEIRS) is Code.SESSION_OTHERS
        assert desk.bind() is None


def test_a_session_that_nobody_used_for_a_week_is_nobodys(make: Make) -> None:
    """Who waits so long gets it: what is kept forever is a way to fill the disk."""
    desk = make()
    desk.bind()
    desk.after = WEEK
    assert desk.bind(THEIRS) is None
    assert desk.bind() is Code.SESSION_OTHERS


def test_a_thief_who_tries_does_not_keep_a_session_alive(make: Make) -> None:
    desk = make()
    desk.bind()
    for desk.after in range(0, WEEK, DAY):
        assert desk.bind(THEIRS) is Code.SESSION_OTHERS
    desk.after = WEEK
    asyncio.run(desk.sessions.sweep(desk.now))
    assert desk.rows() == []


def test_a_sweep_forgets_what_is_over_and_nothing_else(make: Make) -> None:
    desk = make()
    desk.bind(session_id="old")
    desk.after = WEEK - 1
    desk.bind(session_id="new")
    asyncio.run(desk.sessions.sweep(desk.now))
    assert len(desk.rows()) == 2
    desk.after = WEEK
    asyncio.run(desk.sessions.sweep(desk.now))
    assert [row[0] for row in desk.rows()] == [session_key("docs", "new")]
    assert desk.rows("SELECT entries FROM kept") == [(1,)]


def test_a_clock_that_was_wrong_for_a_moment_binds_nothing_forever(make: Make) -> None:
    desk = make()
    desk.after = 1000 * DAY
    desk.bind()
    desk.after = 0
    assert desk.bind(THEIRS) is Code.SESSION_OTHERS
    assert desk.bind() is None
    assert desk.rows("SELECT used_at FROM sessions") == [(int(NOW.timestamp()),)]


# ---------------------------------------------------------------- bounds


def test_a_flood_of_ids_unbinds_nobody_elses_sessions(make: Make) -> None:
    desk = make(max_of_owner=8)
    assert desk.bind(OURS, "mine") is None
    for number in range(50):
        desk.after = number
        assert desk.bind(THEIRS, f"flood-{number}") is None
    assert not desk.has(THEIRS, "mine")
    assert desk.bind(OURS, "mine") is None
    assert len(desk.rows()) == 9
    # Their own are those that they used last.
    assert [desk.has(OURS, f"flood-{number}") for number in (49, 42)] == [False, False]


def test_whoever_floods_loses_their_own_longest_unused(make: Make) -> None:
    desk = make(max_of_owner=3)
    for number in range(3):
        desk.after = number
        desk.bind(OURS, f"session-{number}")
    desk.after = TOUCH_SECONDS
    desk.bind(OURS, "session-0")
    desk.bind(OURS, "session-3")
    assert desk.has(THEIRS, "session-1")
    assert [desk.has(THEIRS, f"session-{number}") for number in (0, 2, 3)] == [False] * 3


def test_where_all_is_full_nobody_loses_what_was_used_within_the_day(make: Make) -> None:
    """A hundred agents together fill the file; who has a session goes on, who has none is told to wait."""
    desk = make(max_sessions=3, max_of_owner=2)
    for number in range(3):
        assert desk.bind(Owner(None, f"agent-{number}"), f"session-{number}") is None
    assert desk.bind() is Code.SESSION_UNKNOWN
    desk.after = DAY - 1
    assert desk.bind(Owner(None, "agent-1"), "session-1") is None
    assert desk.bind() is Code.SESSION_UNKNOWN
    desk.after = DAY
    assert desk.bind() is None
    assert desk.has(Owner(None, "agent-1"), "session-1")
    assert not desk.has(OURS, "session-1")


def test_of_one_owner_only_so_many_wait_for_the_file(make: Make) -> None:
    desk = make()
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    async def scenario() -> tuple[list[Code | None], Code | None]:
        flood = [
            asyncio.ensure_future(desk._bind(THEIRS, f"session-{number}", "docs"))
            for number in range(MAX_WAITING_OF_OWNER + 5)
        ]
        await asyncio.sleep(0)
        refused = [each.result() for each in flood if each.done()]
        other.execute("ROLLBACK")
        return refused, (await asyncio.gather(desk._bind(OURS, ID, "docs"), *flood))[0]

    refused, ours = asyncio.run(scenario())
    other.close()
    assert refused == [Code.SESSION_UNKNOWN] * 5
    assert ours is None
    assert desk.bind(THEIRS, "another") is None


# ---------------------------------------------------------------- processes, crashes, files


def test_of_two_at_the_same_moment_one_has_it(make: Make) -> None:
    first, second = make(), make()

    async def scenario() -> list[Code | None]:
        owners = [Owner(None, f"agent-{number}") for number in range(3)]
        desks = [first, second, first]
        return await asyncio.gather(
            *(desk._bind(owner, ID, "docs") for desk, owner in zip(desks, owners, strict=True))
        )

    answers = asyncio.run(scenario())
    assert answers.count(None) == 1
    assert answers.count(Code.SESSION_OTHERS) == 2


def _start(path: Path, count: int, agent: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.session_process", str(path), str(count), str(NOW.timestamp()), agent],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_of_several_processes_one_owner_has_each_session(make: Make) -> None:
    desk = make()
    processes = [_start(desk.path, 60, f"agent-{number}") for number in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    own = [int(n) for process in processes for n in process.communicate(timeout=120)[0].split()]
    assert sorted(own) == list(range(60))
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert desk.rows("SELECT entries FROM kept") == [(60,)]


def test_a_restart_forgets_no_owner(make: Make) -> None:
    desk = make()
    desk.bind()
    desk.file.close()
    again = make()
    assert again.bind(THEIRS) is Code.SESSION_OTHERS
    assert again.bind() is None


def test_neither_the_file_nor_a_representation_says_which_sessions_or_whose(make: Make) -> None:
    desk = make()
    desk.bind()
    for path in desk.directory.iterdir():
        data = path.read_bytes()
        assert not [part for part in (ID, "alice", "resolver", "docs") if part.encode() in data]
    assert ID not in repr(desk.sessions)
    assert ID not in repr(vars(desk.sessions))


def test_only_its_user_reads_it(make: Make) -> None:
    desk = make()
    desk.bind()
    assert {stat.S_IMODE(path.stat().st_mode) for path in desk.directory.iterdir()} == {0o600}
    desk.file.close()
    desk.path.chmod(0o640)
    with pytest.raises(StoreError, match="others can get at"):
        make()


@pytest.mark.parametrize("damage", ["other program", "other version", "no database", "torn"])
def test_what_is_no_file_of_sessions_is_refused(make: Make, damage: str) -> None:
    desk = make()
    for number in range(100):
        desk.has(OURS, f"session-{number}")
    desk.file.close()
    damage_database(desk.path, damage)
    with pytest.raises(StoreError):
        make()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET owner = 'nobody'",
        "UPDATE sessions SET used_at = 'never'",
        "DELETE FROM kept; DELETE FROM sessions",
        "DELETE FROM sessions; UPDATE kept SET entries = 'many'",
        "DROP TABLE sessions",
    ],
)
def test_rows_that_we_did_not_write_bind_nothing(make: Make, change: str) -> None:
    """Closed, and worth trying again: what cannot be known is nobody's."""
    desk = make()
    desk.bind()
    with sqlite3.connect(desk.path) as other:
        other.executescript("PRAGMA ignore_check_constraints = ON;" + change)
    other.close()
    desk.after = SEEN_SECONDS
    assert [desk.bind(), desk.bind(THEIRS)] == [Code.SESSION_UNKNOWN] * 2


def test_a_file_that_is_busy_for_too_long_is_a_refusal_that_says_try_again(make: Make) -> None:
    desk = make()
    other = sqlite3.connect(desk.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert desk.bind() is Code.SESSION_UNKNOWN
    with pytest.raises(AuthenticationError) as refused:
        asyncio.run(desk.sessions.sweep(desk.now))
    assert (refused.value.code, "try again" in refused.value.code.fix) == (Code.SESSION_UNKNOWN, True)
    other.execute("ROLLBACK")
    other.close()
    assert desk.bind() is None


def test_what_is_asked_at_the_same_time_shares_a_wait_for_the_disk(make: Make) -> None:
    """One after the other, forty would wait for forty writes; and each still has its own answer."""
    desk = make(max_sessions=42)
    desk.bind(THEIRS, "session-3")
    asked: list[int] = []
    bind = desk.file.bind

    def counted(presented: Sequence[Presented]) -> list[Whose]:
        asked.append(len(presented))
        return bind(presented)

    desk.file.bind = counted  # type: ignore[method-assign]  # what it does, and what it was asked

    async def scenario() -> list[Code | None]:
        return await asyncio.gather(*(desk._bind(OURS, f"session-{number}", "docs") for number in range(44)))

    answers = asyncio.run(scenario())
    assert asked == [43]
    assert answers[3] is Code.SESSION_OTHERS
    assert [answers.index(Code.SESSION_UNKNOWN), answers.count(None)] == [42, 41]


def test_a_fault_that_nobody_foresaw_keeps_nobody_waiting(make: Make) -> None:
    desk = make()

    def fault(presented: Sequence[Presented]) -> list[Whose]:
        raise ValueError(str(presented))

    bind = desk.file.bind
    desk.file.bind = fault  # type: ignore[method-assign]  # a fault
    assert desk.bind() is Code.SESSION_UNKNOWN
    desk.file.bind = bind  # type: ignore[method-assign]  # as it was
    assert desk.bind() is None


def test_a_call_that_was_given_up_keeps_nobody_waiting(make: Make) -> None:
    desk = make()

    async def scenario() -> list[Code | None]:
        given_up = asyncio.ensure_future(desk._bind(OURS, "given up", "docs"))
        others = [asyncio.ensure_future(desk._bind(OURS, f"session-{n}", "docs")) for n in range(3)]
        await asyncio.sleep(0)
        given_up.cancel()
        return await asyncio.gather(*others)

    assert asyncio.run(scenario()) == [None] * 3


def test_a_file_that_is_gone_is_a_refusal(make: Make) -> None:
    desk = make()
    desk.file.close()
    assert desk.bind() is Code.SESSION_UNKNOWN


@pytest.mark.parametrize("gone", ["deleted", "moved", "replaced"])
def test_a_file_of_another_name_binds_nothing(make: Make, gone: str) -> None:
    """Another process makes a new one: there the session would be nobody's, and a thief the first."""
    desk = make()
    assert desk.bind() is None
    desk.after = SEEN_SECONDS
    if gone == "moved":
        desk.path.rename(desk.path.with_suffix(".old"))
    else:
        desk.path.unlink()
    if gone == "replaced":
        assert make().bind(THEIRS) is None
    assert desk.bind() is Code.SESSION_UNKNOWN
