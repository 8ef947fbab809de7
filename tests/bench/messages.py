"""What the processes of the benchmark tell each other: lines of JSON, and files of requests."""

import json
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent.parent
_SIZE = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Peer:
    """A process of ours that answers each line with a line."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls, module: str, *arguments: str) -> Self:
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        return cls(process)

    def read(self) -> Any:
        if self.process.stdout is None or not (line := self.process.stdout.readline()):
            raise RuntimeError(f"a process of the benchmark ended: {self.process.args!r}")
        return json.loads(line)

    def ask(self, **question: object) -> Any:
        if self.process.stdin is not None:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        return self.read()

    def stop(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def say(answer: Mapping[str, object]) -> None:
    """Answer whoever started us."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def write_requests(path: Path, requests: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(_SIZE.pack(len(request)) + request for request in requests))


def read_requests(path: Path) -> list[bytes]:
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size + size
        found.append(data[at - size : at])
    return found
