"""The how-to for replicas, followed command by command with real services."""

import os
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.docs.session import Session
from tests.e2e.services import free_ports

pytestmark = pytest.mark.e2e


def test_replicas(tmp_path: Path) -> None:
    reader = tmp_path / "r"  # short: the path of a Unix socket has at most 107 bytes
    reader.mkdir(mode=0o700)
    path = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    (port,) = free_ports(1)
    with Session(reader, tmp_path, {"127.0.0.1:9192": f"127.0.0.1:{port}"}, path) as session:
        session.run(blocks_of("docs/how-to/run-replicas.md"))
