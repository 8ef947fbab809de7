"""Who calls in end-to-end tests: workloads and agents with identities from sockets, and an Envoy."""

import json
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import httpx2
from cryptography.hazmat.primitives import serialization
from spiffe import SpiffeId as ClientId
from spiffe import TrustDomain as ClientDomain
from spiffe import WorkloadApiClient, X509Source
from spiffe.svid.x509_svid import X509Svid

from authz.address import TcpAddress, UnixAddress
from authz.demo.processes import Process
from authz.mesh.envoy import LISTENER, render
from authz.mesh.envoy_process import EnvoyProcess
from authz.mesh.settings import EnvoySettings
from authz.mesh.settings import Service as EnvoyService
from authz.response import REASON_HEADER
from identity.pb import task_pb2 as pb
from identity.spiffe import SpiffeId, TrustDomain
from tests.e2e.services import SECONDS, SERVICE, Service, until
from tests.service_files import authority_on_disk

_PEM = serialization.Encoding.PEM
READ = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "read_ticket", "arguments": {"ticket": "T-1"}},
}


class TaskClient:
    """The task service of one socket."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])

    def _call(self, name: str, request: Any, reply: Any) -> Any:
        method: Callable[..., Any] = self._channel.unary_unary(
            f"/deputy.identity.v1.TaskService/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return method(request, timeout=SECONDS)

    def start(self, agent: str) -> pb.StartTaskResponse:
        answer: pb.StartTaskResponse = self._call(
            "StartTask", pb.StartTaskRequest(agent=agent), pb.StartTaskResponse
        )
        return answer

    def end(self, task: str) -> None:
        self._call("EndTask", pb.EndTaskRequest(task=task), pb.EndTaskResponse)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()


def tls_of(roots: str, chain: bytes, key: bytes) -> ssl.SSLContext:
    """Return a client context with a certificate from memory."""
    context = ssl.create_default_context(cadata=roots)
    with os.fdopen(os.memfd_create("svid"), "wb") as file:
        file.write(key + chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context


class Caller:
    """Whoever has an identity from a socket; PyPI `spiffe` keeps it current."""

    def __init__(self, address: str) -> None:
        self.client = WorkloadApiClient(address)
        self.source = X509Source(self.client, timeout_in_seconds=SECONDS)

    @property
    def svid(self) -> X509Svid:
        return self.source.get_x509_context().default_svid

    @property
    def id(self) -> str:
        return str(self.svid.spiffe_id)

    def jwt(self, audience: str) -> str:
        return self.client.fetch_jwt_svid({audience}, ClientId(self.id), SECONDS).token

    def roots(self, domain: str) -> str:
        """The roots of a trust domain as its own authority tells them; empty for a stranger."""
        bundle = self.source.get_bundle_for_trust_domain(ClientDomain(domain))
        authorities = bundle.x509_authorities if bundle is not None else ()
        return "".join(each.public_bytes(_PEM).decode() for each in authorities)

    def tls(self, domain: str) -> ssl.SSLContext:
        """A client context for servers of a trust domain."""
        svid = self.svid
        key = svid.private_key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = b"".join(each.public_bytes(_PEM) for each in svid.cert_chain)
        return tls_of(self.roots(domain), chain, key)

    def http(self, domain: str) -> httpx2.Client:
        return httpx2.Client(verify=self.tls(domain), timeout=SECONDS, trust_env=False)

    def close(self) -> None:
        self.source.close()
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Answer:
    """What came back from Envoy: `reason` is empty where the tool answered."""

    status: int
    reason: str
    text: str

    @property
    def allowed(self) -> bool:
        return self.status == 200 and not self.reason and "printer on fire" in self.text


def port_of(envoy: EnvoyProcess) -> int:
    return envoy.port(LISTENER)


def call(http: httpx2.Client, port: int, bearer: str) -> Answer:
    """Read a ticket through an Envoy."""
    headers = {"authorization": f"Bearer {bearer}", "accept": "application/json, text/event-stream"}
    answer = http.post(f"https://localhost:{port}/{SERVICE}/mcp", json=READ, headers=headers)
    return Answer(answer.status_code, answer.headers.get(REASON_HEADER, ""), answer.text)


@contextmanager
def gateway(
    deputy: Service, secrets: Service, deputy_path: str = "/deputy", name: str = "gateway"
) -> Iterator[EnvoyProcess]:
    """An Envoy before a real tool server; `secrets` says who it is, and `deputy` decides."""
    domain = TrustDomain.parse(secrets.name)
    home = Path(tempfile.mkdtemp(dir=deputy.directory, prefix="gw-"))
    with _tools(deputy, home) as tools:
        settings = EnvoySettings(
            trust_domain=domain,
            listen=TcpAddress("127.0.0.1", 0),
            deputy=(TcpAddress("127.0.0.1", deputy.check_port),),
            deputy_id=SpiffeId(domain, deputy_path),
            services=(EnvoyService(SERVICE, UnixAddress(str(tools)), SERVICE),),
            sds_socket=Path(secrets.socket(name).removeprefix("unix://")),
            run_directory=home,
        )
        with EnvoyProcess.start(render(settings), home) as envoy:
            yield envoy


@contextmanager
def _tools(deputy: Service, home: Path) -> Iterator[Path]:
    """The demo's tool server, which verifies each call's transaction token by itself."""
    authority = authority_on_disk(deputy.data / "keys", TrustDomain.parse(deputy.name))
    (home / "jwks.json").write_text(json.dumps(authority.token_jwks()))
    command = [SERVICE, "--socket", str(home / "mcp.sock"), "--jwks", str(home / "jwks.json")]
    command += ["--issuer", f"https://broker.{deputy.name}", "--trust-domain", deputy.name]
    process = Process.python("tools", home, "authz.demo.tools", *command)
    try:
        until((home / "mcp.sock").exists, why=process.log_end)
        yield home / "mcp.sock"
    finally:
        process.stop()
