"""One Envoy whose answers are guarded, with the real flow, guard and policy, and two agents that differ."""

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

import grpc
import httpx2

from authz.address import UnixAddress
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import Service as EnvoyService
from authz.policy.grants import Grants
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.caller import WorkloadBinding
from identity.withdrawal import Withdrawal, Withdrawals
from tests.e2e.envoy_world import World, world
from tests.e2e.file_secrets import from_files
from tests.e2e.flow_mesh import Deputy
from tests.e2e.protocol_servers import HOST, Ledger, Ran, WebServers
from tests.e2e.raw_upstream import RawUpstream
from tests.fakes import LEAD, NOW, RUNNER, agent

SECONDS: Final = 60
LEDGER_HOST: Final = "ledger.local"
_TOOLS: Final = "{tools: {read_page: {class: read}, find_order: {class: read}, tag_page: {class: write}}}"
_ALL: Final = ("docs", "wiki", "raw", "open", "feed", "planner", "models", "ledger")
GRANTS: Final = f"""
version: 1
tiers:
  observer: {{allow: [read]}}
  contributor: {{allow: [read, write]}}
services:
  docs: {_TOOLS}
  wiki: {_TOOLS}
  raw: {_TOOLS}
  open: {_TOOLS}
  feed: {_TOOLS}
  planner:
    a2a: {{SendMessage: write, SendStreamingMessage: read}}
  models:
    models: {{small-1: {{class: read}}, large-1: {{class: write}}}}
  ledger:
    grpc: {{/ledger.v1.Ledger/Get: read, /ledger.v1.Ledger/Chat: read,
      /ledger.v1.Ledger/Import: read}}
humans:
  groups:
    lead: {{{", ".join(f"{name}: [read, write]" for name in _ALL)}}}
agents:
  resolver: {{tier: contributor, services: [{", ".join(_ALL)}]}}
  triage: {{tier: observer, services: [{", ".join(_ALL)}]}}
""".encode()
# What each sees of four tools; `drop_pages` nobody may call.
VISIBLE: Final = {
    "resolver": ["read_page", "find_order", "tag_page"],
    "triage": ["read_page", "find_order"],
}


def _services() -> Services:
    routes = (
        *(Route(name, "mcp") for name in ("docs", "wiki", "raw", "open", "feed")),
        Route("planner", "a2a", paths=frozenset({"/planner"})),
        Route("models", "llm", paths=frozenset({"/models"})),
        Route("ledger", "grpc"),
    )
    made = [_service(route) for route in routes]
    return Services.of(tuple(made), (), None)


def _service(route: Route) -> Service:
    name = route.service
    return Service(name, f"https://{name}.mesh.example", route, is_guarded=name != "open")


class AnswersWorld:
    """The Envoy, its upstreams, and a client for each agent."""

    def __init__(
        self,
        envoys: World,
        deputy: Deputy,
        ran: Ran,
        upstreams: tuple[RawUpstream, RawUpstream],
        changes: dict[str, Any],
    ) -> None:
        raw, feed = upstreams
        self.ran, self.raw, self.feed = ran, raw, feed
        self._envoys, self.flow_world, self.deputy = envoys, deputy.flow_world, deputy
        self.flow_world.rights.agents["triage"] = agent("triage", ceiling="observer")
        settings = replace(envoys.settings(deputy.start()), services=self._behind())
        secrets = envoys.write_secrets(envoys.ca)
        configuration = from_files(render(settings), secrets)
        _ext_proc(configuration).update(changes)
        envoy = EnvoyProcess.start(configuration, settings.run_directory)
        envoys.envoys.append(envoy)
        self.envoy, self.access_log = envoy, settings.access_log
        self.port = envoy.port(LISTENER)
        self._leaf = envoys.ca.issue(str(RUNNER))

    def _behind(self) -> tuple[EnvoyService, ...]:
        sockets = {
            "docs": "docs",
            "wiki": "wiki",
            "raw": "raw",
            "open": "raw",
            "feed": "feed",
            "planner": "feed",
            "models": "feed",
        }
        http = (
            EnvoyService(name, self._socket(socket), HOST, is_guarded=name != "open")
            for name, socket in sockets.items()
        )
        return (*http, EnvoyService("ledger", self._socket("ledger"), LEDGER_HOST, "grpc", is_guarded=True))

    def _socket(self, name: str) -> UnixAddress:
        return UnixAddress(str(self._envoys.directory / f"{name}.sock"))

    def token(self, service: str, who: str = "resolver") -> str:
        """What an agent shows: a delegation token for one service."""
        return self.flow_world.token(
            self.flow_world.run(who, LEAD),
            binding=WorkloadBinding(RUNNER),
            audience=f"https://{service}.mesh.example",
            human=LEAD,
            scopes=frozenset({f"{service}:read", f"{service}:write"}),
        )

    def tls(self) -> ssl.SSLContext:
        return self._envoys.tls(self._leaf)

    def headers(self, service: str, who: str = "resolver") -> dict[str, str]:
        return {
            "authorization": f"Bearer {self.token(service, who)}",
            "accept": "application/json, text/event-stream",
        }

    def http(self, service: str, who: str = "resolver") -> httpx2.Client:
        return httpx2.Client(
            verify=self.tls(), headers=self.headers(service, who), timeout=SECONDS, trust_env=False
        )

    def async_http(self, service: str, who: str = "resolver") -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            verify=self.tls(), headers=self.headers(service, who), timeout=SECONDS, trust_env=False
        )

    def url(self, service: str, path: str = "/mcp") -> str:
        return f"https://localhost:{self.port}/{service}{path}"

    def ask(
        self, service: str, method: str = "tools/list", who: str = "resolver", **more: Any
    ) -> httpx2.Response:
        """One MCP request."""
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": more.pop("params", {})}
        with self.http(service, who) as http:
            return http.post(self.url(service), json=message, **more)

    @contextmanager
    def channel(self, who: str = "resolver") -> Iterator[grpc.Channel]:
        """A channel to the gRPC server, with an agent's token in each call."""
        leaf, bearer = self._leaf, self.token("ledger", who)

        def authorize(_: object, done: grpc.AuthMetadataPluginCallback) -> None:
            done((("authorization", f"Bearer {bearer}"),), None)

        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(self._envoys.ca.bundle, leaf.key, leaf.certificate),
            grpc.metadata_call_credentials(authorize),  # type: ignore[arg-type]  # a function is a plugin, too
        )
        options = [("grpc.default_authority", LEDGER_HOST), ("grpc.ssl_target_name_override", "localhost")]
        with grpc.secure_channel(f"localhost:{self.port}", credentials, options) as channel:
            yield channel

    def raw_request(self, data: bytes) -> bytes:
        """Send bytes, and return what comes until the other side closes."""
        with (
            socket.create_connection(("localhost", self.port), 30) as plain,
            self.tls().wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(data)
            said = b""
            with contextlib.suppress(ssl.SSLEOFError):
                while chunk := connection.recv(65536):
                    said += chunk
            return said

    def contain(self, who: str) -> None:
        """Stop an agent, as `deputy agents contain` does in its process."""
        withdrawal = Withdrawal("agent", who, None, "reads what nobody asked for", "operator", NOW)
        self.flow_world.rights.withdrawals = Withdrawals.of((withdrawal,))
        self.flow_world.rights.epoch += 1

    def release(self) -> None:
        """Let everybody act again."""
        self.flow_world.rights.withdrawals = Withdrawals()
        self.flow_world.rights.epoch += 1

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [dict(each) for each in self.flow_world.records() if each["kind"] == kind]

    def logged(self) -> list[dict[str, Any]]:
        """What the access log holds so far."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]


def _ext_proc(configuration: dict[str, Any]) -> dict[str, Any]:
    listener = configuration["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    config: dict[str, Any] = manager["http_filters"][-2]["typed_config"]
    return config


@contextmanager
def answers_world(**changes: Any) -> Iterator[AnswersWorld]:
    """Run all of it, and end it with the block; `changes` are of the filter that shows answers."""
    with world() as envoys, ExitStack() as stack:
        ran = Ran()
        raw = stack.enter_context(RawUpstream(envoys.directory / "raw.sock"))
        feed = stack.enter_context(RawUpstream(envoys.directory / "feed.sock"))
        ledger = Ledger(envoys.directory / "ledger.sock", ran)
        servers = [
            WebServers(envoys.directory / "docs.sock", ran),
            WebServers(envoys.directory / "wiki.sock", ran, has_streams=True),
        ]
        deputy = Deputy(envoys, _services(), Grants.parse(GRANTS))
        ledger.start()
        stack.callback(ledger.stop)
        for server in servers:
            server.start()
            stack.callback(server.stop)
        try:
            yield AnswersWorld(envoys, deputy, ran, (raw, feed), changes)
        finally:
            with contextlib.suppress(RuntimeError):
                deputy.stop()
