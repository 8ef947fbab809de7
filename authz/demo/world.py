"""The demo's world: every part a process of its own, real and wired as an operator would.

- OpenID Provider, two MCP servers, Deputy, OPA where asked for, and Envoy in front of the servers.
- Identities of the mesh (Envoy, the agents' runner, another workload) come from Deputy's sockets, one each:
  Envoy takes its own by SDS, the others theirs by the Workload API. None of them is ever on disk.
- Tool servers listen on Unix sockets in a private directory: there is no way round Envoy.
- All files are in one directory; all processes end with the world.
"""

import asyncio
import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import httpx2

from authz.address import UnixAddress, parse_address
from authz.administration.place import API_SOCKET
from authz.audit.filter import Filter
from authz.audit.read import find, latest
from authz.config import Config, load_config
from authz.demo.agents import Places, Runner
from authz.demo.identity import Identity
from authz.demo.operator import Operator
from authz.demo.people import GRANTS, GrantRequest
from authz.demo.people import Grants as GrantsOfPeople
from authz.demo.processes import POLL_SECONDS, Process, ProcessError, Running
from authz.demo.provider import PROVIDER_FILE
from authz.demo.signin import CONSOLE_CLIENT, RUNNER_CLIENT, SignIn
from authz.errors import ConfigError
from authz.identity_parts import DEPUTY_PATH
from authz.mesh.envoy import LISTENER, render
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings
from authz.mesh.settings import Service as EnvoyService
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.policy.opa_process import OpaProcess, start_opa
from authz.policy.revision import Revision
from identity.spiffe import SpiffeId, TrustDomain

HERE = Path(__file__).parent
SERVICES = ("tickets", "billing")
OPA_POLICY = "  engine: opa\n  grants: grants.yaml\n  opa: {{url: 'unix://{socket}'}}"
CLERKS = "clerk: {tickets: [read, write]}"
CLERKS_WITH_BILLING = "clerk: {tickets: [read, write], billing: [read, write]}"
RELOAD_POLLS = 200
MARKER = ".deputy-demo"
SOCKET = "api.sock"
EMBEDDED_POLICY = "  engine: embedded\n  grants: grants.yaml"

Say = Callable[[str], None]


@dataclass(slots=True)
class DemoWorld:
    """The running parts, as the scenario needs them."""

    directory: Path
    config: Config
    sign_ins: SignIn
    runner: Runner
    stranger: Runner
    deputy: Process
    envoy: EnvoyProcess
    running: Running = field(default_factory=Running)
    opa: "OpaSeat | None" = None

    async def sign_in(self, account: str, client: str = RUNNER_CLIENT) -> str:
        """Sign a human in; return their ID token."""
        return await self.sign_ins.id_token(account, client)

    def audience(self, service: str) -> str:
        """Return the audience of a service's tokens."""
        return self.config.services[service].audience

    def human_uri(self, account: str) -> str:
        """Return the `sub` of a human's tokens."""
        return self.sign_ins.human(account).uri

    async def lend_billing_to_clerks(self, *, lent: bool) -> None:
        """Change the grants while everything runs, and wait until they count."""
        text = (HERE / "grants.yaml").read_text(encoding="utf-8")
        await self.set_grants(text.replace(CLERKS, CLERKS_WITH_BILLING) if lent else text)

    async def set_grants(self, text: str) -> None:
        """Write other grants, and wait until the log says that they speak."""
        wanted = Grants.parse(text.encode()).digest
        self.config.policy.grants.write_text(text, encoding="utf-8")
        for _ in range(RELOAD_POLLS):
            spoken = latest(self.audit_directory, Filter(kinds=frozenset({"policy"})), 1)
            if spoken and Revision.is_of_data(str(spoken[0].members["policy"]), wanted):
                return
            await asyncio.sleep(POLL_SECONDS)
        raise ProcessError("the changed grants do not count: see deputy.log")

    def record(self, decision: str) -> dict[str, Any] | None:
        """Return the audit record of a decision."""
        found = find(self.audit_directory, decision) if decision else ()
        return dict(found[0].members) if found else None

    def upstream(self, decision: str) -> dict[str, Any] | None:
        """Return what the tool server saw of an allowed call."""
        for service in SERVICES:
            for line in (self.directory / service / "upstream.jsonl").read_text().splitlines():
                seen: dict[str, Any] = json.loads(line)
                if (seen["transaction"] or {}).get("tctx", {}).get("decision_id") == decision:
                    return seen
        return None

    @property
    def grants_of_people(self) -> GrantsOfPeople:
        """Where people say which agent may act for them."""
        return GrantsOfPeople(self.runner.places.broker, self.runner.identity.roots)

    async def let(self, account: str, grant: GrantRequest) -> str:
        """Let a person make a grant; return its id."""
        return await self.grants_of_people.create(await self.sign_in(account, CONSOLE_CLIENT), grant)

    async def revoke(self, account: str, grant: str) -> None:
        """Let a person revoke a grant of theirs."""
        await self.grants_of_people.revoke(await self.sign_in(account, CONSOLE_CLIENT), grant)

    async def contain(self, agent: str) -> None:
        """Stop an agent, as the operator of the service."""
        await self.operator.contain(agent, "it reads tickets that nobody asked for")

    async def release(self, agent: str) -> None:
        """Let a contained agent act again."""
        await self.operator.release(agent, "repaired")

    @property
    def operator(self) -> Operator:
        """Who may stop agents."""
        return Operator(self.config.data_dir / API_SOCKET)

    @property
    def audit_directory(self) -> Path:
        """Where Deputy's audit log is."""
        return self.config.data_dir / "audit"

    @property
    def has_opa(self) -> bool:
        """Say whether a real OPA decides."""
        return self.opa is not None

    async def stop_opa(self) -> None:
        """Stop OPA."""
        if self.opa is not None:
            self.opa.stop()

    async def start_opa(self) -> None:
        """Start OPA again, and wait until Deputy is ready."""
        if self.opa is not None:
            self.opa.start()
            await _until_ready(self.runner)


@dataclass(slots=True)
class OpaSeat:
    """Where one OPA runs after the other."""

    binary: Path
    directory: Path
    process: OpaProcess | None = None

    def start(self) -> None:
        """Start one, in place of the one before."""
        self.stop()
        self.process = start_opa(self.binary, self.directory, shipped_modules())

    def stop(self) -> None:
        """Stop the one that runs."""
        if self.process is not None:
            self.process.stop()


@asynccontextmanager
async def start_world(directory: Path, opa_binary: Path | None, say: Say) -> AsyncIterator[DemoWorld]:
    """Start everything in an empty directory, and end it on the way out.

    Raises:
        ConfigError: if a part cannot be started; the message holds the end of its log.
    """
    running = Running()
    try:
        yield await _start(directory, opa_binary, say, running)
    finally:
        running.stop()


def clean_directory(directory: Path) -> Path:
    """Empty the directory of an earlier run and claim it for this process; any other directory is left alone.

    Raises:
        ConfigError: if the directory holds something else than a demo, or a demo that runs.
    """
    marker = directory / MARKER
    if directory.exists() and any(directory.iterdir()) and not marker.exists():
        raise ConfigError(f"{str(directory)!r} is not empty and not of an earlier demo: name another one")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Never closed: the claim ends with the process, however that ends.
    claim = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(claim)
        raise ConfigError(
            f"a demo runs in {str(directory)!r}: end it, or name another --directory"
        ) from error
    for entry in directory.iterdir():
        if entry.name == MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return directory.resolve()


async def _start(directory: Path, opa_binary: Path | None, say: Say, running: Running) -> DemoWorld:
    say("starting the OpenID Provider")
    sign_ins = await _start_provider(directory, running)
    opa = None
    if opa_binary is not None:
        say("starting OPA")
        opa = OpaSeat(opa_binary, directory / "opa")
        running.add(opa.stop)
        opa.start()
    sockets = Path(tempfile.mkdtemp(prefix="deputy-"))
    running.add(lambda: shutil.rmtree(sockets, ignore_errors=True))
    config = _write_config(directory, sign_ins, sockets, with_opa=opa is not None)
    say("starting Deputy")
    deputy = Process.python("deputy", directory, "authz", "serve", "--config", str(directory / "deputy.yaml"))
    running.add(deputy.stop)
    await deputy.ready(lambda: asyncio.to_thread((sockets / "stranger" / SOCKET).exists))
    identities = [await _open(sockets / name / SOCKET, running) for name in ("runner", "stranger")]
    places = Places(f"https://localhost:{config.broker.listen.rpartition(':')[2]}", "")
    runner = Runner(identities[0], places)
    await deputy.ready(lambda: _is_ready(runner))
    say("starting the MCP servers")
    await _start_tools(directory, config, runner, running)
    say("starting Envoy")
    settings = _envoy_settings(directory, config, sockets / "gateway" / SOCKET)
    envoy = EnvoyProcess.start(render(settings), directory / "envoy")
    running.add(envoy.stop)
    places = Places(places.broker, f"https://localhost:{envoy.port(LISTENER)}")
    runner, stranger = (Runner(identity, places) for identity in identities)
    running.add(runner.close)
    world = DemoWorld(
        directory=directory,
        config=config,
        sign_ins=sign_ins,
        runner=runner,
        stranger=stranger,
        deputy=deputy,
        envoy=envoy,
        running=running,
        opa=opa,
    )
    say("people say which agent may act for them")
    for account, grants in GRANTS.items():
        for grant in grants:
            await world.let(account, grant)
    return world


async def _open(socket: Path, running: Running) -> Identity:
    identity = await Identity.open(f"unix://{socket}")
    running.add(identity.close)
    return identity


async def _start_provider(directory: Path, running: Running) -> SignIn:
    home = directory / "provider"
    home.mkdir(mode=0o700)
    clients = ("--client", RUNNER_CLIENT, "--client", CONSOLE_CLIENT)
    process = Process.python("provider", directory, "authz.demo.provider", "--directory", str(home), *clients)
    running.add(process.stop)

    async def serves() -> bool:
        return (home / PROVIDER_FILE).exists()

    await process.ready(serves)
    return SignIn.read(home)


async def _start_tools(directory: Path, config: Config, runner: Runner, running: Running) -> None:
    jwks = directory / "broker-jwks.json"
    async with httpx2.AsyncClient(verify=runner.identity.tls(), trust_env=False) as client:
        jwks.write_bytes((await client.get(f"{runner.places.broker}/jwks")).raise_for_status().content)
    for service in SERVICES:
        home = directory / service
        home.mkdir(mode=0o700)
        (home / "upstream.jsonl").touch()
        command = [service, "--socket", str(home / "mcp.sock"), "--jwks", str(jwks)]
        command += ["--issuer", config.broker.issuer, "--trust-domain", config.trust_domain]
        process = Process.python(service, directory, "authz.demo.tools", *command)
        running.add(process.stop)

        async def serves(home: Path = home) -> bool:
            return (home / "mcp.sock").exists()

        await process.ready(serves)


def _write_config(directory: Path, sign_ins: SignIn, sockets: Path, *, with_opa: bool) -> Config:
    shutil.copy(HERE / "grants.yaml", directory / "grants.yaml")
    policy = OPA_POLICY.format(socket=_opa_socket(directory)) if with_opa else EMBEDDED_POLICY
    ports = _free_ports(2)
    text = Template((HERE / "deputy.yaml").read_text(encoding="utf-8")).safe_substitute(
        check_port=ports[0],
        broker_port=ports[1],
        provider=sign_ins.issuer,
        policy=policy,
        sockets=sockets,
    )
    path = directory / "deputy.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def _envoy_settings(directory: Path, config: Config, secrets: Path) -> EnvoySettings:
    trust_domain = TrustDomain.parse(config.trust_domain)
    services = tuple(
        EnvoyService(
            name,
            UnixAddress(str(directory / name / "mcp.sock")),
            name,
            is_guarded=config.services[name].answers == "guarded",
        )
        for name in SERVICES
    )
    return EnvoySettings(
        trust_domain=trust_domain,
        listen=parse_address("127.0.0.1:0"),
        deputy=(parse_address(config.check.listen),),
        deputy_id=SpiffeId(trust_domain, DEPUTY_PATH),
        services=services,
        sds_socket=secrets,
        run_directory=directory / "envoy",
    )


async def _is_ready(runner: Runner) -> bool:
    try:
        async with httpx2.AsyncClient(verify=runner.identity.tls(), trust_env=False) as client:
            return (await client.get(f"{runner.places.broker}/healthz")).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


async def _until_ready(runner: Runner) -> None:
    for _ in range(100):
        if await _is_ready(runner):
            return
        await asyncio.sleep(POLL_SECONDS)


def _opa_socket(directory: Path) -> Path:
    return directory / "opa" / "opa.sock"


def _free_ports(count: int) -> list[int]:
    """Ask the kernel for ports that nobody uses now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
