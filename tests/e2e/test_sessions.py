"""A server with sessions behind a real Envoy: who steals the id of one can do nothing with it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from authz.address import UnixAddress
from authz.codes import Code
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import Service as EnvoyService
from authz.policy.grants import Grants
from authz.protocols.route import Route
from authz.response import REASON_HEADER
from authz.services import Service, Services
from authz.store.sessions import SessionFile
from authz.store.sessions_shared import SharedSessions
from identity.caller import Human, WorkloadBinding
from tests.e2e.envoy_world import World, world
from tests.e2e.file_secrets import from_files
from tests.e2e.flow_mesh import Deputy
from tests.e2e.services import until
from tests.fakes import LEAD, RUNNER

pytestmark = pytest.mark.e2e
HOST: Final = "notes.local"
AUDIENCE: Final = "https://notes.mesh.example"
OLGA: Final = Human.parse("https://idp.example", "olga", ("lead",))
VERSION: Final = "2025-06-18"
GRANTS: Final = rb"""
version: 1
tiers:
  contributor: {allow: [read, write]}
services:
  notes:
    tools: {note: {class: write}}
humans:
  groups:
    lead: {notes: [read, write]}
agents:
  resolver: {tier: contributor, services: [notes]}
  triage: {tier: contributor, services: [notes]}
"""


class NotesServer:
    """The `mcp` SDK with sessions; it asks nobody who calls, and says what reached it."""

    def __init__(self, path: Path) -> None:
        self.reached: list[str] = []
        self.notes: list[str] = []
        server = MCPServer("notes", log_level="CRITICAL")

        @server.tool()
        def note(text: str) -> str:
            """Write something down."""
            self.notes.append(text)
            return text

        security = TransportSecuritySettings(allowed_hosts=[HOST])
        app = server.streamable_http_app(json_response=True, transport_security=security)
        config = uvicorn.Config(
            self._counted(app), uds=str(path), log_level="critical", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            until(lambda: self._server.started)
            yield
        finally:
            self._server.should_exit = True
            self._thread.join(30)

    def _counted(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.reached.append(scope["method"])
            await app(scope, receive, send)

        return counted


class Mesh:
    """One Envoy before the server, and the agents that call it."""

    def __init__(self, envoys: World, deputy: Deputy, server: NotesServer, socket: Path) -> None:
        self.server, self._socket = server, socket
        self._envoys, self._flow = envoys, deputy.flow_world
        services = (EnvoyService("notes", UnixAddress(str(socket)), HOST),)
        settings = replace(envoys.settings(deputy.start()), services=services)
        secrets = envoys.write_secrets(envoys.ca)
        envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        envoys.envoys.append(envoy)
        self._url = f"https://localhost:{envoy.port(LISTENER)}/notes"
        self._tls = envoys.tls(envoys.ca.issue(str(RUNNER)))

    def agent(self, name: str, human: Human = LEAD) -> httpx2.Client:
        """Return a client of the service: a run of an agent for a person."""
        token = self._flow.token(
            self._flow.run(name, human),
            binding=WorkloadBinding(RUNNER),
            audience=AUDIENCE,
            human=human,
            scopes=frozenset({"notes:read", "notes:write"}),
        )
        bearer = {"authorization": f"Bearer {token}"}
        return httpx2.Client(
            verify=self._tls, base_url=self._url, headers=HEADERS | bearer, timeout=60, trust_env=False
        )

    def nobody(self) -> httpx2.Client:
        """Return a client that asks the server itself."""
        transport = httpx2.HTTPTransport(uds=str(self._socket))
        return httpx2.Client(transport=transport, base_url=f"http://{HOST}", headers=HEADERS, timeout=60)

    def written(self) -> str:
        """Everything that is on the disk but the server's own."""
        files = [path for path in self._envoys.directory.rglob("*") if path.is_file()]
        return "".join(path.read_bytes().decode("latin-1") for path in files)


HEADERS: Final = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": VERSION,
}


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with world() as envoys:
        socket = envoys.directory / "notes.sock"
        server = NotesServer(socket)
        known = Services.of((Service("notes", AUDIENCE, Route("notes", "mcp")),), (), None)
        deputy = Deputy(envoys, known, Grants.parse(GRANTS))
        file = SessionFile.open(envoys.directory / "data" / "sessions.db")
        deputy.flow_world.sessions = SharedSessions(file)
        with server.running():
            try:
                yield Mesh(envoys, deputy, server, socket)
            finally:
                deputy.stop()
                file.close()


def rpc(method: str, params: dict[str, Any], rpc_id: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": rpc_id, "method": method, "params": params}


def open_session(client: httpx2.Client) -> dict[str, str]:
    """Shake hands; return the header that goes with all that follows."""
    about = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    answer = client.post("/mcp", json=rpc("initialize", about))
    assert answer.status_code == 200, answer.text
    session = {"mcp-session-id": answer.headers["mcp-session-id"]}
    done = client.post(
        "/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=session
    )
    assert done.status_code == 202, done.text
    return session


def write(client: httpx2.Client, session: dict[str, str], text: str) -> httpx2.Response:
    return client.post(
        "/mcp", json=rpc("tools/call", {"name": "note", "arguments": {"text": text}}), headers=session
    )


def refused(answer: httpx2.Response) -> str:
    return str(answer.headers.get(REASON_HEADER, ""))


OTHERS: Final = Code.SESSION_OTHERS.value


def test_a_stolen_session_is_of_no_use_and_its_owner_goes_on(mesh: Mesh) -> None:
    with mesh.agent("resolver") as ours, mesh.agent("triage") as theirs, mesh.nobody() as nobody:
        session = open_session(ours)
        assert write(ours, session, "one").status_code == 200
        # The server itself takes whoever has the id for its owner: that is what is to be prevented.
        assert write(nobody, session, "stolen").status_code == 200
        assert mesh.server.notes == ["one", "stolen"]

        before = len(mesh.server.reached)
        response = {"jsonrpc": "2.0", "id": 0, "result": {"roots": []}}
        tries = [
            write(theirs, session, "two"),
            theirs.post("/mcp", json=rpc("ping", {}), headers=session),
            theirs.post("/mcp", json=response, headers=session),
            theirs.get("/mcp", headers=session),
            theirs.delete("/mcp", headers=session),
        ]
        assert [refused(answer) for answer in tries] == [OTHERS] * 5
        assert len(mesh.server.reached) == before

        assert write(ours, session, "three").status_code == 200
        with ours.stream("GET", "/mcp", headers=session) as stream:
            assert stream.status_code == 200
        assert ours.delete("/mcp", headers=session).status_code == 200
        assert mesh.server.notes == ["one", "stolen", "three"]


def test_the_same_agent_for_another_person_has_no_part_in_a_session(mesh: Mesh) -> None:
    with mesh.agent("resolver") as ours, mesh.agent("resolver", OLGA) as theirs:
        session = open_session(ours)
        assert write(ours, session, "for lead").status_code == 200
        assert refused(write(theirs, session, "for olga")) == OTHERS
        assert write(theirs, open_session(theirs), "for olga").status_code == 200
        assert mesh.server.notes[-2:] == ["for lead", "for olga"]


def test_a_refusal_of_a_call_reaches_the_client_as_an_error_of_json_rpc(mesh: Mesh) -> None:
    """Not a status that would crash its session, and nothing of whose the session is."""
    with mesh.agent("resolver") as ours, mesh.agent("triage") as theirs:
        session = open_session(ours)
        answer = write(theirs, session, "two")
        assert (answer.status_code, answer.json()["id"]) == (200, 1)
        assert "resolver" not in answer.text


def test_two_headers_are_no_way_around(mesh: Mesh) -> None:
    with mesh.agent("resolver") as ours, mesh.agent("triage") as theirs:
        session, own = open_session(ours), open_session(theirs)
        stolen, mine = session["mcp-session-id"], own["mcp-session-id"]
        before = len(mesh.server.reached)
        for ids in ((stolen, mine), (mine, stolen)):
            headers = [("mcp-session-id", each) for each in ids]
            answer = theirs.post("/mcp", json=rpc("ping", {}), headers=headers)
            assert refused(answer) == Code.HEADER_DUPLICATE.value
        joined = theirs.post("/mcp", json=rpc("ping", {}), headers={"mcp-session-id": f"{stolen},{mine}"})
        assert refused(joined) == Code.SESSION_MALFORMED.value
        assert len(mesh.server.reached) == before


def test_no_file_of_ours_holds_the_id_of_a_session(mesh: Mesh) -> None:
    with mesh.agent("resolver") as ours, mesh.agent("triage") as theirs:
        session = open_session(ours)
        assert write(ours, session, "last").status_code == 200
        assert refused(write(theirs, session, "never")) == OTHERS
        assert json.dumps(session["mcp-session-id"])[1:-1] not in mesh.written()
