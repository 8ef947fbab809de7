"""One Envoy before a server of each protocol, with the real flow, the real policy and grants for them.

- The configuration is the shipped one: gRPC is found by its host, everything else by its prefix.
"""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Self

import grpc
import httpx2

from authz.address import UnixAddress
from authz.audit.log import AuditLog, LogSettings
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import Service as EnvoyService
from authz.policy.grants import Grants
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.caller import WorkloadBinding
from identity.names import new_ulid
from tests.e2e.envoy_world import World, world
from tests.e2e.file_secrets import from_files
from tests.e2e.flow_mesh import Deputy
from tests.e2e.protocol_servers import HOST, Ledger, Ran, WebServers
from tests.fakes import LEAD, NOW, RUNNER

SECONDS: Final = 60
LEDGER_HOST: Final = "ledger.local"
DESK_HOST: Final = "desk.local"
GRANTS: Final = rb"""
version: 1
tiers:
  contributor: {allow: [read, write]}
services:
  ledger:
    grpc:
      /ledger.v1.Ledger/Get: read
      /ledger.v1.Ledger/Watch: read
      /ledger.v1.Ledger/Import: write
      /ledger.v1.Ledger/Chat: write
  planner:
    a2a: {SendMessage: write, SendStreamingMessage: write, GetTask: read, tenants: [acme, planner]}
  desk:
    a2a: {GetTask: read, tenants: [acme]}
  models:
    models:
      small-1: {class: write, arguments: {/max_tokens: {max: 100}, /tools: {only: [search]},
        /tool_types: {only: [function, custom]}}}
    payload: {card_number: deny, email: record}
  docs:
    tools:
      read_page: {class: read, arguments: {/path: {below: docs/}}}
      find_order: {class: read, arguments: {/order: {matches: 'ORD-[0-9]{4}'}}}
      tag_page: {class: write, arguments: {/tags: {only: [urgent, billing]}}}
humans:
  groups:
    lead:
      ledger: [read, write]
      planner: [read, write]
      desk: [read, write]
      models: [read, write]
      docs: [read, write]
agents:
  resolver: {tier: contributor, services: [ledger, planner, desk, models, docs]}
"""


def _services() -> Services:
    made = (
        _service("ledger", Route("ledger", "grpc")),
        _service("desk", Route("desk", "a2a")),
        _service("planner", Route("planner", "a2a", paths=frozenset({"/planner"}))),
        _service("models", Route("models", "llm", paths=frozenset({"/models"}))),
        _service("docs", Route("docs", "mcp")),
    )
    return Services.of(made, (), None)


def _service(name: str, route: Route) -> Service:
    return Service(name, f"https://{name}.mesh.example", route)


class Protocols:
    """The Envoy, and a client for each protocol."""

    def __init__(self, envoys: World, deputy: Deputy, ran: Ran) -> None:
        self.ran, self._envoys, self._flow = ran, envoys, deputy.flow_world
        web = UnixAddress(str(envoys.directory / "web.sock"))
        rpc = UnixAddress(str(envoys.directory / "ledger.sock"))
        services = (
            *(EnvoyService(name, web, HOST) for name in ("planner", "models", "docs")),
            EnvoyService("ledger", rpc, LEDGER_HOST, "grpc"),
            # A2A reads the messages.
            EnvoyService("desk", rpc, DESK_HOST, "grpc_whole"),
        )
        settings = replace(envoys.settings(deputy.start()), services=services)
        secrets = envoys.write_secrets(envoys.ca)
        envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        envoys.envoys.append(envoy)
        self.port = envoy.port(LISTENER)
        self.access_log = settings.access_log
        self._leaf = envoys.ca.issue(str(RUNNER))

    def anew(self) -> Self:
        """For the next test: nothing ran yet."""
        self.ran.take()
        self.ran.first_event_read.clear()
        return self

    def token(self, service: str) -> str:
        """What an agent shows: a delegation token for one service."""
        return self._flow.token(
            self._flow.run("resolver", LEAD),
            binding=WorkloadBinding(RUNNER),
            audience=f"https://{service}.mesh.example",
            human=LEAD,
            scopes=frozenset({f"{service}:read", f"{service}:write"}),
        )

    def tls(self) -> ssl.SSLContext:
        return self._envoys.tls(self._leaf)

    def http(self, service: str) -> httpx2.Client:
        """A client of one service; paths are those below its prefix."""
        return httpx2.Client(
            verify=self.tls(),
            base_url=f"https://localhost:{self.port}/{service}",
            headers={"authorization": f"Bearer {self.token(service)}"},
            timeout=SECONDS,
            trust_env=False,
        )

    def mcp_http(self) -> httpx2.AsyncClient:
        headers = {"authorization": f"Bearer {self.token('docs')}"}
        return httpx2.AsyncClient(verify=self.tls(), headers=headers, timeout=SECONDS, trust_env=False)

    def channel(self, service: str = "ledger", host: str = LEDGER_HOST) -> grpc.Channel:
        """A channel to a gRPC server, with the agent's token for a service in each call."""
        leaf, bearer = self._leaf, self.token(service)

        def authorize(_: object, done: grpc.AuthMetadataPluginCallback) -> None:
            done((("authorization", f"Bearer {bearer}"),), None)

        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(self._envoys.ca.bundle, leaf.key, leaf.certificate),
            grpc.metadata_call_credentials(authorize),  # type: ignore[arg-type]  # a function is a plugin, too
        )
        options = [("grpc.default_authority", host), ("grpc.ssl_target_name_override", "localhost")]
        return grpc.secure_channel(f"localhost:{self.port}", credentials, options)

    def decisions(self) -> list[dict[str, Any]]:
        """The records of decisions, from the audit log as it is on the disk."""
        lines = b"".join(path.read_bytes() for path in sorted(self.audit.glob("*.jsonl"))).splitlines()
        return [record for line in lines if (record := json.loads(line))["kind"] == "decision"]

    @property
    def audit(self) -> Path:
        return self._envoys.directory / "audit"

    def files(self) -> list[Path]:
        """All that any part wrote: logs, access logs, configurations."""
        return [path for path in self._envoys.directory.rglob("*") if path.is_file()]


def read_stream(world: Protocols, events: Iterator[Any]) -> int:
    """Count the events; the server sends no second one before its first was read."""
    next(events)
    world.ran.first_event_read.set()
    return 1 + sum(1 for _ in events)


@contextmanager
def protocols() -> Iterator[Protocols]:
    """Run all of it, and end it with the block."""
    with world() as envoys:
        ran = Ran()
        ledger = Ledger(envoys.directory / "ledger.sock", ran)
        web = WebServers(envoys.directory / "web.sock", ran)
        deputy = Deputy(envoys, _services(), Grants.parse(GRANTS))
        log = AuditLog.open(envoys.directory / "audit", LogSettings(), new_ulid(NOW, bytes(10)), NOW)
        deputy.flow_world.sink = log  # type: ignore[assignment]  # the real one
        ledger.start()
        web.start()
        try:
            yield Protocols(envoys, deputy, ran)
        finally:
            deputy.stop()
            ran.first_event_read.set()
            web.stop()
            ledger.stop()
            log.close()
