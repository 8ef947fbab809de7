"""The scenario of the demo, each row a test, on the embedded engine and on a real OPA.

The world is started once for each engine and the whole scenario is played, as `make demo` does; what is
asserted is what the clients, Envoy and the audit log returned.
"""

import asyncio
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import pytest

from authz.audit.read_verify import verify_directory
from authz.demo.run import DemoResult, run_demo

EMBEDDED_ROWS = (
    *("1", "2a", "2b", "2c", "3", "4", "5a", "5b", "5c", "6a", "6b"),
    *("7a", "7b", "7c", "7d", "8a", "8b", "8c", "9a", "9b", "9c"),
    *("10a", "10b", "10c", "10d", "11a", "11b", "12a", "12b"),
)
OPA_ROWS = (*EMBEDDED_ROWS, "13a", "13b", "13c")
CASES = [("embedded", row) for row in EMBEDDED_ROWS] + [("opa", row) for row in OPA_ROWS]


Engine = Literal["embedded", "opa"]
Play = Callable[[Engine], DemoResult]

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Play:
    """Return what plays the scenario on an engine, once."""
    home = tmp_path_factory.mktemp("demo")

    @cache
    def played(engine: Engine) -> DemoResult:
        opa: Path | None = request.getfixturevalue("opa_binary") if engine == "opa" else None
        return asyncio.run(run_demo(home / engine, engine, opa, print, lambda _: None, keep=False))

    return played


@pytest.mark.parametrize(("engine", "row"), CASES)
def test_row_ends_as_the_scenario_says(engine: Engine, row: str, play: Play) -> None:
    outcomes = {done.attempt.row: done for done in play(engine).outcomes}
    assert outcomes[row].problems == ()


@pytest.mark.parametrize("engine", ["embedded", "opa"])
def test_the_scenario_plays_these_rows_and_no_others(engine: Engine, play: Play) -> None:
    wanted = EMBEDDED_ROWS if engine == "embedded" else OPA_ROWS
    assert tuple(done.attempt.row for done in play(engine).outcomes) == wanted
    assert play(engine).ok


@pytest.mark.parametrize("engine", ["embedded", "opa"])
def test_nothing_that_was_denied_arrived_at_a_tool_server(engine: Engine, play: Play) -> None:
    """What the servers saw before their own verifier: it had nothing to refuse, and one tool only ran."""
    lines = [
        json.loads(line)
        for service in ("tickets", "billing")
        for line in (play(engine).directory / service / "upstream.jsonl").read_text().splitlines()
    ]
    contexts = [line["transaction"]["tctx"] for line in lines if line["seen"] == "verified"]
    assert len([line for line in lines if line["seen"] == "arrived"]) == len(contexts)
    tools = [context["tool"] for context in contexts if context["action"] == "tools/call"]
    # The row of the expired token may be tried while it is still good.
    assert set(tools) == {"read_ticket", "refund"}
    assert len(tools) >= len([done for done in play(engine).outcomes if done.answer.allowed])


def test_the_audit_log_verifies_and_with_one_changed_byte_does_not(play: Play, tmp_path: Path) -> None:
    log = play("embedded").directory / "data" / "audit"
    assert verify_directory(log).ok
    copy = shutil.copytree(log, tmp_path / "audit")
    (segment,) = copy.glob("*.jsonl")
    lines = segment.read_bytes().split(b"\n")
    decided = next(at for at, line in enumerate(lines) if b'"effect":"' in line)
    lines[decided] = lines[decided].replace(b'"effect":"', b'"effect":"x', 1)
    segment.write_bytes(b"\n".join(lines))
    found = verify_directory(copy)
    assert not found.ok
    assert found.problems[0].line == decided + 1


def test_no_secret_is_in_any_log(play: Play) -> None:
    """Every token begins like a JWS; the passwords are known; the argument of the calls is T-1."""
    home = play("embedded").directory
    passwords = json.loads((home / "provider" / "passwords.json").read_bytes()).values()
    logs = [*home.glob("*.log"), *(home / "envoy").glob("*.log"), *(home / "data" / "audit").iterdir()]
    assert len(logs) >= 8
    for file in logs:
        text = file.read_text(errors="replace")
        for secret in ("eyJ", "PRIVATE KEY", "T-1", *passwords):
            assert secret not in text, file.name
