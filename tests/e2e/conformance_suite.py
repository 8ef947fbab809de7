"""The official conformance suite of MCP: run against a server, and what it found.

What differs from run to run is left out of a result: times, ports, the names of sessions and events, and the
headers, where Envoy has its own. All else is kept: each check with its status, its message and its details.
"""

import json
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tests.e2e.real_world import PACKAGES, javascript
from tests.e2e.services import environment

# The released suite, of the revisions with sessions, and the coming one, of 2026-07-28 as well.
RELEASED: Final = "@modelcontextprotocol/conformance"
COMING: Final = "conformance-next"
ALL: Final = ("--suite", "all")
MODERN: Final = ("--requirements", "2026-07-28")
Checks = list[dict[str, Any]]

_LEFT_OUT: Final = frozenset({"timestamp", "headers"})
_VARIES: Final = (
    (re.compile(r"127\.0\.0\.1:[0-9]+"), "<host>"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}[0-9a-z_]*"), "<id>"),
)
_TIME: Final = re.compile(r"^server-(.+)-[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9-]+Z$")


def scenarios() -> set[str]:
    """Return the names of the scenarios for servers, as the released suite lists them."""
    done = subprocess.run(
        [*_suite(RELEASED), "list", "--server"], capture_output=True, text=True, check=True, timeout=60
    )
    names = set(re.findall(r"^ *- (\S+)", done.stdout, re.MULTILINE))
    assert names, done.stdout
    return names


def run_suite(url: str, directory: Path, *which: str, suite: str = RELEASED) -> dict[str, Checks]:
    """Run scenarios; return the checks of each."""
    command = [*_suite(suite), "server", "--url", url, "--output-dir", directory, *which]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env=environment()
    )
    # 1 says that a check failed, which is a result too.
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = {
        _scenario(path): _comparable(json.loads(path.read_text("utf-8"))) for path in _results(directory)
    }
    assert found, done.stdout + done.stderr
    return found


def differences(without: dict[str, Checks], within: dict[str, Checks]) -> dict[str, str]:
    """Return the checks whose statuses differ, each by its name, as `without → with`."""
    found = {}
    for name in without.keys() | within.keys():
        plain, guarded = _statuses(without.get(name, [])), _statuses(within.get(name, []))
        for check in plain.keys() | guarded.keys():
            if plain.get(check) != guarded.get(check):
                was, is_now = plain.get(check, ["none"]), guarded.get(check, ["none"])
                found[f"{name}: {check}"] = f"{', '.join(was)} → {', '.join(is_now)}"
    return found


def _statuses(checks: Checks) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for check in checks:
        found.setdefault(check["id"], []).append(check["status"])
    return {name: sorted(statuses) for name, statuses in found.items()}


def counts(found: dict[str, Checks]) -> dict[str, int]:
    """Count the checks by their status; what is there for information alone is not counted."""
    statuses = [check["status"] for checks in found.values() for check in checks]
    return {status: statuses.count(status) for status in sorted(set(statuses) - {"INFO"})}


def _suite(package: str) -> list[str | Path]:
    return javascript(PACKAGES / package / "dist/index.js")


def _results(directory: Path) -> list[Path]:
    return sorted(directory.glob("*/checks.json"))


def _scenario(path: Path) -> str:
    found = _TIME.fullmatch(path.parent.name)
    assert found is not None, path
    return found[1]


def _comparable(value: Any) -> Any:
    match value:
        case dict():
            return {name: _comparable(inner) for name, inner in value.items() if name not in _LEFT_OUT}
        case list():
            return [_comparable(inner) for inner in value]
        case str() if value.startswith("{"):
            # A message within an event, whose members have no order.
            with suppress(ValueError):
                return _comparable(json.loads(value))
    if isinstance(value, str):
        for pattern, name in _VARIES:
            value = pattern.sub(name, value)
    return value
