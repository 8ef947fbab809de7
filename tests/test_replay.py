"""What counts once (JW-09): in one process, in several, after a restart, and when it is full."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

from authz.errors import StoreError
from authz.replay import MAX_SECONDS, Replay, ReplayMemory
from authz.store.replay import APPLICATION_ID, ReplayFile
from tests.identity_world import NOW, SECONDS

ROOT = Path(__file__).parent.parent
Make = Callable[..., Replay]


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "replay.db"


@pytest.fixture(name="make", params=["memory", "file"])
def _make(request: pytest.FixtureRequest, path: Path) -> Iterator[Make]:
    made: list[ReplayFile] = []

    def make(**bounds: int) -> Replay:
        if request.param == "memory":
            return ReplayMemory(**bounds)
        made.append(ReplayFile.open(path, **bounds))
        return made[-1]

    yield make
    for file in made:
        file.close()


def first(memory: Replay, key: str = "a", seconds: int = 60, after: float = 0, **named: Any) -> bool:
    """Show something `after` some seconds, for so many `seconds` from NOW."""
    named = {"presenter": "agent triage", **named}
    now = NOW + timedelta(seconds=after)
    return memory.first_time(named.pop("kind", "dpop"), key, SECONDS + seconds, now=now, **named)


# ---------------------------------------------------------------- both memories


def test_jw09_once(make: Make) -> None:
    """JW-09: the first is the first, everybody else is not, whoever they are."""
    memory = make()
    assert first(memory)
    assert not first(memory)
    assert not first(memory, presenter="another")
    assert not first(memory, seconds=90)
    assert first(memory, "b")


def test_kinds_share_no_names(make: Make) -> None:
    memory = make()
    assert first(memory, kind="dpop")
    assert first(memory, kind="assertion")
    assert not first(memory, kind="assertion")


def test_proxy_may_repeat_its_own_question(make: Make) -> None:
    memory = make()
    assert first(memory, call="envoy 1")
    assert first(memory, call="envoy 1")
    assert not first(memory, call="envoy 2")
    assert not first(memory)


def test_no_call_is_no_repeated_call(make: Make) -> None:
    memory = make()
    assert first(memory, call="")
    assert not first(memory, call="")
    assert not first(memory, call="envoy 1")


def test_remembers_until_the_last_second(make: Make) -> None:
    memory = make()
    assert first(memory, seconds=60)
    assert not first(memory, after=59.999)
    assert first(memory, seconds=120, after=60)


@pytest.mark.parametrize(("seconds", "after"), [(60, 60), (60, 61), (0, 0), (-1, 0), (MAX_SECONDS + 1, 0)])
def test_what_cannot_be_remembered_in_time_is_refused(make: Make, seconds: int, after: float) -> None:
    memory = make()
    with pytest.raises(StoreError, match="remembered for up to"):
        first(memory, seconds=seconds, after=after)


def test_clock_that_went_back_shows_nothing_twice(make: Make) -> None:
    """Threat 13: what was forgotten may have been shown, so it is refused."""
    memory = make()
    assert first(memory, "a", 60)
    assert first(memory, "b", 120, after=61)
    with pytest.raises(StoreError, match="clock went back"):
        first(memory, "a", 60)
    assert not first(memory, "b", 120)
    assert first(memory, "c", 61)


def test_full_memory_refuses_and_remembers(make: Make) -> None:
    """JW-09: full is closed; nothing that is valid is forgotten for something new."""
    memory = make(max_entries=3, max_of_presenter=3)
    for key in "abc":
        assert first(memory, key, presenter=key)
    with pytest.raises(StoreError, match="3 things that count once"):
        first(memory, "d", presenter="d")
    assert not first(memory, "a", presenter="d")
    assert first(memory, "d", seconds=120, after=60)


def test_one_presenter_does_not_fill_it_for_others(make: Make) -> None:
    memory = make(max_entries=10, max_of_presenter=3)
    for key in "abc":
        assert first(memory, key, presenter="flood")
    for key in "xyz":
        with pytest.raises(StoreError, match="one presenter"):
            first(memory, key, presenter="flood")
        assert first(memory, key, presenter=key)
    assert first(memory, "x2", seconds=120, after=60, presenter="flood")


def test_after_a_burst_there_is_room_again(make: Make) -> None:
    memory = make(max_entries=300, max_of_presenter=150)
    for number in range(300):
        assert first(memory, f"burst {number}", presenter=f"{number % 2}")
    with pytest.raises(StoreError):
        first(memory, "one more", presenter="1")
    for number in range(300):
        assert first(memory, f"later {number}", seconds=120, after=60, presenter=f"{number % 2}")


@pytest.mark.parametrize("key", ["", "\0", "\ud800", "a" * 100_000, "'; DROP TABLE used; --", "x\ny"])
def test_any_name_is_a_name(make: Make, key: str) -> None:
    memory = make()
    assert first(memory, key)
    assert not first(memory, key)


def test_threads_of_one_process_have_one_winner(make: Make) -> None:
    memory, barrier, won = make(), Barrier(4), list[str]()

    def show(presenter: str) -> None:
        barrier.wait()
        won.extend(f"{key}" for key in range(50) if first(memory, f"{key}", presenter=presenter))

    threads = [Thread(target=show, args=(f"{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won, key=int) == [f"{key}" for key in range(50)]


def test_memory_holds_no_more_than_is_valid() -> None:
    memory = ReplayMemory()
    for number in range(100):
        assert first(memory, f"{number}", seconds=number + 1, after=number, presenter=f"{number}")
    assert len(memory) == 1
    assert len(memory._live) == 1


# ---------------------------------------------------------------- the file


def test_restart_forgets_nothing(path: Path) -> None:
    """JW-09: what was shown to the process before is known to the next one."""
    before = ReplayFile.open(path)
    assert first(before, call="envoy 1")
    before.close()
    after = ReplayFile.open(path)
    assert not first(after)
    assert first(after, call="envoy 1")
    after.close()


def test_restart_keeps_the_bounds_and_the_clock(path: Path) -> None:
    before = ReplayFile.open(path, max_of_presenter=2)
    assert first(before, "a", 60)
    assert first(before, "b", 120)
    before.close()
    after = ReplayFile.open(path, max_of_presenter=2)
    with pytest.raises(StoreError, match="one presenter"):
        first(after, "c", 120)
    assert first(after, "c", 120, after=60)
    after.close()
    last = ReplayFile.open(path)
    with pytest.raises(StoreError, match="clock went back"):
        first(last, "a", 60)
    last.close()


def test_threat12_replay_at_the_other_process(path: Path) -> None:
    """Threat 12, JW-09: of four processes that are shown one thing at once, exactly one takes it."""
    processes = [_start(path, 200, f"{number}") for number in range(4)]
    for process in processes:
        _go(process)
    firsts = [number for process in processes for number in _finish(process)]
    assert sorted(firsts) == list(range(200))
    assert [process.returncode for process in processes] == [0] * 4


def test_process_that_dies_leaves_what_it_showed(path: Path) -> None:
    """JW-09: a process that is killed within a transaction neither damages the file nor keeps it locked."""
    memory = ReplayFile.open(path)
    assert first(memory, "proof 0")
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA cache_size = 1')\n"
        "c.execute('BEGIN EXCLUSIVE')\n"
        "for n in range(5000):\n"
        "    c.execute('INSERT INTO used VALUES (randomblob(32), randomblob(32), x\\'\\', 1)')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    process = _process([sys.executable, "-c", code, str(path)])
    with pytest.raises(StoreError, match="cannot be known"):
        first(memory, "proof 1")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert (path.parent / "replay.db-journal").stat().st_size > 0
    assert not first(memory, "proof 0")
    assert first(memory, "proof 1")
    assert memory._number("SELECT entries FROM live WHERE presenter = x''") == 2
    memory.close()


def test_locked_file_is_closed_not_open(path: Path) -> None:
    """JW-09: who cannot ask in time refuses, and can ask again later."""
    memory = ReplayFile.open(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="cannot be known"):
        first(memory)
    other.execute("ROLLBACK")
    other.close()
    assert first(memory)
    memory.close()


def _fits(memory: Replay, key: str) -> bool:
    """Show something that was not shown; say whether there was room, and nothing else was wrong."""
    try:
        return first(memory, key)
    except StoreError as error:
        assert "full" in str(error)
        return False


def test_full_disk_is_closed_not_open(path: Path) -> None:
    """JW-09: what cannot be written was not shown; nothing of it is left."""
    memory = ReplayFile.open(path)
    pages = memory._number("PRAGMA page_count")
    memory._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    shown = 0
    while _fits(memory, f"{shown}"):
        shown += 1
    assert memory._number("SELECT count(*) FROM used") == shown
    memory._connection.execute("PRAGMA max_page_count = 100000")
    assert first(memory, f"{shown}")
    memory.close()


def test_closed_file_is_closed_not_open(path: Path) -> None:
    memory = ReplayFile.open(path)
    memory.close()
    with pytest.raises(StoreError, match="cannot be known"):
        first(memory)


def test_file_and_its_journal_are_ours_alone(path: Path) -> None:
    memory = ReplayFile.open(path)
    assert first(memory)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"replay.db": 0o600, "replay.db-journal": 0o600}
    memory.close()


def test_nothing_of_what_was_shown_is_in_the_file(path: Path) -> None:
    """Threat 22: digests only."""
    memory = ReplayFile.open(path)
    assert first(memory, "canary-key", presenter="canary-presenter", call="canary-call")
    memory.close()
    assert not [file.name for file in path.parent.iterdir() if b"canary" in file.read_bytes()]


def test_no_wal(path: Path) -> None:
    """SQLite before 3.51.3 can damage a WAL that several processes write."""
    memory = ReplayFile.open(path)
    assert first(memory)
    assert memory._one("PRAGMA journal_mode") == "truncate"
    assert not list(path.parent.glob("*-wal"))
    memory.close()


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_file_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    ReplayFile.open(path).close()
    path.chmod(mode)
    with pytest.raises(StoreError, match="others can get at"):
        ReplayFile.open(path)


def test_link_is_no_file(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    (tmp_path / "elsewhere").touch(mode=0o600)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be opened"):
        ReplayFile.open(path)


def test_damaged_file_is_refused_and_kept(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"not a database" * 100)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="delete it"):
        ReplayFile.open(path)
    assert path.read_bytes().startswith(b"not a database")


def test_file_with_a_damaged_page_is_refused(path: Path) -> None:
    memory = ReplayFile.open(path)
    for number in range(300):
        assert first(memory, f"{number}")
    memory.close()
    content = bytearray(path.read_bytes())
    content[8192:20480] = os.urandom(12288)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        ReplayFile.open(path)


@pytest.mark.parametrize("pragma", ["application_id = 7", "user_version = 2"])
def test_file_of_another_program_or_version_is_refused(path: Path, pragma: str) -> None:
    ReplayFile.open(path).close()
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA {pragma}")
    other.close()
    with pytest.raises(StoreError, match="another program or version"):
        ReplayFile.open(path)


def test_file_without_its_counters_is_closed(path: Path) -> None:
    memory = ReplayFile.open(path)
    memory._connection.execute("DELETE FROM forgotten")
    with pytest.raises(StoreError, match="does not hold what it must"):
        first(memory)
    assert memory._one("PRAGMA application_id") == APPLICATION_ID
    memory.close()


def test_file_does_not_grow_beyond_what_is_valid(path: Path) -> None:
    memory = ReplayFile.open(path)
    for number in range(500):
        assert first(memory, f"{number}", seconds=number + 10, after=number, presenter=f"{number % 7}")
    assert memory._number("SELECT count(*) FROM used") == 10
    live = memory._number("SELECT total(entries) FROM live WHERE presenter <> x''")
    assert live == memory._number("SELECT entries FROM live WHERE presenter = x''") == 10
    assert memory._number("SELECT count(*) FROM live WHERE entries = 0 AND presenter <> x''") == 0
    memory.close()


# ---------------------------------------------------------------- processes


def _start(path: Path, count: int, presenter: str) -> subprocess.Popen[str]:
    program = str(ROOT / "tests" / "replay_process.py")
    return _process([sys.executable, program, str(path), str(count), str(SECONDS), presenter])


def _process(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _finish(process: subprocess.Popen[str]) -> list[int]:
    output, _ = process.communicate(timeout=60)
    return [int(number) for number in output.split()]
