"""The broker over the real store: what is taken back stays taken back, over a start, too: CA-07, TX-10."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from authz.broker.app import broker_app
from authz.broker.token_request import ACCESS_TOKEN
from authz.codes import Code
from authz.store.snapshot import State
from tests.broker_fakes import AGENTS, TICKETS_SERVER, World, broker_alone, consent, serving_tls
from tests.state_world import again, broken_disk, open_store

CONTINUED = {"subject_token_type": ACCESS_TOKEN}


def run_stored(tmp_path: Path, act: Callable[[World, State], Awaitable[None]]) -> None:
    """Run one scenario against a broker whose rights are on a disk."""

    async def scenario() -> None:
        world = broker_alone()
        now = world.clock.now
        state = State.load(open_store(tmp_path), now)
        state.register_agents(AGENTS, now)
        for agent in ("triage", "resolver"):
            granted = consent(agent, created_at=now, expires_at=now + timedelta(hours=8))
            state.add_consent(granted, now)
        use(world, state)
        async with serving_tls(broker_app(world.broker, lambda: True), world.broker.authority, now) as base:
            world.base = base
            await act(world, state)

    asyncio.run(scenario())


def use(world: World, state: State) -> None:
    object.__setattr__(world.broker, "tasks", state)


async def is_active(world: World, token: str) -> bool:
    service = world.workload(TICKETS_SERVER)
    response = await world.send("POST", "/introspect", service, data={"token": token})
    return bool(response.json()["active"])


def test_ca07_a_revoked_token_and_its_children_stay_so_over_a_start(tmp_path: Path) -> None:
    """CA-07: the child names its parent, and the store remembers the parent."""

    async def act(world: World, state: State) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first)
        child = str((await world.delegate(first, token, second)).json()["access_token"])
        other = await world.token(first)
        assert await is_active(world, child)
        response = await world.send("POST", "/revoke", first.identity, data={"token": token})
        assert response.status_code == 200
        epoch = state.epoch
        # Again and again costs nothing.
        await world.send("POST", "/revoke", first.identity, data={"token": token})
        assert state.epoch == epoch
        use(world, again(state, tmp_path, world.clock.now))
        assert [await is_active(world, each) for each in (token, child, other)] == [False, False, True]

    run_stored(tmp_path, act)


def test_ca07_on_a_disk_that_went_read_only_it_is_revoked_and_not_said_to_be(tmp_path: Path) -> None:
    """CA-07: the client comes again; meanwhile nobody acts by the token."""

    async def act(world: World, state: State) -> None:
        task = await world.start()
        token = await world.token(task)
        with broken_disk(state):
            response = await world.send("POST", "/revoke", task.identity, data={"token": token})
        assert (response.status_code, response.json()["error"]) == (503, "temporarily_unavailable")
        assert not await is_active(world, token)

    run_stored(tmp_path, act)


def test_tx10_a_grant_that_is_revoked_takes_what_came_of_it(tmp_path: Path) -> None:
    """TX-10: tokens, and what was handed on; nothing new comes of it either."""

    async def act(world: World, state: State) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first)
        child = str((await world.delegate(first, token, second)).json()["access_token"])
        state.revoke_consent(consent("triage").id, world.clock.now, by="lead", reason="changed my mind")
        assert not await is_active(world, token)
        assert not await is_active(world, child)
        response = await world.exchange(first)
        assert response.json()["deputy_code"] == Code.CONSENT_MISSING.value
        response = await world.exchange(second, child, **CONTINUED)
        assert response.json()["deputy_code"] == Code.REVOKED.value
        # The second agent has a grant of its own, and begins anew with it.
        assert (await world.exchange(second)).status_code == 200

    run_stored(tmp_path, act)
