"""Replicas as real processes: what is withdrawn at the authority is denied by each, whatever happens."""

import asyncio
import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from cryptography.hazmat.primitives import serialization

from authz.pb import ext_authz_pb2 as pb
from authz.policy.modules import shipped_modules
from authz.policy.opa_process import start_opa
from authz.store.barrier import BarrierResult, barrier
from authz.store.following import FRESH_SECONDS
from authz.store.leases import LeaseFiles
from authz.store.port import LEASE_SECONDS
from identity.caller import Hop, WorkloadBinding
from identity.delegation import issue_delegation_token
from identity.followed_file import boottime
from identity.key_ring import KeyChange
from identity.keys import SigningKey
from identity.names import new_ulid
from identity.withdrawal import Kind, Withdrawal
from tests.bench.grants import SERVICE
from tests.bench.load import METHOD, SERVER_NAME
from tests.bench.measure import percentile
from tests.bench.place import GATEWAY, Place, Presenter, body, call
from tests.bench.rates import opa_binary
from tests.e2e.services import free_ports
from tests.fakes import reason
from tests.replica_processes import Mesh, ReplicaProcess, open_mesh
from tests.service_files import ROOT

pytestmark = pytest.mark.e2e
T = TypeVar("T")
OPA = opa_binary(ROOT)


class Asking:
    """A client of one replica."""

    def __init__(self, replica: ReplicaProcess) -> None:
        self.replica = replica
        self._channel = grpc.aio.insecure_channel(replica.target)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(METHOD)

    async def ask(self, data: bytes) -> pb.CheckResponse:
        return pb.CheckResponse.FromString(await self._call(data, timeout=30))

    async def close(self) -> None:
        await self._channel.close()


@dataclass(frozen=True)
class Live:
    """The mesh, clients of its replicas, and the loop on which all of it lives."""

    mesh: Mesh
    asking: list[Asking]
    runner: asyncio.Runner

    @property
    def place(self) -> Place:
        return self.mesh.place

    def run(self, steps: Awaitable[T]) -> T:
        async def ran() -> T:
            return await steps

        return self.runner.run(ran())

    async def withdraw(self, kind: Kind, subject: str) -> int:
        return await withdraw(self.place, kind, subject)

    async def barrier(self, epoch: int) -> BarrierResult:
        return await wait_for(self.mesh, epoch)

    async def answers(self, data: bytes) -> list[str]:
        """The reason of each replica; empty for an allow."""
        return [reason(answer) for answer in await asyncio.gather(*(each.ask(data) for each in self.asking))]


async def withdraw(place: Place, kind: Kind, subject: str) -> int:
    now = place.parts.clock()
    made = Withdrawal(kind, subject, None, "a drill", "the test", now)
    return await asyncio.to_thread(place.parts.state.withdraw, made, now)


async def wait_for(mesh: Mesh, epoch: int) -> BarrierResult:
    return await barrier(LeaseFiles(mesh.data), term=mesh.place.parts.state.term, epoch=epoch)


@asynccontextmanager
async def open_live(replicas: int) -> AsyncIterator[tuple[Mesh, list[Asking]]]:
    async with open_mesh(replicas) as mesh:
        asking = [Asking(replica) for replica in mesh.replicas]
        yield mesh, asking
        for each in asking:
            await each.close()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with asyncio.Runner() as runner:
        opened = open_live(4)
        mesh, asking = runner.run(opened.__aenter__())
        try:
            yield Live(mesh, asking, runner)
        finally:
            runner.run(opened.__aexit__(None, None, None))


class HeldAnswers:
    """A door before OPA, which holds its answers while the test wants that."""

    def __init__(self, opa: Path) -> None:
        self._opa = opa
        self.has_question, self.pass_on = asyncio.Event(), asyncio.Event()
        self.pass_on.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_unix_connection(self._opa)
        await asyncio.gather(self._questions(reader, here), self._answers(there, writer))

    async def _questions(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            if b"read_ticket" in data and not self.pass_on.is_set():
                self.has_question.set()
        writer.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.pass_on.wait()
            writer.write(data)
        writer.close()


def task_of(presenter: Presenter) -> str:
    return presenter.spiffe_id.path.rpartition("/")[2]


async def eventually(holds: Callable[[], Awaitable[bool]], within: float = 30.0) -> None:
    deadline = time.monotonic() + within
    while not await holds():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


def test_what_is_withdrawn_under_load_is_denied_by_every_replica(live: Live) -> None:
    """When the barrier is passed, nobody allows; how long it took is printed."""

    async def drill() -> list[float]:
        stop, others = asyncio.Event(), live.place.calls(live.place.presenter(), 64)

        async def load(each: Asking) -> None:
            for number in range(10**9):
                if stop.is_set():
                    return
                assert not reason(await each.ask(others[number % 64]))

        loading = [asyncio.create_task(load(each)) for each in live.asking]
        took = []
        for _ in range(12):
            presenter = live.place.presenter()
            (data,) = live.place.calls(presenter, 1)
            assert await live.answers(data) == [""] * 4
            began = time.monotonic()
            epoch = await live.withdraw("task", task_of(presenter))
            result = await live.barrier(epoch)
            took.append(time.monotonic() - began)
            assert result.is_obeyed
            assert len(result.acknowledged) == 4
            assert await live.answers(data) == ["DPT-REVOKED"] * 4
        stop.set()
        await asyncio.gather(*loading)
        return took

    took = live.run(drill())
    print(
        f"withdrawn until all of 4 replicas obey, under load, {len(took)} times: "
        f"median {percentile(took, 50) * 1e3:.0f} ms, longest {max(took) * 1e3:.0f} ms"
    )


def test_a_contained_agent_is_denied_everywhere_and_allowed_again_after_its_release(live: Live) -> None:
    async def drill() -> None:
        (data,) = live.place.calls(live.place.presenter(), 1)
        assert (await live.barrier(await live.withdraw("agent", "triage"))).is_obeyed
        assert await live.answers(data) == ["DPT-CONTAINED"] * 4
        state, now = live.place.parts.state, live.place.parts.clock()
        epoch = await asyncio.to_thread(state.release, "agent", "triage", "the test", "over", now)
        assert (await live.barrier(epoch)).is_obeyed
        assert await live.answers(data) == [""] * 4

    live.run(drill())


def test_a_run_that_began_a_moment_ago_works_at_once_at_every_replica(live: Live) -> None:
    async def drill() -> None:
        for _ in range(25):
            (data,) = live.place.calls(live.place.presenter(), 1)
            assert await live.answers(data) == [""] * 4

    live.run(drill())


def test_a_token_tells_a_replica_what_it_must_have_read(live: Live) -> None:
    """Somebody of its chain was stopped before it was issued: no replica may decide without knowing."""

    async def drill() -> None:
        for _ in range(10):
            presenter, victim = live.place.presenter(), live.place.presenter()
            epoch = await live.withdraw("task", task_of(victim))
            token = _token(live.place, presenter, min_epoch=epoch)
            assert await live.answers(call(presenter, body(1), token=token)) == [""] * 4
            (of_victim,) = live.place.calls(victim, 1)
            assert await live.answers(of_victim) == ["DPT-REVOKED"] * 4

    live.run(drill())


def test_a_token_of_an_epoch_that_never_was_is_refused_as_stale(live: Live) -> None:
    """It was issued by a state that a backup replaced: what it knew is lost."""
    presenter = live.place.presenter()
    token = _token(live.place, presenter, min_epoch=live.place.parts.state.epoch + 1000)
    data = call(presenter, body(1), token=token)
    assert live.run(live.answers(data)) == ["DPT-STALE"] * 4


def test_a_flood_of_runs_that_never_were_does_not_keep_others_waiting(live: Live) -> None:
    async def drill() -> None:
        presenter = live.place.presenter()
        unknown = Hop("triage", new_ulid(live.place.parts.clock(), os.urandom(10)))
        binding = WorkloadBinding(presenter.spiffe_id)
        token = _token(live.place, presenter, chain=(unknown,), binding=binding)
        (good,) = live.place.calls(presenter, 1)
        flood = [live.asking[0].ask(call(presenter, body(n), token=token)) for n in range(300)]
        asked = asyncio.gather(*flood)
        assert not reason(await live.asking[0].ask(good))
        assert {reason(answer) for answer in await asked} == {"DPT-TASK-UNKNOWN"}

    live.run(drill())


def test_keys_that_rotate_are_followed_and_a_revoked_key_is_dead(live: Live) -> None:
    async def drill() -> None:
        parts = live.place.parts
        (old,) = live.place.calls(live.place.presenter(), 1)
        kid = parts.authority.current.token_key.kid
        steps = [KeyChange("prepare", "tokens"), KeyChange("activate", "tokens")]
        await asyncio.to_thread(parts.authority.apply, steps, parts.clock())
        (new,) = live.place.calls(live.place.presenter(), 1)

        async def all_know() -> bool:
            return await live.answers(new) == [""] * 4

        await eventually(all_know)
        assert await live.answers(old) == [""] * 4
        steps = [KeyChange("taint", "tokens", kid), KeyChange("revoke", "tokens", kid)]
        await asyncio.to_thread(parts.authority.apply, steps, parts.clock())

        async def all_refuse() -> bool:
            return await live.answers(old) == ["DPT-TOKEN-KEY"] * 4

        await eventually(all_refuse)
        assert await live.answers(new) == [""] * 4

    live.run(drill())


def test_a_replica_that_was_stopped_never_allows_what_was_withdrawn_meanwhile(live: Live) -> None:
    """Its lease ends, so the barrier waits for it no longer than that; then it reads before it answers."""

    async def drill() -> None:
        presenter = live.place.presenter()
        (data,) = live.place.calls(presenter, 1)
        stopped, others = live.asking[0], live.asking[1:]
        assert await live.answers(data) == [""] * 4
        stopped.replica.signal(signal.SIGSTOP)
        try:
            waiting = [asyncio.create_task(stopped.ask(data)) for _ in range(20)]
            epoch = await live.withdraw("task", task_of(presenter))
            result = await live.barrier(epoch)
            assert result.is_obeyed
            assert (len(result.acknowledged), len(result.expired)) == (3, 1)
            assert result.took_seconds < LEASE_SECONDS + 1
            assert {reason(await each.ask(data)) for each in others} == {"DPT-REVOKED"}
        finally:
            stopped.replica.signal(signal.SIGCONT)
        late = {reason(answer) for answer in await asyncio.gather(*waiting)}
        assert late == {"DPT-REVOKED"}
        (fresh,) = live.place.calls(live.place.presenter(), 1)
        assert await live.answers(fresh) == [""] * 4
        rejoined = await live.barrier(await live.withdraw("token", "nobody"))
        assert len(rejoined.acknowledged) == 4

    live.run(drill())


def test_a_state_that_is_gone_is_answered_by_nobody_until_it_is_back(live: Live) -> None:
    async def drill() -> None:
        (data,) = live.place.calls(live.place.presenter(), 1)
        elsewhere = live.mesh.data.with_name("elsewhere")

        async def all_stale() -> bool:
            return await live.answers(data) == ["DPT-STALE"] * 4

        async def all_allow() -> bool:
            return await live.answers(data) == [""] * 4

        assert await all_allow()
        live.mesh.data.rename(elsewhere)
        try:
            await eventually(all_stale)
            answer = await live.asking[0].ask(data)
            assert answer.denied_response.status.code == 503
        finally:
            # Whoever writes a lease makes no directory for it.
            elsewhere.rename(live.mesh.data)
        await eventually(all_allow)

    live.run(drill())


def test_a_replica_that_ends_gives_its_lease_back_and_leaves_its_own_records(live: Live) -> None:
    async def drill() -> None:
        ending = ReplicaProcess(live.place.directory, "ending").start()
        await asyncio.to_thread(ending.wait)
        leases = LeaseFiles(live.mesh.data)
        assert len(leases.listed().leases) == 5
        asking = Asking(ending)
        (data,) = live.place.calls(live.place.presenter(), 1)
        assert not reason(await asking.ask(data))
        await asking.close()
        assert await asyncio.to_thread(ending.stop) == 0
        assert len(leases.listed().leases) == 4
        lines = [
            line
            for path in (ending.data / "audit").glob("*.jsonl")
            for line in path.read_bytes().splitlines()
        ]
        kinds = [json.loads(line)["kind"] for line in lines]
        assert [kind for kind in kinds if kind != "policy"] == ["start", "decision", "stop"]

    live.run(drill())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"replica": {"of": "wrong"}}, "a replica needs a data_dir of its own"),
        ({"replica": {"of": "nowhere"}}, "cannot open the key directory"),
        (
            {"identity": {"upstream": {"workload_api": "unix:///run/spire/agent.sock"}}},
            "identity.pkcs11 and identity.upstream have none",
        ),
        ({"trust_domain": "other.example"}, "of the trust domain"),
    ],
)
def test_what_cannot_be_followed_is_said_in_one_sentence(live: Live, more: dict[str, Any], said: str) -> None:
    """And nothing listens, and nothing is made where it would have been."""
    replica = ReplicaProcess(live.place.directory, "wrong", more).start()
    code, text = replica.refused()
    assert code != 0
    assert said in text
    assert "Traceback" not in text
    assert not (live.place.directory / "nowhere").exists()
    assert not (live.place.directory / "wrong.sock").exists()
    shutil.rmtree(replica.data, ignore_errors=True)


def test_a_replica_shows_the_certificate_of_the_deputy_that_it_follows(live: Live, tmp_path: Path) -> None:
    """Over mTLS; the proxies that may ask are its own configuration's."""
    (port,) = free_ports(1)
    check = {"listen": f"127.0.0.1:{port}", "callers": [{"id": str(GATEWAY), "may_ask": [SERVICE]}]}
    replica = ReplicaProcess(live.place.directory, "tls", {"check": check}).start()
    try:
        replica.wait()
        authority, now = live.place.parts.authority.current, live.place.parts.clock()
        key = SigningKey.generate()
        der = authority.issue_workload_svid(GATEWAY, key.private_key.public_key(), now, 600)
        roots = b"".join(root.public_bytes(serialization.Encoding.PEM) for root in authority.roots)
        credentials = grpc.ssl_channel_credentials(
            roots, key.reveal_pem(), ssl.DER_cert_to_PEM_cert(der).encode()
        )
        (data,) = live.place.calls(live.place.presenter(), 1)

        async def ask() -> str:
            options = [("grpc.ssl_target_name_override", SERVER_NAME)]
            async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
                made: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
                return reason(pb.CheckResponse.FromString(await made(data, timeout=30)))

        assert live.run(ask()) == ""
    finally:
        replica.stop()


@pytest.mark.skipif(OPA is None, reason="no OPA: 'make opa' builds one")
def test_a_withdrawal_while_a_stopped_replica_evaluates_wins(live: Live) -> None:
    """The policy engine has the question when all stops; it says yes long after the withdrawal."""
    assert OPA is not None

    async def drill(binary: Path) -> None:
        home = live.place.directory
        async with AsyncExitStack() as stack:
            opa = stack.enter_context(start_opa(binary, home / "opa", shipped_modules()))
            held = HeldAnswers(opa.socket)
            server = await asyncio.start_unix_server(held.serve, home / "held.sock")
            stack.callback(server.close)
            policy = {"engine": "opa", "opa": {"url": f"unix://{home}/held.sock", "timeout_ms": 10_000}}
            replica = ReplicaProcess(home, "on-opa", {"policy": policy}).start()
            stack.push_async_callback(asyncio.to_thread, replica.stop)
            await asyncio.to_thread(replica.wait)
            asking = Asking(replica)
            stack.push_async_callback(asking.close)
            presenter = live.place.presenter()
            (data,) = live.place.calls(presenter, 1)
            assert not reason(await asking.ask(data))
            held.pass_on.clear()
            evaluating = asyncio.create_task(asking.ask(data))
            await asyncio.wait_for(held.has_question.wait(), 30)
            replica.signal(signal.SIGSTOP)
            stopped_at = boottime()
            await live.withdraw("task", task_of(presenter))
            held.pass_on.set()

            async def is_too_old() -> bool:
                return boottime() - stopped_at > FRESH_SECONDS

            await eventually(is_too_old)
            replica.signal(signal.SIGCONT)
            assert reason(await evaluating) == "DPT-WITHDRAWN"

    live.run(drill(OPA))


def _token(place: Place, presenter: Presenter, **more: object) -> str:
    """A token of a presenter, with what the test wants to be in it."""
    delegation = replace(presenter.delegation, **more)  # type: ignore[arg-type]  # the tests name real fields
    return issue_delegation_token(place.parts.authority.current.token_key, delegation)
