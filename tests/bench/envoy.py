"""What an authorizer adds to a call through a real Envoy, at one connection.

- Three arms: nobody is asked, the no-op, the full flow.
- Three Envoys with the shipped configuration; one of them has no ext_authz filter.
- mTLS from the agent to Envoy and from Envoy to Deputy, with identities of Deputy's own authority.
- The arms take turns; each call has other arguments, and the same connection as the one before.
"""

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from authz.address import TcpAddress, UnixAddress, parse_address
from authz.identity_parts import DEPUTY_PATH
from authz.mesh.envoy import LISTENER, render
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings, Service
from identity.spiffe import SpiffeId
from tests.bench.grants import SERVICE
from tests.bench.measure import percentile
from tests.bench.messages import Peer
from tests.bench.place import DOMAIN, body, headers
from tests.e2e.file_secrets import from_files, write_secrets

NOBODY = "no authorizer"
TURN = 20


@dataclass(frozen=True, slots=True)
class Latency:
    """Microseconds of a call, from the agent and back."""

    calls: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's connection to one Envoy."""

    connection: HTTPSConnection
    token: str

    def call(self, number: int) -> float:
        data = body(number)
        start = time.perf_counter()
        self.connection.putrequest("POST", f"/{SERVICE}/mcp", skip_accept_encoding=True)
        for name, value in headers(self.token):
            if not name.startswith("x-forwarded"):
                self.connection.putheader(name, value)
        self.connection.putheader("content-length", str(len(data)))
        self.connection.endheaders(data)
        response = self.connection.getresponse()
        answer = response.read()
        taken = time.perf_counter() - start
        if response.status != 200 or b"result" not in answer:
            raise RuntimeError(f"a call through Envoy ended with {response.status}: {answer[:300]!r}")
        return taken * 1e6


def measure_latencies(directory: Path, arms: Mapping[str, Any], *, calls: int) -> dict[str, Latency]:
    """Time calls through Envoy; `arms` are those of the server, over mTLS."""
    with ExitStack() as stack:
        upstream = directory / "upstream.sock"
        stack.enter_context(Peer.start("tests.bench.upstream", str(upstream))).read()
        home = Path(arms["noop-tls"]["tls"])
        agents = {
            name: _agent(stack, directory / f"envoy-{at}", upstream, home, target)
            for at, (name, target) in enumerate(_targets(arms))
        }
        times: dict[str, list[float]] = {name: [] for name in agents}
        for start in range(0, calls, TURN):
            for name, agent in agents.items():
                times[name] += [agent.call(number) for number in range(start, start + TURN)]
    # The first turn opens connections and fills caches.
    return {
        name: Latency(len(found) - TURN, percentile(found[TURN:], 50), percentile(found[TURN:], 99))
        for name, found in times.items()
    }


def _targets(arms: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    yield NOBODY, None
    for name in ("noop-tls", "full-tls"):
        yield name.removesuffix("-tls"), arms[name]["target"]


def _agent(stack: ExitStack, directory: Path, upstream: Path, home: Path, target: str | None) -> Agent:
    directory.mkdir(mode=0o700)
    settings = EnvoySettings(
        trust_domain=DOMAIN,
        listen=TcpAddress("127.0.0.1", 0),
        deputy=(parse_address(target or "127.0.0.1:1"),),
        deputy_id=SpiffeId(DOMAIN, DEPUTY_PATH),
        services=(Service(SERVICE, UnixAddress(str(upstream))),),
        run_directory=directory,
        sds_socket=directory / "nobody.sock",
    )
    files = [(home / f"{name}.pem").read_bytes() for name in ("chain", "key", "roots")]
    write_secrets(directory / "secrets", DOMAIN.name, *files)
    rendered = from_files(render(settings), directory / "secrets")
    configuration = rendered if target else without_authorizer(rendered)
    envoy = stack.enter_context(EnvoyProcess.start(configuration, directory))
    context = ssl.create_default_context(cafile=str(home / "roots.pem"))
    context.load_cert_chain(home / "agent-chain.pem", home / "agent-key.pem")
    connection = HTTPSConnection("localhost", envoy.port(LISTENER), context=context, timeout=10)
    stack.callback(connection.close)
    return Agent(connection, (home / "token").read_text())


def without_authorizer(configuration: dict[str, Any]) -> dict[str, Any]:
    """Take the ext_authz filter out of a configuration of ours."""
    for listener in configuration["static_resources"]["listeners"]:
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = [
            each for each in manager["http_filters"] if "ext_authz" not in each["name"]
        ]
        for host in manager["route_config"]["virtual_hosts"]:
            for route in host["routes"]:
                route.pop("typed_per_filter_config", None)
    return configuration
