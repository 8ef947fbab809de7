"""`deputy serve --dev`: a service on the loopback, with all that one needs to try it.

- Nothing is asked: a directory of mode 0700 gets a configuration, grants and an Envoy's configuration.
- What is there already is used as it is, so that edits survive.
- Envoy and the runner of agents have a socket each, from which they take their identities.
- It listens on the loopback or on Unix sockets and nowhere else, whatever the configuration says by now.
"""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import yaml

from authz.address import TcpAddress, parse_address
from authz.config import Config, load_config
from authz.errors import ConfigError
from authz.identity_parts import DEPUTY_PATH
from authz.identity_service.doors import TASK_SOCKETS
from authz.identity_service.task_sockets import NAME, RANDOM_BYTES
from authz.mesh.envoy import render
from authz.mesh.envoy_process import write_private
from authz.mesh.settings import EnvoySettings, Service
from authz.serve import serve
from authz.store.private import private_directory
from identity.spiffe import SpiffeId, TrustDomain
from identity.unix_socket import MAX_PATH

ENVOY_LISTEN: Final = TcpAddress("127.0.0.1", 8443)
# The first service's upstream; the next ones follow.
FIRST_UPSTREAM: Final = 8081

_CONFIG: Final = """\
# Written once by `deputy serve --dev`, then yours: edit it and start again.
# docs/reference/configuration.md describes each key; `deputy config validate` checks them.
trust_domain: mesh.example
data_dir: data

check:
  listen: 127.0.0.1:9191
  callers:
    - id: spiffe://mesh.example/ns/mesh/sa/gateway
      may_ask: [tickets, billing]

broker:
  issuer: https://broker.mesh.example
  listen: 127.0.0.1:9192
  names: [localhost]

policy:
  grants: grants.yaml

services:
  tickets: {{audience: https://tickets.mesh.example}}
  billing: {{audience: https://billing.mesh.example}}

# People sign in at your OpenID Provider. Until there is one, agents can only act for nobody.
# `audiences` are the applications that they sign in with. An ID token counts for an agent only where its
# application is a client of that agent (`clients` below), and an agent acts for a person only where that
# person let it: `deputy grants create`, signed in to an application that is no agent's (console).
# providers:
#   - issuer: http://127.0.0.1:8080
#     audiences: [runner, console]
#     allow_loopback: true

# Who takes an identity from which socket. Who can reach a socket of its own is that workload.
identity:{task_sockets}
  workloads:
    - id: spiffe://mesh.example/ns/mesh/sa/gateway
      socket: {gateway}
      dns_names: [localhost]
    - id: spiffe://mesh.example/ns/agents/sa/runner
      socket: {runner}

agents:
  - name: triage
    owner: support-team
    sponsor: head-of-support
    purpose: sorts and reads tickets
    ceiling: observer
    # clients: [{{issuer: http://127.0.0.1:8080, id: runner}}]
    hosts: [spiffe://mesh.example/ns/agents/sa/runner]
  - name: resolver
    owner: support-team
    sponsor: head-of-support
    purpose: resolves tickets
    ceiling: contributor
    # clients: [{{issuer: http://127.0.0.1:8080, id: runner}}]
    hosts: [spiffe://mesh.example/ns/agents/sa/runner]
  - name: nightly-report
    owner: support-team
    sponsor: head-of-support
    purpose: counts tickets at night, for nobody in particular
    ceiling: observer
    autonomous: true
    hosts: [spiffe://mesh.example/ns/agents/sa/runner]
"""
_ENVOY_HEAD: Final = (
    "# Written once by `deputy serve --dev`, then yours: change the ports of your services in `clusters`.\n"
)


@dataclass(frozen=True, slots=True)
class Dev:
    """A prepared directory, and the configuration in it."""

    directory: Path
    config: Config

    @classmethod
    def prepare(cls, directory: Path) -> "Dev":
        """Write what is missing.

        Raises:
            AuthzError: if the directory is not ours, or what is in it is wrong.
            IdentityError: if the keys in it are not what they should be.
        """
        directory = directory.absolute()
        private_directory(directory)
        path = directory / "deputy.yaml"
        if not path.exists():
            if any(directory.iterdir()):
                raise ConfigError(
                    f"{str(directory)!r} is not empty and not of an earlier 'serve --dev': "
                    "name another --directory"
                )
            write_private(path, _configuration(directory).encode())
        grants = directory / "grants.yaml"
        if not grants.exists():
            write_private(grants, (resources.files("authz.demo") / "grants.yaml").read_bytes())
        config = load_config(path)
        _require_loopback(config)
        private_directory(config.data_dir)
        dev = cls(directory, config)
        if dev.inside and not dev.envoy_file.exists():
            private_directory(dev.envoy_file.parent)
            text = yaml.safe_dump(render(dev.envoy_settings()), sort_keys=False, width=110)
            write_private(dev.envoy_file, (_ENVOY_HEAD + text).encode())
        return dev

    @property
    def envoy_file(self) -> Path:
        """The configuration of an Envoy in front of the services."""
        return self.directory / "envoy" / "envoy.yaml"

    @property
    def inside(self) -> tuple[str, ...]:
        """The services behind that Envoy; the others have one of their own (docs/how-to/guard-egress.md)."""
        return tuple(name for name, service in self.config.services.items() if service.txn != "none")

    def envoy_settings(self) -> EnvoySettings:
        """Return what that Envoy is like: mTLS on the loopback, each service on a port of its own behind it.

        Raises:
            ConfigError: if the directory's path is too long for a socket in it.
        """
        upstreams = {name: FIRST_UPSTREAM + at for at, name in enumerate(self.inside)}
        services = self.config.services
        trust_domain = TrustDomain.parse(self.config.trust_domain)
        settings = EnvoySettings(
            trust_domain=trust_domain,
            listen=ENVOY_LISTEN,
            deputy=(parse_address(self.config.check.listen),),
            deputy_id=SpiffeId(trust_domain, DEPUTY_PATH),
            services=tuple(
                Service(
                    name,
                    TcpAddress("127.0.0.1", port),
                    # What speaks gRPC is told apart by its host, for its paths are its own.
                    f"{name}.localhost" if services[name].protocol == "grpc" else f"localhost:{port}",
                    "grpc" if services[name].protocol == "grpc" else "http",
                    is_guarded=services[name].answers == "guarded",
                )
                for name, port in upstreams.items()
            ),
            sds_socket=gateway_socket(self.directory),
            run_directory=self.directory / "envoy",
            passes_on=any(service.workloads for service in self.config.services.values()),
        )
        parse_address(f"unix://{settings.admin_socket}")
        return settings

    async def serve(self, ready: Callable[[], None]) -> None:
        """Run until SIGTERM or SIGINT.

        Raises:
            AuthzError: if something is missing or cannot be had; nothing listens then.
        """
        await serve(self.config, ready)


def gateway_socket(directory: Path) -> Path:
    """Return where Envoy takes its identity."""
    return directory / "run" / "gateway.sock"


def runner_socket(directory: Path) -> Path:
    """Return where the runner of agents takes its identity, and starts tasks."""
    return directory / "run" / "runner.sock"


def _configuration(directory: Path) -> str:
    # The kernel allows no long paths for sockets, and those of tasks have random names.
    longest = directory / "data" / TASK_SOCKETS / ("0" * 2 * RANDOM_BYTES) / NAME
    short = len(os.fsencode(longest)) <= MAX_PATH
    tasks = "" if short else f"\n  task_sockets: {json.dumps(tempfile.mkdtemp(prefix='deputy-'))}"
    return _CONFIG.format(
        task_sockets=tasks,
        # JSON is YAML, whatever the name of the directory.
        gateway=json.dumps(f"unix://{gateway_socket(directory)}"),
        runner=json.dumps(f"unix://{runner_socket(directory)}"),
    )


def _require_loopback(config: Config) -> None:
    listening = {"check.listen": config.check.listen, "broker.listen": config.broker.listen}
    if config.identity.bundle_endpoint is not None:
        listening["identity.bundle_endpoint.listen"] = config.identity.bundle_endpoint.listen
    for key, text in listening.items():
        address = parse_address(text)
        if isinstance(address, TcpAddress) and not address.is_loopback:
            raise ConfigError(
                f"{key}: --dev listens on this machine only, and {text!r} is not 127.0.0.1 or [::1]; "
                "for others, start it with 'deputy serve --config'"
            )
