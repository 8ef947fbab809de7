"""The log: whole lines only, one writer, and no answer without a record."""

import asyncio
import dataclasses
import errno
import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authz.audit.chain import EMPTY, Head
from authz.audit.entry import Entry, stranger
from authz.audit.log import AuditLog, LogSettings
from authz.audit.log_head import HEAD_FILE, read_head
from authz.audit.log_segment import FileSegment
from authz.audit.read_lines import segment_files
from authz.audit.read_verify import verify_directory
from authz.audit.record import GENESIS, Record, digest
from authz.audit.sink import Sink
from authz.errors import AuditError, StoreError
from tests.audit_facts import ALLOWED, NOW, allowed, log_bytes, open_log, ulid, write_log

ROOT = Path(__file__).resolve().parent.parent


class FailingSegment:
    """A file on a disk that fails as it is told to."""

    def __init__(self, real: FileSegment) -> None:
        self.real = real
        self.sync_error: OSError | None = None
        self.append_error: BaseException | None = None

    @property
    def size(self) -> int:
        return self.real.size

    @size.setter
    def size(self, value: int) -> None:
        self.real.size = value

    def append(self, data: bytes) -> None:
        if self.append_error is not None:
            raise self.append_error
        self.real.append(data)

    def undo(self, size: int) -> None:
        self.real.undo(size)

    def sync(self) -> None:
        if self.sync_error is not None:
            raise self.sync_error
        self.real.sync()

    def intact(self) -> bool:
        return self.real.intact()

    def close(self) -> None:
        self.real.close()


def failing(log: AuditLog) -> FailingSegment:
    assert isinstance(log._segment, FileSegment)
    segment = FailingSegment(log._segment)
    log._segment = segment
    return segment


def a_stranger(number: int) -> Entry:
    return stranger(dataclasses.replace(ALLOWED, effect="deny", code="DPT-TOKEN-MISSING"), ulid(number), NOW)


def fill(log: AuditLog, make: Callable[[int], Entry]) -> int:
    """Write until the log takes no more, and return how many it took."""
    for number in range(1000):
        try:
            log.write(make(number))
        except AuditError:
            return number
    raise AssertionError("the log has no end")


def test_each_record_names_the_hash_of_the_one_before(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "audit", 3)
    records = [Record.parse(line[:-1]) for line in lines]

    assert [record.seq for record in records] == [1, 2, 3]
    assert [record.prev for record in records] == [GENESIS, digest(lines[0][:-1]), digest(lines[1][:-1])]


def test_log_is_a_sink_and_gives_receipts(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    sink: Sink = log

    receipts = [asyncio.run(sink.append(allowed(number))) for number in range(3)]
    log.close()

    assert [(receipt.seq, receipt.id) for receipt in receipts] == [(1, ulid(0)), (2, ulid(1)), (3, ulid(2))]


def test_record_is_in_the_file_before_append_returns(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    for number in range(5):
        asyncio.run(log.append(allowed(number)))
        assert log_bytes(tmp_path / "audit").count(b"\n") == number + 1
    log.close()


def test_files_are_for_us_alone(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 20, segment_bytes=4000)

    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "audit").iterdir()}
    assert modes == {0o600}


def test_refuses_a_directory_that_others_can_read(tmp_path: Path) -> None:
    (tmp_path / "audit").mkdir(mode=0o700)
    (tmp_path / "audit").chmod(0o750)

    with pytest.raises(AuditError, match="chmod 700"):
        open_log(tmp_path / "audit")


def test_refuses_a_segment_that_others_can_read(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 1)
    segment_files(tmp_path / "audit")[0].path.chmod(0o644)

    with pytest.raises(AuditError, match="chmod 600"):
        open_log(tmp_path / "audit")


def test_refuses_a_segment_that_is_a_link(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 1)
    segment = segment_files(tmp_path / "audit")[0].path
    segment.rename(tmp_path / "elsewhere")
    segment.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(AuditError, match="cannot be opened"):
        open_log(tmp_path / "audit")


def test_refuses_a_second_writer(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    with pytest.raises(AuditError, match="another process writes"):
        open_log(tmp_path / "audit")
    log.close()

    open_log(tmp_path / "audit").close()


def test_closed_log_takes_nothing_and_closes_twice(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    log.close()
    log.close()

    with pytest.raises(AuditError, match="closed"):
        log.write(allowed(1))


def test_segments_are_named_by_their_first_record(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "audit", 9, segment_bytes=4000)
    files = segment_files(tmp_path / "audit")

    assert [file.path.name for file in files] == [
        "000000000001.jsonl",
        "000000000004.jsonl",
        "000000000007.jsonl",
    ]
    assert all(file.path.stat().st_size <= 4000 for file in files)
    assert len(lines) == 9
    assert verify_directory(tmp_path / "audit")


def test_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    for start in range(0, 12, 4):
        log = open_log(tmp_path / "audit", LogSettings(segment_bytes=4000))
        for number in range(start, start + 4):
            log.write(allowed(number))
        log.close()

    verification = verify_directory(tmp_path / "audit")
    assert (verification.ok, verification.records, verification.last_seq) == (True, 12, 12)


def test_records_of_many_threads_make_one_chain(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", LogSettings(segment_bytes=20_000))
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(log.write, [allowed(number) for number in range(400)]))
        list(pool.map(lambda _: log.publish_head(), range(4)))
    log.close()

    assert sorted(receipt.seq for receipt in receipts) == list(range(1, 401))
    assert verify_directory(tmp_path / "audit")


@pytest.mark.parametrize("durable", [False, True])
def test_head_names_the_newest_record_after_close(tmp_path: Path, *, durable: bool) -> None:
    log = open_log(tmp_path / "audit", LogSettings(durable=durable, segment_bytes=4000))
    for number in range(7):
        log.write(allowed(number))
    log.close()

    assert read_head(tmp_path / "audit") == log.head == Head(7, log.head.hash)


def test_head_is_written_at_most_once_a_second(tmp_path: Path) -> None:
    clock = [100.0]
    log = AuditLog.open(tmp_path / "audit", LogSettings(), ulid(0), NOW, lambda: clock[0])
    seen: list[int] = []
    for at in (100.0, 100.9, 101.0, 101.5, 102.1):
        clock[0] = at
        # Each `run` waits for the thread that writes the head.
        asyncio.run(log.append(allowed(len(seen))))
        head = read_head(tmp_path / "audit")
        assert head is not None
        seen.append(head.seq)
    log.close()

    assert seen == [0, 0, 3, 3, 5]


def test_idle_service_publishes_the_head_itself(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    log.write(allowed(1))
    assert read_head(tmp_path / "audit") == EMPTY

    log.publish_head()

    assert read_head(tmp_path / "audit") == log.head
    log.close()


def test_disk_full_fails_the_record_and_recovers(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    log.write(allowed(1))
    segment = failing(log)
    segment.append_error = OSError(errno.ENOSPC, "No space left on device")

    for number in range(3):
        with pytest.raises(AuditError, match="No space left"):
            log.write(allowed(number))

    segment.append_error = None
    assert log.write(allowed(2)).seq == 2
    log.close()
    assert verify_directory(tmp_path / "audit").records == 2


def test_short_write_leaves_no_part_of_the_record(tmp_path: Path) -> None:
    # A real short write: the kernel takes what fits under the limit, then refuses.
    script = """
        import resource, sys
        from pathlib import Path
        from authz.audit.log import LogSettings
        from authz.errors import AuditError
        from tests.audit_facts import allowed, log_bytes, open_log

        directory = Path(sys.argv[1])
        log = open_log(directory)
        log.write(allowed(1))
        whole = log_bytes(directory)
        soft = len(whole) + 500
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))
        for number in range(3):
            try:
                log.write(allowed(2))
            except AuditError as error:
                print("refused", error.code)
            assert log_bytes(directory) == whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("written", log.write(allowed(2)).seq)
        log.close()
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "audit")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert child.stdout.splitlines() == ["refused DPT-AUDIT-UNAVAILABLE"] * 3 + ["written 2"]
    assert verify_directory(tmp_path / "audit").records == 2


def test_end_that_could_not_be_cut_is_cut_before_the_next_record(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    segment = FileSegment.create(path)
    segment.append(b"first\n")
    real = segment._descriptor
    # /dev/full takes no byte, and cannot be cut.
    segment._descriptor = os.open("/dev/full", os.O_WRONLY)
    for _ in range(2):
        with pytest.raises(OSError, match=r"No space left|Invalid argument"):
            segment.append(b"second\n")
    os.close(segment._descriptor)
    segment._descriptor = real
    os.write(real, b"seco")
    assert segment.intact()

    segment.append(b"second\n")
    segment.close()

    assert path.read_bytes() == b"first\nsecond\n"


def test_full_disk_while_rotating_keeps_the_old_segment(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", LogSettings(segment_bytes=2500))
    log.write(allowed(1))
    log.write(allowed(2))
    # Somebody's file stands where the next segment goes: it is not touched, and nothing is written.
    blocker = tmp_path / "audit" / "000000000003.jsonl"
    blocker.write_bytes(b"mine")
    with pytest.raises(AuditError, match="File exists"):
        log.write(allowed(3))
    assert blocker.read_bytes() == b"mine"

    blocker.unlink()
    assert log.write(allowed(3)).seq == 3
    log.close()
    assert verify_directory(tmp_path / "audit").records == 3


def test_durable_log_undoes_what_the_disk_did_not_keep_and_stops(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", LogSettings(durable=True))
    log.write(allowed(1))
    segment = failing(log)
    segment.sync_error = OSError(errno.EIO, "Input/output error")

    with pytest.raises(AuditError, match="Input/output"):
        log.write(allowed(2))
    segment.sync_error = None
    with pytest.raises(AuditError, match="restart"):
        log.write(allowed(2))
    log.close()

    again = open_log(tmp_path / "audit")
    assert again.write(allowed(2)).seq == 2
    again.close()
    assert verify_directory(tmp_path / "audit")


def test_a_durable_record_keeps_nobody_else_waiting_for_the_disk(tmp_path: Path) -> None:
    """An agent that revoked its own tokens, one after the other, had all calls wait for the disk."""
    log = open_log(tmp_path / "audit")
    segment, may_end, began = failing(log), threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        assert may_end.wait(20)

    segment.sync = wait  # type: ignore[method-assign]  # a slow disk

    async def scenario() -> None:
        order = asyncio.create_task(log.append(dataclasses.replace(allowed(1), is_durable=True)))
        assert await asyncio.to_thread(began.wait, 20)
        async with asyncio.timeout(20):
            assert (await log.append(allowed(2))).seq == 2
        assert not order.done()
        may_end.set()
        assert (await order).seq == 1

    asyncio.run(scenario())
    log.close()
    assert verify_directory(tmp_path / "audit").records == 2


def test_what_waits_for_a_disk_that_fails_is_not_written_nor_anything_after_it(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    segment = failing(log)
    segment.sync_error = OSError(errno.EIO, "Input/output error")
    durable = dataclasses.replace(allowed(1), is_durable=True)
    for _ in range(2):
        with pytest.raises(AuditError):
            asyncio.run(log.append(durable))
    with pytest.raises(AuditError):
        log.sync()
    log.close()


def test_a_durable_record_takes_those_of_full_segments_to_the_disk(tmp_path: Path) -> None:
    """What acts once its record is on the disk is in no log whose middle a loss of power took."""
    log = open_log(tmp_path / "audit", LogSettings(segment_bytes=2500))
    full = failing(log)
    full.sync_error = OSError(errno.EIO, "Input/output error")
    for number in (1, 2, 3):
        log.write(allowed(number))
    assert log._segment is not full
    with pytest.raises(AuditError, match="Input/output"):
        log.write(dataclasses.replace(allowed(4), is_durable=True))
    log.close()


def test_written_log_stops_when_the_disk_loses_records_later(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    segment = failing(log)
    log.write(allowed(1))
    segment.sync_error = OSError(errno.EIO, "Input/output error")
    log.publish_head()

    assert read_head(tmp_path / "audit") == EMPTY
    with pytest.raises(AuditError, match="restart"):
        log.write(allowed(2))
    log.close()


def test_interrupt_in_the_middle_of_a_record_stops_the_log(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    failing(log).append_error = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        log.write(allowed(1))
    with pytest.raises(AuditError, match="interrupted"):
        log.write(allowed(1))
    log.close()


@pytest.mark.parametrize("attack", ["remove", "truncate", "append"])
def test_file_that_is_changed_under_us_stops_the_log(tmp_path: Path, attack: str) -> None:
    log = open_log(tmp_path / "audit")
    log.write(allowed(1))
    path = segment_files(tmp_path / "audit")[0].path
    if attack == "remove":
        path.unlink()
    elif attack == "truncate":
        os.truncate(path, 0)
    else:
        with path.open("ab") as file:
            file.write(b"{}\n")
    log.publish_head()

    with pytest.raises(AuditError, match="removed or changed"):
        log.write(allowed(2))
    log.close()


def test_head_that_cannot_be_written_is_late_and_nothing_else(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    (tmp_path / "audit" / "head.tmp").mkdir()
    log.write(allowed(1))
    log.publish_head()
    assert read_head(tmp_path / "audit") == EMPTY

    (tmp_path / "audit" / "head.tmp").rmdir()
    assert log.write(allowed(2)).seq == 2
    log.close()
    assert read_head(tmp_path / "audit") == log.head


def test_strangers_cannot_take_the_space_of_the_others(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", LogSettings(max_bytes=20_000, reserve_bytes=8_000))

    assert fill(log, a_stranger) > 20
    with pytest.raises(AuditError, match="less the reserve"):
        log.write(a_stranger(0))
    assert fill(log, allowed) >= 6
    with pytest.raises(AuditError, match="max_bytes"):
        log.write(allowed(0))
    log.close()
    assert len(log_bytes(tmp_path / "audit")) <= 20_000
    assert verify_directory(tmp_path / "audit")


def test_space_of_a_log_that_was_there_counts(tmp_path: Path) -> None:
    size = len(b"".join(write_log(tmp_path / "audit", 9, segment_bytes=4000)))
    log = open_log(tmp_path / "audit", LogSettings(max_bytes=size, segment_bytes=4000))

    with pytest.raises(AuditError, match="max_bytes"):
        log.write(allowed(10))
    log.close()


def test_strangers_stop_before_the_disk_is_full(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    log = open_log(tmp_path / "audit", LogSettings(reserve_bytes=2 * free.f_blocks * free.f_frsize))

    with pytest.raises(AuditError, match="kept for records of authenticated"):
        log.write(a_stranger(1))
    assert log.write(allowed(1)).seq == 1
    log.close()


def test_record_that_is_too_long_is_refused_and_the_log_goes_on(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    with pytest.raises(AuditError, match="longer than"):
        log.write(Entry("decision", ulid(1), "2026-09-01T12:00:00.000000Z", {"detail": "x" * 70_000}))
    with pytest.raises(AuditError, match="canonical"):
        log.write(Entry("decision", ulid(1), "2026-09-01T12:00:00.000000Z", {"detail": "\ud800"}))

    assert log.write(allowed(1)).seq == 1
    log.close()


def test_refuses_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(AuditError, match="cannot be used"):
        open_log(tmp_path / "file" / "audit")


def test_refuses_a_file_with_a_name_that_is_not_a_segment_s(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 1)
    for name in ("1.jsonl", "000000000001-copy.jsonl", "00000000000002.jsonl"):
        other = tmp_path / "audit" / name
        other.write_bytes(b"")
        with pytest.raises(AuditError, match="not named like a segment"):
            open_log(tmp_path / "audit")
        other.unlink()


def test_refuses_a_log_without_its_head(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 3)
    (tmp_path / "audit" / HEAD_FILE).unlink()

    with pytest.raises(AuditError, match=r"lost its head\.json"):
        open_log(tmp_path / "audit")


def test_refuses_a_head_without_its_log(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 3)
    segment_files(tmp_path / "audit")[0].path.unlink()

    with pytest.raises(AuditError, match="lost all its records"):
        open_log(tmp_path / "audit")


def test_refuses_a_log_that_lacks_a_segment(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 9, segment_bytes=4000)
    segment_files(tmp_path / "audit")[1].path.unlink()

    with pytest.raises(AuditError, match="lacks the records 4 to 6"):
        open_log(tmp_path / "audit")


def test_refuses_a_head_that_is_not_ours(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 1)
    head = tmp_path / "audit" / HEAD_FILE
    good = head.read_bytes()
    for bad in (
        b"",
        b"{}",
        good[:-1],
        good + b"\n",
        good.replace(b":1", b":01"),
        good.replace(b":1", b":-1"),
        b"\xff",
    ):
        head.write_bytes(bad)
        with pytest.raises(AuditError, match="not what we wrote"):
            open_log(tmp_path / "audit")


def test_failed_open_lets_the_directory_go(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "audit", 2)
    path = segment_files(tmp_path / "audit")[0].path
    path.write_bytes(lines[1] + lines[0])
    with pytest.raises(
        AuditError, match=r"000000000001\.jsonl line 1: record 2 stands where record 1 belongs"
    ):
        open_log(tmp_path / "audit")
    path.write_bytes(lines[0] + lines[1])

    open_log(tmp_path / "audit").close()


def test_segment_that_appears_from_nowhere_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"mine")

    with pytest.raises(OSError, match="File exists"):
        FileSegment.create(tmp_path / "taken")
    with pytest.raises((OSError, StoreError)):
        FileSegment.open(tmp_path, 0)
