"""A client that logged in is looked at again before it is given anything: as it was, or anew."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from authz.broker.client import is_as_it_was, running
from authz.errors import AuthenticationError
from identity.caller import Hop
from identity.withdrawal import Withdrawal
from tests.broker_fakes import World, run


def _contain(world: World) -> None:
    withdrawal = Withdrawal("human", "https://idp.example#someone", None, "test", "test", world.clock.now)
    world.tasks.withdrawals = world.tasks.withdrawals.plus(withdrawal)


@pytest.mark.parametrize(
    "change",
    [
        lambda world, task: world.tasks.end_task(task, world.clock.now),
        lambda world, task: world.tasks.set_thumbprint(task, "x" * 43),
        lambda world, task: world.tasks.tasks.pop(task),
        lambda world, task: world.tasks.agents.pop("triage"),
        lambda world, task: world.tasks.agents.update(
            triage=replace(world.tasks.agents["triage"], hosts=frozenset())
        ),
        lambda world, task: _contain(world),
    ],
    ids=["task ended", "key renewed", "task gone", "agent retired", "agent changed", "somebody contained"],
)
def test_whatever_changed_is_looked_at_anew(change: Callable[[World, str], object]) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        found = running(Hop("triage", task.id), world.tasks, world.clock.now)
        assert is_as_it_was(found, world.tasks, world.clock.now)
        change(world, task.id)
        assert not is_as_it_was(found, world.tasks, world.clock.now)

    run(act)


def test_what_ends_by_itself_is_not_as_it_was() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        hop, agent = Hop("triage", task.id), world.tasks.agents["triage"]
        found = running(hop, world.tasks, world.clock.now)
        assert is_as_it_was(found, world.tasks, found.task.deadline - timedelta(microseconds=1))
        assert not is_as_it_was(found, world.tasks, found.task.deadline)

        end = world.clock.now + timedelta(seconds=1)
        world.tasks.agents["triage"] = replace(agent, expires_at=end)
        found = running(hop, world.tasks, world.clock.now)
        assert is_as_it_was(found, world.tasks, world.clock.now)
        assert not is_as_it_was(found, world.tasks, end)
        with pytest.raises(AuthenticationError):
            running(hop, world.tasks, end)

    run(act)
