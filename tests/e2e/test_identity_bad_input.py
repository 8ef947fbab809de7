"""Bad input at a running service: the documented answer, nothing issued, and the next caller is served.

What one part does with it alone is tested beside that part (test_workload_api.py, test_socket_server.py,
test_peer_process.py, test_svid_source.py); here it goes to the process that an operator runs.
"""

import asyncio
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from identity.pb import task_pb2
from identity.pb import workload_pb2 as pb
from tests.e2e.services import Lines, Service, open_sockets, running, until
from tests.service_files import ROOT
from tests.socket_world import Client, refusal

pytestmark = pytest.mark.e2e
AUDIENCE = "https://tickets.mesh.example"
JOB = "spiffe://mesh.example/ns/shop/sa/job"
CLIENT = ROOT / ".cache/bin/spiffe-client"
INVALID, DENIED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
X509, JWT = pb.X509SVIDRequest(), pb.JWTSVIDRequest(audience=[AUDIENCE])
# A program with the clock of a service in a file: how many seconds it is off.
WITH_CLOCK = """
import asyncio, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from authz.config import load_config
from authz.serve import serve

def clock():
    return datetime.now(UTC) + timedelta(seconds=float(Path(sys.argv[2]).read_text()))

def ready():
    print("deputy is ready", file=sys.stderr, flush=True)

asyncio.run(serve(load_config(Path(sys.argv[1])), ready, clock))
"""


def make_service() -> Service:
    made = Service("mesh.example")
    digest = hashlib.sha256(CLIENT.read_bytes() if CLIENT.exists() else b"").hexdigest()
    workloads = [
        made.workload("web", "/ns/shop/sa/web"),
        {"id": JOB, "uid": os.geteuid(), "executable_sha256": digest},
    ]
    identity = {"socket": made.socket("shared"), "workloads": workloads}
    made.config = {"identity": {**made.settings()["identity"], **identity}}
    return made


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    made = make_service()
    with running(made):
        yield made


def ask(address: str, call: Callable[[Client], Awaitable[Any]]) -> Any:
    """Call a socket once."""

    async def asked() -> Any:
        async with grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            return await call(Client(channel))

    return asyncio.run(asyncio.wait_for(asked(), 30))


def first(rpc: str, request: Any, **more: Any) -> Callable[[Client], Awaitable[Any]]:
    """The first answer of any method of the Workload API."""
    if rpc in {"FetchJWTSVID", "ValidateJWTSVID"}:
        return lambda client: client.call(rpc, request, **more)
    return lambda client: client.first(rpc, request, **more)


def refused(address: str, rpc: str, request: Any, **more: Any) -> tuple[grpc.StatusCode, str]:
    call = first(rpc, request, **more)
    answer: tuple[grpc.StatusCode, str] = ask(address, lambda client: refusal(call(client)))
    return answer


def is_served(service: Service) -> bool:
    return bool(ask(service.socket("web"), first("FetchX509SVID", X509)).svids)


RPCS = [("FetchX509SVID", X509), ("FetchJWTSVID", JWT), ("FetchJWTBundles", pb.JWTBundlesRequest())]


@pytest.mark.parametrize(("rpc", "request_"), RPCS)
@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("workload.spiffe.io", "false"),),
        (("workload.spiffe.io", "True"),),
        (("workload-spiffe-io", "true"),),
    ],
)
def test_a_wrong_or_missing_metadata_header_is_invalid(
    service: Service, rpc: str, request_: Any, metadata: Sequence[tuple[str, str]]
) -> None:
    assert refused(service.socket("web"), rpc, request_, metadata=metadata)[0] is INVALID
    assert is_served(service)


@pytest.mark.parametrize(("rpc", "request_"), RPCS)
def test_an_unknown_workload_is_denied(service: Service, rpc: str, request_: Any) -> None:
    """This process has the right uid and is an interpreter, whose hash says nothing of what it runs."""
    assert refused(service.socket("shared"), rpc, request_)[0] is DENIED


def test_an_executable_that_was_renamed_is_the_same_and_one_that_was_changed_is_not(
    service: Service, spiffe_client: Path, tmp_path: Path
) -> None:
    """What runs is hashed, whatever its file is called, and even if the file is another one by now."""
    renamed, changed = tmp_path / "python3-not", tmp_path / "changed"
    shutil.copy(spiffe_client, renamed)
    shutil.copy(spiffe_client, changed)
    with changed.open("ab") as file:
        file.write(b"\0")
    with Lines([str(renamed), "watch", "1000"], service.socket("shared")) as stream:
        (svid,) = stream.next()["svids"]
        assert svid["id"] == JOB
        renamed.rename(tmp_path / "away")
        shutil.copy(changed, renamed)
        service.rotate("x509")
        assert stream.next()["svids"][0]["id"] == JOB
        assert stream.problems == []
    with Lines([str(changed), "watch", "1"], service.socket("shared")) as stream:
        until(lambda: stream.problems != [])
        assert "PermissionDenied" in stream.problems[0]


def test_socket_peers_that_die_mid_call_leave_nothing_behind(service: Service, spiffe_client: Path) -> None:
    assert service.process is not None
    pid, before = service.process.pid, len(open_sockets(service.process.pid))
    streams = [Lines([str(spiffe_client), "watch", "1000"], service.socket("web")) for _ in range(5)]
    for stream in streams:
        stream.__enter__()
    try:
        for stream in streams:
            stream.next()
        assert len(open_sockets(pid)) > before
        for stream in streams:
            stream.process.send_signal(signal.SIGKILL)
        service.rotate("x509")
        until(lambda: len(open_sockets(pid)) <= before)
    finally:
        for stream in streams:
            stream.__exit__()
    assert is_served(service)


LONG = "spiffe://mesh.example/" + "a" * 2048


@pytest.mark.parametrize(
    "spiffe_id",
    [
        LONG,
        "spiffe://mesh.example/ns/shop/sa/web\n",
        "Spiffe://mesh.example/ns/shop/sa/web",
        "spiffe://MESH.example/ns/shop/sa/web",
        "spiffe://mesh.example/ns/shop/sa/web/",
        "spiffe://mesh.example/ns/shop/sa/%77eb",
        "spiffe://mesh.example/ns/../ns/shop/sa/web",
        "https://mesh.example/ns/shop/sa/web",
        "web",
    ],
)
def test_an_overlong_or_malformed_id_is_refused_and_not_repeated(service: Service, spiffe_id: str) -> None:
    code, sentence = refused(
        service.socket("web"), "FetchJWTSVID", pb.JWTSVIDRequest(audience=[AUDIENCE], spiffe_id=spiffe_id)
    )
    assert code in {INVALID, DENIED}
    assert len(sentence) < 1024
    assert "\n" not in sentence


@pytest.mark.parametrize("agent", ["a" * 64, "a" * 60_000, "Triage", "triage\n", "../triage", "", "e\u0301"])
def test_an_overlong_or_malformed_agent_starts_no_task(service: Service, agent: str) -> None:
    async def start(channel: grpc.aio.Channel) -> Any:
        method: Any = channel.unary_unary(
            "/deputy.identity.v1.TaskService/StartTask",
            request_serializer=task_pb2.StartTaskRequest.SerializeToString,
            response_deserializer=task_pb2.StartTaskResponse.FromString,
        )
        return await refusal(method(task_pb2.StartTaskRequest(agent=agent)))

    code, sentence = ask(service.socket("web"), lambda client: start(client.channel))
    assert code in {INVALID, DENIED}
    assert len(sentence) < 1024
    assert "\n" not in sentence


def test_an_overlong_id_in_the_configuration_is_one_sentence() -> None:
    made = make_service()
    made.config["identity"]["workloads"][0]["id"] = LONG
    assert_does_not_start(made, "identity.workloads[0].id")


def assert_does_not_start(service: Service, *says: str) -> None:
    try:
        code, said = service.refused()
    finally:
        shutil.rmtree(service.directory)
    assert (code, said.count("\n")) == (1, 1), said
    assert said.startswith("deputy: ")
    for part in says:
        assert part in said


# ---- the clock


def test_a_clock_that_jumps_back_issues_nothing_until_it_is_right_again() -> None:
    """An SVID that its readers would not believe yet, or of a key that was not there yet, helps nobody."""
    made = make_service()
    offset = made.directory / "offset"
    offset.write_text("0")
    made.command = [sys.executable, "-c", WITH_CLOCK, str(made.path), str(offset)]
    with running(made):
        web = made.socket("web")
        assert is_served(made)
        recorded = len(made.records("issuance"))
        offset.write_text("-3600")
        for rpc, request in (("FetchX509SVID", X509), ("FetchJWTSVID", JWT)):
            assert refused(web, rpc, request)[0] is UNAVAILABLE
        assert len(made.records("issuance")) == recorded
        # As much as clocks may differ from one machine to the next.
        offset.write_text("-5")
        assert is_served(made)
        offset.write_text("0")
        assert is_served(made)


# ---- the files


@pytest.fixture(scope="module")
def kept() -> Iterator[Service]:
    """A service that ran and ended."""
    made = make_service().start()
    assert made.stop() == 0
    yield made
    shutil.rmtree(made.directory)


@pytest.mark.parametrize("name", ["state.json", "a private key"])
@pytest.mark.parametrize("left", [0, 50])
def test_a_truncated_key_file_is_one_sentence_and_stays_as_it_is(kept: Service, name: str, left: int) -> None:
    keys = kept.data / "keys"
    path = keys / name if name == "state.json" else next(each for each in keys.rglob("*.pem"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * left // 100])
    truncated = path.read_bytes()
    try:
        code, said = kept.refused()
        assert (code, said.count("\n")) == (1, 1), said
        assert said.startswith("deputy: ")
        assert str(path) in said
        assert "PRIVATE" not in said
        assert path.read_bytes() == truncated
    finally:
        path.write_bytes(data)


def test_two_processes_on_one_data_directory_and_the_first_did_not_notice(service: Service) -> None:
    other = make_service()
    other.config |= {"data_dir": str(service.data)}
    assert_does_not_start(other, "another process", str(service.data))
    assert is_served(service)
