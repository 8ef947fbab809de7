"""Questions to the log: list, get and watch."""

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from authz.audit.entry import decision, exchange, registry, service, stranger, withdrawn
from authz.audit.facts import RegistryFacts
from authz.audit.filter import Filter
from authz.audit.log import LogSettings
from authz.audit.read import Position, end, find, follow, latest
from authz.audit.read_lines import segment_files
from authz.errors import AuditError
from identity.caller import Human
from tests.audit_facts import ALLOWED, NOW, TASK, allowed, open_log, ulid, write_log

DENIED = dataclasses.replace(
    ALLOWED,
    effect="deny",
    code="DPT-HUMAN-NOT-GRANTED",
    human=Human("https://idp.example", "clerk"),
    agent="resolver",
    task=ulid(910),
    chain=(),
    service="billing",
    resource_name="refund",
    txn=ulid(911),
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a small log: start, allow, deny, exchange, withdrawal, registry change, stranger."""
    log = open_log(tmp_path / "audit", LogSettings(segment_bytes=3000))
    log.write(service("start", "0.1.0", "", ulid(0), NOW))
    log.write(decision(ALLOWED, ulid(1), NOW + timedelta(seconds=1)))
    log.write(decision(DENIED, ulid(2), NOW + timedelta(seconds=2)))
    log.write(exchange(ALLOWED, None, ulid(3), NOW + timedelta(seconds=3)))
    log.write(withdrawn(ALLOWED, ulid(1), ulid(4), NOW + timedelta(seconds=4)))
    log.write(registry(RegistryFacts(change="agent-retired", agent="triage"), ulid(5), NOW))
    facts = dataclasses.replace(DENIED, code="DPT-TOKEN-MISSING")
    log.write(stranger(facts, ulid(6), NOW + timedelta(seconds=6)))
    log.close()
    return tmp_path / "audit"


def ids(directory: Path, where: Filter, limit: int = 100) -> list[str]:
    return [record.id for record in latest(directory, where, limit)]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (Filter(), [1, 2, 3, 4, 6]),
        (Filter(human="lead"), [1, 3, 4]),
        (Filter(human="https://idp.example#clerk"), [2]),
        (Filter(human="https://other.example#clerk"), []),
        (Filter(agent="triage"), [1, 3, 4]),
        (Filter(agent="resolver"), [1, 2, 3, 4]),
        (Filter(task=TASK), [1, 3, 4]),
        (Filter(tool="refund"), [2]),
        (Filter(service="billing"), [2, 6]),
        (Filter(effect="allow"), [1, 3]),
        (Filter(effect="deny"), [2, 4, 6]),
        (Filter(code="DPT-HUMAN-NOT-GRANTED"), [2]),
        (Filter(txn=ulid(911)), [2]),
        (Filter(since=NOW + timedelta(seconds=2)), [2, 3, 4, 6]),
        (Filter(until=NOW + timedelta(seconds=2)), [1]),
        (Filter(kinds=frozenset({"start", "registry"})), [0, 5]),
        (Filter(agent="triage", effect="deny", code="DPT-ALLOWED"), [4]),
        (Filter(human="nobody"), []),
    ],
)
def test_question_finds_its_records(directory: Path, where: Filter, found: list[int]) -> None:
    assert ids(directory, where) == [ulid(number) for number in found]


@pytest.mark.parametrize(
    ("limit", "found"), [(0, []), (-1, []), (1, [6]), (3, [3, 4, 6]), (10**9, [1, 2, 3, 4, 6])]
)
def test_limit_keeps_the_newest_oldest_first(directory: Path, limit: int, found: list[int]) -> None:
    assert len(segment_files(directory)) > 1
    assert ids(directory, Filter(), limit) == [ulid(number) for number in found]


def test_get_shows_the_decision_and_its_withdrawal(directory: Path) -> None:
    assert [record.kind for record in find(directory, ulid(1))] == ["decision", "withdrawn"]
    assert [record.kind for record in find(directory, ulid(5))] == ["registry"]
    assert find(directory, ulid(77)) == ()


def test_line_that_is_being_written_is_not_there_yet(directory: Path) -> None:
    last = segment_files(directory)[-1].path
    last.write_bytes(last.read_bytes()[:-1])

    assert ids(directory, Filter())[-1] == ulid(4)


def test_line_that_was_tampered_with_is_an_error_that_names_it(directory: Path) -> None:
    path = segment_files(directory)[0].path
    path.write_bytes(path.read_bytes().replace(b'"allow"', b'"allow" '))

    with pytest.raises(AuditError, match=r"000000000001\.jsonl at byte \d+: .*deputy audit verify"):
        latest(directory, Filter(), 100)
    path.write_bytes(b"x" * 70_000)
    with pytest.raises(AuditError, match="at byte 0"):
        find(directory, ulid(1))


def test_missing_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="cannot be read"):
        latest(tmp_path / "nowhere", Filter(), 1)


def pauses(*steps: Callable[[], object]) -> Callable[[], bool]:
    """Do one step at each pause, and end after the last."""
    left = list(steps)

    def pause() -> bool:
        if not left:
            return False
        left.pop(0)()
        return True

    return pause


def test_watch_shows_what_is_written_meanwhile_across_segments(tmp_path: Path) -> None:
    log = open_log(tmp_path / "audit", LogSettings(segment_bytes=2500))
    log.write(allowed(0))

    def write(*numbers: int) -> Callable[[], object]:
        return lambda: [log.write(allowed(number)) for number in numbers]

    watch = follow(
        tmp_path / "audit",
        Filter(),
        end(tmp_path / "audit"),
        pauses(write(1), write(), write(2, 3, 4, 5), write(6)),
    )
    seen = [record.seq for record in watch]
    log.close()

    assert seen == [2, 3, 4, 5, 6, 7]


def test_watch_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    lines = write_log(tmp_path / "audit", 2)
    path = segment_files(tmp_path / "audit")[0].path
    whole = path.read_bytes()
    path.write_bytes(lines[0] + lines[1][:50])
    start = end(tmp_path / "audit")

    watch = follow(tmp_path / "audit", Filter(), start, pauses(lambda: path.write_bytes(whole)))

    assert start == Position(1, len(lines[0]))
    assert [record.seq for record in watch] == [2]


def test_watch_from_the_beginning_shows_everything_and_filters(directory: Path) -> None:
    watch = follow(directory, Filter(effect="allow"), Position(0, 0), pauses())

    assert [record.id for record in watch] == [ulid(1), ulid(3)]


def test_watch_of_an_empty_log_begins_at_its_beginning(tmp_path: Path) -> None:
    tmp_path.joinpath("audit").mkdir(mode=0o700)
    assert end(tmp_path / "audit") == Position(0, 0)
