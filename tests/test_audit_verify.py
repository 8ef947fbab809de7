"""Every way to tamper with a log is found, and named."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from authz.audit.chain import EMPTY, Head
from authz.audit.log_head import read_head
from authz.audit.read_lines import log_lines, segment_files
from authz.audit.read_verify import verify_directory
from authz.audit.record import Record, digest
from authz.audit.verify import MAX_PROBLEMS, Verification, verify_lines
from authz.errors import AuditError
from tests.audit_facts import allowed, open_log, ulid, write_log

FILE = "000000000001.jsonl"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return write_log(tmp_path_factory.mktemp("log") / "audit", 8)


def head_of(lines: list[bytes]) -> Head:
    return Head(len(lines), digest(lines[-1][:-1]))


def verify(changed: Iterable[bytes], lines: list[bytes]) -> Verification:
    return verify_lines([(FILE, line) for line in changed], head_of(lines))


def problems(changed: Iterable[bytes], lines: list[bytes]) -> list[tuple[int, int | None, str]]:
    return [(problem.line, problem.seq, problem.what) for problem in verify(changed, lines).problems]


def relines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True) if b"\r" not in data else re.findall(rb"[^\n]*\n|[^\n]+$", data)


def edited(line: bytes) -> bytes:
    return line.replace(b'"tool"', b'"prompt"')


def test_whole_log_is_ok(lines: list[bytes]) -> None:
    verification = verify(lines, lines)

    assert verification
    assert verification.ok
    assert (verification.records, verification.first_seq, verification.last_seq) == (8, 1, 8)
    assert verification.head == head_of(lines)


def test_log_that_went_on_after_its_head_is_ok(lines: list[bytes]) -> None:
    assert verify_lines([(FILE, line) for line in lines], head_of(lines[:3])).ok
    assert verify_lines([(FILE, line) for line in lines], EMPTY).ok


def test_empty_log_is_ok_only_with_an_empty_head(lines: list[bytes]) -> None:
    assert verify_lines([], EMPTY).ok
    assert not verify_lines([], None).ok
    assert not verify([], lines)


@pytest.mark.parametrize("index", range(8))
def test_changed_record_is_named(lines: list[bytes], index: int) -> None:
    changed = [*lines[:index], edited(lines[index]), *lines[index + 1 :]]
    found = problems(changed, lines)

    assert [(line, seq) for line, seq, _ in found] == [(index + 1, index + 1)]
    assert "changed" in found[0][2]


@pytest.mark.parametrize("index", range(8))
def test_changed_link_is_named_where_it_is(lines: list[bytes], index: int) -> None:
    line = lines[index]
    changed = [*lines[:index], re.sub(rb'"prev":"(....)', rb'"prev":"beef', line), *lines[index + 1 :]]
    found = problems(changed, lines)

    assert [(line, seq) for line, seq, _ in found] == [(index + 1, index + 1)]


def test_problem_carries_file_line_number_and_id(lines: list[bytes]) -> None:
    [problem] = verify([lines[0], edited(lines[1]), *lines[2:]], lines).problems

    assert (problem.file, problem.line, problem.seq, problem.id) == (FILE, 2, 2, ulid(1))
    assert str(problem).startswith(f"{FILE} line 2 record 2: changed after it was written")


@pytest.mark.parametrize("index", range(1, 7))
def test_dropped_record_is_named(lines: list[bytes], index: int) -> None:
    found = problems([*lines[:index], *lines[index + 1 :]], lines)

    assert found == [(index + 1, index + 2, f"record {index + 1} is missing before it")]


def test_records_dropped_from_the_end_are_named(lines: list[bytes]) -> None:
    assert problems(lines[:7], lines) == [(7, 7, "the end of the log is cut off: record 8 is missing")]
    assert problems(lines[:5], lines) == [(5, 5, "the end of the log is cut off: records 6 to 8 are missing")]


def test_records_dropped_from_the_beginning_are_named(lines: list[bytes]) -> None:
    assert problems(lines[3:], lines) == [
        (1, 4, "the file is named after record 1"),
        (1, 4, "records 1 to 3 are missing before it"),
    ]


@pytest.mark.parametrize("index", range(8))
def test_duplicated_record_is_named(lines: list[bytes], index: int) -> None:
    found = problems([*lines[: index + 1], *lines[index:]], lines)

    assert found == [(index + 2, index + 1, "stands there twice")]


def test_record_that_comes_back_later_is_named(lines: list[bytes]) -> None:
    assert problems([*lines[:6], lines[1], *lines[6:]], lines) == [
        (7, 2, "out of order: it stands after record 6")
    ]


@pytest.mark.parametrize("index", range(1, 7))
def test_reordered_records_are_named(lines: list[bytes], index: int) -> None:
    found = problems([*lines[:index], lines[index + 1], lines[index], *lines[index + 2 :]], lines)

    assert (index + 2, index + 1, f"out of order: it stands after record {index + 2}") in found
    assert len(found) == 2


@pytest.mark.parametrize("index", range(8))
def test_truncated_record_is_named(lines: list[bytes], index: int) -> None:
    found = problems([*lines[:index], lines[index][:-20] + b"\n", *lines[index + 1 :]], lines)

    assert [(line, seq) for line, seq, _ in found] == [(index + 1, index + 1)]


def test_line_without_an_end_is_named(lines: list[bytes]) -> None:
    found = problems([*lines[:7], lines[7][:-1]], lines)

    assert found == [(8, 8, "cut off: the line has no end")]


def test_forged_line_in_between_is_named_and_nothing_else(lines: list[bytes]) -> None:
    assert problems([*lines[:4], b'{"effect":"allow"}\n', *lines[4:]], lines) == [
        (5, 5, "not a record of version 1")
    ]


def test_two_changes_are_both_found(lines: list[bytes]) -> None:
    changed = [edited(line) if index in {1, 5} else line for index, line in enumerate(lines)]

    assert [seq for _, seq, _ in problems(changed, lines)] == [2, 6]


def test_end_that_was_written_anew_is_found_by_the_head(tmp_path: Path, lines: list[bytes]) -> None:
    # The insider recomputes every hash; the head that was published before shows it.
    other = write_log(tmp_path / "audit", 8)
    assert other == lines
    forged = [*lines[:5]]
    for line in lines[5:]:
        link = digest(forged[-1][:-1]).encode()
        forged.append(edited(re.sub(rb'"prev":"[0-9a-f]{64}"', b'"prev":"' + link + b'"', line)))

    assert verify_lines([(FILE, line) for line in forged], EMPTY).ok
    found = problems(forged, lines)
    assert [(line, seq) for line, seq, _ in found] == [(8, 8)]
    assert "head.json" in found[0][2]


def test_file_under_another_name_is_named(lines: list[bytes]) -> None:
    numbered = [("000000000001.jsonl", lines[0]), *(("000000000003.jsonl", line) for line in lines[1:])]

    [problem] = verify_lines(numbered, head_of(lines)).problems
    assert problem.what == "the file is named after record 3"


def test_problems_are_bounded() -> None:
    verification = verify_lines(((FILE, b"garbage\n") for _ in range(10_000)), EMPTY)

    assert len(verification.problems) == MAX_PROBLEMS
    assert not verification.ok


@pytest.mark.parametrize("change", [1, 0x20, 0x80, None])
def test_no_byte_can_be_changed_or_dropped(tmp_path: Path, change: int | None) -> None:
    small = write_log(tmp_path / "audit", 2)
    data = b"".join(small)
    written = read_head(tmp_path / "audit")
    for offset in range(len(data)):
        byte = b"" if change is None else bytes([data[offset] ^ change])
        tampered = relines(data[:offset] + byte + data[offset + 1 :])
        assert not verify_lines([(FILE, line) for line in tampered], written).ok, offset


def test_no_byte_of_the_head_can_be_changed_or_dropped(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 2)
    path = tmp_path / "audit" / "head.json"
    data = path.read_bytes()
    for offset in range(len(data)):
        for byte in (b"", bytes([data[offset] ^ 1]), bytes([data[offset] ^ 0x20]), b"0"):
            tampered = data[:offset] + byte + data[offset + 1 :]
            if tampered == data:
                continue
            path.write_bytes(tampered)
            assert not _is_ok(tmp_path / "audit"), tampered


def _is_ok(directory: Path) -> bool:
    try:
        return verify_directory(directory).ok
    except AuditError:
        return False


def test_log_cut_at_any_byte_after_it_was_closed_is_not_ok(tmp_path: Path) -> None:
    data = b"".join(write_log(tmp_path / "audit", 2))
    path = segment_files(tmp_path / "audit")[0].path
    for offset in range(len(data)):
        path.write_bytes(data[:offset])
        assert not verify_directory(tmp_path / "audit", lambda: None)
        with pytest.raises(AuditError):
            open_log(tmp_path / "audit")


def test_any_segment_that_is_removed_is_missed(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 12, segment_bytes=4000)
    for segment in segment_files(tmp_path / "audit"):
        data = segment.path.read_bytes()
        segment.path.unlink()
        assert not verify_directory(tmp_path / "audit")
        segment.path.write_bytes(data)
    assert verify_directory(tmp_path / "audit")


def test_old_backup_of_the_segments_is_found_by_the_head(tmp_path: Path) -> None:
    write_log(tmp_path / "audit", 3)
    shutil.copy(segment_files(tmp_path / "audit")[0].path, tmp_path / "backup")
    log = open_log(tmp_path / "audit")
    log.write(allowed(4))
    log.close()
    shutil.copy(tmp_path / "backup", segment_files(tmp_path / "audit")[0].path)

    assert "record 4 is missing" in verify_directory(tmp_path / "audit").problems[0].what


def test_log_is_ok_while_it_is_written(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit")
    for number in range(5):
        log.write(allowed(number))
        assert verify_directory(tmp_path / "audit").records == number + 1
    log.close()


def test_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "audit", 3)
    path = segment_files(tmp_path / "audit")[0].path
    path.write_bytes(b"".join(lines)[:-10])

    def finish() -> None:
        path.write_bytes(b"".join(lines))

    assert verify_lines(log_lines(tmp_path / "audit", finish), head_of(lines)).ok
    assert Record.parse(lines[-1][:-1]).seq == 3


def test_where_there_is_no_log_there_is_no_verdict(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(AuditError, match="there is no audit log"):
            verify_directory(directory)
