"""An authority and its replicas, all as processes: what an operator orders at one is obeyed by all."""

import asyncio
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from authz.pb import ext_authz_pb2 as pb
from tests.bench.load import METHOD
from tests.bench.place import ISSUER, open_place
from tests.e2e.services import environment, free_ports, until
from tests.fakes import reason
from tests.replica_processes import ReplicaProcess

pytestmark = pytest.mark.e2e


@dataclass
class Service:
    """All processes, and a call that they allow."""

    home: Path
    authority: ReplicaProcess
    replicas: list[ReplicaProcess]
    call: bytes

    def answers(self) -> list[str]:
        """The reason of each process; empty for an allow."""
        return [self._ask(each) for each in (self.authority, *self.replicas)]

    def replies(self) -> list[str]:
        """Those of the replicas."""
        return [self._ask(each) for each in self.replicas]

    def _ask(self, process: ReplicaProcess) -> str:
        with grpc.insecure_channel(process.target, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            made: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            return reason(pb.CheckResponse.FromString(made(self.call, timeout=30)))

    def deputy(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "authz", *arguments, "--config", str(self.authority.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=environment(),
        )
        return done.returncode, done.stdout + done.stderr


def _call_left_behind(home: Path) -> bytes:
    """Run an authority in this process for a moment: it leaves keys, a task and a token."""

    async def leave() -> bytes:
        async with open_place(home) as place:
            (data,) = place.calls(place.presenter(), 1)
            return data

    return asyncio.run(leave())


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    home = Path(tempfile.mkdtemp(prefix="dpt-"))  # a short one: the path of a socket has 107 bytes
    (port,) = free_ports(1)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        data = _call_left_behind(home / "p")
        broker = {"issuer": ISSUER, "listen": f"127.0.0.1:{port}"}
        alone = {"data_dir": "data", "replica": None, "broker": broker}
        authority = ReplicaProcess(home / "p", "a", alone).start()
        stack.callback(authority.stop)
        authority.wait()
        replicas = [ReplicaProcess(home / "p", f"r{number}").start() for number in range(2)]
        for replica in replicas:
            stack.callback(replica.stop)
        for replica in replicas:
            replica.wait()
        yield Service(home / "p", authority, replicas, data)


def test_who_is_contained_by_a_command_is_denied_by_all_when_it_returns(service: Service) -> None:
    assert service.answers() == [""] * 3
    code, said = service.deputy("agents", "contain", "triage", "--reason", "a drill")
    assert code == 0, said
    assert service.answers() == ["DPT-CONTAINED"] * 3
    code, said = service.deputy("agents", "release", "triage", "--reason", "over")
    assert code == 0, said
    assert service.answers() == [""] * 3


def test_a_command_waits_for_a_replica_that_is_stopped_no_longer_than_its_lease(service: Service) -> None:
    stopped, other = service.replicas
    stopped.signal(signal.SIGSTOP)
    try:
        code, said = service.deputy("agents", "contain", "triage", "--reason", "a drill")
        assert code == 0, said
        assert service._ask(other) == "DPT-CONTAINED"
    finally:
        stopped.signal(signal.SIGCONT)
    assert service.answers() == ["DPT-CONTAINED"] * 3
    assert service.deputy("agents", "release", "triage", "--reason", "over")[0] == 0
    until(lambda: service.answers() == [""] * 3)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_replicas_outlive_the_end_of_their_authority_and_follow_the_next(
    service: Service, number: signal.Signals
) -> None:
    """What it had written counts; nobody can change it while there is no authority."""
    assert service.deputy("agents", "contain", "triage", "--reason", "a drill")[0] == 0
    service.authority.process.send_signal(number)
    service.authority.process.wait(60)
    assert service.replies() == ["DPT-CONTAINED"] * 2
    service.authority.start().wait()
    assert service.answers() == ["DPT-CONTAINED"] * 3
    assert service.deputy("agents", "release", "triage", "--reason", "over")[0] == 0
    assert service.answers() == [""] * 3


def test_a_second_authority_is_refused_and_moves_nothing(service: Service) -> None:
    second = ReplicaProcess(service.home, "second", {"data_dir": "data", "replica": None}).start()
    code, said = second.refused()
    assert code != 0
    assert "another process" in said
    assert service.answers() == [""] * 3
