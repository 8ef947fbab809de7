"""Envoys that get every secret from our socket, and the server at its other end, in a thread of its own."""

import asyncio
import json
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.server import Server

from authz.address import TcpAddress, UnixAddress
from authz.mesh.envoy_clusters import secrets_clusters
from authz.mesh.envoy_parts import TYPE, Json, envoy_address, tls
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings, Service
from identity.entitlement import Entitlement
from identity.pb import sds_pb2 as pb
from identity.sds import PATH, SecretDiscovery
from identity.spiffe import SpiffeId
from tests.sds_world import TD, FakeEntitlements, FakeProcess, FakeSource

T = TypeVar("T")
LISTENER = "inbound"


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@dataclass
class SecretSocket:
    """One socket of the authority: who connects is one workload."""

    path: Path
    server: Server
    entitlements: FakeEntitlements
    process: FakeProcess


@dataclass
class SdsWorld:
    directory: Path
    loop: Loop = field(default_factory=Loop)
    sockets: list[SecretSocket] = field(default_factory=list)
    envoys: list[EnvoyProcess] = field(default_factory=list)

    def serve(self, source: FakeSource, *spiffe_ids: str) -> SecretSocket:
        mine = tuple(Entitlement(SpiffeId.parse(one), dns_names=("localhost",)) for one in spiffe_ids)
        path = self.directory / f"sds{len(self.sockets)}.sock"
        entitlements, process = FakeEntitlements(mine), FakeProcess()

        async def start() -> Server:
            server = Server([SecretDiscovery(source, entitlements, lambda _: process)])
            await server.start(path=str(path))
            return server

        made = SecretSocket(path, self.loop.run(start()), entitlements, process)
        self.sockets.append(made)
        return made

    def stop_serving(self, made: SecretSocket) -> None:
        async def stop() -> None:
            made.server.close()
            await made.server.wait_closed()

        self.loop.run(stop())

    def fetch(self, made: SecretSocket, *names: str) -> pb.DiscoveryResponse:
        async def ask() -> pb.DiscoveryResponse:
            async with Channel(path=str(made.path)) as channel:
                method = UnaryUnaryMethod(
                    channel, f"{PATH}/FetchSecrets", pb.DiscoveryRequest, pb.DiscoveryResponse
                )
                answer = await method(pb.DiscoveryRequest(resource_names=names))
                assert isinstance(answer, pb.DiscoveryResponse)
                return answer

        return self.loop.run(ask())

    def start(self, configuration: Json) -> EnvoyProcess:
        directory = self.directory / f"envoy{len(self.envoys)}"
        configuration["admin"] = {"address": {"pipe": {"path": str(directory / "admin.sock"), "mode": 0o600}}}
        envoy = EnvoyProcess.start(configuration, directory)
        self.envoys.append(envoy)
        return envoy

    def settings(self, made: SecretSocket) -> EnvoySettings:
        return EnvoySettings(
            trust_domain=TD,
            listen=TcpAddress("127.0.0.1", 0),
            deputy=(TcpAddress("127.0.0.1", 1),),
            deputy_id=SpiffeId.parse("spiffe://mesh.example/deputy"),
            services=(Service("unused", UnixAddress("/unused")),),
            run_directory=self.directory,
            sds_socket=made.path,
        )

    # ---- the two sides, with the TLS sockets that the product renders

    def start_server(self, made: SecretSocket, roots: str, peer: Json) -> EnvoyProcess:
        """An Envoy that answers who passes its mTLS."""
        settings = self.settings(made)
        socket = tls(
            "DownstreamTlsContext",
            settings,
            roots,
            peer,
            least="TLSv1_3",
            protocols=["http/1.1"],
            require_client_certificate=True,
            disable_stateless_session_resumption=True,
            disable_stateful_session_resumption=True,
        )
        route = {
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "in"}},
        }
        return self.start(
            {
                "node": {"id": "server", "cluster": "server"},
                "static_resources": {
                    "listeners": [_listener(settings, route, transport_socket=socket)],
                    "clusters": secrets_clusters(settings),
                },
            }
        )

    def start_client(self, made: SecretSocket, server_port: int, roots: str, peer: Json) -> EnvoyProcess:
        """An Envoy that passes plain HTTP on over mTLS, each request with a handshake of its own."""
        settings = self.settings(made)
        socket = tls(
            "UpstreamTlsContext",
            settings,
            roots,
            peer,
            least="TLSv1_3",
            protocols=["http/1.1"],
            max_session_keys=0,
        )
        options = {
            "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"max_requests_per_connection": 1},
            "explicit_http_config": {"http_protocol_options": {}},
        }
        endpoint = {"endpoint": {"address": envoy_address(TcpAddress("127.0.0.1", server_port))}}
        cluster: Json = {
            "name": "server",
            "type": "STATIC",
            "connect_timeout": "10s",
            "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [endpoint]}]},
            "transport_socket": socket,
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
            },
        }
        route: Json = {"match": {"prefix": "/"}, "route": {"cluster": "server"}}
        return self.start(
            {
                "node": {"id": "client", "cluster": "client"},
                "static_resources": {
                    "listeners": [_listener(settings, route)],
                    "clusters": [*secrets_clusters(settings), cluster],
                },
            }
        )

    def close(self) -> None:
        for envoy in self.envoys:
            envoy.stop()
        for made in self.sockets:
            with suppress(TimeoutError):
                self.stop_serving(made)
        self.loop.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def secret_version(envoy: EnvoyProcess, name: str) -> str:
    """The version of a secret that an Envoy uses; empty before the first."""
    dump = json.loads(envoy.admin("/config_dump?resource=dynamic_active_secrets"))
    versions = {entry["name"]: entry.get("version_info", "") for entry in dump.get("configs", [])}
    return str(versions.get(name, ""))


def stats(envoy: EnvoyProcess, *parts: str) -> dict[str, int]:
    """The counters of an Envoy whose names hold all of the parts."""
    found = json.loads(envoy.admin("/stats?format=json"))["stats"]
    return {
        entry["name"]: entry["value"]
        for entry in found
        if "value" in entry and all(part in entry["name"] for part in parts)
    }


@contextmanager
def sds_world() -> Iterator[SdsWorld]:
    # Not pytest's tmp_path: the path of a Unix socket has 107 bytes.
    with SdsWorld(Path(tempfile.mkdtemp(prefix="dpt-"))) as made:
        yield made


def _listener(settings: EnvoySettings, route: Json, **chain: object) -> Json:
    manager = {
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": LISTENER,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{TYPE}extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    http = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": LISTENER,
        "address": envoy_address(settings.listen),
        "filter_chains": [{**chain, "filters": [http]}],
    }
