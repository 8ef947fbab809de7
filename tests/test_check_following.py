"""The flow of a replica: it decides by nothing that it read too long ago, and asks again for what is new."""

import asyncio
from dataclasses import replace

import pytest

from authz.check import check
from authz.errors import StoreError
from authz.pb import ext_authz_pb2 as pb
from tests.fakes import GATEWAY, NOW, Run, World, reason
from tests.following import FakeFollowing

OK, DENIED = 0, 7


def _nothing() -> None: ...


def _fails(*_: object) -> None:
    raise StoreError("the state cannot be read")


def _ask(world: World, data: bytes, following: FakeFollowing | None) -> pb.CheckResponse:
    flow = replace(world.flow(), following=following)
    return pb.CheckResponse.FromString(asyncio.run(check(data, GATEWAY, flow)))


def _call(world: World, run: Run, **more: object) -> bytes:
    return world.request(world.token(run, **more), run)  # type: ignore[arg-type]  # fields of a Delegation


def _end(world: World, run: Run) -> None:
    world.rights.tasks[run.task.id] = replace(run.task, ended_at=NOW)
    world.rights.epoch += 1


def test_who_cannot_read_what_it_follows_denies_as_stale() -> None:
    world = World()
    run = world.run("triage")
    response = _ask(world, _call(world, run), FakeFollowing([_fails]))
    assert (response.status.code, reason(response)) == (DENIED, "DPT-STALE")
    assert response.denied_response.status.code == 503
    assert not world.policy.asked


def test_what_cannot_be_read_again_before_the_answer_takes_the_allow_back() -> None:
    """A process that was stopped meanwhile does not know what happened: its allow is not given out."""
    world = World()
    run = world.run("triage")
    response = _ask(world, _call(world, run), FakeFollowing([_nothing, _fails]))
    assert (response.status.code, reason(response)) == (DENIED, "DPT-STALE")
    assert [record["kind"] for record in world.records()] == ["decision", "withdrawn"]


def test_a_withdrawal_that_the_last_reading_finds_wins() -> None:
    world = World()
    run = world.run("triage")
    response = _ask(world, _call(world, run), FakeFollowing([_nothing, lambda: _end(world, run)]))
    assert reason(response) == "DPT-WITHDRAWN"


def test_a_withdrawal_that_the_first_reading_finds_is_no_reason_to_deny_others() -> None:
    world = World()
    run, other = world.run("triage"), world.run("triage")
    response = _ask(world, _call(world, run), FakeFollowing([lambda: _end(world, other)]))
    assert response.status.code == OK


def test_a_token_of_a_later_epoch_waits_until_it_is_known() -> None:
    """New enemy: the token was issued after a withdrawal that this replica has not read."""
    world = World()
    run, victim = world.run("triage"), world.run("resolver")

    def catches_up(_: int) -> None:
        _end(world, victim)

    following = FakeFollowing(reaches=catches_up)
    data = world.request(world.token(run, victim, min_epoch=2), run)
    assert reason(_ask(world, data, following)) == "DPT-TASK-ENDED"
    assert following.reached == [2]


@pytest.mark.parametrize("following", [None, FakeFollowing(reaches=_fails)])
def test_a_token_of_an_epoch_that_is_not_reached_is_stale(following: FakeFollowing | None) -> None:
    """Without `following` this is a state that lost its end: a backup was restored."""
    world = World()
    run = world.run("triage")
    assert reason(_ask(world, _call(world, run, min_epoch=2), following)) == "DPT-STALE"


def test_a_token_of_a_known_epoch_waits_for_nothing() -> None:
    world = World()
    run = world.run("triage")
    following = FakeFollowing(reaches=_fails)
    assert _ask(world, _call(world, run, min_epoch=1), following).status.code == OK
    assert following.reached == []


def test_a_run_that_began_a_moment_ago_is_learnt_and_counts() -> None:
    world = World()
    run = world.run("triage")
    unknown = world.rights.tasks.pop(run.task.id)

    def learns() -> None:
        world.rights.tasks[run.task.id] = unknown

    assert _ask(world, _call(world, run), FakeFollowing(learns=learns)).status.code == OK


def test_an_agent_that_was_registered_a_moment_ago_is_learnt_and_counts() -> None:
    world = World()
    run = world.run("triage")
    unknown = world.rights.agents.pop("triage")

    def learns() -> None:
        world.rights.agents["triage"] = unknown

    assert _ask(world, _call(world, run), FakeFollowing(learns=learns)).status.code == OK


def test_what_stays_unknown_is_refused_after_one_more_reading() -> None:
    world = World()
    run = world.run("triage")
    del world.rights.tasks[run.task.id]
    following = FakeFollowing()
    assert reason(_ask(world, _call(world, run), following)) == "DPT-TASK-UNKNOWN"
    assert following.asked == 1


def test_what_cannot_be_learnt_is_stale() -> None:
    world = World()
    run = world.run("triage")
    del world.rights.tasks[run.task.id]
    assert reason(_ask(world, _call(world, run), FakeFollowing(learns=_fails))) == "DPT-STALE"


def test_no_other_refusal_makes_a_replica_read() -> None:
    """A flood of stolen or expired tokens costs no reading."""
    world = World()
    run, thief = world.run("triage"), world.run("triage")
    following = FakeFollowing()
    assert reason(_ask(world, world.request(world.token(run), thief), following)) == "DPT-NOT-BOUND"
    assert following.asked == 0
