"""The gates themselves: a test that did not run is seen."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

_NEEDS_OPA = "def test_needs_the_real_opa(opa_binary):\n    assert opa_binary.exists()\n"


def run_pytest(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one test, which asks for an OPA, under our conftest."""
    (folder / "test_it.py").write_text(_NEEDS_OPA, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", str(folder)]
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "DEPUTY_OPA"}}
    return subprocess.run(
        command,
        cwd=folder,
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_missing_part_is_shown_in_a_box(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, DEPUTY_OPA="/nonexistent/opa")

    assert result.returncode == 0
    assert "!!! NOT RUN: 1 test: DEPUTY_OPA='/nonexistent/opa' is no OPA" in result.stdout


def test_missing_part_is_a_failure_in_ci(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, DEPUTY_OPA="/nonexistent/opa", CI="true")

    assert result.returncode == 1
    assert "a missing part is a failure" in result.stdout


def test_program_that_is_no_opa_is_not_taken_for_one(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, DEPUTY_OPA=sys.executable)

    assert "!!! NOT RUN: 1 test" in result.stdout
