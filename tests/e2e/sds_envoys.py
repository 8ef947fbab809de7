"""Envoys that get every secret from a socket of ours; the authority at its other end runs in a thread."""

import asyncio
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self, TypeVar

from grpclib.client import Channel, StreamStreamMethod

from authz.address import TcpAddress, UnixAddress
from authz.mesh.envoy_clusters import secrets_cluster
from authz.mesh.envoy_parts import TYPE, Json, envoy_address, tls
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings, Service
from identity.bundle import Bundle
from identity.entitlement import Entitlement
from identity.key_ring import Action, KeyChange
from identity.live_authority import AuthoritySettings, LiveAuthority
from identity.pb import sds_pb2 as pb
from identity.sds import PATH, SecretDiscovery
from identity.socket_server import SocketServer
from identity.spiffe import SpiffeId, TrustDomain
from identity.svid_source import IssuingSource, SvidSettings
from identity.trust_bundles import TrustBundles
from tests.socket_world import GivenEntitlements, MemoryRecorder

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


class Domain:
    """The authority of one trust domain, with what it knows of others."""

    def __init__(self, name: str, directory: Path) -> None:
        self.trust_domain = TrustDomain.parse(name)
        self.live = LiveAuthority.open(directory / name, self.trust_domain, AuthoritySettings(), _now())
        self.federated: dict[TrustDomain, Bundle] = {}
        self.source = IssuingSource(
            self.live, self._bundles, MemoryRecorder(), SvidSettings(), clock=_now, chance=lambda: 0.5
        )

    @property
    def bundle(self) -> Bundle:
        return self.live.current.trust_bundle()

    @property
    def signer(self) -> str:
        return self.live.current.ca.key.kid

    def id(self, path: str) -> str:
        return f"{self.trust_domain.spiffe_id}{path}"

    def federate(self, *bundles: Bundle) -> None:
        self.federated = {bundle.trust_domain: bundle for bundle in bundles}
        self.live.feed.publish()

    def step(self, action: Action, kid: str | None = None) -> None:
        self.live.apply([KeyChange(action, "x509", kid)], _now())

    def _bundles(self) -> TrustBundles:
        return TrustBundles(self.bundle, dict(self.federated))


@dataclass
class SecretSocket:
    """One socket of an authority: who connects is one workload."""

    path: Path
    service: SecretDiscovery
    entitlements: GivenEntitlements


@dataclass
class SdsWorld:
    directory: Path
    loop: Loop = field(default_factory=Loop)
    domains: dict[str, Domain] = field(default_factory=dict)
    sockets: list[SecretSocket] = field(default_factory=list)
    envoys: list[EnvoyProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        async def make() -> SocketServer:
            return SocketServer()

        self.server = self.loop.run(make())

    def domain(self, name: str) -> Domain:
        if name not in self.domains:
            self.domains[name] = Domain(name, self.directory)
        return self.domains[name]

    def socket(self, domain: Domain, *paths: str) -> SecretSocket:
        """A socket whose callers have these identities, the first one by default."""
        mine = tuple(Entitlement(SpiffeId.parse(domain.id(path)), dns_names=("localhost",)) for path in paths)
        entitlements = GivenEntitlements(mine)
        path = self.directory / "sockets" / f"{len(self.sockets)}.sock"
        made = SecretSocket(path, SecretDiscovery(domain.source, entitlements), entitlements)
        self.sockets.append(made)
        self.open(made)
        return made

    def open(self, made: SecretSocket) -> None:
        self.loop.run(self.server.listen(made.path, [made.service]))

    def shut(self, made: SecretSocket) -> None:
        self.loop.run(self.server.close_socket(made.path))

    def versions(self, made: SecretSocket, name: str) -> set[str]:
        """The version of a secret in both forms of the protocol; Envoy shows that of the one it speaks."""

        async def ask() -> set[str]:
            async with Channel(path=str(made.path)) as channel:
                world = StreamStreamMethod(
                    channel, f"{PATH}/StreamSecrets", pb.DiscoveryRequest, pb.DiscoveryResponse
                )
                delta = StreamStreamMethod(
                    channel, f"{PATH}/DeltaSecrets", pb.DeltaDiscoveryRequest, pb.DeltaDiscoveryResponse
                )
                async with world.open() as stream:
                    await stream.send_message(pb.DiscoveryRequest(resource_names=[name]), end=True)
                    whole = await stream.recv_message()
                async with delta.open() as changes:
                    first = pb.DeltaDiscoveryRequest(resource_names_subscribe=[name])
                    await changes.send_message(first, end=True)
                    change = await changes.recv_message()
                assert whole is not None
                assert change is not None
                return {whole.version_info, change.resources[0].version}

        return self.loop.run(ask())

    def wait_for_push(self, made: SecretSocket, name: str, *envoys: EnvoyProcess) -> None:
        """Wait until these Envoys use the secret that the socket serves now."""
        versions = self.versions(made, name)
        until(lambda: all(secret_version(envoy, name) in versions for envoy in envoys))

    def start(self, configuration: Json, *, delta: bool = False, fetch_timeout: str = "0s") -> EnvoyProcess:
        text = json.dumps(configuration)
        text = text.replace('"initial_fetch_timeout": "0s"', f'"initial_fetch_timeout": "{fetch_timeout}"')
        if delta:
            text = text.replace('"api_type": "GRPC"', '"api_type": "DELTA_GRPC"')
        configuration = json.loads(text)
        directory = self.directory / f"envoy{len(self.envoys)}"
        configuration["admin"] = {"address": {"pipe": {"path": str(directory / "admin.sock"), "mode": 0o600}}}
        envoy = EnvoyProcess.start(configuration, directory)
        self.envoys.append(envoy)
        return envoy

    def settings(self, made: SecretSocket) -> EnvoySettings:
        return EnvoySettings(
            trust_domain=TrustDomain.parse("mesh.example"),
            listen=TcpAddress("127.0.0.1", 0),
            deputy=(TcpAddress("127.0.0.1", 1),),
            deputy_id=SpiffeId.parse("spiffe://mesh.example/deputy"),
            services=(Service("unused", UnixAddress("/unused")),),
            run_directory=self.directory,
            sds_socket=made.path,
        )

    # ---- the two sides, with the TLS sockets that the product renders

    def start_server(
        self,
        made: SecretSocket,
        roots: str,
        peer: Mapping[str, str],
        *,
        san_type: str = "URI",
        **options: Any,
    ) -> EnvoyProcess:
        """An Envoy that answers who passes its mTLS."""
        settings = self.settings(made)
        socket = tls(
            "DownstreamTlsContext",
            roots,
            dict(peer),
            least="TLSv1_3",
            protocols=["http/1.1"],
            require_client_certificate=True,
            disable_stateless_session_resumption=True,
            disable_stateful_session_resumption=True,
        )
        context: Any = socket["typed_config"]
        matchers = context["common_tls_context"]["combined_validation_context"]["default_validation_context"]
        matchers["match_typed_subject_alt_names"][0]["san_type"] = san_type
        route = {
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": "in"}},
        }
        return self.start(
            {
                "node": {"id": "server", "cluster": "server"},
                "static_resources": {
                    "listeners": [_listener(settings, route, transport_socket=socket)],
                    "clusters": [secrets_cluster(settings)],
                },
            },
            **options,
        )

    def start_client(
        self, made: SecretSocket, server_port: int, roots: str, peer: Mapping[str, str], **options: Any
    ) -> EnvoyProcess:
        """An Envoy that passes plain HTTP on over mTLS, each request with a handshake of its own."""
        settings = self.settings(made)
        socket = tls(
            "UpstreamTlsContext",
            roots,
            dict(peer),
            least="TLSv1_3",
            protocols=["http/1.1"],
            max_session_keys=0,
        )
        http_options = {
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
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http_options
            },
        }
        route: Json = {"match": {"prefix": "/"}, "route": {"cluster": "server"}}
        return self.start(
            {
                "node": {"id": "client", "cluster": "client"},
                "static_resources": {
                    "listeners": [_listener(settings, route)],
                    "clusters": [secrets_cluster(settings), cluster],
                },
            },
            **options,
        )

    def close(self) -> None:
        for envoy in self.envoys:
            envoy.stop()
        self.loop.run(self.server.close())
        self.loop.close()
        for domain in self.domains.values():
            domain.live.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _now() -> datetime:
    return datetime.now(UTC)


def until(is_so: Callable[[], bool], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen")
        time.sleep(0.02)


def get(port: int) -> int:
    """The status of one request, on a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()


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
