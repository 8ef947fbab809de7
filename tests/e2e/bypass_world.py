"""A tool server with a hidden tool behind a real Envoy, the real flow and the real policy.

- The server counts what reaches it and which tools run; nothing else says whether a trick worked.
- It is asked by itself as well, on its Unix socket, so that a trick which works nowhere is seen.
"""

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol, Self

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authz.address import UnixAddress
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import Service
from identity.caller import WorkloadBinding
from tests.bypass_tricks import ACCEPT, JSON, Trick, call
from tests.conftest import ROOT, missing_part
from tests.e2e.envoy_world import Answer, World, world
from tests.e2e.file_secrets import from_files
from tests.e2e.flow_mesh import Deputy
from tests.e2e.services import environment, until
from tests.fakes import LEAD, RUNNER, TICKETS
from tests.readers import go_reader, node_binary

HOST = "tickets.local"
TOOLS = ("read_ticket", "secret")
PACKAGES = ROOT / ".cache/node/node_modules"
SDK = "@modelcontextprotocol/sdk"


class ToolServer(Protocol):
    """What a server tells: how many requests came in, and the tools that ran, in their order."""

    def seen(self) -> tuple[int, list[str]]: ...


class PythonServer:
    """The `mcp` SDK of this environment on uvicorn, on a thread."""

    def __init__(self, path: Path) -> None:
        self._requests, self._ran = 0, list[str]()
        config = uvicorn.Config(self._counted(self._app()), uds=str(path), log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def seen(self) -> tuple[int, list[str]]:
        return self._requests, list(self._ran)

    @classmethod
    @contextmanager
    def running(cls, path: Path) -> Iterator[Self]:
        made = cls(path)
        made._thread.start()
        try:
            until(lambda: made._server.started)
            yield made
        finally:
            made._server.should_exit = True
            made._thread.join(30)

    @staticmethod
    def name() -> str:
        return f"Python `mcp` {version('mcp')}"

    def _app(self) -> ASGIApp:
        server = MCPServer("tickets", log_level="CRITICAL")

        @server.tool()
        def read_ticket(ticket: str = "T-1") -> str:
            """Read one ticket."""
            self._ran.append("read_ticket")
            return ticket

        @server.tool()
        def secret(text: Any = "", number: float = 0) -> str:
            """Do what nobody may."""
            self._ran.append("secret")
            return "it ran"

        security = TransportSecuritySettings(allowed_hosts=[HOST])
        return server.streamable_http_app(
            json_response=True, stateless_http=True, transport_security=security
        )

    def _counted(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self._requests += 1
            await app(scope, receive, send)

        return counted


class HandwrittenServer(PythonServer):
    """What people write in an hour: `json.loads` of whatever comes, as `mcp` 1.x does it too."""

    def _app(self) -> ASGIApp:
        async def answer(request: Request) -> JSONResponse:
            document = json.loads(await request.body())
            messages = document if isinstance(document, list) else [document]
            for message in messages:
                if message["method"] == "tools/call" and message["params"]["name"] in TOOLS:
                    self._ran.append(message["params"]["name"])
            return JSONResponse(
                [{"jsonrpc": "2.0", "id": message.get("id"), "result": {}} for message in messages]
            )

        return Starlette(routes=[Route("/mcp", answer, methods=["GET", "POST", "PUT", "DELETE"])])

    @staticmethod
    def name() -> str:
        return "handwritten, Python `json.loads`"


class _ServerProcess:
    """A server that says itself what it saw."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def seen(self) -> tuple[int, list[str]]:
        answer = direct(self._path, Trick(b"", (), "GET", "/seen")).json
        return answer["requests"], answer["ran"]

    @classmethod
    def _command(cls) -> list[str | Path]:
        raise NotImplementedError

    @staticmethod
    def name() -> str:
        raise NotImplementedError

    @classmethod
    @contextmanager
    def running(cls, path: Path) -> Iterator[Self]:
        surroundings = environment(NODE_PATH=str(PACKAGES))
        with subprocess.Popen([*cls._command(), path], env=surroundings, stdin=subprocess.DEVNULL) as process:
            try:
                until(lambda: _listens(path))
                yield cls(path)
            finally:
                process.kill()


class GoServer(_ServerProcess):
    """Go's `encoding/json` into structs, as SDKs and gateways written in Go have it."""

    @classmethod
    def _command(cls) -> list[str | Path]:
        return [go_reader(), "serve"]

    @staticmethod
    def name() -> str:
        return "handwritten, Go `encoding/json`"


class TypeScriptServer(_ServerProcess):
    """The TypeScript SDK on express (tests/node/server.cjs)."""

    @classmethod
    def _command(cls) -> list[str | Path]:
        if not (PACKAGES / SDK).is_dir():
            missing_part("no TypeScript SDK: 'make test-full' installs it, with npm, beside Node")
        return [node_binary(), ROOT / "tests/node/server.cjs"]

    @staticmethod
    def name() -> str:
        locked = json.loads((ROOT / "tests/node/package-lock.json").read_text("utf-8"))["packages"]
        versions = [locked[f"node_modules/{package}"]["version"] for package in (SDK, "express")]
        return f"TypeScript SDK {versions[0]}, express {versions[1]}"


SERVERS: Final[dict[str, type[PythonServer | _ServerProcess]]] = {
    "python": PythonServer,
    "handwritten": HandwrittenServer,
    "go": GoServer,
    "typescript": TypeScriptServer,
}


class Gate:
    """One server, Envoy before it, and both ways to ask it."""

    def __init__(self, envoys: World, deputy: Deputy, server: ToolServer, path: Path, kind: str) -> None:
        self.kind, self.server, self._path, self._envoys = kind, server, path, envoys
        service = Service("tickets", UnixAddress(str(path)), HOST)
        settings = replace(envoys.settings(deputy.start()), services=(service,))
        secrets = envoys.write_secrets(envoys.ca)
        envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        envoys.envoys.append(envoy)
        self._port = envoy.port(LISTENER)
        self._leaf = envoys.ca.issue(str(RUNNER))
        flow = deputy.flow_world
        self._token = flow.token(
            flow.run("resolver", LEAD), binding=WorkloadBinding(RUNNER), audience=TICKETS, human=LEAD
        )

    def direct(self, trick: Trick) -> Answer:
        return direct(self._path, trick)

    def through(self, trick: Trick) -> Answer:
        """Send it through Envoy, as a caller who may read tickets."""
        connection = http.client.HTTPSConnection(
            "localhost", self._port, context=self._envoys.tls(self._leaf), timeout=30
        )
        bearer = ("authorization", f"Bearer {self._token}")
        return _send(connection, trick, f"/tickets{trick.path}", bearer)


def direct(path: Path, trick: Trick) -> Answer:
    """Send it to the server itself."""
    connection = http.client.HTTPConnection(HOST, timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(path))
    return _send(connection, trick, trick.path)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def visible() -> Trick:
    """The call that is allowed."""
    return Trick(call("read_ticket"), (JSON,))


def _send(connection: http.client.HTTPConnection, trick: Trick, path: str, *more: tuple[str, str]) -> Answer:
    try:
        # Who refuses the headers may hang up before the body is sent; mostly there is an answer all the same.
        with suppress(ConnectionError):
            _write(connection, trick, path, *more)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        # A stream has no end.
        is_stream = headers.get("content-type", "").startswith("text/event-stream")
        return Answer(response.status, headers, b"" if is_stream else response.read())
    except ConnectionError:
        return Answer(0, {}, b"")
    finally:
        connection.close()


def _write(connection: http.client.HTTPConnection, trick: Trick, path: str, *more: tuple[str, str]) -> None:
    connection.putrequest(trick.method, path, skip_accept_encoding=True)
    for name, value in (ACCEPT, *trick.headers, *more):
        connection.putheader(name, value)
    if trick.chunked:
        half = len(trick.body) // 2
        connection.putheader("transfer-encoding", "chunked")
        connection.endheaders(iter([trick.body[:half], trick.body[half:]]), encode_chunked=True)
    else:
        connection.putheader("content-length", str(len(trick.body)))
        connection.endheaders(trick.body)


@contextmanager
def gate(kind: str) -> Iterator[Gate]:
    """Run all of it with one kind of server, and end it with the block."""
    with world() as envoys:
        path = envoys.directory / "tools.sock"
        running: AbstractContextManager[ToolServer] = SERVERS[kind].running(path)
        with running as server:
            deputy = Deputy(envoys)
            try:
                yield Gate(envoys, deputy, server, path, kind)
            finally:
                deputy.stop()
