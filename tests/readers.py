"""Other people's JSON readers as long-lived processes: Node's `JSON.parse` and Go's `encoding/json`.

- A frame is four bytes of size, then the frame. To a reader: one letter for the protocol, then the body. From
  it: what it read, or `error …`.
- What was read is written so that nothing of it is lost and no JSON is needed to compare it: a number as the
  bits of its double, a text as the hex of its UTF-8, members sorted. -0 is 0, since they are one number.
- Go's answer has more lines: each field that a struct with the protocol's types holds, by its path.
"""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.conftest import ROOT, missing_part

NODE, GO = ROOT / ".cache/bin/node", ROOT / ".cache/bin/json-reader"


def node_binary() -> Path:
    """The Node that the tests run."""
    if not os.access(NODE, os.X_OK):
        missing_part(
            "no Node: 'make test' gets it, from the system or from PyPI; nobody compares what it reads"
        )
    return NODE


def go_reader() -> Path:
    """The program of tests/go/readers."""
    if not os.access(GO, os.X_OK):
        missing_part("no Go reader: 'make test' builds it, with Go from the system or from PyPI")
    return GO


class Reader:
    """One process, asked body by body."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def read(self, protocol: str, body: bytes) -> str:
        """What it makes of a body."""
        given, taken = self._process.stdin, self._process.stdout
        assert given is not None
        assert taken is not None
        frame = protocol[0].encode() + body
        given.write(struct.pack("!I", len(frame)) + frame)
        given.flush()
        (size,) = struct.unpack("!I", taken.read(4))
        return taken.read(size).decode()

    @classmethod
    @contextmanager
    def started(cls, *command: str | Path) -> Iterator[Self]:
        """Run it until the block ends."""
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                yield cls(process)
            finally:
                process.kill()


def dump(value: object) -> str:
    """Write a value as the readers do."""
    match value:
        case None:
            return "~"
        case bool():
            return "t" if value else "f"
        case int() | float():
            return _number(value)
        case str():
            return _text(value)
        case list():
            return "[" + ",".join(map(dump, value)) + "]"
        case dict():
            return "{" + ",".join(sorted(f"{_text(name)}:{dump(value[name])}" for name in value)) + "}"
        case _:
            raise TypeError(f"no JSON: {value!r}")


def _number(value: float) -> str:
    if isinstance(value, int) and (abs(value) > 2**1023 or int(float(value)) != value):
        return f"#{value}, which is no double"
    return "#" + struct.pack("!d", value or 0.0).hex()


def _text(value: str) -> str:
    return '"' + value.encode("utf-8", "replace").hex()
