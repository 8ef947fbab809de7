"""One record, one spelling."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from authz.audit.record import GENESIS, MAX_INTEGER, MAX_RECORD_BYTES, Record, canonical, digest, timestamp
from authz.errors import AuditError
from tests.audit_facts import NOW, allowed, ulid

LINE = canonical(allowed(1).members(7, GENESIS))


def test_record_is_read_as_it_was_written() -> None:
    record = Record.parse(LINE)

    assert (record.seq, record.prev, record.kind, record.id) == (7, GENESIS, "decision", ulid(1))
    assert record.time == "2026-09-01T12:00:01.123456Z"
    assert record.members == json.loads(LINE)


def test_hash_is_of_the_line_without_its_newline() -> None:
    # The well-known SHA-256 of "abc" (FIPS 180-4).
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"a":1',
        b"[" * 60_000,
        b"9" * 5_000,
        b" " * (MAX_RECORD_BYTES + 1),
        LINE + b"\n",
        LINE + b" ",
        LINE + LINE,
        b"\xef\xbb\xbf" + LINE,
        LINE.replace(b'"seq":7', b'"seq":0'),
        LINE.replace(b'"seq":7', b'"seq":-1'),
        LINE.replace(b'"seq":7', b'"seq":7.0'),
        LINE.replace(b'"seq":7', b'"seq":1e3'),
        LINE.replace(b'"seq":7', b'"seq":NaN'),
        LINE.replace(b'"seq":7', b'"seq":true'),
        LINE.replace(b'"seq":7', b'"seq":"7"'),
        LINE.replace(b'"seq":7', b'"seq":%d' % (MAX_INTEGER + 1)),
        LINE.replace(b'"seq":7', b'"seq":7,"seq":7'),
        LINE.replace(b'"seq":7,', b""),
        LINE.replace(b'"seq":7', b'"seq": 7'),
        LINE.replace(b'"v":1', b'"v":2'),
        LINE.replace(b'"v":1', b'"v":true'),
        LINE.replace(b'"v":1', b'"v":1,"w":1.5'),
        LINE.replace(b'"kind":"decision"', b'"kind":"Decision"'),
        LINE.replace(b'"kind":"decision"', b'"kind":"decision\\n"'),
        LINE.replace(b'"kind":"decision"', b'"kind":"\\u0064ecision"'),
        LINE.replace(b'"rule":"deputy.allow"', b'"rule":"\\ud800"'),
        LINE.replace(GENESIS.encode(), b"0" * 63),
        LINE.replace(GENESIS.encode(), b"A" * 64),
        LINE.replace(b".123456Z", b"Z"),
        LINE.replace(b".123456Z", b".123456+00:00"),
    ],
)
def test_refuses_what_we_would_not_have_written(line: bytes) -> None:
    assert line != LINE
    with pytest.raises(AuditError):
        Record.parse(line)


def test_refuses_to_write_what_cannot_be_read_back() -> None:
    for value in ("\ud800", float("nan"), object(), {1, 2}, b"bytes"):
        with pytest.raises(AuditError):
            canonical({"a": value})  # type: ignore[dict-item]  # what the types forbid, for once


def test_time_is_utc_with_microseconds_and_sorts_as_text() -> None:
    east = timezone(timedelta(hours=9))
    moments = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 9, 0, 0, 1, tzinfo=east), NOW]

    assert [timestamp(moment) for moment in moments] == [
        "2026-01-01T00:00:00.000000Z",
        "2026-01-01T00:00:00.000001Z",
        "2026-09-01T12:00:00.123456Z",
    ]


def test_refuses_a_time_without_a_zone() -> None:
    with pytest.raises(ValueError, match="without a zone"):
        timestamp(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
