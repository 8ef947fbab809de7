"""Run the scenario in its world: rows as they ended, the log verified, then on request left running."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from authz.audit.read_verify import verify_directory
from authz.audit.verify import Verification
from authz.demo.outcome import Outcome
from authz.demo.processes import ProcessError
from authz.demo.scenario import run
from authz.demo.try_it import how_to_call
from authz.demo.world import DemoWorld, clean_directory, start_world
from authz.policy.opa_process import find_opa

RENEW_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of all rows, and whether the audit log is what was written."""

    outcomes: tuple[Outcome, ...]
    verification: Verification
    directory: Path

    @property
    def problems(self) -> list[str]:
        """Return what did not end as the scenario says."""
        rows = [f"row {done.attempt.row}: {problem}" for done in self.outcomes for problem in done.problems]
        return rows + [f"audit log: {problem}" for problem in self.verification.problems]

    @property
    def ok(self) -> bool:
        """Say whether everything ended as the scenario says."""
        return bool(self.outcomes) and not self.problems

    def rows(self) -> list[dict[str, object]]:
        """Return the table."""
        return [
            {
                "row": done.attempt.row,
                "human": done.attempt.human,
                "agent": done.attempt.agent,
                "task": done.attempt.task[-6:],
                "tool": done.attempt.tool,
                "decision": done.decision,
                "reason": done.reason,
                "latency_ms": round(done.answer.latency_ms, 1),
                "what": done.attempt.what,
                "decision_id": done.answer.decision,
                "as_expected": not done.problems,
            }
            for done in self.outcomes
        ]

    def summary(self) -> str:
        """Say in one sentence how it went."""
        good = sum(not done.problems for done in self.outcomes)
        log = "verified" if self.verification.ok else "NOT verified"
        return (
            f"{good} of {len(self.outcomes)} rows as the scenario says; "
            f"audit log of {self.verification.records} records {log} ({self.directory}/data/audit)"
        )


async def run_demo(
    directory: Path,
    engine: Literal["embedded", "opa"],
    opa: Path | None,
    say: Callable[[str], None],
    show: Callable[[DemoResult], None],
    *,
    keep: bool,
    tell: Callable[[str], None] | None = None,
) -> DemoResult:
    """Run the scenario, show it, and with `keep` leave the world running until Ctrl-C.

    How to call it is told by `tell`, for it is text to copy and no progress.

    Raises:
        AuthzError: if a part cannot be started.
    """
    binary = find_opa(opa) if engine == "opa" else None
    _end_on_sigterm()
    try:
        async with start_world(clean_directory(directory), binary, say) as world:
            say("agents act for people")
            outcomes = tuple([outcome async for outcome in run(world)])
            result = DemoResult(outcomes, verify_directory(world.audit_directory), world.directory)
            show(result)
            if keep:
                await _keep(world, tell or say)
    except asyncio.CancelledError as error:
        raise ProcessError("the demo was ended before it was done") from error
    return result


def _end_on_sigterm() -> None:
    """Let SIGTERM end the world as Ctrl-C does: no process of it is left behind."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def _keep(world: DemoWorld, tell: Callable[[str], None]) -> None:
    """Leave everything running; the credentials in files are renewed before they expire."""
    with contextlib.suppress(asyncio.CancelledError):
        tell(await how_to_call(world))
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await how_to_call(world)
