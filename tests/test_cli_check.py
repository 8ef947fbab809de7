"""`deputy policy check`: may this Rego run embedded?"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from authz.cli import run
from authz.commands import check as command
from authz.policy.opa_check import Disagreement, Report
from tests.service_files import GRANTS, ROOT, ServiceFiles

SHIPPED = ROOT / "authz" / "policy" / "rego"
OWN = """package deputy

decision := {"effect": "allow", "reasons": [], "obligations": {}} if input.phase == "task"
else := {"effect": "deny", "reasons": [{"code": "DPT-OWN", "msg": "no", "rule": "r", "fix": "ask",
    "audience": "agent"}], "obligations": {}}
"""


@pytest.fixture
def rego(tmp_path: Path) -> Path:
    """Rego of one's own, without a lock."""
    directory = tmp_path / "rego"
    directory.mkdir()
    (directory / "own.rego").write_text(OWN)
    return directory


@pytest.fixture(autouse=True)
def no_opa(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the OPA that a test names."""
    monkeypatch.delenv("DEPUTY_OPA", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)


def row(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_shipped_policy_may_run_embedded(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "-o", "json"]) == 0
    found = row(capsys)
    assert (found["version"], found["ok"], found["lock"]) == ("deputy.policy-check/v1", True, "current")
    assert (found["runtime"], found["compared"], found["findings"]) == ("rvm", 0, [])


def test_without_opa_it_says_that_nothing_was_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check"]) == 0
    assert "not: no OPA at hand" in capsys.readouterr().out


def test_with_opa_answers_are_compared(opa_binary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "--opa", str(opa_binary), "--questions", "20", "-o", "json"]) == 0
    # And for each five about calls one about a list, and one about administration.
    assert row(capsys)["compared"] == 28


def test_rego_without_a_lock_is_a_finding(rego: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "--rego", str(rego)]) == 3
    out = capsys.readouterr().out
    assert "policy lock  missing" in out
    assert "run 'deputy policy check --lock'" in out
    assert "may not run embedded" in out


def test_what_is_not_portable_is_named_with_its_line(rego: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rego / "walks.rego").write_text("package deputy\n\nfound := [x | walk(input, x)]\n")
    assert run(["policy", "check", "--rego", str(rego), "-o", "json"]) == 3
    found = row(capsys)
    assert found["runtime"] is None
    assert any("walks.rego:3: builtin 'walk'" in finding for finding in found["findings"])


def test_rego_that_cannot_be_read_is_an_error(rego: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (rego / "own.rego").write_text("package deputy\n\ndecision := \n")
    assert run(["policy", "check", "--rego", str(rego)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("deputy: the embedded engine cannot read the policy")


def test_a_lock_is_written_and_counts(
    rego: Path, opa_binary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["policy", "check", "--rego", str(rego), "--grants", str(GRANTS)]
    assert run([*arguments, "--lock", "--opa", str(opa_binary), "--questions", "30", "-o", "json"]) == 0
    assert row(capsys)["lock"] == "written"
    assert json.loads((rego / "policy.lock").read_bytes())["cases"] == 42
    assert run([*arguments, "-o", "json"]) == 0
    assert row(capsys)["lock"] == "current"
    service = ServiceFiles(tmp_path / "service", f"policy: {{rego: {rego}}}\n")
    assert run(["config", "validate", str(service.path)]) == 0


def test_rego_that_would_show_nothing_in_lists_is_told_of(
    rego: Path, opa_binary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no finding: who filters no lists needs no such rule."""
    arguments = ["policy", "check", "--rego", str(rego), "--grants", str(GRANTS)]
    assert run([*arguments, "--lock", "--opa", str(opa_binary), "--questions", "5"]) == 0
    assert "lists        this policy shows nothing in them: give package deputy a rule 'visible'" in (
        capsys.readouterr().out
    )
    with (rego / "own.rego").open("a") as file:
        file.write("\nvisible := []\n")
    assert run([*arguments, "-o", "json"]) == 3
    assert row(capsys)["filters_lists"] is True
    assert run(["policy", "check", "-o", "json"]) == 0
    assert row(capsys)["filters_lists"] is True


def test_a_lock_of_other_rego_is_stale(rego: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(SHIPPED / "policy.lock", rego)
    assert run(["policy", "check", "--rego", str(rego), "-o", "json"]) == 3
    assert row(capsys)["lock"] == "stale"


def test_a_disagreement_gives_no_lock(
    rego: Path, opa_binary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def disagrees(*_: object) -> Report:
        told = (Disagreement("question 1", "yes", "no"),)
        return Report("0" * 64, 1, "0" * 64, ("rvm",), "0.13.0", "1.22.0", told)

    monkeypatch.setattr(command, "check_policy", disagrees)
    assert run(["policy", "check", "--rego", str(rego), "--lock", "--opa", str(opa_binary)]) == 3
    assert "another answer: question 1: embedded says yes, OPA says no" in capsys.readouterr().out
    assert not (rego / "policy.lock").exists()


def test_a_lock_takes_an_opa(rego: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "--rego", str(rego), "--lock"]) == 1
    assert "no OPA here" in capsys.readouterr().err
    assert not (rego / "policy.lock").exists()


def test_the_shipped_policys_lock_is_not_overwritten(
    opa_binary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (SHIPPED / "policy.lock").read_bytes()
    assert run(["policy", "check", "--lock", "--opa", str(opa_binary)]) == 1
    assert "--lock takes --rego DIR" in capsys.readouterr().err
    assert (SHIPPED / "policy.lock").read_bytes() == before


def test_an_opa_that_is_none_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "--opa", "/no/such/opa"]) == 1
    assert "no OPA at '/no/such/opa'" in capsys.readouterr().err


def test_the_configurations_rego_and_grants_are_checked(
    rego: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = ServiceFiles(tmp_path / "service", f"policy: {{rego: {rego}}}\n")
    assert run(["policy", "check", "--config", str(service.path), "-o", "name"]) == 3
    capsys.readouterr()
    (service.directory / "grants.yaml").write_text("")
    assert run(["policy", "check", "--config", str(service.path)]) == 1
    assert "grants.yaml" in capsys.readouterr().err
