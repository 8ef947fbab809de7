"""The how-to for keys, followed command by command with a real service."""

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.session import Session

pytestmark = pytest.mark.e2e
PORTS = ("9191", "9192")


def free_ports() -> dict[str, str]:
    """Another port for each of the document's: somebody may use those here."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    try:
        return {
            f"127.0.0.1:{shown}": f"127.0.0.1:{probe.getsockname()[1]}"
            for shown, probe in zip(PORTS, probes, strict=True)
        }
    finally:
        for probe in probes:
            probe.close()


def test_keys(tmp_path: Path) -> None:
    reader = tmp_path / "r"  # short: the path of a Unix socket has at most 107 bytes
    reader.mkdir(mode=0o700)
    path = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    with Session(reader, tmp_path, free_ports(), path) as session:
        session.run(blocks_of("docs/how-to/rotate-keys.md"))
