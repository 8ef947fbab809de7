"""The how-to for the way out, followed command by command, with a real Envoy and a real provider."""

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from authz.demo.processes import Process
from authz.demo.provider import PROVIDER_FILE
from authz.demo.signin import CONSOLE_CLIENT, SignIn
from tests.conftest import missing_part
from tests.docs.blocks import blocks_of
from tests.docs.session import Session

pytestmark = pytest.mark.e2e
CLIENT = "agent-runner"
PORTS = ("9191", "9192", "8444", "8445")


def free_ports() -> dict[str, str]:
    """Another port for each of the document's: somebody may use those here."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    try:
        return {shown: str(probe.getsockname()[1]) for shown, probe in zip(PORTS, probes, strict=True)}
    finally:
        for probe in probes:
            probe.close()


def test_the_how_to_for_the_way_out_holds(reader: Path, tmp_path: Path, envoy_binary: Path) -> None:
    del envoy_binary
    for program in ("curl", "openssl"):
        if shutil.which(program) is None:
            missing_part(f"no {program}: the document uses it")
    ports = free_ports()
    clients = ("--client", CLIENT, "--client", CONSOLE_CLIENT)
    provider = Process.python(
        "provider", tmp_path, "authz.demo.provider", "--directory", str(tmp_path), *clients
    )
    try:
        sign_in = asyncio.run(_signed_in(provider, tmp_path))
        for name, client in (("id_token", CLIENT), ("console_token", CONSOLE_CLIENT)):
            (reader / name).write_text(asyncio.run(sign_in.id_token("lead", client)))
        audiences = f"audiences: [{CLIENT}, {CONSOLE_CLIENT}]"
        asks = 'listen=parse_address("127.0.0.1:8444"),'
        replace = {
            # The settings say 9191, where Deputy is on the reader's machine.
            asks: f'{asks}\n    deputy=(parse_address("127.0.0.1:9191"),),',
            **ports,
            "issuer: https://login.example.org": f"issuer: {sign_in.issuer}",
            audiences: f"{audiences}\n    allow_loopback: true",
        }
        path = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
        with Session(reader, tmp_path, replace, path) as session:
            session.run(blocks_of("docs/how-to/guard-egress.md"))
    finally:
        provider.stop()


async def _signed_in(provider: Process, directory: Path) -> SignIn:
    async def serves() -> bool:
        return (directory / PROVIDER_FILE).exists()

    await provider.ready(serves)
    return SignIn.read(directory)
