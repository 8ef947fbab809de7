"""Whole services that people sign in to: a provider, a `deputy serve`, tasks, grants, and token requests.

- The issuer of a service is where it listens, so that what its documents name can be followed.
- Agents have their identity from their own socket, by PyPI `spiffe`; requests go by `httpx2` over TLS.
"""

import asyncio
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import httpx2
from cryptography.hazmat.primitives import serialization

from authz.address import TcpAddress, UnixAddress
from authz.broker.token_request import GRANT_TYPE, ID_TOKEN, JWT_SPIFFE
from authz.demo.processes import Process
from authz.demo.provider import PROVIDER_FILE
from authz.demo.signin import RUNNER_CLIENT, SignIn
from authz.mesh.envoy import render
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings
from authz.mesh.settings import Service as EnvoyService
from authz.pb import ext_authz_pb2
from identity.pb import task_pb2 as pb
from identity.spiffe import SpiffeId, TrustDomain
from tests.bench.load import METHOD
from tests.check_requests import MCP_HEADERS, check_request
from tests.e2e.callers import READ, Caller, TaskClient, port_of
from tests.e2e.services import SECONDS, Config, Service, environment, running, until
from tests.fakes import reason

SHORT_LIVED = "short-lived"
# Where people manage what their agents may do: an application of no agent.
CONSOLE = "console"
GATEWAY, RUNNER, WEB = "/ns/mesh/sa/gateway", "/ns/agents/sa/runner", "/ns/shop/sa/web"
SCOPES = ("tickets:read", "tickets:write")
_PEM = serialization.Encoding.PEM


@contextmanager
def provider() -> Iterator[SignIn]:
    """The demo's OpenID Provider, where `lead` and `clerk` sign in."""
    home = Path(tempfile.mkdtemp(prefix="deputy-idp-"))
    command = ["authz.demo.provider", "--directory", str(home)]
    command += ["--client", RUNNER_CLIENT, "--client", CONSOLE]
    process = Process.python("provider", home, *command)
    try:
        until((home / PROVIDER_FILE).exists, why=process.log_end)
        yield SignIn.read(home)
    finally:
        process.stop()
        shutil.rmtree(home, ignore_errors=True)


def sign_in(people: SignIn, account: str = "lead", client: str = RUNNER_CLIENT) -> str:
    """Sign somebody in; return their ID token."""
    return asyncio.run(people.id_token(account, client))


def peopled(name: str, people: SignIn, **more: Config) -> Service:
    """A service that the provider's people use; `more` adds to its sections."""
    service = Service(name)

    def agent(agent_name: str, ceiling: str) -> Config:
        about = {"name": agent_name, "owner": "support", "sponsor": "support", "purpose": "tickets"}
        clients = [{"issuer": people.issuer, "id": each} for each in (RUNNER_CLIENT, SHORT_LIVED)]
        return {**about, "ceiling": ceiling, "clients": clients, "hosts": [service.id(RUNNER)]}

    sockets = {"gateway": GATEWAY, "runner": RUNNER, "web": WEB}
    known = [RUNNER_CLIENT, SHORT_LIVED, CONSOLE]
    config: Config = {
        "check": {"callers": [{"id": service.id(GATEWAY), "may_ask": ["tickets", "billing"]}]},
        "broker": {"issuer": f"https://localhost:{service.broker_port}"},
        "services": {each: {"audience": audience(service, each)} for each in ("tickets", "billing")},
        "providers": [{"issuer": people.issuer, "audiences": known, "allow_loopback": True}],
        "agents": [agent("triage", "contributor"), agent("resolver", "contributor")],
        "identity": {"workloads": [service.workload(each, at, "localhost") for each, at in sockets.items()]},
        "limits": {"jwt_svid_seconds": 300, "clock_leeway_seconds": 1},
    }
    for section, value in more.items():
        config[section] = {**config.get(section, {}), **value}
    service.config = config
    return service


def audience(service: Service, name: str = "tickets") -> str:
    return f"https://{name}.{service.name}"


def issuer(service: Service) -> str:
    return f"https://localhost:{service.broker_port}"


def command(service: Service, *arguments: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Run `deputy …` beside a service, and let it end."""
    return subprocess.run(
        [sys.executable, "-m", "authz", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        env=environment(DEPUTY_CONFIG=str(service.path)),
    )


def pem_of(caller: Caller) -> tuple[bytes, bytes]:
    """Certificate chain and key."""
    svid = caller.svid
    key = svid.private_key.private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return b"".join(each.public_bytes(_PEM) for each in svid.cert_chain), key


def call_of(token: str, presenter: Caller, body: object, service: str = "tickets") -> bytes:
    """What an Envoy asks about a call that came to it."""
    leaf = presenter.svid.leaf.public_bytes(_PEM).decode()
    return check_request(
        json.dumps(body).encode(),
        headers=(*MCP_HEADERS, ("authorization", f"Bearer {token}")),
        principal=presenter.id,
        certificate=quote(leaf, safe=""),
        extensions={"service": service},
    ).SerializeToString()


@dataclass
class Task:
    """One run of an agent, with its identity and a connection to the broker that shows it."""

    world: "World"
    id: str
    agent: str
    caller: Caller
    http: httpx2.Client

    def jwt(self, at: str | None = None) -> str:
        return self.caller.jwt(at or issuer(self.world.service))

    def assertion(self) -> dict[str, str]:
        """What logs in with a JWT-SVID instead of a certificate."""
        return {"client_assertion": self.jwt(), "client_assertion_type": JWT_SPIFFE}

    def exchange(self, subject: str, kind: str = ID_TOKEN, **more: str) -> httpx2.Response:
        """Exchange a token, with the certificate as login."""
        return self.world.token(self.http, subject, kind, **more)

    def token(self, account: str = "lead", **more: str) -> str:
        """A delegation token of somebody who signs in now."""
        answer = self.exchange(sign_in(self.world.people, account), **more)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def write_svid(self, path: Path) -> Path:
        """Write certificate and key as a program without a Workload API has them."""
        path.write_bytes(b"".join(pem_of(self.caller)))
        return path

    def read(self, token: str) -> str:
        """Ask `Check` about reading a ticket; return the reason, empty for an allow."""
        return reason(self.world.check(call_of(token, self.caller, READ)))


@dataclass
class World:
    """A running service and its people; everything that was opened ends with it."""

    service: Service
    people: SignIn
    stack: ExitStack
    open_callers: dict[str, Caller] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return issuer(self.service)

    def workload(self, name: str) -> Caller:
        if name not in self.open_callers:
            self.open_callers[name] = self.stack.enter_context(Caller(self.service.socket(name)))
        return self.open_callers[name]

    @property
    def roots(self) -> str:
        return self.workload("runner").roots(self.service.name)

    def anonymous(self) -> httpx2.Client:
        """A client without a certificate."""
        tls = ssl.create_default_context(cadata=self.roots)
        return self.stack.enter_context(httpx2.Client(verify=tls, timeout=SECONDS, trust_env=False))

    def task(self, agent: str = "triage", account: str = "lead") -> Task:
        """Start a task over the runner's socket."""
        client = self.stack.enter_context(TaskClient(self.service.socket("runner")))
        request = pb.StartTaskRequest(agent=agent, id_token=sign_in(self.people, account))
        started: pb.StartTaskResponse = client._call("StartTask", request, pb.StartTaskResponse)
        caller = self.stack.enter_context(Caller(started.identity.endpoint_socket))
        http = self.stack.enter_context(caller.http(self.service.name))
        return Task(self, started.task, agent, caller, http)

    def check(self, data: bytes) -> ext_authz_pb2.CheckResponse:
        """Ask for a decision as the gateway does."""
        chain, key = pem_of(self.workload("gateway"))
        credentials = grpc.ssl_channel_credentials(self.roots.encode(), key, chain)
        options = (("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1))
        target = f"127.0.0.1:{self.service.check_port}"
        with grpc.secure_channel(target, credentials, options) as channel:
            made: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            return ext_authz_pb2.CheckResponse.FromString(made(data, timeout=SECONDS))

    def grant(
        self, agent: str = "triage", account: str = "lead", scopes: tuple[str, ...] = SCOPES, **more: Any
    ) -> str:
        """Let somebody say which agent may act for them; return the id of the grant."""
        body = {"agent": agent, "scopes": list(scopes), **more}
        headers = {"authorization": f"Bearer {sign_in(self.people, account, CONSOLE)}"}
        made = self.anonymous().post(f"{self.base}/admin/v1/grants", json=body, headers=headers)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def token(self, http: httpx2.Client, subject: str, kind: str = ID_TOKEN, **more: str) -> httpx2.Response:
        """Post a token exchange; what is asked for can be changed by `more`."""
        headers = {"dpop": proof} if (proof := more.pop("dpop", "")) else {}
        form = {
            "grant_type": GRANT_TYPE,
            "subject_token": subject,
            "subject_token_type": kind,
            "audience": audience(self.service),
            **more,
        }
        return http.post(f"{self.base}/token", data=form, headers=headers)


@contextmanager
def front(made: World) -> Iterator[str]:
    """An Envoy of the service before a real tool server, which knows the published keys; returns its URL."""
    service = made.service
    domain = TrustDomain.parse(service.name)
    home = Path(tempfile.mkdtemp(dir=service.directory, prefix="gw-"))
    (home / "jwks.json").write_bytes(made.anonymous().get(f"{made.base}/jwks").raise_for_status().content)
    command = ["tickets", "--socket", str(home / "mcp.sock"), "--jwks", str(home / "jwks.json")]
    command += ["--issuer", made.base, "--trust-domain", service.name]
    tools = Process.python("tools", home, "authz.demo.tools", *command)
    try:
        until((home / "mcp.sock").exists, why=tools.log_end)
        settings = EnvoySettings(
            trust_domain=domain,
            listen=TcpAddress("127.0.0.1", 0),
            deputy=(TcpAddress("127.0.0.1", service.check_port),),
            deputy_id=SpiffeId(domain, "/deputy"),
            services=(EnvoyService("tickets", UnixAddress(str(home / "mcp.sock")), "tickets"),),
            sds_socket=Path(service.socket("gateway").removeprefix("unix://")),
            run_directory=home,
        )
        with EnvoyProcess.start(render(settings), home) as envoy:
            yield f"https://localhost:{port_of(envoy)}/tickets/mcp"
    finally:
        tools.stop()


@contextmanager
def world(service: Service, people: SignIn) -> Iterator[World]:
    """Run a service for as long as the block."""
    with running(service), ExitStack() as stack:
        yield World(service, people, stack)
