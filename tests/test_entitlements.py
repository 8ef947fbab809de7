"""Who is entitled to what on each kind of socket, and the record of it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authz.broker.refusal import RefusedError
from authz.identity_service.agent_uids import AgentUids
from authz.identity_service.entitlements import (
    OneTask,
    OneWorkload,
    RegisteredEntitlements,
    one_workload,
    running_task,
)
from authz.identity_service.recorder import AuditRecorder, WatchedEntitlements
from identity.caller import Task
from identity.entitlement import Entitlement, Issuance, Peer
from identity.errors import IssuanceUnavailableError, NotEntitledError
from identity.names import new_ulid
from identity.registration import AgentUid, Registration, Registrations
from identity.spiffe import SpiffeId
from identity.withdrawal import Kind, Withdrawal, Withdrawals
from tests.broker_fakes import MESH, RUNNER, World, broker_alone
from tests.task_world import entitlement_of

WEB = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/web")
PEER = Peer(7, 1000, 1000)
AGENT = Peer(8, 2001, 2001)
STRANGER = Peer(9, 3000, 3000)


@pytest.fixture
def world() -> World:
    return broker_alone()


def task_of(world: World, agent: str = "triage", seconds: int = 600, **more: Any) -> Task:
    now = world.clock.now
    task_id = new_ulid(now, world.broker.entropy(10))
    task = Task(task_id, agent, None, RUNNER, now, now + timedelta(seconds=seconds), **more)
    world.tasks.tasks[task_id] = task
    return task


def shared(world: World) -> RegisteredEntitlements:
    workloads = [
        Registration.parse(str(RUNNER), MESH, uid=1000, hint="runner", dns_names=["runner.local"]),
        Registration.parse(str(WEB), MESH, uid=1000, gid=1000),
        Registration.parse(str(WEB), MESH, uid=4000, executable_sha256="ab" * 32),
    ]
    registrations = Registrations.of(workloads, [AgentUid.parse(2001, "triage")])
    uids = AgentUids(registrations.agents, lambda task: running_task(task, world.broker) is not None)
    return RegisteredEntitlements(registrations, uids, world.broker)


# ---------------------------------------------------------------- the shared socket


def test_a_process_gets_what_it_is_registered_for_the_default_first(world: World) -> None:
    found = shared(world).of(PEER)
    assert found == (Entitlement(RUNNER, "runner", ("runner.local",)), Entitlement(WEB))
    assert shared(world).of(Peer(7, 1000, 9)) == found[:1]


def test_who_is_not_registered_gets_nothing(world: World) -> None:
    for peer in (STRANGER, Peer(1, 0, 0), Peer(1, 4000, 4000), Peer(1, 4000, 4000, "cd" * 32)):
        assert shared(world).of(peer) == ()


def test_a_workload_never_gets_the_tasks_that_it_runs(world: World) -> None:
    for _ in range(50):
        task_of(world, origin="uid:1000")
    assert {entitlement.task for entitlement in shared(world).of(PEER)} == {None}


def test_an_agents_uid_gets_its_one_task_and_no_other(world: World) -> None:
    entitlements, task = shared(world), task_of(world)
    assert entitlements.of(AGENT) == ()
    asyncio.run(entitlements.agent_uids.claim(2001, "triage", task.id).keep())
    assert entitlements.of(AGENT) == (entitlement_of(task, hint="triage"),)
    task_of(world)
    assert len(entitlements.of(AGENT)) == 1
    world.tasks.end_task(task.id, world.clock.now)
    assert entitlements.of(AGENT) == ()


def test_a_claim_that_is_not_kept_gives_nothing_and_blocks_no_longer_than_it_lives(world: World) -> None:
    uids = shared(world).agent_uids
    one, other = task_of(world), task_of(world)
    claim = uids.claim(2001, "triage", one.id)
    assert uids.task_of(2001) is None
    for task in (one, other):
        with pytest.raises(RefusedError, match="another task"):
            uids.claim(2001, "triage", task.id)
    asyncio.run(claim.drop())
    kept = uids.claim(2001, "triage", other.id)
    asyncio.run(claim.drop())  # late, and no longer its own
    with pytest.raises(RefusedError):
        uids.claim(2001, "triage", one.id)
    asyncio.run(kept.keep())
    assert uids.task_of(2001) == other.id
    uids.release(other.id)
    assert uids.task_of(2001) is None


# ---------------------------------------------------------------- sockets of one


def test_a_socket_of_one_workload_asks_for_no_other_selector(world: World) -> None:
    only = OneWorkload(Registration.parse(str(WEB), MESH, own_socket=True), Withdrawals)
    assert {only.of(peer) for peer in (PEER, AGENT, STRANGER)} == {(Entitlement(WEB),)}
    narrower = OneWorkload(Registration.parse(str(WEB), MESH, own_socket=True, uid=1000), Withdrawals)
    assert (narrower.of(PEER), narrower.of(STRANGER)) == ((Entitlement(WEB),), ())


def test_a_private_socket_gives_one_task_to_one_uid(world: World) -> None:
    task, other = task_of(world), task_of(world)
    private = OneTask(task.id, 1000, world.broker)
    assert private.of(PEER) == (entitlement_of(task, hint="triage"),)
    assert private.of(AGENT) == private.of(Peer(1, 0, 0)) == ()
    assert other.id not in str(private.of(PEER))


ENDS: list[Callable[[World, Task], object]] = [
    lambda world, task: world.tasks.end_task(task.id, world.clock.now),
    lambda world, _: world.clock.forward(600),
    lambda world, _: world.tasks.retire("triage"),
    lambda world, _: world.tasks.change("triage", expires_at=world.clock.now),
    lambda world, _: world.tasks.change("triage", hosts=frozenset({WEB})),
    lambda world, task: world.tasks.tasks.pop(task.id),
]


@pytest.mark.parametrize("end", ENDS)
def test_a_task_that_may_not_act_any_more_has_nothing(
    world: World, end: Callable[[World, Task], object]
) -> None:
    task = task_of(world)
    private = OneTask(task.id, 1000, world.broker)
    assert private.of(PEER)
    end(world, task)
    assert private.of(PEER) == ()


PAT = "https://idp.example#pat"
WITHDRAWN: list[tuple[Kind, Callable[[Task], str]]] = [
    ("human", lambda _: PAT),
    ("agent", lambda task: task.agent),
    ("task", lambda task: task.id),
    ("workload", lambda task: str(task.workload)),
]


@pytest.mark.parametrize(("kind", "subject"), WITHDRAWN)
def test_what_was_withdrawn_gets_no_identity_from_then_on(
    world: World, kind: Kind, subject: Callable[[Task], str]
) -> None:
    """The kill switch stops issuance as well: of a run for a person too, whom no SVID names."""
    task = replace(task_of(world), human=PAT)
    world.tasks.tasks[task.id] = task
    private, now = OneTask(task.id, 1000, world.broker), world.clock.now
    assert private.of(PEER)
    world.tasks.withdraw(Withdrawal(kind, subject(task), None, "drill", "operator", now, None), now)
    assert private.of(PEER) == ()


def test_who_was_signed_out_has_runs_of_later_only(world: World) -> None:
    task, now = replace(task_of(world), human=PAT), world.clock.now
    world.tasks.tasks[task.id] = task
    began = int(task.started_at.timestamp())
    private = OneTask(task.id, 1000, world.broker)
    for before, is_entitled in ((began - 1, True), (began, False)):
        end = now + timedelta(days=1)
        world.tasks.withdraw(Withdrawal("human", PAT, before, "laptop lost", "operator", now, end), now)
        assert bool(private.of(PEER)) == is_entitled


def test_an_identity_ends_with_the_registration_of_its_agent(world: World) -> None:
    task, soon = task_of(world), world.clock.now + timedelta(seconds=60)
    world.tasks.change("triage", expires_at=soon)
    assert OneTask(task.id, 1000, world.broker).of(PEER)[0].not_after == soon


def test_who_starts_a_task_is_one_workload(world: World) -> None:
    assert one_workload(shared(world).of(Peer(7, 1000, 9))) == RUNNER
    with pytest.raises(RefusedError, match="no workload is registered"):
        one_workload(())
    with pytest.raises(RefusedError, match="2 workloads"):
        one_workload(shared(world).of(PEER))


# ---------------------------------------------------------------- the record


def test_an_svid_of_a_workload_is_recorded_before_it_is_issued(world: World) -> None:
    end = world.clock.now + timedelta(seconds=60)
    asyncio.run(AuditRecorder(world.broker).issued(Issuance("x509-svid", Entitlement(RUNNER), end, "t" * 43)))
    record: Any = world.sink.last
    assert (record["kind"], record["effect"], record["peer"]) == ("issuance", "allow", str(RUNNER))
    assert record["action"]["method"] == "workload-api/x509-svid"
    assert (record["issued"]["kind"], record["issued"]["subject"]) == ("x509-svid", str(RUNNER))
    assert (record["task"], record["agent"]) == (None, None)


@pytest.mark.parametrize("kind", ["x509-svid", "jwt-svid", "wit-svid"])
def test_an_svid_of_a_task_is_recorded_with_who_stands_behind_it(world: World, kind: Any) -> None:
    task = task_of(world, "nightly-report", origin="pod:1")
    mark = None if kind == "jwt-svid" else "t" * 43
    asyncio.run(AuditRecorder(world.broker).issued(Issuance(kind, entitlement_of(task), task.deadline, mark)))
    record: Any = world.sink.last
    assert (record["agent"], record["task"], record["autonomous"]) == ("nightly-report", task.id, True)
    assert (record["peer"], record["detail"]) == (str(RUNNER), "attested pod:1")
    assert record["issued"]["kind"] == kind
    # Only a certificate is what tokens are bound to.
    assert world.tasks.tasks[task.id].thumbprint == ("t" * 43 if kind == "x509-svid" else None)


def test_nothing_is_issued_without_a_record(world: World) -> None:
    world.sink.broken = True
    task = task_of(world)
    for entitlement in (Entitlement(RUNNER), entitlement_of(task)):
        with pytest.raises(IssuanceUnavailableError):
            asyncio.run(
                AuditRecorder(world.broker).issued(
                    Issuance("x509-svid", entitlement, task.deadline, "t" * 43)
                )
            )
    assert world.tasks.tasks[task.id].thumbprint is None


def test_a_task_that_is_over_gets_nothing_and_leaves_no_record(world: World) -> None:
    task = task_of(world)
    world.tasks.end_task(task.id, world.clock.now)
    with pytest.raises(NotEntitledError):
        asyncio.run(
            AuditRecorder(world.broker).issued(Issuance("jwt-svid", entitlement_of(task), task.deadline))
        )
    assert world.sink.entries == []


@pytest.mark.parametrize("kind", ["x509-svid", "jwt-svid"])
def test_a_task_that_ends_meanwhile_gets_nothing_and_the_log_says_so(world: World, kind: Any) -> None:
    task = task_of(world)
    world.sink.meanwhile = lambda: world.tasks.end_task(task.id, world.clock.now)
    with pytest.raises(NotEntitledError):
        asyncio.run(
            AuditRecorder(world.broker).issued(Issuance(kind, entitlement_of(task), task.deadline, "t" * 43))
        )
    first, second = world.sink.entries
    assert (first.kind, second.kind) == ("issuance", "withdrawn")
    assert (second.fields["withdraws"], second.fields["code"]) == (first.id, "DPT-TASK-ENDED")


def test_a_certificate_that_cannot_be_noted_is_not_issued(world: World) -> None:
    task = task_of(world)
    world.tasks.broken = True
    with pytest.raises(IssuanceUnavailableError):
        asyncio.run(
            AuditRecorder(world.broker).issued(
                Issuance("x509-svid", entitlement_of(task), task.deadline, "t" * 43)
            )
        )
    assert [entry.kind for entry in world.sink.entries] == ["issuance", "withdrawn"]


# ---------------------------------------------------------------- strangers


def test_strangers_on_a_socket_leave_few_records_and_a_count(world: World) -> None:
    async def act() -> None:
        watched = WatchedEntitlements(shared(world), world.broker)
        assert watched.of(PEER)
        for _ in range(1000):
            assert watched.of(STRANGER) == ()
        await asyncio.sleep(0)
        (summary,) = world.broker.strangers.due(world.clock.now, final=True)
        assert (len(world.sink.entries), summary.count) == (10, 990)
        assert all(entry.of_stranger for entry in world.sink.entries)
        assert world.sink.last["peer"] == "uid:3000"

    asyncio.run(act())


def test_a_refusal_that_cannot_be_recorded_is_counted(world: World) -> None:
    async def act() -> None:
        world.sink.broken = True
        WatchedEntitlements(shared(world), world.broker).of(STRANGER)
        await asyncio.sleep(0)
        (summary,) = world.broker.strangers.due(world.clock.now, final=True)
        assert summary.count == 1

    asyncio.run(act())


def test_the_process_of_a_task_that_is_over_is_no_stranger(world: World) -> None:
    async def act() -> None:
        task = task_of(world)
        watched = WatchedEntitlements(OneTask(task.id, 1000, world.broker), world.broker)
        world.tasks.end_task(task.id, world.clock.now)
        assert watched.of(PEER) == watched.of(AGENT) == ()
        await asyncio.sleep(0)
        assert [entry.fields["peer"] for entry in world.sink.entries] == ["uid:2001"]

    asyncio.run(act())
