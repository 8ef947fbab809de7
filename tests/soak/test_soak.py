"""An hour of calls, allowed and denied, against a running world: nothing grows, nothing is lost.

`DEPUTY_SOAK_SECONDS` says how long; the loop ends by itself.
"""

import asyncio
import os
import time
from pathlib import Path

import pytest

from authz.audit.read_verify import verify_directory
from authz.demo.stage import CLOSE, READ, TICKETS, Stage
from tests.e2e.conftest import Live, live  # noqa: F401 - the fixture

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("DEPUTY_SOAK_SECONDS", "3600"))
WARM_UP_CALLS = 200
RENEW_SECONDS = 240.0
# What a process may grow after its warm-up, whatever the number of calls.
GROWTH_KIB = 64 * 1024


def _resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_an_hour_of_calls_grows_nothing_and_loses_nothing(live: Live) -> None:  # noqa: F811 - the fixture
    deputy = live.world.deputy.popen.pid

    async def play(stage: Stage) -> int:
        deadline, answered, renewed = time.monotonic() + SECONDS, 0, time.monotonic()
        task, bearer = await stage.task("triage", "lead"), await stage.token("triage", "lead", TICKETS)
        first: tuple[int, int] | None = None
        while time.monotonic() < deadline:
            if time.monotonic() - renewed > RENEW_SECONDS:
                await live.world.runner.end(task)
                stage, renewed = Stage(live.world), time.monotonic()
                task, bearer = (
                    await stage.task("triage", "lead"),
                    await stage.token("triage", "lead", TICKETS),
                )
            calls = [task.call(c.service, c.tool, c.arguments, bearer) for c in (READ, CLOSE, READ, CLOSE)]
            read, closed, *_ = await asyncio.gather(*calls)
            assert read.allowed, read
            assert closed.reason == "DPT-AGENT-TIER"
            answered += len(calls)
            if answered >= WARM_UP_CALLS and first is None:
                first = _resident_kib(deputy), _open_files(deputy)
        assert first is not None
        assert _resident_kib(deputy) - first[0] < GROWTH_KIB
        assert _open_files(deputy) - first[1] < 16
        return answered

    answered = live.run(play)
    found = verify_directory(live.world.audit_directory)
    assert found.ok, found.problems
    assert found.records >= answered
