"""`deputy serve --dev`, as a process: where it really listens, whatever the configuration seems to say."""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from authz.dev import Dev
from tests.e2e.services import Service, free_ports, open_sockets

pytestmark = pytest.mark.e2e
LISTENS = "0A"
# 127.0.0.1, ::1, and 127.0.0.1 as gRPC has it: mapped into IPv6.
LOOPBACK = {"0100007F", "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"}


@pytest.fixture
def directory() -> Iterator[Path]:
    # Not pytest's: the path of a Unix socket is short.
    with tempfile.TemporaryDirectory(prefix="dpt-") as made:
        yield Path(made) / "dev"


def listening(pid: int) -> list[str]:
    """The addresses, as the kernel writes them, at which a process listens."""
    own = {name.removeprefix("socket:[").removesuffix("]") for name in open_sockets(pid)}
    lines = [
        line.split()
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [line[1].partition(":")[0] for line in lines if line[9] in own and line[3] == LISTENS]


def test_dev_binds_the_loopback_and_nothing_else(directory: Path) -> None:
    Dev.prepare(directory)
    path = directory / "deputy.yaml"
    ports = iter(free_ports(3))
    text = re.sub(r"127\.0\.0\.1:919\d", lambda _: f"127.0.0.1:{next(ports)}", path.read_text())
    bundle = f"identity:\n  bundle_endpoint: {{listen: '127.0.0.1:{next(ports)}'}}"
    path.write_text(text.replace("identity:", bundle, 1))
    service = Service("mesh.example", directory=directory)
    service.command = [sys.executable, "-m", "authz", "serve", "--dev", "--directory", str(directory)]
    service.log = directory.parent / "deputy.log"
    try:
        service.launch()
        assert service.process is not None
        found = listening(service.process.pid)
    finally:
        service.stop()
    assert len(found) == 3
    assert set(found) <= LOOPBACK
