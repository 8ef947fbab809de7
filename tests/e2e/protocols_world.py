"""One Envoy before a server of each protocol, with the real flow, the real policy and grants for them.

- The filters are those of the shipped configuration, and so are routes and clusters of all but gRPC.
- gRPC has no prefix in its paths, so a server is found by its host, and its cluster speaks HTTP/2.
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
from authz.mesh.envoy_clusters import plain_cluster
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_parts import TYPE, ask_about
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
STREAMS_HOST: Final = "streams.local"
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
        services = tuple(EnvoyService(name, web, HOST) for name in ("planner", "models", "docs"))
        settings = replace(envoys.settings(deputy.start()), services=services)
        configuration = _with_ledger(render(settings), UnixAddress(str(envoys.directory / "ledger.sock")))
        secrets = envoys.write_secrets(envoys.ca)
        envoy = EnvoyProcess.start(from_files(configuration, secrets), settings.run_directory)
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


def _with_ledger(configuration: dict[str, Any], address: UnixAddress) -> dict[str, Any]:
    """Add the gRPC server, found by its hosts."""
    static = configuration["static_resources"]
    http2 = {
        "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
    cluster = {
        **plain_cluster("service-ledger", (address,), "1s"),
        "typed_extension_protocol_options": options,
    }
    static["clusters"].append(cluster)
    asked = ask_about("ledger")
    manager = static["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"] += [
        _host(LEDGER_HOST, asked),
        _host(STREAMS_HOST, _unbuffered(asked)),
        _host(DESK_HOST, ask_about("desk")),
    ]
    return configuration


def _host(name: str, asked: dict[str, Any]) -> dict[str, Any]:
    route = {
        "name": name,
        "match": {"prefix": "/"},
        "route": {"cluster": "service-ledger", "timeout": "0s"},
        "typed_per_filter_config": asked,
    }
    return {"name": name, "domains": [name], "routes": [route]}


def _unbuffered(asked: dict[str, Any]) -> dict[str, Any]:
    """Ask before the body is there: gRPC is decided by its path, and a stream that waits has no end."""
    ((name, settings),) = asked.items()
    check = {**settings["check_settings"], "disable_request_body_buffering": True}
    return {name: {**settings, "check_settings": check}}


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
