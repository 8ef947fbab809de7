"""The configuration for an OPA on another machine, on the real OPA: who is let in, and for what."""

import asyncio
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

import pytest

from authz.errors import PolicyLoadError
from authz.policy.modules import shipped_modules
from authz.policy.opa import OpaAddress, OpaClient, OpaPolicy
from authz.policy.opa_bundle import ANSWER_PATH, write_bundle
from tests.e2e.ca import TestCa
from tests.policy_questions import READ, demo_grants

CONFIG = Path(__file__).parent.parent / "mesh-config" / "opa" / "system"
NAMES = {"opa": "/ns/deputy/sa/opa", "deputy": "/deputy", "stranger": "/ns/shop/sa/web"}
pytestmark = pytest.mark.e2e


@dataclass(frozen=True, slots=True)
class RemoteOpa:
    port: int
    files: Path

    def address(self, who: str) -> OpaAddress:
        files = self.files / "ca.pem", self.files / f"{who}.pem", self.files / f"{who}.key"
        return OpaAddress(f"https://localhost:{self.port}", 5.0, *files)

    def status(self, who: str | None, method: str, path: str) -> int:
        context = ssl.create_default_context(cafile=str(self.files / "ca.pem"))
        if who is not None:
            context.load_cert_chain(self.files / f"{who}.pem", self.files / f"{who}.key")
        connection = HTTPSConnection("localhost", self.port, context=context, timeout=10)
        try:
            connection.request(method, path, b"{}", {"content-type": "application/json"})
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def remote(opa_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteOpa]:
    files = tmp_path_factory.mktemp("opa")
    ca = TestCa.create()
    (files / "ca.pem").write_bytes(ca.bundle)
    for name, path in NAMES.items():
        leaf = ca.issue(f"spiffe://mesh.example{path}", dns=("localhost",))
        (files / f"{name}.pem").write_bytes(leaf.certificate)
        (files / f"{name}.key").write_bytes(leaf.key)
    write_bundle(shipped_modules(), files / "policy")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        f"--addr=127.0.0.1:{port}",
        "--skip-version-check",
        "--log-level=error",
        "--min-tls-version=1.3",
    ]
    options += [f"--tls-cert-file={files / 'opa.pem'}", f"--tls-private-key-file={files / 'opa.key'}"]
    options += [f"--tls-ca-cert-file={files / 'ca.pem'}", "--authentication=tls", "--authorization=basic"]
    process = subprocess.Popen(
        [opa_binary, "run", "--server", *options, files / "policy", CONFIG / "authz.rego"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath},
    )
    try:
        _wait(process, port)
        yield RemoteOpa(port, files)
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    pytest.fail("OPA does not listen")


def _effect(remote: RemoteOpa, who: str) -> str:
    async def run() -> str:
        client = OpaClient(remote.address(who))
        policy = OpaPolicy(client, shipped_modules().digest, demo_grants())
        try:
            await policy.activate()
            return (await policy.decide(READ)).effect
        finally:
            await policy.close()
            await client.close()

    return asyncio.run(run())


def test_deputy_puts_the_grants_there_and_is_answered(remote: RemoteOpa) -> None:
    assert _effect(remote, "deputy") == "allow"


def test_another_workload_of_the_mesh_gets_nothing(remote: RemoteOpa) -> None:
    with pytest.raises(PolicyLoadError, match="status 401"):
        _effect(remote, "stranger")
    assert remote.status("stranger", "POST", "/v1/data/deputy_answer") == 401
    assert remote.status("stranger", "GET", "/v1/data/grants") == 401


def test_nobody_comes_without_a_certificate(remote: RemoteOpa) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        remote.status(None, "GET", "/health")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/policies/decision.rego"),
        ("DELETE", "/v1/policies/decision.rego"),
        ("GET", "/v1/policies"),
        ("GET", "/v1/data"),
        ("GET", "/v1/data/grants"),
        ("PUT", "/v1/data/grants"),
        ("PATCH", "/v1/data/grants"),
        ("POST", "/v1/query"),
        ("POST", "/v1/data/deputy_answer/decision"),
        ("POST", "/v1//data/deputy_answer"),
        ("POST", "/"),
    ],
)
def test_deputy_itself_may_do_only_what_it_does(remote: RemoteOpa, method: str, path: str) -> None:
    assert remote.status("deputy", method, path) in {301, 307, 401, 404}


def test_the_paths_that_are_let_through_are_those_that_the_engine_asks_for() -> None:
    text = (CONFIG / "authz.rego").read_text("utf-8")

    assert text.count(f'"{ANSWER_PATH}"') == 2


def test_the_configuration_passes_its_own_tests(opa_binary: Path) -> None:
    subprocess.run([opa_binary, "check", "--strict", CONFIG], check=True, timeout=60)
    told = subprocess.run(
        [opa_binary, "test", CONFIG, "--format=json"], check=True, capture_output=True, timeout=60
    ).stdout

    assert told.count(b'"name"') >= 4
