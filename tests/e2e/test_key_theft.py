"""The drill after a theft, on the real service: streams follow each step, old SVIDs die with their key."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography import x509
from grpclib.client import Channel, UnaryStreamMethod

from identity.der import split_der
from identity.errors import CertificateError
from identity.pb import workload_pb2 as pb
from identity.spiffe import TrustDomain
from identity.x509_svid import verify_x509_svid
from tests.service_files import ROOT

pytestmark = pytest.mark.e2e
DOMAIN = TrustDomain.parse("mesh.example")
CONFIG = """\
trust_domain: mesh.example
data_dir: data
check:
  listen: 127.0.0.1:{check}
  callers: [{{id: "spiffe://mesh.example/ns/mesh/sa/gateway", may_ask: [tickets]}}]
broker: {{issuer: "https://broker.mesh.example", listen: "127.0.0.1:{broker}"}}
services:
  tickets: {{audience: "https://tickets.mesh.example"}}
identity:
  workloads:
    - {{id: "spiffe://mesh.example/ns/shop/sa/web", socket: "unix://{directory}/run/web.sock"}}
"""


@dataclass
class Service:
    """A running `deputy serve --dev`."""

    directory: Path

    def deputy(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "authz", "identity", *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment() | {"DEPUTY_CONFIG": str(self.directory / "deputy.yaml")},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def environment() -> dict[str, str]:
    return {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def service() -> Iterator[Service]:
    # Not the long path of pytest's: that of a Unix socket has at most 107 bytes.
    with TemporaryDirectory() as directory:
        yield from started(Path(directory))


def started(directory: Path) -> Iterator[Service]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    check, broker = (probe.getsockname()[1] for probe in probes)
    for probe in probes:
        probe.close()
    (directory / "deputy.yaml").write_text(CONFIG.format(check=check, broker=broker, directory=directory))
    process = subprocess.Popen(
        [sys.executable, "-m", "authz", "serve", "--dev", "--directory", str(directory)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("deputy is ready"), line + process.stderr.read()
        yield Service(directory)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, process.stderr.read()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def roots_of(state: pb.X509SVID) -> list[x509.Certificate]:
    return [x509.load_der_x509_certificate(der) for der in split_der(state.bundle)]


def test_streams_follow_rotate_taint_and_revoke(service: Service) -> None:
    async def scenario() -> None:
        channel = Channel(path=str(service.directory / "run/web.sock"))
        method = UnaryStreamMethod(
            channel, "/SpiffeWorkloadAPI/FetchX509SVID", pb.X509SVIDRequest, pb.X509SVIDResponse
        )
        async with method.open(metadata={"workload.spiffe.io": "true"}) as stream:
            await stream.send_message(pb.X509SVIDRequest(), end=True)

            async def state() -> pb.X509SVID:
                answer = await stream.recv_message()
                assert answer is not None
                (svid,) = answer.svids
                # Whatever comes, it verifies with the roots that came with it, before and after each step.
                verify_x509_svid(split_der(svid.x509_svid), roots_of(svid), DOMAIN, datetime.now(UTC))
                return svid

            first = await state()
            rotated = asyncio.create_task(
                asyncio.to_thread(service.deputy, "rotate", "x509", "--now", "-o", "json")
            )
            published = await state()
            assert published.x509_svid == first.x509_svid
            assert len(roots_of(published)) == 2
            active = await state()
            assert active.x509_svid != first.x509_svid
            (change,) = json.loads(await rotated)["rotated"]

            await asyncio.to_thread(service.deputy, "taint", "--", change["previous"])
            await asyncio.to_thread(service.deputy, "revoke", "--yes", "--", change["previous"])
            revoked = await state()
            while len(roots_of(revoked)) > 1:  # a stream may also tell of the taint
                revoked = await state()
            with pytest.raises(CertificateError):
                verify_x509_svid(split_der(first.x509_svid), roots_of(revoked), DOMAIN, datetime.now(UTC))
            await stream.cancel()
        channel.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    told = service.deputy("status", "-o", "json")
    assert [len(role["keys"]) for role in json.loads(told)["roles"]] == [1, 1, 1]
    lines = b"".join(path.read_bytes() for path in (service.directory / "data/audit").glob("*.jsonl"))
    records = [json.loads(line) for line in lines.splitlines()]
    by_hand = [one["change"] for one in records if one["kind"] == "keys" and one["by"].startswith("uid ")]
    assert by_hand == ["prepare", "activate", "taint", "revoke"]
