"""Two clusters that federate: an agent of one calls the tools of the other, as far as the other says.

Both are whole services with keys, sockets and bundle endpoints of their own; only operators join them, with
the command line. Nobody of one cluster ever speaks for a name of the other, not even its CA.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx2
import pytest

from authz.pb.ext_authz_pb2 import CheckResponse
from identity.spiffe import TrustDomain
from tests.check_requests import check_request
from tests.e2e.callers import Answer, Caller, TaskClient, call, gateway, port_of, tls_of
from tests.e2e.services import SERVICE, Service, running, until
from tests.hostile_ca import HostileCa, Peer
from tests.service_files import authority_on_disk

pytestmark = pytest.mark.e2e
MESH, OTHER = "mesh.example", "other.example"
AUDIENCE = f"https://{SERVICE}.{MESH}"
GRANTED, NOT_GRANTED, UNKNOWN = "nightly-report", "reader", "nobody"


def agent(name: str, *hosts: str) -> dict[str, Any]:
    words = {word: word for word in ("owner", "sponsor", "purpose")}
    return {"name": name, **words, "ceiling": "observer", "autonomous": True, "hosts": list(hosts)}


def make_service(name: str, **sections: Any) -> Service:
    made = Service(name)
    workloads = [
        made.workload("gateway", "/ns/mesh/sa/gateway", "localhost"),
        made.workload("runner", "/ns/agents/sa/runner"),
    ]
    identity = {**made.settings()["identity"], "workloads": workloads, **sections.pop("identity", {})}
    made.config = {"identity": identity, **sections}
    return made


def granted(name: str) -> str:
    """A line at the end of the grants, which is where agents stand."""
    return f"  {name}: {{tier: observer, services: [{SERVICE}]}}\n"


@dataclass
class Clusters:
    """Ours, theirs, and the port of our Envoy."""

    mesh: Service
    other: Service
    port: int

    def federate(self, here: Service, there: Service) -> None:
        """What two operators do: one gives the other the first bundle, got from the own side."""
        url = f"https://localhost:{there.bundle_port}/bundle"
        with Caller(there.socket("runner")) as operator, operator.http(there.name) as http:
            document = http.get(url).raise_for_status().content
        bundle = here.directory / f"{there.name}.json"
        bundle.write_bytes(document)
        how = ["--profile", "https_spiffe", "--endpoint-id", f"spiffe://{there.name}/deputy"]
        here.deputy("federation", "add", there.name, url, *how, "--bundle", str(bundle))

    def join(self) -> None:
        self.federate(self.mesh, self.other)
        self.federate(self.other, self.mesh)

    def leave(self) -> None:
        self.mesh.deputy("federation", "remove", OTHER)
        self.other.deputy("federation", "remove", MESH)


@pytest.fixture(scope="module")
def clusters() -> Iterator[Clusters]:
    registered = [agent(f"{OTHER}/{GRANTED}"), agent(f"{OTHER}/{NOT_GRANTED}")]
    mesh = make_service(MESH, agents=registered)
    # A proxy of theirs may ask us, so the roots of both domains are in one pool of our TLS library.
    callers = mesh.settings()["check"]["callers"] + [
        {"id": f"spiffe://{OTHER}/ns/mesh/sa/gateway", "may_ask": [SERVICE]}
    ]
    mesh.config |= {"check": {"callers": callers}}
    mesh.grants += granted(f"{OTHER}/{GRANTED}")
    runner = f"spiffe://{OTHER}/ns/agents/sa/runner"
    theirs = [agent(name, runner) for name in (GRANTED, NOT_GRANTED, UNKNOWN)]
    other = make_service(OTHER, agents=theirs, identity={"jwt_audiences": [AUDIENCE]})
    other.grants += granted(NOT_GRANTED) + granted(UNKNOWN)
    with running(mesh, other):
        made = Clusters(mesh, other, 0)
        made.join()
        with gateway(mesh, mesh) as envoy:
            made.port = port_of(envoy)
            yield made


@pytest.fixture(scope="module")
def agents(clusters: Clusters) -> Iterator[Callable[[str], Caller]]:
    """Tasks of agents of the other cluster, each started there by its runner, once."""
    started: dict[str, Caller] = {}
    with TaskClient(clusters.other.socket("runner")) as tasks:

        def start(name: str) -> Caller:
            if name not in started:
                caller = started[name] = Caller(tasks.start(name).identity.endpoint_socket)
                until(lambda: caller.roots(MESH) != "")
            return started[name]

        yield start
        for caller in started.values():
            caller.close()


def called(clusters: Clusters, caller: Caller, token: str | None = None) -> Answer:
    with caller.http(MESH) as http:
        return call(http, clusters.port, token or caller.jwt(AUDIENCE))


def is_let_in(clusters: Clusters, caller: Caller) -> bool:
    """Whether our Envoy takes the certificate; if it does, whatever it answers."""
    try:
        called(clusters, caller)
    except httpx2.TransportError:
        return False
    return True


def test_an_agent_of_the_other_cluster_is_decided_under_the_grants_for_its_domain(
    clusters: Clusters, agents: Callable[[str], Caller]
) -> None:
    caller = agents(GRANTED)
    assert re.fullmatch(f"spiffe://{OTHER}/agent/{GRANTED}/task/[0-9A-Z]{{26}}", caller.id)
    until(lambda: is_let_in(clusters, caller))
    answer = called(clusters, caller)
    assert answer.allowed, answer
    record = clusters.mesh.records("decision")[-1]
    assert (record["effect"], record["agent"]) == ("allow", f"{OTHER}/{GRANTED}"), record


@pytest.mark.parametrize(
    ("name", "reason"), [(NOT_GRANTED, "DPT-AGENT-NOT-GRANTED"), (UNKNOWN, "DPT-AGENT-UNKNOWN")]
)
def test_an_agent_of_the_other_cluster_is_denied_without_grants(
    clusters: Clusters, agents: Callable[[str], Caller], name: str, reason: str
) -> None:
    caller = agents(name)
    until(lambda: is_let_in(clusters, caller))
    answer = called(clusters, caller)
    assert (answer.allowed, answer.reason) == (False, reason)


def test_the_other_clusters_runner_starts_no_task_here(clusters: Clusters) -> None:
    """Its certificate is good, and its domain federated; our broker has no business with it."""
    with Caller(clusters.other.socket("runner")) as runner:
        until(lambda: runner.roots(MESH) != "")
        with runner.http(MESH) as http, pytest.raises(httpx2.TransportError):
            http.get(f"https://localhost:{clusters.mesh.broker_port}/healthz")


def test_a_stolen_svid_of_the_other_cluster_counts_for_nobody_else(
    clusters: Clusters, agents: Callable[[str], Caller]
) -> None:
    answer = called(clusters, agents(NOT_GRANTED), agents(GRANTED).jwt(AUDIENCE))
    assert (answer.allowed, answer.reason) == (False, "DPT-NOT-BOUND")


def test_an_svid_of_a_key_that_the_other_cluster_revoked_is_denied(
    clusters: Clusters, agents: Callable[[str], Caller]
) -> None:
    """We would hear of it at the next poll; an operator who cannot wait takes the new bundle at once."""
    caller = agents(GRANTED)
    stolen = caller.jwt(AUDIENCE)
    assert called(clusters, caller, stolen).allowed
    clusters.other.revoke(*clusters.other.rotate("jwt"))
    clusters.mesh.deputy("federation", "remove", OTHER)
    clusters.federate(clusters.mesh, clusters.other)
    until(lambda: is_let_in(clusters, caller))
    answer = called(clusters, caller, stolen)
    assert (answer.allowed, answer.reason) == (False, "DPT-TOKEN-KEY")
    assert called(clusters, caller).allowed


# ---- forgeries


FORGED = (
    f"spiffe://{MESH}/ns/mesh/sa/gateway",
    f"spiffe://{MESH}/ns/agents/sa/runner",
    f"spiffe://{MESH}/deputy",
)


@pytest.fixture
def their_ca(clusters: Clusters) -> HostileCa:
    """The other cluster's CA, in the hands of somebody who signs anything."""
    ca = authority_on_disk(clusters.other.data / "keys", TrustDomain.parse(OTHER)).ca
    return HostileCa(OTHER, ca.certificate, ca.key.private_key)


def handshake(port: int, roots: str, peer: Peer) -> bool:
    """Whether a server answers who presents this certificate."""
    with httpx2.Client(verify=tls_of(roots, peer.chain, peer.key), trust_env=False) as http:
        try:
            http.get(f"https://localhost:{port}/")
        except httpx2.TransportError:
            return False
        return True


@pytest.mark.parametrize("name", FORGED)
def test_x7_their_ca_forges_no_id_of_ours_at_the_envoy(
    clusters: Clusters, their_ca: HostileCa, agents: Callable[[str], Caller], name: str
) -> None:
    """X-7: it is refused in the handshake, although its root is known there for names of its own."""
    roots = agents(GRANTED).roots(MESH)
    assert not handshake(clusters.port, roots, their_ca.issue(name))
    assert handshake(clusters.port, roots, their_ca.issue(f"spiffe://{OTHER}/ns/any/sa/body"))


@pytest.mark.parametrize("name", FORGED)
def test_x7_their_ca_forges_no_id_of_ours_at_the_broker(
    clusters: Clusters, their_ca: HostileCa, agents: Callable[[str], Caller], name: str
) -> None:
    """X-7: no workload of theirs is named there, so not even their root is known."""
    assert not handshake(clusters.mesh.broker_port, agents(GRANTED).roots(MESH), their_ca.issue(name))


@pytest.mark.parametrize("name", FORGED)
def test_x7_their_ca_forges_no_id_of_ours_at_check(
    clusters: Clusters, their_ca: HostileCa, agents: Callable[[str], Caller], name: str
) -> None:
    """X-7: both roots are in the pool there, because a proxy of theirs may ask; who it is gets verified."""
    roots = agents(GRANTED).roots(MESH)
    forged = checked(clusters.mesh.check_port, roots, their_ca.issue(name))
    assert forged == "DPT-ASKER-UNKNOWN"
    rightful = checked(
        clusters.mesh.check_port, roots, their_ca.issue(f"spiffe://{OTHER}/ns/mesh/sa/gateway")
    )
    assert rightful == "DPT-TOKEN-MISSING"
    decided = clusters.mesh.records("decision")[-1]
    assert decided["asker"] == f"spiffe://{OTHER}/ns/mesh/sa/gateway", decided


def checked(port: int, roots: str, peer: Peer) -> str:
    """The code of what `Check` says to a proxy."""
    credentials = grpc.ssl_channel_credentials(roots.encode(), peer.key, peer.chain)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{port}", credentials, options) as channel:
        check: Callable[..., bytes] = channel.unary_unary("/envoy.service.auth.v3.Authorization/Check")
        try:
            answer = check(check_request().SerializeToString(), timeout=20)
        except grpc.RpcError:
            return "shut out"
    return CheckResponse.FromString(answer).status.message


# ---- the end of a federation


def test_a_cluster_that_is_removed_is_a_stranger_at_once_and_welcome_again(
    clusters: Clusters, agents: Callable[[str], Caller]
) -> None:
    """Also on a connection that was open before, where Envoy asks for no certificate any more."""
    caller = agents(GRANTED)
    token = caller.jwt(AUDIENCE)
    with caller.http(MESH) as http:
        assert call(http, clusters.port, token).allowed
        clusters.leave()
        answer = call(http, clusters.port, token)
        assert (answer.allowed, answer.reason) == (False, "DPT-TOKEN-ISSUER")
    until(lambda: caller.roots(MESH) == "")
    clusters.join()
    until(lambda: caller.roots(MESH) != "")
    until(lambda: is_let_in(clusters, caller))
    assert called(clusters, caller).allowed


def test_a_new_connection_of_a_cluster_that_is_removed_fails_in_the_handshake(
    clusters: Clusters, agents: Callable[[str], Caller]
) -> None:
    caller = agents(GRANTED)
    until(lambda: caller.roots(MESH) != "")
    clusters.mesh.deputy("federation", "remove", OTHER)
    until(lambda: not is_let_in(clusters, caller))
    clusters.federate(clusters.mesh, clusters.other)
    until(lambda: is_let_in(clusters, caller))
    assert called(clusters, caller).allowed
