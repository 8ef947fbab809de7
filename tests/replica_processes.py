"""Replicas as processes: `deputy serve`, each on a Unix socket, beside an authority that a test has open."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from authz.child import stop_child
from tests.bench.grants import SERVICE
from tests.bench.place import Place, configuration, open_place
from tests.e2e.services import environment, until


@dataclass
class ReplicaProcess:
    """One replica of the authority in a directory."""

    home: Path
    name: str
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = self.home / f"{self.name}.log"
        self.config = self.home / f"{self.name}.yaml"
        self.data = self.home / self.name

    @property
    def target(self) -> str:
        return f"unix://{self.home}/{self.name}.sock"

    def start(self) -> Self:
        """Start it; `wait` says when it is ready."""
        settings = configuration() | {
            "data_dir": self.name,
            "replica": {"of": "data"},
            "check": {"listen": self.target, "local_may_ask": [SERVICE]},
        }
        self.config.write_text(json.dumps(settings | self.more), "utf-8")
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "authz", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment(),
            )
        return self

    def wait(self) -> Self:
        until(self._is_ready, why=self.log.read_text)
        return self

    def refused(self) -> tuple[int, str]:
        """Wait for the end of one that does not start; return its exit code and what it said."""
        return self.process.wait(30), self.log.read_text()

    def stop(self) -> int:
        self.signal(signal.SIGCONT)
        stop_child(self.process)
        return self.process.returncode

    def signal(self, number: int) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return "deputy is ready" in self.log.read_text()


@dataclass(frozen=True)
class Mesh:
    """An authority, open in this process, and its replicas."""

    place: Place
    replicas: list[ReplicaProcess]

    @property
    def data(self) -> Path:
        return self.place.directory / "data"


@asynccontextmanager
async def open_mesh(replicas: int) -> AsyncIterator[Mesh]:
    """Open an authority, and start so many replicas of it."""
    home = Path(tempfile.mkdtemp(prefix="dpt-"))  # a short one: the path of a socket has 107 bytes
    try:
        async with open_place(home / "p") as place:
            made = [ReplicaProcess(place.directory, f"r{number}").start() for number in range(replicas)]
            try:
                for replica in made:
                    replica.wait()
                yield Mesh(place, made)
            finally:
                codes = [replica.stop() for replica in made]
            assert not any(codes), codes
    finally:
        shutil.rmtree(home, ignore_errors=True)
