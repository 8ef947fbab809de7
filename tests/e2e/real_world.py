"""Other people's servers behind a real Envoy, the real flow and the real policy, and the way to each without.

- A server is a process on a port of 127.0.0.1; what it offers stands in the grants, all but one thing.
- gRPC has no prefix in its paths, so its server is found by its host, `<name>.local`.
- Who cannot send our credentials goes through a forwarder: a second Envoy, which shows certificate and token
  of the tests' agent and changes nothing else.
- A server whose packages are not there is not started, and its tests do not run.
"""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from authz.address import TcpAddress
from authz.mesh.envoy import render
from authz.mesh.envoy_listener import LISTENER
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import Service as EnvoyService
from authz.policy.grants import Grants
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.caller import WorkloadBinding
from tests.conftest import ROOT, missing_part
from tests.e2e.ca import Leaf
from tests.e2e.envoy_world import World, world
from tests.e2e.file_secrets import from_files
from tests.e2e.flow_mesh import Deputy
from tests.e2e.services import environment, free_ports, until
from tests.fakes import LEAD, RUNNER
from tests.readers import node_binary

PACKAGES: Final = ROOT / ".cache/node/node_modules"
PEERS: Final = ROOT / ".cache/peers/bin/python"
PYTHON: Final = ROOT / ".venv/bin/python"
SCOPES: Final = ("read", "write")
Command = list[str | Path]


@dataclass(frozen=True, eq=False)
class Server:
    """One of other people's servers: how to start it on a port, and what callers may do there."""

    name: str
    command: Callable[[int], Command]
    grants: Mapping[str, Any]
    protocol: Literal["mcp", "a2a"] = "mcp"
    is_grpc: bool = False
    # Whether its answers go through Deputy as well.
    is_guarded: bool = True


def javascript(*parts: str | Path) -> Command:
    """Return a command of Node, whose packages must be there."""
    if not (PACKAGES / "@modelcontextprotocol/conformance").is_dir():
        missing_part("no JavaScript packages: 'make test-full' installs them, with npm, beside Node")
    return [node_binary(), *parts]


def peers(*parts: str | Path) -> Command:
    """Return a command of the Python that has other people's packages."""
    if not PEERS.exists():
        missing_part("no mcp 1.x and no SDK of A2A: 'make test' gets them, from PyPI")
    return [PEERS, *parts]


class RealWorld:
    """The servers, the Envoy before them, and what a client needs."""

    def __init__(self, envoys: World, deputy: Deputy, servers: Mapping[Server, int]) -> None:
        self.ports = {server.name: port for server, port in servers.items()}
        self._envoys, self._flow = envoys, deputy.flow_world
        services = tuple(_behind(server, port) for server, port in servers.items())
        settings = replace(envoys.settings(deputy.start()), services=services)
        secrets = envoys.write_secrets(envoys.ca)
        envoy = EnvoyProcess.start(from_files(render(settings), secrets), settings.run_directory)
        envoys.envoys.append(envoy)
        self.port = envoy.port(LISTENER)
        self.leaf = envoys.ca.issue(str(RUNNER))
        self.files = _write_tls(envoys.directory, self.leaf, envoys.ca.bundle)

    def token(self, service: str) -> str:
        """What the agent shows: a delegation token for one service."""
        return self._flow.token(
            self._flow.run("resolver", LEAD),
            binding=WorkloadBinding(RUNNER),
            audience=f"https://{service}.mesh.example",
            human=LEAD,
            scopes=frozenset(f"{service}:{scope}" for scope in SCOPES),
        )

    def direct(self, service: str) -> str:
        """Return the URL of a server itself, without its path."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def through(self, service: str) -> str:
        """Return its URL at Envoy."""
        return f"https://localhost:{self.port}/{service}"

    def plain(self, service: str) -> dict[str, Any]:
        """What a program needs to ask the server itself, which asks nobody who calls."""
        return {"url": self.direct(service), "grpc": f"127.0.0.1:{self.ports[service]}"}

    def access(self, service: str) -> dict[str, Any]:
        """What a program needs to be the agent: where, with which token, and which files for TLS."""
        grpc = {"grpc": f"localhost:{self.port}", "host": f"{service}.local"}
        return {"url": self.through(service), "token": self.token(service), "tls": self.files, **grpc}

    def forwarder(self, service: str) -> str:
        """Start a forwarder to a service at Envoy, and return its URL, which looks like that of a server."""
        number = len(self._envoys.envoys)
        directory = self._envoys.directory / f"forwarder{number}"
        configuration = _forwarder(directory, self.port, service, self.token(service), self.files)
        envoy = EnvoyProcess.start(configuration, directory)
        self._envoys.envoys.append(envoy)
        return f"http://127.0.0.1:{envoy.port('forwarder')}"


def _behind(server: Server, port: int) -> EnvoyService:
    address = TcpAddress("127.0.0.1", port)
    if server.is_grpc:
        return EnvoyService(
            server.name, address, f"{server.name}.local", "grpc_whole", is_guarded=server.is_guarded
        )
    return EnvoyService(server.name, address, f"127.0.0.1:{port}", is_guarded=server.is_guarded)


def _write_tls(directory: Path, leaf: Leaf, roots: bytes) -> dict[str, str]:
    found = {}
    for name, data in (("ca", roots), ("cert", leaf.certificate), ("key", leaf.key)):
        path = directory / f"agent-{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(data)
        found[name] = str(path)
    return found


_TYPES: Final = "type.googleapis.com/envoy."


def _forwarder(
    directory: Path, port: int, service: str, token: str, files: Mapping[str, str]
) -> dict[str, Any]:
    """An Envoy that is a client: plain HTTP in, our credentials added, TLS out; Host and all else stay."""
    router = {"@type": f"{_TYPES}extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    bearer = {"header": {"key": "authorization", "value": f"Bearer {token}"}}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": "gateway", "prefix_rewrite": f"/{service}/", "timeout": "0s"},
        "request_headers_to_add": [bearer],
    }
    manager = {
        "@type": f"{_TYPES}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "forwarder",
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    tls = {
        "@type": f"{_TYPES}extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "localhost",
        "common_tls_context": {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": files["cert"]},
                    "private_key": {"filename": files["key"]},
                }
            ],
            "validation_context": {"trusted_ca": {"filename": files["ca"]}},
        },
    }
    cluster = {
        "name": "gateway",
        "load_assignment": {
            "cluster_name": "gateway",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    listener = {
        "name": "forwarder",
        "address": _address(0),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "node": {"id": "forwarder", "cluster": "forwarder"},
        "admin": {"address": {"pipe": {"path": str(directory / "admin.sock"), "mode": 0o600}}},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _grants(servers: tuple[Server, ...]) -> Grants:
    services = {server.name: server.grants for server in servers}
    document = {
        "version": 1,
        "tiers": {"contributor": {"allow": list(SCOPES)}},
        "services": services,
        "humans": {"groups": {"lead": {name: list(SCOPES) for name in services}}},
        "agents": {"resolver": {"tier": "contributor", "services": list(services)}},
    }
    return Grants.parse(json.dumps(document).encode())


def _known(servers: tuple[Server, ...]) -> Services:
    return Services.of(tuple(map(_service, servers)), (), None)


def _service(server: Server) -> Service:
    # Envoy shows Deputy the path as the client asked for it: the agent is below its prefix.
    paths = [f"/{server.name}"] if server.protocol == "a2a" and not server.is_grpc else []
    route = Route(server.name, server.protocol, paths=frozenset(paths))
    audience = f"https://{server.name}.mesh.example"
    return Service(server.name, audience, route, is_guarded=server.is_guarded)


@contextmanager
def _running(servers: tuple[Server, ...], log: Path) -> Iterator[dict[Server, int]]:
    """Start each on a free port of its own, and kill those that were started."""
    ports = free_ports(len(servers))
    made: list[subprocess.Popen[bytes]] = []
    try:
        for server, port in zip(servers, ports, strict=True):
            surroundings = environment(NODE_PATH=str(PACKAGES), PORT=str(port))
            with log.open("ab") as out:
                process = subprocess.Popen(
                    server.command(port), env=surroundings, stdin=subprocess.DEVNULL, stdout=out, stderr=out
                )
            made.append(process)
        for port in ports:
            until(lambda port=port: _listens(port), why=lambda: log.read_text("utf-8", "replace")[-3000:])  # type: ignore[misc]  # mypy does not infer a default
        yield dict(zip(servers, ports, strict=True))
    finally:
        for process in made:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def real_world(*servers: Server) -> Iterator[RealWorld]:
    """Run all of it, and end it with the block."""
    # Looked for before anything starts: what is missing ends the test here.
    for server in servers:
        server.command(0)
    with world() as envoys, _running(servers, envoys.directory / "servers.log") as ports:
        deputy = Deputy(envoys, _known(servers), _grants(servers))
        try:
            yield RealWorld(envoys, deputy, ports)
        finally:
            deputy.stop()
