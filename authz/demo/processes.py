"""The demo's processes: started one by one, watched, and ended by their own ids.

- A process is ready when what it serves answers; waiting has a bound and shows the end of its log.
- Processes end in the reverse order, first asked, then killed; nothing is left behind.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from authz.child import stop_child
from authz.errors import AuthzError

POLL_SECONDS = 0.05


class ProcessError(AuthzError):
    """A process of the demo ended, or was not ready in time."""


@dataclass(slots=True)
class Process:
    """One running process and its log."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def python(cls, name: str, directory: Path, *arguments: str) -> "Process":
        """Start `python -m …` with this very interpreter."""
        log = directory / f"{name}.log"
        command = [sys.executable, "-m", *arguments]
        environment = {"PATH": os.defpath, "PYTHONUNBUFFERED": "1"}
        with log.open("wb") as out:
            popen = subprocess.Popen(
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment
            )
        return cls(name, popen, log)

    async def ready(self, probe: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
        """Wait until the probe says yes.

        Raises:
            ProcessError: if the process ends or is not ready in time.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not await probe():
            if self.popen.poll() is not None:
                raise ProcessError(f"{self.name} ended with code {self.popen.returncode}: {self.log_end()}")
            if asyncio.get_running_loop().time() > deadline:
                raise ProcessError(f"{self.name} is not ready after {seconds:.0f} s: {self.log_end()}")
            await asyncio.sleep(POLL_SECONDS)

    def log_end(self) -> str:
        """Return the end of the log."""
        return self.log.read_bytes()[-1500:].decode("utf-8", "replace").strip()

    def stop(self) -> None:
        """End the process; a second call does nothing."""
        stop_child(self.popen)


@dataclass(slots=True)
class Running:
    """What to stop, in the reverse order of starting."""

    stops: list[Callable[[], object]] = field(default_factory=list)

    def add(self, stop: Callable[[], object]) -> None:
        """Remember how to stop something."""
        self.stops.append(stop)

    def stop(self) -> None:
        """Stop everything, whatever fails on the way."""
        while self.stops:
            stop = self.stops.pop()
            try:
                stop()
            except Exception as error:  # noqa: BLE001 - the others must be stopped too
                print(f"while stopping: {error}", file=sys.stderr)  # noqa: T201 - nobody is left to tell
