"""`deputy decisions` and `deputy audit`: what the log says, in every form, and what it does not say."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.audit.entry import (
    Entry,
    decision,
    drift,
    exchange,
    issuance,
    policy,
    refused,
    service,
    stranger,
    withdrawn,
)
from authz.audit.facts import DriftFacts, Issued, PolicyFacts, Summary
from authz.audit.log import AuditLog, LogSettings
from authz.audit.record import GENESIS, canonical
from authz.cli import run
from authz.commands.moment import moment
from identity.caller import Human
from tests.audit_facts import ALLOWED, NOW, ulid, write_log
from tests.service_files import ROOT, ServiceFiles

ESCAPE = "\x1b"
DENIED = dataclasses.replace(
    ALLOWED,
    effect="deny",
    code="DPT-AGENT-TIER",
    codes=("DPT-AGENT-TIER", "DPT-SCOPE-MISSING"),
    detail="the tier observer",
    resource_name="close_ticket",
    human=Human("https://idp.example", "clerk"),
)
AUTONOMOUS = dataclasses.replace(ALLOWED, human=None, autonomous=True, chain=ALLOWED.chain[:1])
CHANGED = DriftFacts(
    change="changed",
    service="billing",
    tool="refund",
    accepted="a" * 64,
    seen="b" * 64,
    seen_at=NOW,
    code="DPT-TOOL-CHANGED",
)
ISSUED = Issued(kind="jwt-svid", subject="spiffe://mesh.example/agent/triage", expires_at=NOW)
MAKE: list[Callable[[str, datetime], Entry]] = [
    lambda id_, now: service("start", "0.1.0", "policy p.d", id_, now),
    lambda id_, now: policy(PolicyFacts(change="loaded", revision="p.d"), id_, now),
    lambda id_, now: decision(ALLOWED, id_, now),
    lambda id_, now: decision(DENIED, id_, now),
    lambda id_, now: decision(AUTONOMOUS, id_, now),
    lambda id_, now: issuance(ALLOWED, ISSUED, id_, now),
    lambda id_, now: exchange(DENIED, None, id_, now),
    lambda id_, now: withdrawn(ALLOWED, ulid(2), id_, now),
    lambda id_, now: stranger(dataclasses.replace(DENIED, code="DPT-TOKEN-MISSING"), id_, now),
    lambda id_, now: refused(Summary(peer="unknown", count=7, since=NOW, until=NOW), id_, now),
]
START, POLICY, ALLOW, DENY, ALONE, ISSUANCE, EXCHANGE, WITHDRAWN, STRANGER, REFUSED = range(10)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with a record of every kind."""

    def make(number: int) -> Entry:
        return MAKE[number](ulid(number), NOW + timedelta(seconds=number))

    write_log(tmp_path / "audit", len(MAKE), make=make)
    return tmp_path / "audit"


def ids(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.split()


# list


def test_a_tool_that_changed_is_listed_beside_the_calls_and_shown_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "drift"
    write_log(directory, 1, make=lambda _: drift(CHANGED, ulid(1), NOW))
    where = ["--audit-dir", str(directory)]
    for question in ("--tool=refund", "--service=billing", "--code=DPT-TOOL-CHANGED", "--effect=deny"):
        assert run(["decisions", "list", question, *where, "-o", "name"]) == 0
        assert ids(capsys) == [ulid(1)]
    assert run(["decisions", "get", ulid(1), *where]) == 0
    out = capsys.readouterr().out
    assert "a" * 64 in out
    assert "b" * 64 in out
    assert "DPT-TOOL-CHANGED" in out


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [ALLOW, DENY, ALONE, ISSUANCE, EXCHANGE, WITHDRAWN, STRANGER, REFUSED]),
        (["--limit", "2"], [STRANGER, REFUSED]),
        (["--human", "clerk"], [DENY, EXCHANGE]),
        (["--human", "https://idp.example#lead"], [ALLOW, ISSUANCE, WITHDRAWN]),
        (["--agent", "resolver"], [ALLOW, DENY, ISSUANCE, EXCHANGE, WITHDRAWN]),
        (["--tool", "close_ticket"], [DENY, EXCHANGE]),
        (["--code", "DPT-TOKEN-MISSING"], [STRANGER]),
        (["--effect", "allow", "--service", "tickets"], [ALLOW, ALONE, ISSUANCE]),
        (["--since", "2026-09-01T12:00:09Z"], [REFUSED]),
        (["--until", "2026-09-01T12:00:03.5Z"], [ALLOW, DENY]),
        (["--human", "nobody-here"], []),
    ],
)
def test_a_list_holds_what_was_asked_for(
    log: Path, options: list[str], found: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["decisions", "list", "--audit-dir", str(log), "-o", "name", *options]) == 0
    assert ids(capsys) == [ulid(number) for number in found]


def test_a_list_in_every_form(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read: dict[str, Callable[[str], Any]] = {
        "json": json.loads,
        "yaml": yaml.safe_load,
        "jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    }
    rows = []
    for form, parse in read.items():
        assert run(["decisions", "list", "--audit-dir", str(log), "-o", form]) == 0
        rows.append(parse(capsys.readouterr().out))
    assert rows[0] == rows[1] == rows[2]
    assert rows[0][0]["resource"]["name"] == "read_ticket"
    assert run(["decisions", "list", "--audit-dir", str(log)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["time", "id", "human"]
    assert len(table) == 9


def test_a_table_in_a_pipe_has_one_line_a_record(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    run(["decisions", "list", "--audit-dir", str(log), "--limit", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_empty_log_is_an_empty_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decisions", "list", "--audit-dir", str(tmp_path), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_configuration_says_where_the_log_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ServiceFiles(tmp_path / "service")
    (files.directory / "data").mkdir(mode=0o700)
    write_log(files.directory / "data" / "audit", 2)
    assert run(["decisions", "list", "--config", str(files.path), "-o", "name"]) == 0
    assert len(ids(capsys)) == 2
    assert run(["audit", "verify", "--config", str(files.path)]) == 0


# get


def test_an_unknown_decision_is_4(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("table", "json", "name"):
        assert run(["decisions", "get", ulid(500), "--audit-dir", str(log), "-o", form]) == 4
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("deputy: no decision ")
        assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "parts"),
    [
        (START, ["start", "0.1.0"]),
        (POLICY, ["loaded", "p.d"]),
        (
            ALLOW,
            [
                "ALLOW",
                "https://idp.example#lead → resolver",
                "→ triage",
                "bound by key",
                "tickets/read_ticket",
            ],
        ),
        (DENY, ["DENY", "DPT-AGENT-TIER", "would allow", "also", "DPT-SCOPE-MISSING", "the tier observer"]),
        (ALONE, ["nobody → triage"]),
        (ISSUANCE, ["issued", "jwt-svid for spiffe://mesh.example/agent/triage"]),
        (EXCHANGE, ["exchange"]),
        (WITHDRAWN, ["WITHDRAWN"]),
        (STRANGER, ["DENY", "DPT-TOKEN-MISSING", "not known"]),
        (REFUSED, ["7 calls that nobody authenticated"]),
    ],
)
def test_a_record_of_every_kind_is_explained(
    log: Path, number: int, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["decisions", "get", ulid(number), "--audit-dir", str(log)]) == 0
    out = capsys.readouterr().out
    for part in parts:
        assert part in out
    assert f"number {number + 1} of the log" in out


def test_a_withdrawn_decision_comes_with_its_withdrawal(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["decisions", "get", ulid(ALLOW), "--audit-dir", str(log), "-o", "json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["id"], row["effect"]) == (ulid(ALLOW), "allow")
    assert (row["withdrawn"]["id"], row["withdrawn"]["effect"]) == (ulid(WITHDRAWN), "deny")
    assert run(["decisions", "get", ulid(ALLOW), "--audit-dir", str(log)]) == 0
    out = capsys.readouterr().out
    assert "ALLOW" in out
    assert "WITHDRAWN" in out


# A log that somebody wrote by hand


def test_a_hostile_record_cannot_steer_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = f"{ESCAPE}]0;owned\x07{ESCAPE}[2J\u202e\r\n[red]x[/red]\x9b"
    members: dict[str, Any] = {
        "v": 1,
        "seq": 1,
        "prev": GENESIS,
        "time": "2026-09-01T12:00:00.000000Z",
        "kind": "decision",
        "id": ulid(1),
        "effect": "deny",
        "code": evil,
        "codes": [evil, evil],
        "detail": evil,
        "human": {"issuer": evil, "subject": evil},
        "agent": evil,
        "chain": [{"agent": evil, "task": evil}],
        "peer": evil,
        "asker": evil,
        "resource": {"service": evil, "name": evil, "type": "tool"},
        "action": {"method": evil},
        "rule": evil,
        "policy": evil,
    }
    (tmp_path / "000000000001.jsonl").write_bytes(canonical(members) + b"\n")
    for form in ("table", "json", "jsonl", "yaml", "name"):
        for command in (["list"], ["get", ulid(1)]):
            assert run(["decisions", *command, "--audit-dir", str(tmp_path), "-o", form]) == 0
            captured = capsys.readouterr()
            assert all(character.isprintable() or character == "\n" for character in captured.out), form
            assert captured.err == ""


def test_a_log_that_was_tampered_with_does_not_answer(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (segment,) = log.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes().replace(b'"deny"', b'"deny" ', 1))
    assert run(["decisions", "list", "--audit-dir", str(log)]) == 1
    assert "run `deputy audit verify`" in capsys.readouterr().err


# watch


def append(log: Path, entry: Entry) -> None:
    """Write one more record, as the running service does."""
    opened = AuditLog.open(log, LogSettings(), ulid(998), NOW)
    opened.write(entry)
    opened.close()


@pytest.fixture
def while_waiting(log: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Entry]], None]:
    """Let entries be written, one at each pause of `watch`; then Ctrl-C is pressed."""

    def plan(entries: list[Entry]) -> None:
        left = iter(entries)

        def sleep(_: float) -> None:
            entry = next(left, None)
            if entry is None:
                raise KeyboardInterrupt
            append(log, entry)

        monkeypatch.setattr("authz.commands.decisions.sleep", sleep)

    return plan


def test_watch_shows_what_comes_and_only_that(
    log: Path, while_waiting: Callable[[list[Entry]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    while_waiting(
        [decision(facts, ulid(30 + at), NOW) for at, facts in enumerate([ALLOWED, DENIED, ALLOWED])]
    )
    watch = ["decisions", "watch", "--audit-dir", str(log)]
    assert run([*watch, "--human", "lead", "-o", "json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == [ulid(30), ulid(32)]


def test_watch_in_a_table_has_a_head_and_one_line_a_record(
    log: Path, while_waiting: Callable[[list[Entry]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    while_waiting([decision(ALLOWED, ulid(30), NOW)])
    assert run(["decisions", "watch", "--audit-dir", str(log)]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["time", "id"]
    assert head.index("code") == line.index("DPT-ALLOWED")


def test_watch_stops_after_a_while(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 5.0, 11.0])
    monkeypatch.setattr("authz.commands.decisions.sleep", lambda _: None)
    monkeypatch.setattr("authz.commands.decisions.monotonic", lambda: next(clock))
    assert run(["decisions", "watch", "--audit-dir", str(log), "--seconds", "10", "-o", "name"]) == 0
    assert capsys.readouterr().out == ""


def test_watch_ends_quietly_with_ctrl_c(log: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", "decisions", "watch", "--audit-dir", str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().split()[:1] == [b"time"]
    # The head is written before the first wait; an interrupt in between is quiet, too.
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode in {0, 130}, err) == (True, b"")


# audit verify


def test_a_log_is_verified(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "verify", "--audit-dir", str(log), "-o", "json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["ok"], row["records"], row["problems"]) == (True, len(MAKE), [])
    assert run(["audit", "verify", "--audit-dir", str(log), "-o", "name"]) == 0
    assert capsys.readouterr().out == f"{row['head']}\n"


@pytest.mark.parametrize("how", ["changed", "dropped", "reordered", "cut"])
def test_a_log_that_is_not_what_was_written_is_3(
    log: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (segment,) = log.glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    match how:
        case "changed":
            lines[3] = lines[3].replace(b'"deny"', b'"allow"')
        case "dropped":
            del lines[3]
        case "reordered":
            lines[3], lines[4] = lines[4], lines[3]
        case _:
            del lines[-1]
    segment.write_bytes(b"".join(lines))
    assert run(["audit", "verify", "--audit-dir", str(log)]) == 3
    captured = capsys.readouterr()
    assert "NOT what was written" in captured.out
    assert "problem" in captured.out
    assert run(["audit", "verify", "--audit-dir", str(log), "--quiet"]) == 3
    assert capsys.readouterr().out == ""


# Times


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-09-01T14:00:00+02:00", datetime(2026, 9, 1, 12, tzinfo=UTC)),
        ("2026-09-01T12:00:00", datetime(2026, 9, 1, 12, tzinfo=UTC)),
        ("2026-09-01", datetime(2026, 9, 1, tzinfo=UTC)),
        (None, None),
    ],
)
def test_a_time_is_so_long_ago_or_rfc_3339(text: str | None, wanted: datetime | None) -> None:
    assert moment(text, NOW, "--since") == wanted
