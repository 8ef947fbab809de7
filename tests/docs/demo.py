"""The demo that the documents talk about, started once: what `make demo KEEP=1` runs, elsewhere."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SECONDS: Final = 90.0
RUNNING: Final = "Everything runs until Ctrl-C"


@dataclass(frozen=True, slots=True)
class KeptDemo:
    """A demo that runs in `directory`/.demo; `printed` is what it said until then."""

    directory: Path
    printed: str

    @property
    def home(self) -> Path:
        return self.directory / ".demo"

    def policy_changes(self) -> int:
        """Count the changes of the policy that the audit log names."""
        segments = (self.home / "data/audit").glob("*.jsonl")
        return sum(segment.read_bytes().count(b'"kind":"policy"') for segment in segments)


@contextmanager
def kept_demo(directory: Path) -> Iterator[KeptDemo]:
    """Run the demo in a directory until the block ends; then all of it must be gone without an error."""
    link_environment(directory)
    log = directory / "demo.log"
    # By the interpreter, so that the process that we signal is the one that runs.
    command = [sys.executable, "-m", "authz", "quickstart", "--keep"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while RUNNING not in (printed := log.read_text("utf-8")):
            assert process.poll() is None, printed
            assert time.monotonic() < deadline, printed
            time.sleep(0.05)
        yield KeptDemo(directory, printed.partition(RUNNING)[0])
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0, log.read_text("utf-8")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def link_environment(directory: Path) -> None:
    """Put the virtual environment where a reader has it: `.venv` in the current folder."""
    (directory / ".venv").symlink_to(sys.prefix)


@dataclass(slots=True)
class GrantsWatch:
    """Waits, as a reader is told to, until a change of the demo's grants has arrived."""

    demo: KeptDemo
    _seen: tuple[bytes, int] | None = None

    def __post_init__(self) -> None:
        self._seen = self._now()

    def settle(self) -> None:
        """Wait for the record of a change, if the file changed since the last time."""
        before, changes = self._seen or self._now()
        if (self.demo.home / "grants.yaml").read_bytes() != before:
            deadline = time.monotonic() + SECONDS
            while self.demo.policy_changes() == changes:
                assert time.monotonic() < deadline, "a change of grants.yaml was not noticed"
                time.sleep(0.05)
        self._seen = self._now()

    def _now(self) -> tuple[bytes, int]:
        return (self.demo.home / "grants.yaml").read_bytes(), self.demo.policy_changes()
