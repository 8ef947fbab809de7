"""Refusals before a real Envoy: the real readers and the real answers, with a decision that the test chose.

What decides is left out, so that each refusal can be had at will; the flow's own tests have the rest.
"""

import asyncio
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue

import grpc
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from authz.address import Address, TcpAddress, UnixAddress
from authz.codes import Code
from authz.decision import Deny, denied, refused
from authz.denials.speech import speech_of
from authz.errors import InspectionError
from authz.form import DenialForm
from authz.hosts.grpc import GrpcHost, Limits
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import Service
from authz.protected_resource import find_document, scopes_of
from authz.protocols.inspect import inspect
from authz.protocols.operation import Operation
from authz.protocols.route import Route
from authz.request import Request
from authz.response import deny_response, metadata_response
from authz.services import Service as OurService
from identity.spiffe import SpiffeId
from tests.denials import DECISION, awaits_approval, lacks_scope
from tests.e2e.check_server import DENIALS, TXN, allowed
from tests.e2e.envoy_world import AGENT, DEPUTY, Answer, Header, World, world
from tests.e2e.file_secrets import from_files
from tests.tls_files import tls_from_files

ISSUER = "https://broker.mesh.example"
# One service for each form; the names are the routes.
FORMS: Mapping[str, DenialForm] = {
    "error": "json_rpc",
    "tool-error": "tool_error",
    "unknown-tool": "unknown_tool",
    "http": "http",
}
SERVICES: Mapping[str, OurService] = {
    **{
        name: OurService(name, f"https://{name}.mesh.example", Route(name, "mcp"), denials=form)
        for name, form in FORMS.items()
    },
    "rpc": OurService("rpc", "https://rpc.mesh.example", Route("rpc", "grpc")),
    "llm": OurService("llm", "https://llm.mesh.example", Route("llm", "llm")),
    "agent": OurService("agent", "https://agent.mesh.example", Route("agent", "a2a")),
}
# By the name of the tool; every other one is allowed.
REFUSED: Mapping[str, Deny] = {
    "forbidden": denied(Code.AGENT_TIER),
    "missing": denied(Code.TOOL_UNKNOWN),
    "scoped": lacks_scope(),
    "unavailable": denied(Code.POLICY_UNAVAILABLE),
}


@dataclass
class Refuser:
    """Decides by the name of the tool; what waits for a person waits until `approved`."""

    approved: bool = False
    operations: list[Operation] = field(default_factory=list)

    async def check(self, data: bytes, _asker: SpiffeId | None) -> bytes:
        request = Request.parse(data)
        service = SERVICES[request.extensions["service"]]
        document = find_document(request, service, ISSUER)
        if document is not None:
            return metadata_response(document)
        operation, rpc_id = None, None
        try:
            deny, operation = self._decide(request, service)
        except InspectionError as error:
            deny, rpc_id = refused(error), error.rpc_id
        if deny is None:
            return allowed(TXN)
        return deny_response(
            deny,
            DECISION,
            operation,
            rpc_id,
            speech=speech_of(service.route.protocol, request, operation),
            denials=service.denials,
            resource_metadata=f"{ISSUER}/x",
            scopes=scopes_of(service.name),
        )

    def _decide(self, request: Request, service: OurService) -> tuple[Deny | None, Operation | None]:
        if request.headers.one("authorization") is None:
            return denied(Code.TOKEN_MISSING), None
        if service.route.protocol != "mcp":
            code = request.path.partition("?")[0].rpartition("/")[2]
            return denied(Code(f"DPT-{code}")) if code in {"STALE", "PATH"} else awaits_approval(), None
        operation = inspect(request, service.route)
        self.operations.append(operation)
        if operation.method.startswith("notifications/"):
            return denied(Code.AGENT_NOT_GRANTED), operation
        if operation.resource_name == "approved" and not self.approved:
            return awaits_approval(), operation
        return REFUSED.get(operation.resource_name), operation


def _tools() -> MCPServer:
    server = MCPServer("tools")

    @server.tool()
    def echo(text: str) -> str:
        """Say it again."""
        return text

    @server.tool()
    def approved() -> str:
        """Do what a person approved."""
        return "done"

    for name in REFUSED:
        server.tool(name)(lambda: "it ran")
    return server


class Deputy:
    """The real host round the refuser, and the tools behind Envoy, each on a thread."""

    def __init__(self, envoys: World) -> None:
        leaf = envoys.ca.issue(DEPUTY)
        parts = (("chain.pem", leaf.certificate), ("key.pem", leaf.key), ("roots.pem", envoys.ca.bundle))
        for name, data in parts:
            (envoys.directory / name).write_bytes(data)
        self.directory: Path = envoys.directory
        self.refuser = Refuser()
        self._said: SimpleQueue[Address] = SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        security = TransportSecuritySettings(allowed_hosts=["tools.local"])
        app = _tools().streamable_http_app(
            json_response=True, stateless_http=True, transport_security=security
        )
        self.tools = UnixAddress(str(envoys.directory / "tools.sock"))
        config = uvicorn.Config(app, uds=self.tools.path, log_level="error")
        self._server = uvicorn.Server(config)
        self._threads = (
            threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),)),
            threading.Thread(target=self._server.run),
        )

    def start(self) -> TcpAddress:
        for thread in self._threads:
            thread.start()
        address = self._said.get(timeout=30)
        assert isinstance(address, TcpAddress)
        return address

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._server.should_exit = True
        for thread in self._threads:
            thread.join(30)
        self._loop.close()

    async def _serve(self) -> None:
        host = GrpcHost(
            self.refuser.check,
            denials=DENIALS,
            listen=TcpAddress("127.0.0.1", 0),
            tls=tls_from_files(self.directory),
            limits=Limits(drain_seconds=0, grace_seconds=0),
        )
        address = await host.start()
        await host.set_ready(True)
        self._said.put(address)
        await self._over.wait()
        await host.stop()


class Refusals:
    """One Envoy before all of it, and what clients need."""

    def __init__(self, envoys: World, deputy: Deputy) -> None:
        self.envoys, self.refuser = envoys, deputy.refuser
        services = tuple(Service(name, deputy.tools, "tools.local") for name in SERVICES)
        settings = replace(envoys.settings(deputy.start()), services=services)
        secrets = envoys.write_secrets(envoys.ca)
        envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        envoys.envoys.append(envoy)
        self.port = envoy.port(LISTENER)
        self.leaf = envoys.ca.issue(AGENT)

    def tls(self) -> ssl.SSLContext:
        return self.envoys.tls(self.leaf)

    def channel(self) -> grpc.Channel:
        leaf = self.leaf
        credentials = grpc.ssl_channel_credentials(self.envoys.ca.bundle, leaf.key, leaf.certificate)
        return grpc.secure_channel(f"localhost:{self.port}", credentials)

    def ask(
        self, path: str, *headers: Header, method: str = "GET", body: bytes | None = None, bearer: str = "x"
    ) -> Answer:
        given = [("authorization", f"Bearer {bearer}")] if bearer else []
        return self.envoys.request(
            self.port, path, method=method, headers=(*given, *headers), body=body, leaf=self.leaf
        )

    def post(self, path: str, document: object, bearer: str = "x") -> Answer:
        common = (("content-type", "application/json"), ("accept", "application/json, text/event-stream"))
        return self.ask(path, *common, method="POST", body=json.dumps(document).encode(), bearer=bearer)


@contextmanager
def refusals() -> Iterator[Refusals]:
    """Run all of it, and end it with the block."""
    with world() as envoys:
        deputy = Deputy(envoys)
        try:
            yield Refusals(envoys, deputy)
        finally:
            deputy.stop()
