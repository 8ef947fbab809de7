"""The demo leaves nothing behind: no process, whoever ends it and when."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
SECONDS = 60.0


def _processes_with(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if word in command:
                found.append(command)
    return found


def _wait_for(directory: Path, marker: str, demo: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not any(directory.rglob(marker)):
        assert demo.poll() is None, demo.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("marker", ["mcp.sock", "headers"])
def test_an_ended_demo_leaves_no_process(tmp_path: Path, number: signal.Signals, marker: str) -> None:
    """Once in the middle of starting, once when it was kept running and told how to call it."""
    directory = tmp_path / "world"
    command = [sys.executable, "-m", "authz", "quickstart", "--keep", "--directory", str(directory)]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(tmp_path, marker, demo)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=SECONDS)
    finally:
        demo.kill()
    assert "Traceback" not in errors
    assert _processes_with(str(directory)) == []
