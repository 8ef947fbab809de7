"""A flood of tokens that nobody has seen before, beside a steady caller whose token is known.

- The steady caller asks 200 times a second; the flood has as many calls in flight as there may be of it.
- In turns, in one run: nobody else; calls with tokens that are known; with forged ones, whose signature is
  somebody else's; with valid ones of one agent, a new one each call.
- A crowd costs a caller time on one core, whoever it is: what unknown tokens cost beyond that is the ratio to
  the crowd whose tokens are known.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.messages import Peer
from tests.bench.settings import Settings

QUIET, KNOWN = "nobody else", "known tokens"
# What floods, by the arm of the server whose requests these are.
FLOODS = {KNOWN: "full", "forged tokens": "forged", "a new valid token each call": "fresh"}
IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Wave:
    """The steady caller in one kind of company; seconds, and calls a second of the flood."""

    company: str
    p50: float
    p99: float
    rate: float
    # The 99th percentile by that of a quiet time, and by that in a crowd whose tokens are known.
    by_quiet: float
    by_known: float


def measure_flood(arms: Mapping[str, Any], settings: Settings) -> list[Wave]:
    """Flood in turns."""
    names = (QUIET, *FLOODS)
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in names}
    with Peer.start("tests.bench.flood_client", *(["--pinned"] if settings.pinned else [])) as client:
        for _ in range(settings.rounds):
            for name in names:
                found[name].append(_ask(client, arms, name, settings.seconds))
    return [
        Wave(
            name,
            _median(found[name], "p50"),
            _median(found[name], "p99"),
            _median(found[name], "rate"),
            _ratio(found[name], found[QUIET]),
            _ratio(found[name], found[KNOWN]),
        )
        for name in names
    ]


def _ask(client: Peer, arms: Mapping[str, Any], name: str, seconds: float) -> Mapping[str, float]:
    full, waves = arms["full"], None if name == QUIET else arms[FLOODS[name]]["requests"]
    answer: Mapping[str, float] = client.ask(
        target=full["target"], requests=full["requests"], flood=waves, in_flight=IN_FLIGHT, seconds=seconds
    )
    expected = answer["flooded"] if name != QUIET and FLOODS[name] == "forged" else 0
    if answer["denied"] != expected:
        raise RuntimeError(f"{answer['denied']} calls of {answer['flooded']} were denied: {name}")
    return answer


def _median(found: list[Mapping[str, float]], name: str) -> float:
    return statistics.median(each[name] for each in found)


def _ratio(found: list[Mapping[str, float]], base: list[Mapping[str, float]]) -> float:
    return statistics.median(each["p99"] / other["p99"] for each, other in zip(found, base, strict=True))
