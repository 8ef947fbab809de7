"""Whole services for end-to-end tests: `deputy serve` processes, each with configuration and sockets.

- A service has one directory with a short path, because that of a Unix socket has 107 bytes at most.
- What an operator would do is done with the command line, as another process.
- Everything that waits has a bound, and shows the end of the log when that is reached.
"""

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from authz.child import stop_child
from tests.service_files import GRANTS, ROOT

SECONDS = 30.0
SERVICE = "tickets"
Config = dict[str, Any]


def until(holds: Callable[[], bool], within: float = SECONDS, why: Callable[[], object] = str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen: {why()}")
        time.sleep(0.02)


def environment(**more: str) -> dict[str, str]:
    return {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def open_sockets(pid: int | str = "self") -> set[str]:
    """The sockets that a process has open, each by a name that no later one gets."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@dataclass
class Service:
    """One trust domain's `deputy serve`; `name` is the trust domain."""

    name: str
    config: Config = field(default_factory=dict)
    grants: str = GRANTS.read_text("utf-8")
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="deputy-")))
    process: subprocess.Popen[bytes] | None = None
    command: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.check_port, self.broker_port, self.bundle_port = free_ports(3)
        self.data = self.directory / "data"
        self.path = self.directory / "deputy.yaml"
        self.log = self.directory / "deputy.log"

    def id(self, path: str) -> str:
        return f"spiffe://{self.name}{path}"

    def socket(self, name: str) -> str:
        return f"unix://{self.directory}/{name}/api.sock"

    def workload(self, name: str, path: str, *dns_names: str) -> Config:
        """A workload with a socket of its own, as the configuration has it."""
        return {"id": self.id(path), "socket": self.socket(name), "dns_names": list(dns_names)}

    def settings(self) -> Config:
        """The configuration: what each service has, and what this one has besides."""
        base: Config = {
            "trust_domain": self.name,
            "data_dir": "data",
            "check": {
                "listen": f"127.0.0.1:{self.check_port}",
                "callers": [{"id": self.id("/ns/mesh/sa/gateway"), "may_ask": [SERVICE]}],
            },
            "broker": {
                "issuer": f"https://broker.{self.name}",
                "listen": f"127.0.0.1:{self.broker_port}",
                "names": ["localhost"],
            },
            "services": {SERVICE: {"audience": f"https://{SERVICE}.{self.name}"}},
            "identity": {
                "task_sockets": f"{self.directory}/tasks",
                "publish_seconds": 1,
                "refresh_hint_seconds": 10,
                "bundle_endpoint": {"listen": f"127.0.0.1:{self.bundle_port}"},
            },
        }
        for section, value in self.config.items():
            base[section] = {**base.get(section, {}), **value} if isinstance(value, dict) else value
        return base

    def write(self) -> None:
        self.path.write_text(yaml.safe_dump(self.settings()), "utf-8")
        (self.directory / "grants.yaml").write_text(self.grants, "utf-8")

    def start(self) -> Self:
        """Start it, and wait until it is ready."""
        self.write()
        return self.launch()

    def launch(self) -> Self:
        """Start it with the files that are there, and wait until it is ready."""
        self.process = self.popen()
        until(self._is_ready, why=self.log_end)
        return self

    def popen(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as out:
            return subprocess.Popen(
                self.command or [sys.executable, "-m", "authz", "serve", "--config", str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment(),
            )

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        if self.process is None:
            return 0
        stop_child(self.process)
        return self.process.returncode

    def log_end(self) -> str:
        return self.log.read_bytes()[-3000:].decode("utf-8", "replace")

    def refused(self) -> tuple[int, str]:
        """Start what is not to start; return the exit code and what it said."""
        self.write()
        process = self.popen()
        try:
            code = process.wait(SECONDS)
        finally:
            stop_child(process)
        return code, self.log.read_text()

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log_end()
        return "deputy is ready" in self.log.read_text()

    # ---- the operator

    def deputy(self, *arguments: str, code: int = 0) -> str:
        """Run `deputy identity …`, and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "authz", "identity", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env=environment(DEPUTY_CONFIG=str(self.path)),
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def rotate(self, which: str, *, now: bool = True) -> list[str]:
        """Let new keys sign, and return the names of those that did."""
        printed = json.loads(self.deputy("rotate", which, *(["--now"] if now else []), "-o", "json"))
        return [change["previous"] for change in printed["rotated"]]

    def revoke(self, *kids: str) -> None:
        for kid in kids:
            self.deputy("taint", "--", kid)
            self.deputy("revoke", "--yes", "--", kid)

    def records(self, kind: str) -> list[dict[str, Any]]:
        lines = b"".join(path.read_bytes() for path in sorted((self.data / "audit").glob("*.jsonl")))
        return [record for line in lines.splitlines() if (record := json.loads(line))["kind"] == kind]


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Start services, and end them with the block; each ends as it should."""
    try:
        for service in services:
            service.start()
        yield
        for service in reversed(services):
            assert service.stop() == 0, service.log_end()
    finally:
        for service in services:
            service.stop()
            shutil.rmtree(service.directory, ignore_errors=True)


@dataclass
class Lines:
    """A process that says one JSON value a line."""

    command: list[str]
    address: str
    problems: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._said: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"SPIFFE_ENDPOINT_SOCKET": self.address},
        )
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._keep)]
        for thread in self._threads:
            thread.start()
        return self

    def next(self) -> Any:
        """The next value."""
        line = self._said.get(timeout=SECONDS)
        assert line is not None, self.problems
        return json.loads(line)

    def __exit__(self, *_: object) -> None:
        stop_child(self.process)
        for thread in self._threads:
            thread.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(line)
        self._said.put(None)

    def _keep(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.problems.append(line.decode("utf-8", "replace").strip())
