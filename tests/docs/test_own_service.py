"""The how-to for one's own service, followed command by command, with a real Envoy and a real provider."""

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
PORTS = ("9191", "9192", "8443", "8081", "8082")


def free_ports() -> dict[str, str]:
    """Another port for each of the document's: somebody may use those here."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    try:
        return {shown: str(probe.getsockname()[1]) for shown, probe in zip(PORTS, probes, strict=True)}
    finally:
        for probe in probes:
            probe.close()


def test_the_how_to_for_ones_own_service_holds(reader: Path, tmp_path: Path, envoy_binary: Path) -> None:
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
        replace = ports | {
            "issuer: https://login.example.org": f"issuer: {sign_in.issuer}",
            audiences: f"{audiences}\n    allow_loopback: true",
        }
        envoy_file = reader / "deputy/envoy/envoy.yaml"

        def move_envoy() -> None:
            if envoy_file.exists():
                text = envoy_file.read_text()
                for shown, here in ports.items():
                    text = text.replace(f"port_value: {shown}\n", f"port_value: {here}\n")
                    text = text.replace(f"localhost:{shown}\n", f"localhost:{here}\n")
                envoy_file.write_text(text)

        path = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
        with Session(reader, tmp_path, replace, path, after=move_envoy) as session:
            session.run(blocks_of("docs/how-to/in-front-of-your-service.md"))
    finally:
        provider.stop()


async def _signed_in(provider: Process, directory: Path) -> SignIn:
    async def serves() -> bool:
        return (directory / PROVIDER_FILE).exists()

    await provider.ready(serves)
    return SignIn.read(directory)
