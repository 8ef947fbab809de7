"""A list on its way through a guard: by `json.loads` of the same body in the same run, and in microseconds.

- `first` reads a list that nobody has seen; `known` one whose text was there before, for whichever request.
- `judged` is `known` with pins, which want the hash of each tool, and with the shipped policy, which has
  answered this caller before. `event` is `judged` with the list in a stream of events.
- Everything else is as it is in use: a guard of its own for each answer, whose caller is looked up each time.
"""

import json
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar

from authz.answers.guard import Guard, GuardPorts
from authz.answers.known_lists import KnownLists
from authz.headers import Headers
from authz.pins.declared import Declared
from authz.pins.port import PinMode, Pins
from authz.policy.embedded import EmbeddedPolicy
from authz.policy.grants import Grants
from authz.policy.modules import shipped_modules
from authz.policy.port import Policy, Query
from tests.answers_world import EVENTS, JSON, AnswersWorld, operation_of
from tests.bench.grants import CLASSES, SERVICE, grants_yaml
from tests.bench.inspection_bodies import LIST, bodies
from tests.bench.measure import Cost, Work, costs
from tests.fakes import FakePolicy, names_of

ARMS: Final = ("bare", "first", "known", "judged", "event")
ROUNDS_A_SECOND: Final = 60

_Found = TypeVar("_Found")


class _AllPinned:
    """Pins without a file."""

    async def require(self, service: str, tool: str, mode: PinMode) -> None:
        """Accept it."""

    async def learn(
        self, service: str, declared: Sequence[Declared], mode: PinMode, now: datetime
    ) -> frozenset[str]:
        """Hide nothing."""
        del service, declared, mode, now
        return frozenset()


class _AllVisible(FakePolicy):
    """A policy that costs nothing, and remembers nothing."""

    async def visible(self, query: Query) -> frozenset[str]:
        """Hide nothing."""
        return frozenset(names_of(query))


@dataclass(frozen=True, slots=True)
class _Arm:
    """One way to take the list."""

    world: AnswersWorld
    body: bytes
    is_event: bool = False

    @classmethod
    def of(cls, body: bytes, policy: Policy, pins: Pins | None = None) -> "_Arm":
        """Put a list before a policy and pins."""
        world = AnswersWorld(pins="learn")
        world.ports = replace(world.ports, policy=policy, pins=pins)
        return cls(world, body)

    def __call__(self) -> bytes:
        return finish(self._send(self.world.ports))

    def with_nothing_known(self) -> bytes:
        """Send it as the first of its text."""
        return finish(self._send(replace(self.world.ports, known=KnownLists())))

    async def _send(self, ports: GuardPorts) -> bytes:
        guard = Guard(self.world.passage(_LIST_TOOLS), self.world.service, ports)
        await guard.on_headers(200, _HEADERS[self.is_event], end_of_stream=False)
        return await guard.on_body(self.body, end_of_stream=True)


_LIST_TOOLS: Final = operation_of("tools/list")
_HEADERS: Final = {
    False: Headers.parse([("content-type", JSON.encode())]),
    True: Headers.parse([("content-type", EVENTS.encode())]),
}


def measure_listing(*, seconds: float) -> dict[str, Cost]:
    """Measure each arm."""
    body = bodies()[LIST]
    known, judged = _Arm.of(body, _AllVisible()), _Arm.of(body, _policy(body), _AllPinned())
    for arm in (known, judged):
        if "result" not in json.loads(arm()):
            raise RuntimeError("a list that was replaced is measured")
    works: dict[str, Work] = {
        "bare": lambda: json.loads(body),
        "first": known.with_nothing_known,
        "known": known,
        "judged": judged,
        "event": replace(judged, body=b"data: " + body + b"\n\n", is_event=True),
    }
    return costs(works, seconds=seconds, rounds=max(4, int(seconds * ROUNDS_A_SECOND)))


def rows(found: Mapping[str, Cost]) -> Iterable[Sequence[str]]:
    """Return the table."""
    if found:
        yield [LIST.removesuffix(", read only"), *(f"{found[arm].best:,.0f}" for arm in ARMS)]


def ratio(found: Mapping[str, Cost], arm: str) -> float:
    """Return the cost of an arm by `json.loads`."""
    return found[arm].best / found["bare"].best


def finish(work: Coroutine[object, None, _Found]) -> _Found:
    """Run what waits for nothing, without a loop."""
    try:
        work.send(None)
    except StopIteration as stop:
        found: _Found = stop.value
        return found
    raise RuntimeError("it waits")


def _policy(body: bytes) -> EmbeddedPolicy:
    """Make the shipped policy, with grants that name every tool of the list."""
    document = json.loads(grants_yaml())
    document["services"][SERVICE]["tools"] |= {
        tool["name"]: {"class": CLASSES[number % len(CLASSES)]}
        for number, tool in enumerate(json.loads(body)["result"]["tools"])
    }
    return EmbeddedPolicy(shipped_modules(), Grants.parse(json.dumps(document).encode()))
