"""A whole service under a SPIRE: the mesh is of one trust domain, and the tasks of agents of another.

The SPIRE is another whole service, which is a real server of the standard: it gives our service, the Envoy
and the agents' runner their identities, and rotates its CA while calls go on.
"""

import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import httpx2
import pytest
from cryptography import x509

from authz.mesh.envoy_process import EnvoyProcess
from identity.keys import SigningKey
from identity.spiffe import SpiffeId, TrustDomain
from identity.x509_svid import verify_x509_svid
from tests.broker_fakes import csr_of
from tests.e2e.callers import Answer, Caller, call, gateway, port_of, tls_of
from tests.e2e.sds_envoys import stats
from tests.e2e.services import SERVICE, Service, running, until
from tests.service_files import authority_on_disk

pytestmark = pytest.mark.e2e
MESH, AGENTS = "mesh.example", "agents.example"
DEPUTY_PATH = "/ns/deputy/sa/deputy"
RUNNER = f"spiffe://{MESH}/ns/agents/sa/runner"
AGENT = {
    **{word: word for word in ("owner", "sponsor", "purpose")},
    "name": "nightly-report",
    "ceiling": "observer",
    "autonomous": True,
    "hosts": [RUNNER],
}


def make_spire() -> Service:
    made = Service(MESH)
    workloads = [
        made.workload("deputy", DEPUTY_PATH, "localhost"),
        made.workload("gateway", "/ns/mesh/sa/gateway", "localhost"),
        made.workload("runner", "/ns/agents/sa/runner"),
    ]
    made.config = {"identity": {**made.settings()["identity"], "workloads": workloads, "publish_seconds": 2}}
    return made


def make_service(upstream: str, start_seconds: int = 20) -> Service:
    made = Service(AGENTS)
    above = {"workload_api": upstream, "start_seconds": start_seconds}
    caller = {"id": f"spiffe://{MESH}/ns/mesh/sa/gateway", "may_ask": [SERVICE]}
    made.config = {
        "check": {"callers": [caller]},
        "agents": [AGENT],
        "identity": {**made.settings()["identity"], "upstream": above},
    }
    return made


@dataclass(frozen=True)
class Task:
    """A task of an agent, with the key that its runner made for it."""

    id: str
    spiffe_id: str
    chain: bytes
    key: bytes


@dataclass
class Backed:
    """SPIRE, the service under it, the runner, and the Envoy."""

    spire: Service
    service: Service
    runner: Caller
    envoy: EnvoyProcess

    @property
    def port(self) -> int:
        return port_of(self.envoy)

    @property
    def broker(self) -> str:
        return f"https://localhost:{self.service.broker_port}"

    def start_task(self, http: httpx2.Client) -> Task:
        key = SigningKey.generate()
        body = {"agent": AGENT["name"], "csr": csr_of(key.private_key)}
        answer = http.post(f"{self.broker}/tasks", json=body)
        assert answer.status_code == 201, answer.text
        given: dict[str, Any] = answer.json()
        return Task(given["task"], given["spiffe_id"], given["certificate_chain"].encode(), key.reveal_pem())

    def http(self, task: Task) -> httpx2.Client:
        """What the agent connects with; all servers are of the mesh, so their roots are SPIRE's."""
        context = tls_of(self.runner.roots(MESH), task.chain, task.key)
        return httpx2.Client(verify=context, timeout=30, trust_env=False)

    def jwt(self, http: httpx2.Client, task: Task) -> str:
        audience = f"https://{SERVICE}.{AGENTS}"
        answer = http.post(f"{self.broker}/tasks/{task.id}/jwt-svid", json={"audience": audience})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["jwt_svid"])

    def whole_call(self) -> Answer:
        """All of it on new connections: a task, its token, a call, and its end."""
        with self.runner.http(MESH) as workload:
            task = self.start_task(workload)
            with self.http(task) as http:
                answer = call(http, self.port, self.jwt(http, task))
            assert workload.delete(f"{self.broker}/tasks/{task.id}").status_code == 204
        return answer

    def presented(self, port: int) -> x509.Certificate:
        """The certificate of a server."""
        tls = self.runner.tls(MESH)
        with (
            socket.create_connection(("localhost", port), timeout=30) as plain,
            tls.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            der = connection.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der)

    def is_of_newest_root(self, port: int) -> bool:
        """Whether a server presents what the CA signed that signs now: ours do, so what we hold shows it."""
        return self.presented(port).issuer == self.runner.svid.leaf.issuer

    def held(self) -> list[int]:
        """The serial numbers of what SPIRE gave to the runner, our service and the Envoy."""
        servers = [self.presented(port) for port in (self.service.check_port, self.port)]
        return [each.serial_number for each in (self.runner.svid.leaf, *servers)]


def is_let_in(backed: Backed) -> bool:
    """Whether Envoy knows the agents' trust domain by now."""
    try:
        return bool(backed.whole_call().status)
    except httpx2.TransportError:
        return False


@pytest.fixture(scope="module")
def backed() -> Iterator[Backed]:
    spire = make_spire()
    service = make_service(spire.socket("deputy"))
    with running(spire), running(service):
        # The endpoint is of SPIRE's trust domain, as the service has its identity from there.
        url = f"https://localhost:{service.bundle_port}/bundle"
        how = ["--profile", "https_spiffe", "--endpoint-id", f"spiffe://{MESH}{DEPUTY_PATH}"]
        spire.deputy("federation", "add", AGENTS, url, *how)
        with Caller(spire.socket("runner")) as runner, gateway(service, spire, DEPUTY_PATH) as envoy:
            made = Backed(spire, service, runner, envoy)
            until(lambda: is_let_in(made))
            yield made


class Calls:
    """Calls without a pause, each on new connections, while something changes."""

    def __init__(self, backed: Backed) -> None:
        self.allowed = 0
        self.failed: list[object] = []
        self._backed = backed
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                answer: object = self._backed.whole_call()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test is about
                answer = error
            if isinstance(answer, Answer) and answer.allowed:
                self.allowed += 1
            else:
                self.failed.append(answer)

    def wait_for_more(self) -> None:
        before = self.allowed
        until(lambda: self.allowed > before + 2)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(60)


def test_calls_are_decided_with_tasks_of_one_domain_in_a_mesh_of_another(backed: Backed) -> None:
    answer = backed.whole_call()
    assert answer.allowed, answer
    record = backed.service.records("decision")[-1]
    assert (record["effect"], record["asker"]) == ("allow", f"spiffe://{MESH}/ns/mesh/sa/gateway")
    assert (record["agent"], record["peer"].rpartition("/")[0]) == (
        AGENT["name"],
        f"spiffe://{AGENTS}/agent/{AGENT['name']}/task",
    )


def test_the_service_presents_what_spire_gave_it_at_every_port(backed: Backed) -> None:
    roots = x509.load_pem_x509_certificates(backed.runner.roots(MESH).encode())
    service = backed.service
    for port in (service.check_port, service.broker_port, service.bundle_port):
        with (
            socket.create_connection(("localhost", port), timeout=30) as plain,
            backed.runner.tls(MESH).wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            der = connection.getpeercert(binary_form=True)
        assert der is not None
        svid = verify_x509_svid([der], roots, TrustDomain.parse(MESH), datetime.now(UTC))
        assert svid.spiffe_id == SpiffeId.parse(f"spiffe://{MESH}{DEPUTY_PATH}")


def test_tasks_are_of_our_domain_and_signed_by_our_ca_alone(backed: Backed) -> None:
    with backed.runner.http(MESH) as http:
        task = backed.start_task(http)
    assert task.spiffe_id == f"spiffe://{AGENTS}/agent/{AGENT['name']}/task/{task.id}"
    (leaf,) = x509.load_pem_x509_certificates(task.chain)
    ca = authority_on_disk(backed.service.data / "keys", TrustDomain.parse(AGENTS)).ca
    assert leaf.issuer == ca.certificate.subject
    leaf.verify_directly_issued_by(ca.certificate)


def test_a_workload_of_spires_domain_that_is_no_host_starts_nothing(backed: Backed) -> None:
    with Caller(backed.spire.socket("gateway")) as other, other.http(MESH) as http:
        body = {"agent": AGENT["name"], "csr": csr_of(SigningKey.generate().private_key)}
        answer = http.post(f"{backed.broker}/tasks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "DPT-AGENT-HOST")


def rotate_spire(backed: Backed) -> list[str]:
    """Let another CA of SPIRE's sign, and wait until all servers present what it signed."""
    service, issuer = backed.service, backed.runner.svid.leaf.issuer
    old = backed.spire.rotate("x509", now=False)
    until(lambda: backed.runner.svid.leaf.issuer != issuer)
    ports = (service.check_port, service.broker_port, service.bundle_port, backed.port)
    until(lambda: all(map(backed.is_of_newest_root, ports)))
    return old


def connections(backed: Backed, what: str) -> int:
    """How many connections to our service Envoy has, or has ended."""
    name = f"cluster.deputy.upstream_cx_{what}"
    return stats(backed.envoy, name)[name]


def wait_for_new_connections(backed: Backed) -> None:
    """A certificate is shown once a connection, so wait until each of Envoy's to our service is a new one."""
    ended = connections(backed, "destroy") + connections(backed, "active")
    until(lambda: connections(backed, "destroy") >= ended)


def test_spire_rotates_its_ca_and_no_call_fails(backed: Backed) -> None:
    with Calls(backed) as calls:
        calls.wait_for_more()
        old = rotate_spire(backed)
        wait_for_new_connections(backed)
        calls.wait_for_more()  # no handshake of before is under way any more
        backed.spire.revoke(*old)
        calls.wait_for_more()
    assert calls.failed == []
    assert len(x509.load_pem_x509_certificates(backed.runner.roots(MESH).encode())) == 1


def test_spire_revokes_its_old_ca_at_once_and_calls_are_denied_for_seconds_at_most(backed: Backed) -> None:
    """Envoy is a stranger until it connects anew, which nobody has to order."""
    with Calls(backed) as calls:
        calls.wait_for_more()
        backed.spire.revoke(*rotate_spire(backed))
        wait_for_new_connections(backed)
        calls.wait_for_more()
    assert backed.whole_call().allowed
    reasons = {answer.reason if isinstance(answer, Answer) else repr(answer) for answer in calls.failed}
    assert reasons <= {"DPT-ASKER-UNKNOWN"}


def test_our_own_key_rotates_below_spire_and_no_call_fails(backed: Backed) -> None:
    with Calls(backed) as calls:
        calls.wait_for_more()
        backed.service.revoke(*backed.service.rotate("jwt"))
        calls.wait_for_more()
    assert calls.failed == []


def test_spire_is_gone_for_a_while_and_no_call_fails(backed: Backed) -> None:
    """What everybody has is good for minutes; when SPIRE is back, they follow it again."""
    with Calls(backed) as calls:
        calls.wait_for_more()
        before = backed.held()
        assert backed.spire.stop() == 0
        calls.wait_for_more()
        backed.spire.start()
        # A new stream brings a new SVID. Who has none yet waits before it asks again, longer than these two
        # seconds for which a root is published here; of a SPIRE it is published for hours.
        until(lambda: all(now != was for now, was in zip(backed.held(), before, strict=True)))
        rotate_spire(backed)
        calls.wait_for_more()
    assert calls.failed == []


# ---- a start without SPIRE


def test_without_spire_the_service_does_not_start_and_says_so_in_one_sentence() -> None:
    service = make_service("unix:///nonexistent/spire/agent.sock", start_seconds=1)
    try:
        code, said = service.refused()
    finally:
        shutil.rmtree(service.directory)
    assert code == 1
    address = "unix:///nonexistent/spire/agent.sock"
    sentence = f"there is no socket at {address!r}: is the SPIRE agent running, and its socket mounted here?"
    assert [line for line in said.splitlines() if line.startswith("deputy: ")] == [f"deputy: {sentence}"]
    assert "Traceback" not in said


def test_an_identity_that_is_not_registered_in_spire_is_one_sentence(backed: Backed) -> None:
    """SPIRE answers, and has nothing for this process: here, on a socket of the operator's."""
    service = make_service(f"unix://{backed.spire.data}/admin.sock", start_seconds=1)
    try:
        code, said = service.refused()
    finally:
        shutil.rmtree(service.directory)
    assert (code, "Traceback" in said) == (1, False)
    assert said.count("deputy: ") == 1
