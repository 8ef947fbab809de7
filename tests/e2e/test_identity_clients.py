"""Other people's clients at a running service: go-spiffe and PyPI `spiffe`, on streams that stay open.

Whatever an operator does to the keys reaches them where they are: no client connects anew, and none fails.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]  # it has no stubs
    ProtoReflectionDescriptorDatabase,
)
from spiffe import JwtSource, X509Source
from spiffe import TrustDomain as ClientDomain
from spiffe.bundle.jwt_bundle.errors import AuthorityNotFoundError
from spiffe.bundle.jwt_bundle.jwt_bundle import JwtBundle
from spiffe.svid.jwt_svid import JwtSvid
from spiffe.workloadapi.errors import FetchJwtSvidError

from tests.e2e.callers import Caller, TaskClient
from tests.e2e.services import SECONDS, Lines, Service, open_sockets, running, until
from tests.federation_world import WebCa

pytestmark = pytest.mark.e2e
AUDIENCE = "https://tickets.mesh.example"
MESH = ClientDomain("mesh.example")
WEB, RUNNER = "spiffe://mesh.example/ns/shop/sa/web", "spiffe://mesh.example/ns/agents/sa/runner"
AGENT = {
    "name": "nightly-report",
    "owner": "support-team",
    "sponsor": "head-of-support",
    "purpose": "counts tickets at night",
    "ceiling": "observer",
    "autonomous": True,
    "hosts": [RUNNER],
}


def make_service() -> Service:
    service = Service("mesh.example")
    workloads = [
        service.workload("web", "/ns/shop/sa/web", "localhost"),
        service.workload("runner", "/ns/agents/sa/runner"),
    ]
    identity = {**service.settings()["identity"], "workloads": workloads}
    service.config = {"identity": identity, "agents": [AGENT]}
    return service


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = make_service()
    with running(made):
        yield made


class GoSpiffe:
    """The program of tests/go/spiffe, at one socket."""

    def __init__(self, binary: Path, address: str) -> None:
        self.binary, self.address = str(binary), address

    def ask(self, *arguments: str) -> Any:
        code, out, problem = self.run(*arguments)
        assert code == 0, problem
        return json.loads(out)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [self.binary, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            env={"SPIFFE_ENDPOINT_SOCKET": self.address},
        )
        return done.returncode, done.stdout, done.stderr

    def watch(self, count: int = 1000) -> Lines:
        return Lines([self.binary, "watch", str(count)], self.address)


@pytest.fixture
def go(service: Service, spiffe_client: Path) -> GoSpiffe:
    return GoSpiffe(spiffe_client, service.socket("web"))


def one(state: Any) -> Any:
    """The one SVID of a state."""
    (svid,) = state["svids"]
    return svid


# ---- go-spiffe


def test_a1_go_spiffe_is_answered_at_once_and_in_full(go: GoSpiffe) -> None:
    """A-1: the first message comes at once, and is the complete state."""
    state = go.ask("watch", "1")
    assert (one(state)["id"], one(state)["chain"]) == (WEB, 1)
    assert list(state["roots"]) == ["mesh.example"]


def test_a1_go_spiffe_follows_rotate_taint_and_revoke_on_one_stream(service: Service, go: GoSpiffe) -> None:
    """A-1: each step is pushed on the open stream; a stream that had ended would be an error on stderr."""
    with go.watch() as stream:
        first = stream.next()
        sockets = open_sockets(stream.process.pid)
        issuers = {one(first)["serial"]}
        for _ in range(3):
            before, old = one(first)["serial"], service.rotate("x509")
            while one(state := stream.next())["serial"] == before:
                assert state["roots"] == {"mesh.example": 2}
            assert state["roots"] == {"mesh.example": 2}
            service.revoke(*old)
            while (state := stream.next())["roots"] != {"mesh.example": 1}:
                assert one(state)["id"] == WEB
            issuers.add(one(state)["serial"])
            first = state
        assert len(issuers) == 4
        assert open_sockets(stream.process.pid) == sockets
        assert stream.problems == []


def test_go_spiffe_verifies_our_jwt_svids_before_and_after_a_rotation(service: Service, go: GoSpiffe) -> None:
    """Its own verifier, and then what our ValidateJWTSVID says to it."""
    first = go.ask("jwt", AUDIENCE)
    assert (first["id"], first["audience"]) == (WEB, [AUDIENCE])
    assert go.ask("validate", AUDIENCE, first["token"])["id"] == WEB
    old = service.rotate("jwt")
    # What the old key signed still counts, until the key is revoked.
    assert go.ask("validate", AUDIENCE, first["token"])["id"] == WEB
    second = go.ask("jwt", AUDIENCE)
    service.revoke(*old)
    assert go.ask("validate", AUDIENCE, second["token"])["id"] == WEB
    code, _, problem = go.run("validate", AUDIENCE, first["token"])
    assert (code, "InvalidArgument" in problem) == (1, True)


def test_go_spiffe_is_told_what_it_may_not_have(service: Service, go: GoSpiffe) -> None:
    token = go.ask("jwt", AUDIENCE)["token"]
    code, _, problem = go.run("validate", "https://else.example", token)
    assert (code, "InvalidArgument" in problem) == (1, True)
    code, _, problem = go.run("jwt", "https://else.example")
    assert (code, "rpc error" in problem) == (1, True)
    assert "eyJ" not in problem


def test_two_go_spiffe_ends_greet_each_other_by_mtls(service: Service, go: GoSpiffe) -> None:
    assert go.ask("mtls") == {"id": WEB, "greeting": "hello"}
    service.revoke(*service.rotate("x509"))
    assert go.ask("mtls") == {"id": WEB, "greeting": "hello"}


def test_a1_a_tasks_private_socket_gives_go_spiffe_that_task_alone_until_it_ends(
    service: Service, spiffe_client: Path
) -> None:
    """A-1: many tasks of one runner, and no socket gives another one's keys; the end is PermissionDenied."""
    with TaskClient(service.socket("runner")) as tasks, ExitStack() as stack:
        started = [tasks.start("nightly-report") for _ in range(3)]
        addresses = [each.identity.endpoint_socket for each in started]
        assert len(set(addresses)) == 3
        streams = [stack.enter_context(GoSpiffe(spiffe_client, address).watch()) for address in addresses]
        for task, stream in zip(started, streams, strict=True):
            assert one(stream.next())["id"] == task.identity.spiffe_id
            assert task.identity.spiffe_id.endswith(f"/agent/nightly-report/task/{task.task}")
        assert one(GoSpiffe(spiffe_client, service.socket("runner")).ask("watch", "1"))["id"] == RUNNER
        token = GoSpiffe(spiffe_client, addresses[0]).ask("jwt", AUDIENCE)
        assert token["id"] == started[0].identity.spiffe_id
        tasks.end(started[0].task)
        until(lambda: streams[0].problems != [])
        assert "PermissionDenied" in streams[0].problems[0]
        # The others did not notice.
        assert [stream.problems for stream in streams[1:]] == [[], []]
        code, out, _ = GoSpiffe(spiffe_client, addresses[1]).run("validate", AUDIENCE, token["token"])
        assert (code, out) == (1, "") or json.loads(out)["id"] == started[0].identity.spiffe_id


def test_b4_go_spiffe_fetches_the_bundle_by_https_spiffe(
    service: Service, go: GoSpiffe, tmp_path: Path
) -> None:
    """B-4: with a first bundle that is of before a rotation, from the service's own side."""
    with Caller(service.socket("web")) as web, web.http("mesh.example") as http:
        first = http.get(f"https://localhost:{service.bundle_port}/bundle")
    (tmp_path / "bundle.json").write_bytes(first.content)
    service.revoke(*service.rotate("jwt"))
    bundle = fetched(go, service, "spiffe", "spiffe://mesh.example/deputy", str(tmp_path / "bundle.json"))
    assert bundle["sequence"] > first.json()["spiffe_sequence"]


def test_b4_go_spiffe_fetches_the_bundle_by_https_web(spiffe_client: Path, tmp_path: Path) -> None:
    """B-4: with a certificate of the web, of which the configuration names the files."""
    web, service = WebCa.generate("localhost"), make_service()
    (service.directory / "web.pem").write_bytes(web.credential.certificate_chain)
    key = service.directory / "web.key"
    key.touch(0o600)
    key.write_bytes(web.credential.private_key)
    files = {"profile": "https_web", "certificate": "web.pem", "key": "web.key"}
    service.config["identity"]["bundle_endpoint"] |= files
    with running(service):
        fetched(GoSpiffe(spiffe_client, service.socket("web")), service, "web", web.file(tmp_path))


def fetched(go: GoSpiffe, service: Service, *how: str) -> Any:
    bundle = go.ask("bundle", service.name, f"https://localhost:{service.bundle_port}/bundle", *how)
    assert (bundle["trust_domain"], bundle["roots"], bundle["jwt_keys"]) == (service.name, 1, 1)
    assert bundle["refresh_hint"] == 10
    return bundle


# ---- PyPI spiffe


def test_pypi_spiffe_sources_follow_rotate_taint_and_revoke_without_reconnecting(service: Service) -> None:
    address = service.socket("web")
    with (
        X509Source(socket_path=address, timeout_in_seconds=SECONDS) as x509s,
        JwtSource(socket_path=address, timeout_in_seconds=SECONDS) as jwts,
    ):

        def roots() -> set[Any]:
            bundle = x509s.get_bundle_for_trust_domain(MESH)
            return set(bundle.x509_authorities) if bundle is not None else set()

        def keys() -> JwtBundle:
            bundle = jwts.get_bundle_for_trust_domain(MESH)
            assert bundle is not None
            return bundle

        def kids() -> set[str]:
            return set(keys().jwt_authorities)

        # The first call has opened what the client opens for calls.
        early = jwts.fetch_svid({AUDIENCE}).token
        sockets = open_sockets()
        for _ in range(2):
            leaf, before = x509s.get_x509_context().default_svid.leaf, (roots(), kids())
            old = service.rotate("all")
            until(lambda leaf=leaf: x509s.get_x509_context().default_svid.leaf != leaf)  # type: ignore[misc]  # the stub of a lambda with a default
            assert before[0] < roots()
            until(lambda before=before: before[1] < kids())  # type: ignore[misc]  # the same
            token = jwts.fetch_svid({AUDIENCE}).token
            service.revoke(*old)
            until(lambda before=before: not before[0] & roots() and not before[1] & kids())  # type: ignore[misc]  # the same
            assert (len(roots()), len(kids())) == (1, 1)
            assert str(JwtSvid.parse_and_validate(token, keys(), {AUDIENCE}).spiffe_id) == WEB
        assert open_sockets() == sockets
        with pytest.raises(AuthorityNotFoundError):
            JwtSvid.parse_and_validate(early, keys(), {AUDIENCE})


def test_pypi_spiffe_on_a_tasks_socket_loses_its_identity_with_the_task(service: Service) -> None:
    with TaskClient(service.socket("runner")) as tasks:
        started = tasks.start("nightly-report")
        with Caller(started.identity.endpoint_socket) as agent:
            assert agent.id == started.identity.spiffe_id
            token = agent.jwt(AUDIENCE)
            tasks.end(started.task)
            socket = Path(started.identity.endpoint_socket.removeprefix("unix://"))
            until(lambda: not socket.exists())
            with pytest.raises(FetchJwtSvidError):
                agent.jwt(AUDIENCE)
    assert token.count(".") == 2


# ---- reflection


def test_e5_reflection_lists_the_services_by_their_names(service: Service) -> None:
    """E-5: what a socket serves is listed, and its messages have the names of the standard."""
    names = {}
    with TaskClient(service.socket("runner")) as tasks:
        task = tasks.start("nightly-report").identity.endpoint_socket
    for address in (service.socket("runner"), task, f"unix://{service.data}/admin.sock"):
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            names[address] = set(database.get_services())
            if "SpiffeWorkloadAPI" in names[address]:
                file = database.FindFileContainingSymbol("SpiffeWorkloadAPI")
                messages = {message.name for message in file.message_type}
                assert (file.package, {"X509SVIDRequest", "JWTBundlesResponse"} <= messages) == ("", True)
    of_all = {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    of_agents = {*of_all, "SpiffeWorkloadAPI", "envoy.service.secret.v3.SecretDiscoveryService"}
    assert list(names.values()) == [
        {*of_agents, "deputy.identity.v1.TaskService"},
        of_agents,
        {*of_all, "deputy.identity.v1.AuthorityService"},
    ]
