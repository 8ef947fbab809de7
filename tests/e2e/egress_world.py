"""The way out: the real flow and policy behind the real egress Envoy, and a host outside."""

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.client import HTTPResponse, HTTPSConnection
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events

from authz.address import TcpAddress
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess, write_private
from authz.mesh.outside import Outside, OutsideKey
from authz.policy.grants import Grants
from authz.protocols.operation import Protocol
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.caller import WorkloadBinding
from identity.withdrawal import Withdrawal, Withdrawals
from tests.e2e.ca import TestCa
from tests.e2e.envoy_world import Answer, Header, World, world
from tests.e2e.file_secrets import from_files
from tests.e2e.flow_mesh import Deputy
from tests.e2e.outside_host import OutsideHost
from tests.fakes import LEAD, NOW, RUNNER

KEY = "sk-outside-0123456789"
FORGOTTEN = "forgotten.example"
MODELS, WEATHER, LEDGER, FORGED = "models.example", "weather.example", "ledger.example", "forged.example"
PROTOCOLS: Mapping[str, Protocol] = {
    "models": "llm",
    "weather": "http",
    "ledger": "grpc",
    "forged": "http",
    "forgotten": "http",
}
GUARDED = frozenset({"models", "ledger"})
GRANTS = b"""
version: 1
tiers:
  contributor: {allow: [read, write]}
services:
  models:
    models:
      small-1: {class: write, arguments: {/max_tokens: {max: 100}}}
  weather:
    http: [{methods: [GET], paths: [/v1/today], class: read}]
  ledger:
    grpc: {/ledger.v1.Ledger/Get: read}
  forged:
    http: [{methods: [GET], paths: [/v1/today], class: read}]
  forgotten:
    http: [{methods: [GET], paths: [/v1/today], class: read}]
humans:
  groups:
    lead: {models: [write], weather: [read], ledger: [read], forged: [read], forgotten: [read]}
agents:
  resolver: {tier: contributor, services: [models, weather, ledger, forged, forgotten]}
  triage: {tier: contributor, services: [weather]}
"""


def _services() -> Services:
    """Services outside, of which one was configured as if it were ours."""
    made = tuple(
        Service(
            name,
            f"https://{name}.example",
            Route(name, protocol),
            txn="per_call" if name == "forgotten" else "none",
            is_guarded=name in GUARDED,
        )
        for name, protocol in PROTOCOLS.items()
    )
    return Services.of(made, (), None)


class Egress:
    """One Envoy for the way out; its key and the roots of the outside lie in files of the test."""

    def __init__(self, envoys: World, deputy: Deputy, outside: OutsideHost, roots: bytes) -> None:
        self.envoys, self.flow_world, self.outside = envoys, deputy.flow_world, outside
        secrets = envoys.write_secrets(envoys.ca)
        (envoys.directory / "outside.pem").write_bytes(roots)
        https = TcpAddress("127.0.0.1", outside.port)
        self._key = secrets / "outside-models.json"
        self.write_key(KEY)
        key = OutsideKey(self._key)
        settings = replace(
            envoys.settings(deputy.start()),
            services=(),
            outside=(
                Outside("models", MODELS, key=key, address=https, is_guarded=True),
                Outside("weather", WEATHER, address=https),
                Outside(
                    "ledger",
                    LEDGER,
                    address=TcpAddress("127.0.0.1", outside.rpc_port),
                    transport="grpc",
                    is_guarded=True,
                ),
                Outside("forged", FORGED, address=https),
                Outside("forgotten", FORGOTTEN, address=https),
            ),
            outside_roots=envoys.directory / "outside.pem",
        )
        self.envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        envoys.envoys.append(self.envoy)
        self.port = self.envoy.port(LISTENER)
        self.leaf = envoys.ca.issue(str(RUNNER))
        self.access_log = settings.access_log

    def bearer(self, service: str, agent: str = "resolver") -> Header:
        """What an agent shows here: a delegation token for one service outside."""
        scopes = frozenset({f"{service}:read", f"{service}:write"})
        token = self.flow_world.token(
            self.flow_world.run(agent, LEAD),
            binding=WorkloadBinding(RUNNER),
            audience=f"https://{service}.example",
            human=LEAD,
            scopes=scopes,
        )
        return ("authorization", f"Bearer {token}")

    def tls(self, *protocols: str) -> ssl.SSLContext:
        context = self.envoys.tls(self.leaf)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def ask(
        self, target: str, *headers: Header, method: str = "GET", host: str = "", body: bytes | None = None
    ) -> Answer:
        """Send one request exactly so; without a host the one of the headers."""
        with self.opened(target, *headers, method=method, host=host, body=body) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    @contextmanager
    def opened(
        self, target: str, *headers: Header, method: str = "GET", host: str = "", body: bytes | None = None
    ) -> Iterator[HTTPResponse]:
        connection = HTTPSConnection("localhost", self.port, context=self.tls(), timeout=30)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in (*((("host", host),) if host else ()), *headers):
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            connection.endheaders(body)
            yield connection.getresponse()
        finally:
            connection.close()

    def model(self, *headers: Header, agent: str = "resolver", host: str = MODELS, **members: Any) -> Answer:
        """Call a model."""
        given = (self.bearer("models", agent), ("content-type", "application/json"), *headers)
        return self.ask("/v1/chat/completions", *given, method="POST", host=host, body=chat(**members))

    def today(self, *headers: Header, host: str = WEATHER, target: str = "/v1/today") -> Answer:
        """Ask for the weather."""
        return self.ask(target, self.bearer("weather"), *headers, host=host)

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return what comes until the other side has no more to say."""
        with (
            socket.create_connection(("localhost", self.port), 30) as plain,
            self.tls("http/1.1").wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(data)
            said = b""
            with suppress(ssl.SSLEOFError):
                while chunk := connection.recv(65536):
                    said += chunk
            return said

    def http2(self, *fields: tuple[str, str]) -> dict[str, str]:
        """Send fields as they are; return those of the answer, or `reset` if there was none."""
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        client = h2.connection.H2Connection(config)
        with (
            socket.create_connection(("localhost", self.port), 30) as plain,
            self.tls("h2").wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            client.initiate_connection()
            client.send_headers(1, fields, end_stream=True)
            connection.sendall(client.data_to_send())
            while chunk := connection.recv(65536):
                for event in client.receive_data(chunk):
                    if isinstance(event, h2.events.ResponseReceived):
                        return {str(name): str(value) for name, value in event.headers}
                    if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                        return {"reset": str(event.error_code)}
                connection.sendall(client.data_to_send())
        return {"reset": "closed"}

    def channel(self, authority: str) -> grpc.Channel:
        leaf = self.leaf
        credentials = grpc.ssl_channel_credentials(self.envoys.ca.bundle, leaf.key, leaf.certificate)
        options = [("grpc.default_authority", authority), ("grpc.ssl_target_name_override", "localhost")]
        return grpc.secure_channel(f"localhost:{self.port}", credentials, options)

    def write_key(self, text: str) -> None:
        """Write the key of the models; Envoy takes a new one as soon as it is there."""
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
        secret = {
            "@type": kind,
            "name": self._key.stem,
            "generic_secret": {"secret": {"inline_string": text}},
        }
        write_private(self._key, json.dumps({"resources": [secret]}).encode())

    def contain(self, agent: str) -> None:
        """Stop an agent, as `deputy agents contain` does in its process."""
        withdrawal = Withdrawal("agent", agent, None, "reads what nobody asked for", "operator", NOW)
        self.flow_world.rights.withdrawals = Withdrawals.of((withdrawal,))
        self.flow_world.rights.epoch += 1

    def release(self) -> None:
        """Let everybody act again."""
        self.flow_world.rights.withdrawals = Withdrawals()
        self.flow_world.rights.epoch += 1

    def records(self) -> list[Any]:
        return self.flow_world.records()


def chat(**members: Any) -> bytes:
    """The body of a call of a model."""
    asked = {"model": "small-1", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(asked | members).encode()


@contextmanager
def egress() -> Iterator[Egress]:
    """Run all of it, and end it with the block."""
    with world() as envoys:
        ca = TestCa.create("outside.example")
        outside = OutsideHost(ca.issue(dns=(MODELS, WEATHER, LEDGER, FORGOTTEN)), envoys.ca)
        deputy = Deputy(envoys, _services(), Grants.parse(GRANTS))
        outside.start()
        try:
            yield Egress(envoys, deputy, outside, ca.bundle)
        finally:
            deputy.stop()
            outside.stop()
