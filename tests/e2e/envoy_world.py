"""A world for one Envoy: the tests' authority, a Deputy process, an upstream, and clients over mTLS."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from authz.address import TcpAddress, UnixAddress, parse_address
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings, Service
from authz.pb.ext_authz_pb2 import CheckRequest
from identity.spiffe import SpiffeId, TrustDomain
from tests.e2e.ca import Leaf, TestCa
from tests.e2e.check_server import recorded
from tests.e2e.file_secrets import from_files, write_secrets

ROOT = Path(__file__).resolve().parent.parent.parent
DEPUTY = "spiffe://mesh.example/deputy"
ENVOY = "spiffe://mesh.example/ns/gateway/sa/envoy"
AGENT = "spiffe://mesh.example/agent/triage/task/01JD0000000000000000000000"

Header = tuple[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Upstream:
    """A server on a Unix socket that says what reached it."""

    def __init__(self, path: Path) -> None:
        self.requests: list[dict[str, Any]] = []
        app = Starlette(routes=[Route("/{rest:path}", self._echo, methods=["GET", "POST", "PUT", "DELETE"])])
        self._server = uvicorn.Server(uvicorn.Config(app, uds=str(path), log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    async def _echo(self, request: Request) -> JSONResponse:
        body = await request.body()
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers.raw]
        raw_path = request.scope["raw_path"].decode("latin-1")
        seen = {"path": raw_path, "headers": headers, "size": len(body)}
        self.requests.append(seen)
        return JSONResponse(seen)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@dataclass
class World:
    directory: Path
    ca: TestCa
    upstream: Upstream
    deputies: list[subprocess.Popen[str]] = field(default_factory=list)
    envoys: list[EnvoyProcess] = field(default_factory=list)

    # ---- the parts

    def start_deputy(
        self, leaf: Leaf | None = None, *options: str, roots: TestCa | None = None
    ) -> TcpAddress:
        leaf = leaf or self.ca.issue(DEPUTY)
        for name, data in (
            ("chain.pem", leaf.certificate),
            ("key.pem", leaf.key),
            ("roots.pem", (roots or self.ca).bundle),
        ):
            (self.directory / name).write_bytes(data)
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/e2e/check_server.py"), str(self.directory), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.deputies.append(process)
        assert process.stdout is not None
        address = parse_address(process.stdout.readline().strip())
        assert isinstance(address, TcpAddress)
        return address

    def settings(self, deputy: TcpAddress) -> EnvoySettings:
        upstream = UnixAddress(str(self.directory / "upstream.sock"))
        return EnvoySettings(
            trust_domain=TrustDomain.parse("mesh.example"),
            listen=TcpAddress("127.0.0.1", 0),
            deputy=(deputy,),
            deputy_id=SpiffeId.parse(DEPUTY),
            services=(
                Service("tickets", upstream, "tickets.local"),
                Service("billing", upstream, "billing.local"),
            ),
            run_directory=self.directory / f"envoy{len(self.envoys)}",
            sds_socket=self.directory / "nobody.sock",
        )

    def write_secrets(self, ca: TestCa, number: int = 0) -> Path:
        """Give an Envoy a certificate and the roots of a CA; returns where they lie."""
        leaf = ca.issue(ENVOY, dns=("localhost",))
        directory = self.directory / f"secrets{number}"
        write_secrets(directory, "mesh.example", leaf.certificate, leaf.key, ca.bundle)
        return directory

    def start_envoy(self, deputy: TcpAddress) -> int:
        settings = self.settings(deputy)
        secrets = self.write_secrets(self.ca, len(self.envoys))
        envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        self.envoys.append(envoy)
        return envoy.port(LISTENER)

    def stop(self) -> None:
        for envoy in self.envoys:
            envoy.stop()
        for deputy in self.deputies:
            deputy.kill()
            deputy.wait()
            assert deputy.stdout is not None
            deputy.stdout.close()
        self.upstream.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- what clients do

    def tls(self, leaf: Leaf | None, ca: TestCa | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=(ca or self.ca).bundle.decode())
        if leaf is not None:
            with tempfile.NamedTemporaryFile(dir=self.directory) as file:
                file.write(leaf.certificate + leaf.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context

    def request(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        headers: Iterable[Header] = (),
        body: bytes | None = None,
        leaf: Leaf | None = None,
    ) -> Answer:
        """One request as it is given: nothing is normalised, merged or left out on this side."""
        context = self.tls(leaf or self.ca.issue(AGENT))
        connection = HTTPSConnection("localhost", port, context=context, timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    # ---- what the parts saw

    def checks(self) -> list[CheckRequest]:
        return [check for _, check in recorded(self.directory / "checks.bin")]

    def askers(self) -> list[str]:
        return [asker for asker, _ in recorded(self.directory / "checks.bin")]


@contextmanager
def world() -> Iterator[World]:
    # Not pytest's tmp_path: the path of a Unix socket has 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="dpt-"))
    made = World(directory, TestCa.create(), Upstream(directory / "upstream.sock"))
    try:
        made.upstream.start()
        yield made
    finally:
        made.stop()
