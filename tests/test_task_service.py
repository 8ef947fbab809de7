"""Tasks over gRPC: by whom they are started, renewed and ended, and how their identities are delivered."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (  # type: ignore[import-untyped]  # no stubs
    ProtoReflectionDescriptorDatabase,
)
from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from authz.audit.record import GENESIS, canonical
from authz.codes import Code
from authz.errors import PolicyUnavailableError
from authz.identity_service.task_service import MAX_TOKEN, SERVICE
from authz.identity_service.task_sockets import SocketBounds
from authz.store.snapshot import State
from authz.store.sqlite import Store
from identity.entitlement import Peer
from identity.errors import AttestationError, IssuanceUnavailableError
from identity.keys import SigningKey
from identity.pb import task_pb2 as pb
from identity.pod_identity import PodIdentity
from identity.registration import OVERFLOW_UID
from identity.spiffe import SpiffeId, agent_task_id
from identity.x509_svid import thumbprint, verify_x509_svid
from tests.broker_fakes import AGENTS, MESH, RUNNER, TICKETS, broker_alone, csr_of, id_token_with
from tests.task_world import (
    AGENT_UID,
    OTHER_RUNNER,
    OTHER_UID,
    UID,
    TaskWorld,
    ended,
    ids,
    refusal,
    registered,
    registration,
    run,
    task_world,
    until,
    watching,
)

POD_WORKLOAD = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")


def own_key(key: SigningKey | None = None) -> pb.Delivery:
    return pb.Delivery(own_key={"csr": csr_of((key or SigningKey.generate()).private_key)})


def shared(uid: int = AGENT_UID) -> pb.Delivery:
    return pb.Delivery(shared_socket={"uid": uid})


def task_id(task: str, agent: str = "triage") -> SpiffeId:
    return agent_task_id(MESH, agent, task)


def home(answer: Any) -> Path:
    return Path(answer.identity.endpoint_socket.removeprefix("unix://")).parent


async def refused(world: TaskWorld, call: Awaitable[Any], status: Status, code: Code) -> Mapping[str, Any]:
    """See one refusal: its status, its sentence, its code and its one record; return the record."""
    before = len(world.sink.entries)
    try:
        await call
    except GRPCError as error:
        assert (error.status, code.value in (error.message or "")) == (status, True), error
        assert "the insides" not in (error.message or "")
    else:
        pytest.fail("the call was not refused")
    (entry,) = world.sink.entries[before:]
    record = entry.members(1, GENESIS)
    assert (record["effect"], record["code"]) == ("deny", code.value)
    assert record.get("issued") is None
    return record


# ---------------------------------------------------------------- start


def test_a_task_is_started_with_a_socket_of_its_own() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        task = world.tasks.tasks[answer.task]
        assert (task.agent, task.human, task.workload) == ("triage", "https://idp.example#lead", RUNNER)
        assert task.origin == f"uid:{UID}"
        assert answer.identity.spiffe_id == str(task_id(answer.task))
        assert answer.identity.deadline.ToDatetime(world.base.clock.now.tzinfo) == task.deadline
        assert await world.svids(answer.identity.endpoint_socket) == [task_id(answer.task)]

    run(act)


def test_the_policy_is_asked_as_over_http_and_the_record_names_everybody() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        query: Any = world.base.policy.queries[-1]
        assert (query["phase"], query["human"]["uri"]) == ("task", "https://idp.example#lead")
        assert query["task"] == {"id": answer.task, "workload": str(RUNNER)}
        assert (query["peer"], query["action"]["method"]) == (str(RUNNER), "tasks/start")
        record: Any = world.sink.last
        assert (record["kind"], record["id"], record["peer"]) == ("issuance", answer.decision_id, str(RUNNER))
        assert (record["issued"]["kind"], record["issued"]["subject"]) == ("task", str(task_id(answer.task)))
        assert (record["human"]["subject"], record["task"]) == ("lead", answer.task)
        assert record["detail"] == f"attested uid:{UID}"

    run(act)


def test_a_task_for_nobody_needs_an_autonomous_agent() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start("nightly-report", person=None)
        assert world.tasks.tasks[answer.task].human is None
        call = world.start(person=None)
        await refused(world, call, Status.PERMISSION_DENIED, Code.HUMAN_MISSING)

    run(act)


@pytest.mark.parametrize(("asked", "seconds"), [(0, 3600), (60, 60), (3601, 3600)])
def test_a_task_lives_no_longer_than_the_settings_say(asked: int, seconds: int) -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start(lifetime_seconds=asked)
        task = world.tasks.tasks[answer.task]
        assert task.deadline == world.base.clock.now + timedelta(seconds=seconds)

    run(act)


@pytest.mark.parametrize(
    "agent", ["", "Triage", "../triage", "triage/../../x", "/etc/passwd", "triage\n", "a" * 64, "\0"]
)
def test_a_name_that_is_none_reaches_no_path_and_no_id(agent: str) -> None:
    async def act(world: TaskWorld) -> None:
        await refused(world, world.start(agent), Status.INVALID_ARGUMENT, Code.REQUEST_MALFORMED)
        assert [entry.name for entry in (world.directory / "tasks").iterdir()] == [".lock"]

    run(act)


@pytest.mark.parametrize("task", ["", "..", "../../x", "01ARZ3NDEKTSV4RRFFQ69G5FAV/../x", "x" * 60_000, "\0"])
def test_a_task_that_is_none_is_unknown(task: str) -> None:
    async def act(world: TaskWorld) -> None:
        await refused(world, world.end(task), Status.NOT_FOUND, Code.TASK_UNKNOWN)
        await refused(world, world.renew(task), Status.NOT_FOUND, Code.TASK_UNKNOWN)

    run(act)


def test_a_lifetime_beyond_a_day_is_malformed() -> None:
    async def act(world: TaskWorld) -> None:
        call = world.start(lifetime_seconds=2**32 - 1)
        await refused(world, call, Status.INVALID_ARGUMENT, Code.REQUEST_MALFORMED)

    run(act)


def test_an_agent_that_the_workload_may_not_host() -> None:
    async def act(world: TaskWorld) -> None:
        world.become(OTHER_UID)
        record = await refused(world, world.start(), Status.PERMISSION_DENIED, Code.AGENT_HOST)
        assert f"attested uid:{OTHER_UID}" in record["detail"]

    run(act)


def test_an_unknown_or_expired_agent() -> None:
    async def act(world: TaskWorld) -> None:
        await refused(world, world.start("unknown"), Status.PERMISSION_DENIED, Code.AGENT_UNKNOWN)
        world.tasks.change("triage", expires_at=world.base.clock.now)
        await refused(world, world.start(), Status.PERMISSION_DENIED, Code.AGENT_EXPIRED)

    run(act)


def test_what_the_policy_refuses_or_cannot_say_starts_nothing() -> None:
    async def act(world: TaskWorld) -> None:
        world.base.policy.deny(Code.AGENT_TIER)
        await refused(world, world.start(), Status.PERMISSION_DENIED, Code.AGENT_TIER)
        world.base.policy.verdict = PolicyUnavailableError("down")
        await refused(world, world.start(), Status.UNAVAILABLE, Code.POLICY_UNAVAILABLE)
        assert world.tasks.tasks == {}
        assert [entry.name for entry in (world.directory / "tasks").iterdir()] == [".lock"]

    run(act)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "somebody-else"}, Code.TOKEN_AUDIENCE),
        ({"iss": "https://evil.example"}, Code.TOKEN_ISSUER),
        ({"exp": 1}, Code.TOKEN_EXPIRED),
    ],
)
def test_a_persons_token_that_does_not_count(claims: dict[str, object], code: Code) -> None:
    async def act(world: TaskWorld) -> None:
        now = int(world.base.clock.now.timestamp())
        token = id_token_with(world.base.provider, **{"iat": now, "exp": now + 60, **claims})
        await refused(world, world.start(id_token=token), Status.UNAUTHENTICATED, code)

    run(act)


def test_a_token_of_more_than_8_kb_is_not_parsed_and_one_of_a_megabyte_not_read() -> None:
    async def act(world: TaskWorld) -> None:
        long = world.start(id_token="x" * (MAX_TOKEN + 1))
        await refused(world, long, Status.INVALID_ARGUMENT, Code.REQUEST_MALFORMED)
        before = len(world.sink.entries)
        status, _ = await refusal(world.start(id_token="x" * 1024 * 1024))
        assert status is Status.RESOURCE_EXHAUSTED
        assert len(world.sink.entries) == before
        await world.start()

    run(act)


def test_no_token_is_in_a_record_an_answer_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")

    async def act(world: TaskWorld) -> None:
        token = world.base.id_token()
        answer = await world.start(id_token=token)
        _, text = await refusal(world.start(id_token=token[:-8]))
        written = b"".join(canonical(entry.members(1, GENESIS)) for entry in world.sink.entries)
        secret = token.split(".")[1]
        assert secret.encode() not in written
        assert secret not in text + str(answer)
        assert secret not in caplog.text

    run(act)


def test_what_cannot_be_recorded_does_not_start() -> None:
    async def act(world: TaskWorld) -> None:
        world.sink.broken = True
        status, text = await refusal(world.start())
        assert (status, "DPT-AUDIT-UNAVAILABLE" in text) == (Status.UNAVAILABLE, True)
        assert world.tasks.tasks == {}
        assert [entry.name for entry in (world.directory / "tasks").iterdir()] == [".lock"]

    run(act)


def test_what_cannot_be_stored_is_recorded_as_withdrawn_and_its_socket_is_gone() -> None:
    async def act(world: TaskWorld) -> None:
        world.tasks.broken = True
        status, _ = await refusal(world.start())
        assert status is Status.INTERNAL
        assert [entry.kind for entry in world.sink.entries] == ["issuance", "withdrawn"]
        assert [entry.name for entry in (world.directory / "tasks").iterdir()] == [".lock"]

    run(act)


def test_rights_that_move_meanwhile_are_decided_again_and_leave_one_socket() -> None:
    async def act(world: TaskWorld) -> None:
        def move() -> None:
            if len(world.base.policy.queries) < 3:
                world.tasks.another_ends()

        world.base.policy.meanwhile = move
        answer = await world.start()
        assert len(world.base.policy.queries) == 3
        homes = [entry for entry in (world.directory / "tasks").iterdir() if entry.is_dir()]
        assert homes == [home(answer)]

    run(act)


# ---------------------------------------------------------------- who calls


def test_a_process_that_nobody_registered() -> None:
    async def act(world: TaskWorld) -> None:
        world.become(UID + 9)
        record = await refused(world, world.start(), Status.PERMISSION_DENIED, Code.PEER_MISSING)
        assert (record["peer"], world.sink.entries[-1].of_stranger) == (f"uid:{UID + 9}", True)
        _, text = await refusal(world.start())
        assert "identity.workloads" in text

    run(act)


def test_strangers_leave_few_records_and_a_count() -> None:
    async def act(world: TaskWorld) -> None:
        world.become(UID + 9)
        for _ in range(15):
            await refusal(world.start())
        (summary,) = world.broker.strangers.due(world.base.clock.now, final=True)
        assert (len(world.sink.entries), summary.peer, summary.count) == (10, f"uid:{UID + 9}", 5)

    run(act)


def test_a_process_that_is_two_workloads_starts_nothing() -> None:
    async def act(world: TaskWorld) -> None:
        await refused(world, world.start(), Status.PERMISSION_DENIED, Code.PEER_MISSING)
        _, text = await refusal(world.start())
        assert "2 workloads" in text

    web = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/web")
    run(act, registrations=registered(registration(spiffe_id=web)))


def test_a_process_that_cannot_be_attested_starts_nothing() -> None:
    async def act(world: TaskWorld) -> None:
        def gone(_: Peer) -> Peer:
            raise AttestationError("a caller that is gone")

        world.peer = gone
        await refused(world, world.start(), Status.PERMISSION_DENIED, Code.PEER_MISSING)
        assert world.tasks.tasks == {}

    run(act)


def test_a_task_cannot_start_tasks() -> None:
    async def act(world: TaskWorld) -> None:
        await world.start(delivery=shared())
        world.become(AGENT_UID)
        await refused(world, world.start(), Status.PERMISSION_DENIED, Code.AGENT_HOST)

    run(act)


def test_there_is_no_task_service_on_a_tasks_socket() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        world.shared = Path(answer.identity.endpoint_socket.removeprefix("unix://"))
        status, _ = await refusal(world.start())
        assert status in {Status.UNIMPLEMENTED, Status.UNKNOWN}  # by the client's library
        assert len(world.tasks.tasks) == 1

    run(act)


# ---------------------------------------------------------------- fifty tasks


def test_a_runner_with_fifty_tasks_gets_its_own_svid_only_and_no_fifty_first_socket() -> None:
    async def act(world: TaskWorld) -> None:
        started = [await world.start(id_token=world.base.id_token()) for _ in range(50)]
        assert await world.svids(f"unix://{world.shared}") == [RUNNER]
        for answer in (started[0], started[49]):
            assert await world.svids(answer.identity.endpoint_socket) == [task_id(answer.task)]
        record = await refused(world, world.start(), Status.RESOURCE_EXHAUSTED, Code.OVERLOADED)
        assert "50 tasks" in record["detail"]
        await world.renew(started[7].task)
        await world.end(started[0].task)
        await until(lambda: not home(started[0]).exists())
        await world.start()

    run(act)


def test_sockets_are_bounded_in_all() -> None:
    async def act(world: TaskWorld) -> None:
        for _ in range(2):
            await world.start()
        await refused(world, world.start(), Status.RESOURCE_EXHAUSTED, Code.OVERLOADED)
        await world.start(delivery=own_key())

    run(act, bounds=SocketBounds(per_workload=9, in_all=2))


# ---------------------------------------------------------------- the private socket


def test_another_uid_gets_nothing_on_a_private_socket() -> None:
    async def act(world: TaskWorld) -> None:
        world.become(OTHER_UID)
        world.tasks.change("triage", hosts=frozenset({OTHER_RUNNER}))
        answer = await world.start()  # by another user: this process is not the one that may come
        status, _ = await refusal(world.svids(answer.identity.endpoint_socket))
        assert status is Status.PERMISSION_DENIED
        await until(lambda: world.sink.entries[-1].of_stranger)
        assert world.sink.last["peer"] == f"uid:{UID}"

    run(act)


def test_a_uid_that_is_not_the_agents_is_not_let_in() -> None:
    async def act(world: TaskWorld) -> None:
        wish = pb.Delivery(private_socket={"uid": OTHER_UID})
        await refused(world, world.start(delivery=wish), Status.PERMISSION_DENIED, Code.AGENT_HOST)
        wish = pb.Delivery(private_socket={"uid": AGENT_UID})
        answer = await world.start(delivery=wish)
        status, _ = await refusal(world.svids(answer.identity.endpoint_socket))
        assert status is Status.PERMISSION_DENIED  # this process is the runner, not the agent
        call = world.start("resolver", delivery=wish)
        await refused(world, call, Status.PERMISSION_DENIED, Code.AGENT_HOST)

    run(act)


def test_a_tasks_socket_gives_no_other_identity() -> None:
    async def act(world: TaskWorld) -> None:
        one, other = await world.start(), await world.start()
        assert await world.jwt_svid(one.identity.endpoint_socket, spiffe_id=str(task_id(one.task)))
        for wanted in (RUNNER, task_id(other.task), task_id(one.task, "resolver")):
            call = world.jwt_svid(one.identity.endpoint_socket, spiffe_id=str(wanted))
            assert (await refusal(call))[0] is Status.PERMISSION_DENIED

    run(act)


def test_the_newest_certificate_is_noted_before_it_is_given() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        async with watching(answer.identity.endpoint_socket) as stream:
            message = await stream.recv_message()
        der = message.svids[0].x509_svid
        assert world.tasks.tasks[answer.task].thumbprint == thumbprint(der)
        record: Any = world.sink.last
        assert (record["issued"]["kind"], record["issued"]["subject"]) == (
            "x509-svid",
            str(task_id(answer.task)),
        )
        assert (record["task"], record["peer"], record["human"]["subject"]) == (
            answer.task,
            str(RUNNER),
            "lead",
        )
        assert record["detail"] == f"attested uid:{UID}"
        svid = verify_x509_svid([der], world.broker.authority.roots, MESH, world.base.clock.now)
        assert svid.not_after <= world.tasks.tasks[answer.task].deadline

    run(act)


def test_an_svid_that_cannot_be_recorded_is_not_given() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        world.sink.broken = True
        status, _ = await refusal(world.svids(answer.identity.endpoint_socket))
        assert status is Status.UNAVAILABLE
        assert world.tasks.tasks[answer.task].thumbprint is None

    run(act)


def test_a_task_that_ends_while_its_svid_is_recorded_gets_none() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        world.sink.meanwhile = lambda: world.tasks.end_task(answer.task, world.base.clock.now)
        status, _ = await refusal(world.svids(answer.identity.endpoint_socket))
        assert status is Status.PERMISSION_DENIED
        assert [entry.kind for entry in world.sink.entries][-2:] == ["issuance", "withdrawn"]
        assert world.tasks.tasks[answer.task].ended_at is not None

    run(act)


# ---------------------------------------------------------------- the end


def test_a_1_streams_end_at_once_when_the_task_ends_and_then_its_socket_is_gone() -> None:
    """A-1: a stream ends PermissionDenied when the entitlement is lost."""

    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        async with watching(answer.identity.endpoint_socket) as stream:
            assert ids(await stream.recv_message()) == [task_id(answer.task)]
            assert (await world.end(answer.task)).decision_id == world.sink.last["id"]
            assert await ended(stream) is Status.PERMISSION_DENIED
        assert (world.sink.last["kind"], world.sink.last["change"]) == ("registry", "task-ended")
        await until(lambda: not home(answer).exists())
        await refused(world, world.end(answer.task), Status.FAILED_PRECONDITION, Code.TASK_ENDED)
        await refused(world, world.renew(answer.task), Status.FAILED_PRECONDITION, Code.TASK_ENDED)

    run(act)


def test_a_deadline_that_passes_ends_the_streams_and_the_socket() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start(lifetime_seconds=60)
        async with watching(answer.identity.endpoint_socket) as stream:
            await stream.recv_message()
            world.base.clock.forward(60)
            assert await ended(stream) is Status.PERMISSION_DENIED
        await until(lambda: not home(answer).exists())

    run(act)


def test_a_retired_or_expired_agent_loses_its_sockets() -> None:
    async def act(world: TaskWorld) -> None:
        one, other = await world.start(), await world.start("resolver")
        async with watching(one.identity.endpoint_socket) as first:
            await first.recv_message()
            world.tasks.retire("triage")
            assert await ended(first) is Status.PERMISSION_DENIED
        world.tasks.change("resolver", expires_at=world.base.clock.now)
        status, _ = await refusal(world.svids(other.identity.endpoint_socket))
        assert status is Status.PERMISSION_DENIED
        await until(lambda: not home(one).exists() and not home(other).exists())
        await refused(world, world.renew(other.task), Status.PERMISSION_DENIED, Code.AGENT_EXPIRED)
        await world.end(other.task)

    run(act)


def test_a_runner_cannot_renew_or_end_the_task_of_another() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        world.become(OTHER_UID)
        for call in (world.renew(answer.task), world.end(answer.task)):
            record = await refused(world, call, Status.PERMISSION_DENIED, Code.TASK_MISMATCH)
            assert record["peer"].endswith("/other-runner")
        world.become(UID)
        assert await world.svids(answer.identity.endpoint_socket) == [task_id(answer.task)]

    run(act)


def test_the_same_workload_as_another_user_cannot_end_the_task() -> None:
    """A workload may be registered for two uids; a task is bound to the one that started it."""

    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        world.become(UID + 77)
        for call in (world.renew(answer.task), world.end(answer.task)):
            await refused(world, call, Status.PERMISSION_DENIED, Code.TASK_MISMATCH)
        world.become(UID)
        await world.end(answer.task)

    run(act, registrations=registered(registration(UID + 77)))


def test_who_gives_up_before_the_answer_has_no_task() -> None:
    async def act(world: TaskWorld) -> None:
        waiting, go_on = asyncio.Event(), asyncio.Event()
        append = world.sink.append

        async def slow(entry: Any) -> Any:
            waiting.set()
            await go_on.wait()
            return await append(entry)

        world.sink.append = slow  # type: ignore[method-assign]  # a disk that is slow
        calling = asyncio.create_task(world.start())
        await waiting.wait()
        calling.cancel()
        await asyncio.wait({calling})
        await asyncio.sleep(0)
        go_on.set()
        await until(lambda: world.tasks.tasks and all(task.ended_at for task in world.tasks.tasks.values()))
        await until(lambda: [entry.name for entry in (world.directory / "tasks").iterdir()] == [".lock"])
        assert [entry.kind for entry in world.sink.entries] == ["issuance", "registry"]

    run(act)


# ---------------------------------------------------------------- renewal


def test_a_renewal_answers_a_new_socket_within_the_same_deadline() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start(lifetime_seconds=600)
        world.base.clock.forward(60)
        renewed = await world.renew(answer.task)
        assert renewed.identity.endpoint_socket != answer.identity.endpoint_socket
        assert renewed.identity.deadline == answer.identity.deadline
        assert not home(answer).exists()
        assert await world.svids(renewed.identity.endpoint_socket) == [task_id(answer.task)]

    run(act)


def test_after_a_restart_a_live_task_has_no_socket_until_it_is_renewed(tmp_path: Path) -> None:
    async def act() -> None:
        base = broker_alone()
        now = base.clock.now
        store = Store.open(tmp_path / "data" / "state.db")
        state = State.load(store, now)
        state.register_agents(AGENTS, now)
        async with task_world(base=base, tasks_given=state) as before:
            state.on_withdrawal(before.feed.publish)
            answer = await before.start()
            gone = home(answer)
        store.close()
        assert not gone.exists()

        store = Store.open(tmp_path / "data" / "state.db")
        state = State.load(store, now)
        async with task_world(base=base, tasks_given=state) as after:
            state.on_withdrawal(after.feed.publish)
            renewed = await after.renew(answer.task)
            assert await after.svids(renewed.identity.endpoint_socket) == [task_id(answer.task)]
            after.become(OTHER_UID)
            status, _ = await refusal(after.end(answer.task))
            assert status is Status.PERMISSION_DENIED  # whose task it is was remembered, too
            after.become(UID)
            async with watching(renewed.identity.endpoint_socket) as stream:
                await stream.recv_message()
                await after.end(answer.task)
                assert await ended(stream) is Status.PERMISSION_DENIED
        store.close()

    asyncio.run(act())


# ---------------------------------------------------------------- a key of the caller's own


def test_a_key_of_the_callers_own_never_comes_here() -> None:
    async def act(world: TaskWorld) -> None:
        key = SigningKey.generate()
        answer = await world.start(delivery=own_key(key))
        (leaf,) = answer.identity.certificate_chain
        svid = verify_x509_svid([leaf], world.broker.authority.roots, MESH, world.base.clock.now)
        assert (svid.spiffe_id, svid.certificate.public_key()) == (
            task_id(answer.task),
            key.private_key.public_key(),
        )
        assert answer.identity.endpoint_socket == ""
        assert len(answer.identity.bundle) == 1
        assert world.tasks.tasks[answer.task].thumbprint == svid.thumbprint
        renewed = await world.renew(answer.task, delivery=own_key())
        assert world.tasks.tasks[answer.task].thumbprint == thumbprint(renewed.identity.certificate_chain[0])
        assert world.tasks.tasks[answer.task].thumbprint != svid.thumbprint

    run(act)


@pytest.mark.parametrize("csr", ["", "csr", "-----BEGIN CERTIFICATE REQUEST-----\n"])
def test_a_request_that_proves_no_key(csr: str) -> None:
    async def act(world: TaskWorld) -> None:
        call = world.start(delivery=pb.Delivery(own_key={"csr": csr}))
        await refused(world, call, Status.INVALID_ARGUMENT, Code.REQUEST_MALFORMED)

    run(act)


def test_a_renewal_with_a_key_takes_the_place_of_the_socket() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        await world.renew(answer.task, delivery=own_key())
        assert not home(answer).exists()

    run(act)


# ---------------------------------------------------------------- one uid an agent


def test_without_a_private_socket_one_uid_gets_one_task_on_the_shared_socket() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start(delivery=shared())
        address = answer.identity.endpoint_socket
        assert address == f"unix://{world.shared}"
        assert await world.svids(address) == [RUNNER]
        world.become(AGENT_UID)
        assert await world.svids(address) == [task_id(answer.task)]
        call = world.jwt_svid(address, spiffe_id=str(RUNNER))
        assert (await refusal(call))[0] is Status.PERMISSION_DENIED
        async with watching(address) as stream:
            await stream.recv_message()
            world.tasks.end_task(answer.task, world.base.clock.now)
            assert await ended(stream) is Status.PERMISSION_DENIED

    run(act)


def test_a_uid_has_one_live_task() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start(delivery=shared())
        call = world.start(delivery=shared())
        record = await refused(world, call, Status.PERMISSION_DENIED, Code.TASK_MISMATCH)
        assert "another task" in record["detail"]
        await world.renew(answer.task, delivery=shared())
        await world.end(answer.task)
        after = await world.start(delivery=shared())
        world.become(AGENT_UID)
        assert await world.svids(after.identity.endpoint_socket) == [task_id(after.task)]

    run(act)


def test_a_uid_that_the_operator_did_not_list_for_the_agent() -> None:
    async def act(world: TaskWorld) -> None:
        for agent, uid in (("triage", OTHER_UID), ("triage", UID), ("resolver", AGENT_UID), ("triage", 0)):
            call = world.start(agent, delivery=shared(uid))
            await refused(world, call, Status.PERMISSION_DENIED, Code.AGENT_HOST)

    run(act)


def test_a_uid_is_free_again_after_a_start_that_failed() -> None:
    async def act(world: TaskWorld) -> None:
        world.tasks.broken = True
        await refusal(world.start(delivery=shared()))
        world.tasks.broken = False
        answer = await world.start(delivery=shared())
        renewed = await world.renew(answer.task)  # moves to a private socket
        world.become(AGENT_UID)
        assert (await refusal(world.svids(answer.identity.endpoint_socket)))[0] is Status.PERMISSION_DENIED
        assert await world.svids(renewed.identity.endpoint_socket) == [task_id(answer.task)]

    run(act)


# ---------------------------------------------------------------- pods


@dataclass
class FakePods:
    """The cluster's word on tokens."""

    pods: dict[str, PodIdentity | Exception] = field(default_factory=dict)

    async def attest(self, token: str) -> PodIdentity:
        found = self.pods.get(token, AttestationError("not a token of ours"))
        if isinstance(found, Exception):
            raise found
        return found


ONE = PodIdentity("agents", "runner", "runner-1", "3f0e-1")
TWO = replace(ONE, pod_name="runner-2", pod_uid="3f0e-2")


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def with_pods(act: Callable[[TaskWorld], Awaitable[None]]) -> None:
    pods = FakePods({"one": ONE, "two": TWO, "later": IssuanceUnavailableError("no answer")})
    run(act, pods=pods)


def test_a_pod_starts_a_task_and_it_alone_renews_and_ends_it() -> None:
    async def act(world: TaskWorld) -> None:
        world.become(UID + 9)  # a user that nobody registered
        answer = await world.start(metadata=bearer("one"))
        task = world.tasks.tasks[answer.task]
        assert (task.workload, task.origin) == (POD_WORKLOAD, "pod:3f0e-1")
        for method in (world.renew, world.end):
            call = method(answer.task, metadata=bearer("two"))
            await refused(world, call, Status.PERMISSION_DENIED, Code.TASK_MISMATCH)
        await world.renew(answer.task, metadata=bearer("one"))
        await world.end(answer.task, metadata=bearer("one"))

    with_pods(act)


@dataclass
class SlowPods(FakePods):
    """A cluster that answers to what is not a token when it is let."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def attest(self, token: str) -> PodIdentity:
        self.asked += 1
        if token not in self.pods:
            await self.gate.wait()
        return await super().attest(token)


def test_a_user_who_floods_the_cluster_with_false_tokens_keeps_no_pod_of_another_user_out() -> None:
    pods = SlowPods({"one": ONE})

    async def act(world: TaskWorld) -> None:
        world.become(UID + 8)
        flood = [asyncio.create_task(world.start(metadata=bearer(f"false-{n}"))) for n in range(60)]
        for refused_one in itertools.islice(asyncio.as_completed(flood), 40):
            with suppress(GRPCError):
                await refused_one
        assert pods.asked == 20
        world.become(UID + 9)
        await world.start(metadata=bearer("one"))
        pods.gate.set()
        answers = await asyncio.gather(*flood, return_exceptions=True)
        assert {answer.status for answer in answers if isinstance(answer, GRPCError)} == {
            Status.UNAVAILABLE,
            Status.PERMISSION_DENIED,
        }

    run(act, pods=pods)


def test_a_pod_whose_user_the_kernel_cannot_translate_brings_a_key() -> None:
    async def act(world: TaskWorld) -> None:
        world.become(OVERFLOW_UID)
        call = world.start(metadata=bearer("one"))
        await refused(world, call, Status.INVALID_ARGUMENT, Code.REQUEST_MALFORMED)
        await world.start(metadata=bearer("one"), delivery=own_key())

    with_pods(act)


def test_a_process_is_not_taken_for_a_pod_of_the_same_workload() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start(metadata=bearer("one"))
        await refused(world, world.end(answer.task), Status.PERMISSION_DENIED, Code.TASK_MISMATCH)
        mine = await world.start()
        call = world.end(mine.task, metadata=bearer("one"))
        await refused(world, call, Status.PERMISSION_DENIED, Code.TASK_MISMATCH)

    with_pods(act)


@pytest.mark.parametrize(
    "metadata",
    [
        {"authorization": "Bearer unknown"},
        {"authorization": "Basic one"},
        {"authorization": "Bearer"},
        [("authorization", "Bearer one"), ("authorization", "Bearer two")],
    ],
)
def test_a_token_that_does_not_count_is_refused_and_the_uid_is_not_asked_instead(metadata: Any) -> None:
    async def act(world: TaskWorld) -> None:
        call = world.start(metadata=metadata)
        await refused(world, call, Status.PERMISSION_DENIED, Code.PEER_MISSING)

    with_pods(act)


def test_a_cluster_that_does_not_answer() -> None:
    async def act(world: TaskWorld) -> None:
        call = world.start(metadata=bearer("later"))
        await refused(world, call, Status.UNAVAILABLE, Code.PROVIDER_UNAVAILABLE)

    with_pods(act)


def test_a_token_where_no_cluster_is_configured() -> None:
    async def act(world: TaskWorld) -> None:
        await refused(world, world.start(metadata=bearer("one")), Status.PERMISSION_DENIED, Code.PEER_MISSING)

    run(act)


# ---------------------------------------------------------------- the answer


def test_a_refusal_carries_its_code_its_advice_and_its_record() -> None:
    async def act(world: TaskWorld) -> None:
        async with Channel(path=str(world.shared)) as channel:
            request = pb.EndTaskRequest(task="01ARZ3NDEKTSV4RRFFQ69G5FAV")
            path, cardinality = f"/{SERVICE}/EndTask", Cardinality.UNARY_UNARY
            async with channel.request(path, cardinality, type(request), pb.EndTaskResponse) as stream:
                await stream.send_message(request, end=True)
                with pytest.raises(GRPCError):
                    await stream.recv_initial_metadata()
                trailers = dict(stream.trailing_metadata or {})
        assert trailers["deputy-code"] == "DPT-TASK-UNKNOWN"
        assert trailers["deputy-fix"] == "start a task"
        assert trailers["deputy-decision-id"] == world.sink.last["id"]

    run(act)


def test_e_5_a_stock_grpc_client_finds_and_calls_the_service() -> None:
    """E-5: reflection shows the service and its messages, and grpcio starts a task with them alone."""

    async def act(world: TaskWorld) -> None:
        def call() -> Any:
            with grpc.insecure_channel(f"unix:{world.shared}") as channel:
                found = ProtoReflectionDescriptorDatabase(channel)
                assert {SERVICE, "SpiffeWorkloadAPI"} <= set(found.get_services())
                method = DescriptorPool(found).FindServiceByName(SERVICE).FindMethodByName("StartTask")
                request, answer = (GetMessageClass(each) for each in (method.input_type, method.output_type))
                start = channel.unary_unary(
                    f"/{SERVICE}/StartTask",
                    request_serializer=request.SerializeToString,
                    response_deserializer=answer.FromString,
                )
                return start(request(agent="nightly-report", lifetime_seconds=60), timeout=20)

        answer = await asyncio.to_thread(call)
        assert answer.identity.spiffe_id == str(task_id(answer.task, "nightly-report"))

    run(act)


def test_the_token_for_another_audience_is_not_signed() -> None:
    async def act(world: TaskWorld) -> None:
        answer = await world.start()
        call = world.jwt_svid(answer.identity.endpoint_socket, audience="https://elsewhere.example")
        assert (await refusal(call))[0] is Status.PERMISSION_DENIED
        assert await world.jwt_svid(answer.identity.endpoint_socket, TICKETS)
        issued: Any = world.sink.last["issued"]
        assert issued["kind"] == "jwt-svid"

    run(act)
