"""A crash at any byte: what was answered stays, what was not is cut off, and the log says so."""

import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from authz.audit.chain import EMPTY
from authz.audit.entry import Entry, service
from authz.audit.log import AuditLog, LogSettings
from authz.audit.log_head import write_head
from authz.audit.read_lines import segment_files
from authz.audit.read_verify import verify_directory
from authz.audit.record import Record
from authz.errors import AuditError
from tests.audit_facts import NOW, allowed, log_bytes, open_log, ulid, write_log

ROOT = Path(__file__).resolve().parent.parent


def crashed(
    directory: Path, records: int, segment_bytes: int = 1 << 20, make: Callable[[int], Entry] = allowed
) -> list[bytes]:
    """Leave a log behind as a process does that is killed before it ever published a head."""
    lines = write_log(directory, records, segment_bytes, make)
    write_head(directory, EMPTY)
    return lines


def records_in(directory: Path) -> list[Record]:
    return [Record.parse(line) for line in log_bytes(directory).splitlines()]


def short(number: int) -> Entry:
    return service("start", "0.1.0", "", ulid(number), NOW)


@pytest.mark.parametrize("make", [short, pytest.param(allowed, marks=pytest.mark.full)])
def test_cut_at_any_byte_loses_no_earlier_record(tmp_path: Path, make: Callable[[int], Entry]) -> None:
    directory = tmp_path / "audit"
    lines = crashed(directory, 2, make=make)
    data = b"".join(lines)
    path = segment_files(directory)[0].path
    for offset in range(len(data) + 1):
        path.write_bytes(data[:offset])
        write_head(directory, EMPTY)
        whole = data[:offset].count(b"\n")
        torn = data[:offset].rpartition(b"\n")[2]

        log = open_log(directory)
        log.write(make(7))
        log.close()

        assert log_bytes(directory).startswith(b"".join(lines[:whole]))
        verification = verify_directory(directory)
        assert verification.ok, offset
        assert verification.records == whole + 1 + bool(torn)
        notes = [record for record in records_in(directory) if record.kind == "recovered"]
        assert [note.members["cut_bytes"] for note in notes] == ([len(torn)] if torn else [])


def test_crash_between_two_segments_is_no_loss(tmp_path: Path) -> None:
    lines = crashed(tmp_path / "audit", 6, segment_bytes=4000)
    (tmp_path / "audit" / "000000000007.jsonl").touch(0o600)

    log = open_log(tmp_path / "audit")
    assert log.write(allowed(7)).seq == 7
    log.close()

    assert records_in(tmp_path / "audit")[6].seq == 7
    assert log_bytes(tmp_path / "audit").startswith(b"".join(lines))
    assert verify_directory(tmp_path / "audit")


def test_torn_first_line_of_a_segment_is_cut(tmp_path: Path) -> None:
    lines = crashed(tmp_path / "audit", 7, segment_bytes=4000)
    last = segment_files(tmp_path / "audit")[-1].path
    assert last.read_bytes() == lines[6]
    last.write_bytes(lines[6][:100])

    open_log(tmp_path / "audit").close()

    assert [record.kind for record in records_in(tmp_path / "audit")][-1] == "recovered"
    assert verify_directory(tmp_path / "audit").records == 7


def test_record_that_the_head_names_is_not_cut_off_as_torn(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "audit", 3)
    path = segment_files(tmp_path / "audit")[0].path
    path.write_bytes(b"".join(lines)[:-1])

    with pytest.raises(AuditError, match=r"stops at record 2, head\.json names record 3"):
        open_log(tmp_path / "audit")
    assert path.read_bytes() == b"".join(lines)[:-1]


@pytest.mark.parametrize("damage", [b"\x00" * 50 + b"\n", b"{}\n", b"\n", b"x" * 200_000])
def test_damage_that_is_no_torn_line_is_refused_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    lines = crashed(tmp_path / "audit", 3)
    path = segment_files(tmp_path / "audit")[0].path
    data = b"".join(lines[:2]) + damage + lines[2]
    path.write_bytes(data)

    with pytest.raises(AuditError, match=r"000000000001\.jsonl line 3: .*deputy audit verify"):
        open_log(tmp_path / "audit")
    assert path.read_bytes() == data


def test_changed_record_is_refused_at_start_by_name(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "audit", 3)
    path = segment_files(tmp_path / "audit")[0].path
    path.write_bytes(b"".join(lines).replace(b'"allow"', b'"deny"', 1))
    with pytest.raises(AuditError, match="line 2: record 2 does not name the hash of record 1"):
        open_log(tmp_path / "audit")

    path.write_bytes(b"".join([*lines[:2], lines[2].replace(b'"allow"', b'"deny"')]))
    with pytest.raises(AuditError, match=r"record 3 is not the one that head\.json names"):
        open_log(tmp_path / "audit")


def test_damaged_end_of_an_older_segment_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 7, segment_bytes=4000)
    older = segment_files(tmp_path / "audit")[-2].path
    older.write_bytes(older.read_bytes()[:-30])

    with pytest.raises(AuditError, match=r"000000000004\.jsonl, last line: .*deputy audit verify"):
        open_log(tmp_path / "audit")


def test_recovery_that_cannot_be_noted_refuses_to_start(tmp_path: Path) -> None:
    lines = crashed(tmp_path / "audit", 3)
    path = segment_files(tmp_path / "audit")[0].path
    path.write_bytes(b"".join(lines)[:-5])
    full = LogSettings(max_bytes=len(b"".join(lines[:2])) + 10)

    with pytest.raises(AuditError, match="max_bytes"):
        AuditLog.open(tmp_path / "audit", full, ulid(1), NOW)
    # The lock is gone with it.
    open_log(tmp_path / "audit").close()


CHILD = """
    import asyncio, sys
    from pathlib import Path
    from authz.audit.log import LogSettings
    from tests.audit_facts import allowed, open_log

    async def run():
        log = open_log(Path(sys.argv[1]), LogSettings(segment_bytes=100_000))
        number = 0
        while True:
            receipt = await log.append(allowed(number))
            sys.stdout.write(f"{receipt.seq}\\n")
            sys.stdout.flush()
            number += 1

    asyncio.run(run())
"""


def kill_under_load(directory: Path, answers: int) -> int:
    """Kill a writer after so many answers, and return the last record that it answered on."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(directory)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(answers)]
        child.kill()
        lines += [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    return int(lines[-1])


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
def test_answered_record_survives_a_kill(tmp_path: Path, rounds: int) -> None:
    chance = random.Random(20260901)
    for _ in range(rounds):
        answered = kill_under_load(tmp_path / "audit", chance.randint(1, 400))
        log = open_log(tmp_path / "audit")
        assert log.head.seq >= answered
        log.close()
        assert verify_directory(tmp_path / "audit").ok
