"""Nobody is stopped or let go without a reason: every kind, through every door."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from authz.codes import Code
from identity.withdrawal import CONTAINED, KINDS
from tests.admin_world import OTHER_HOST, uri
from tests.administration_world import DEPLOY, LOCAL, OLGA, Play, Who, World, play_in
from tests.state_world import task
from tests.test_administration import no, ok

DOORS = ("private socket", "person", "workload")
NO_REASON: tuple[Mapping[str, object], ...] = ({}, {"reason": ""}, {"reason": " "}, {"reason": None})


@pytest.fixture
def play(tmp_path: Path) -> Play:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return play_in(directory)


def through(door: str, world: World) -> Who:
    match door:
        case "private socket":
            return LOCAL
        case "person":
            return OLGA
        case _:
            return world.workload(DEPLOY)


async def subject_of(kind: str, world: World) -> str:
    """Something of the kind that can be withdrawn."""
    now = world.brokers.clock.now
    run = replace(task(1, "listed"), human=uri("alice"), started_at=now, deadline=now + timedelta(hours=1))
    match kind:
        case "task":
            world.state.start_task(run, now)
            return run.id
        case "grant":
            return await world.grant()
        case "agent":
            return "travel"
        case "workload":
            return str(OTHER_HOST)
        case "human":
            return uri("mallory")
        case _:
            return "j" * 22


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_is_withdrawn_without_a_reason(kind: str, door: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        who, order = through(door, world), {"kind": kind, "subject": await subject_of(kind, world)}
        for missing in NO_REASON:
            no(await world.post(who, "/withdrawals", {**order, **missing}), 400, Code.REQUEST_MALFORMED)
            assert world.last["outcome"] == "refused"
            assert world.state.withdrawals.items == ()
        ok(await world.post(who, "/withdrawals", {**order, "reason": "seen in a log"}), 201)
        assert world.last["reason"] == "seen in a log"

    play(scenario)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", sorted(CONTAINED))
def test_nobody_is_released_without_a_reason(kind: str, door: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        who, order = through(door, world), {"kind": kind, "subject": await subject_of(kind, world)}
        ok(await world.post(LOCAL, "/withdrawals", {**order, "reason": "odd"}), 201)
        for missing in NO_REASON:
            no(await world.post(who, "/releases", {**order, **missing}), 400, Code.REQUEST_MALFORMED)
            assert len(world.state.withdrawals.items) == 1
        ok(await world.post(who, "/releases", {**order, "reason": "looked into it"}))
        assert world.state.withdrawals.items == ()

    play(scenario)


@pytest.mark.parametrize("door", DOORS)
def test_no_agent_is_retired_and_no_grant_of_another_revoked_without_a_reason(door: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        who, grant = through(door, world), await world.grant()
        for path in (f"/grants/{grant}/revoke", "/agents/travel/retire"):
            for missing in NO_REASON:
                no(await world.post(who, path, missing), 400, Code.REQUEST_MALFORMED)
        assert world.state.withdrawals.items == ()
        assert world.state.agent("travel") is not None
        ok(await world.post(who, f"/grants/{grant}/revoke", {"reason": "over"}))
        ok(await world.post(who, "/agents/travel/retire", {"reason": "over"}))
        assert world.state.agent("travel") is None

    play(scenario)
