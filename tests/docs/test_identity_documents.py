"""The how-tos about identities, followed command by command with real services."""

import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from tests.conftest import missing_part
from tests.docs.blocks import blocks_of
from tests.docs.session import Session
from tests.hsm import find_module
from tests.spire_stand_in import spire

pytestmark = pytest.mark.e2e
PLAIN = ("give-workloads-an-identity", "federate", "trust-jwt-svids-in-a-cloud", "kubernetes")
SPIRE, HSM = "stand-under-spire", "keep-keys-in-an-hsm"
PORTS = ("9191", "9192", "9193", "9194", "8443", "8444")


def page(name: str) -> str:
    return f"docs/how-to/{name}.md"


def free_ports() -> dict[str, str]:
    """Another port for each of the documents': somebody may use those here."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    try:
        return {shown: str(probe.getsockname()[1]) for shown, probe in zip(PORTS, probes, strict=True)}
    finally:
        for probe in probes:
            probe.close()


def follow(name: str, reader: Path, scratch: Path, replace: dict[str, str] | None = None) -> None:
    for program in ("curl", "openssl"):
        if shutil.which(program) is None:
            missing_part(f"no {program}: the documents use it")
    path = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    with Session(reader, scratch, free_ports() | (replace or {}), path) as session:
        session.run(blocks_of(page(name)))


@pytest.mark.parametrize("name", PLAIN)
def test_the_how_to_holds(name: str, reader: Path, tmp_path: Path) -> None:
    follow(name, reader, tmp_path)


def test_the_how_to_for_spire_holds_with_another_workload_api_in_its_place(
    reader: Path, tmp_path: Path
) -> None:
    with spire(reader / "spire") as above:
        follow(SPIRE, reader, tmp_path, {"unix:///run/spire/agent/api.sock": above.address})


@pytest.mark.full
def test_the_how_to_for_an_hsm_holds(reader: Path, tmp_path: Path) -> None:
    module = find_module()
    follow(HSM, reader, tmp_path, {"/usr/lib/softhsm/libsofthsm2.so": str(module)})
