"""How the cost of a call grows.

- Grants and registry of 1, 10 and 50 times the size, with the same call: no step walks over either.
- Chains of 1 to 8 agents: each hop costs about the same.
"""

from collections.abc import Iterable
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path

from identity.caller import MAX_DEPTH, Agent
from tests.bench.grants import other_agents
from tests.bench.measure import Cost, Work, costs
from tests.bench.place import GATEWAY, RUNNER, Place, open_place
from tests.bench.steps import run

CALLS = 32


async def measure_scales(directory: Path, scales: Iterable[int], *, seconds: float) -> dict[int, float]:
    """Return by how much a call costs more with ever larger grants and registries, as a ratio."""
    return {scale: await _against_one(directory, scale, seconds) for scale in scales}


async def _against_one(directory: Path, scale: int, seconds: float) -> float:
    # Two at a time: the embedded engine keeps the machines of a policy and of the one before it.
    async with AsyncExitStack() as stack:
        arms: dict[str, Work] = {}
        for name, size in (("one", 1), ("more", scale)):
            home = directory / f"scale-{scale}-{name}"
            opened = await stack.enter_async_context(open_place(home, scale=size))
            place = await opened.without_waiting()
            register_others(place, size)
            arms[name] = flow_of(place, 1)
        found = costs(arms, seconds=seconds, rounds=24)
        return found["more"].best / found["one"].best


def measure_chains(place: Place, *, seconds: float) -> dict[int, Cost]:
    """Time the full flow with ever longer chains."""
    arms = {str(depth): flow_of(place, depth) for depth in range(1, MAX_DEPTH + 1)}
    return {int(name): cost for name, cost in costs(arms, seconds=seconds, rounds=24).items()}


def flow_of(place: Place, depth: int) -> Work:
    """Return the full flow over calls of one presenter."""
    turn = cycle(place.calls(place.presenter(depth), CALLS))
    return lambda: run(place.check(next(turn), GATEWAY))


def register_others(place: Place, scale: int) -> None:
    """Add agents that no call is about to the registry."""
    hosts = frozenset({RUNNER})
    others = [
        Agent(name, "other", "other", "something else", "observer", hosts=hosts)
        for name in other_agents(scale)
    ]
    place.parts.state.register_agents([*place.config.to_agents(), *others], place.parts.clock())
