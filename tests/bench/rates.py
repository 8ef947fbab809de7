"""How many calls a second: the no-op floor of the host and the full flow, on the same host, in turns.

- One process serves all arms on one core, another asks on another core; a round is a second of each arm.
- The rate is what the client saw, CPU a call what the server's process used, whoever else was there.
- The ratio of two arms is the median over the rounds, each compared with its neighbour in time.
"""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.messages import Peer
from tests.bench.settings import Settings

IN_FLIGHT = (1, 16, 64)


@dataclass(frozen=True, slots=True)
class Round:
    """One arm, once; seconds."""

    rate: float
    cpu: float
    busy: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Rate:
    """One arm over all rounds, and its rate by that of the no-op on the same host."""

    arm: str
    in_flight: int
    rounds: tuple[Round, ...]
    ratio: float | None

    def median(self, name: str) -> float:
        return statistics.median([float(getattr(each, name)) for each in self.rounds])


def measure_rates(server: Peer, arms: Mapping[str, Any], settings: Settings) -> list[Rate]:
    """Ask all arms in turns, with 1, 16 and 64 calls in flight."""
    with Peer.start("tests.bench.load", *(["--pinned"] if settings.pinned else [])) as client:
        return [
            rate
            for in_flight in IN_FLIGHT
            for rate in _rates(in_flight, _ask(server, client, arms, in_flight, settings))
        ]


def _ask(
    server: Peer, client: Peer, arms: Mapping[str, Any], in_flight: int, settings: Settings
) -> dict[str, list[Round]]:
    # Forged calls are for the flood, which denies them; the private socket takes no calls.
    asked = {name: arm for name, arm in arms.items() if name not in {"forged", "admin"}}
    found: dict[str, list[Round]] = {name: [] for name in asked}
    for _ in range(settings.rounds):
        for name, arm in asked.items():
            before = server.ask()["cpu"]
            answer = client.ask(**arm, in_flight=in_flight, seconds=settings.seconds)
            cpu = server.ask()["cpu"] - before
            if answer["denied"]:
                raise RuntimeError(f"{answer['denied']} of {answer['calls']} calls of {name} were denied")
            found[name].append(_round(answer, cpu))
    return found


def _round(answer: Mapping[str, Any], cpu: float) -> Round:
    calls, seconds = answer["calls"], answer["seconds"]
    return Round(calls / seconds, cpu / calls, cpu / seconds, answer["p50"], answer["p99"])


def _rates(in_flight: int, found: Mapping[str, list[Round]]) -> Iterator[Rate]:
    for name, rounds in found.items():
        floor = found["noop-tls" if name.endswith("-tls") else "noop"]
        ratio = statistics.median(each.rate / other.rate for each, other in zip(rounds, floor, strict=True))
        yield Rate(name, in_flight, tuple(rounds), None if rounds is floor else ratio)


def opa_binary(root: Path) -> Path | None:
    """Return the real OPA that `make opa` built, if it did."""
    path = root / ".cache" / "bin" / "opa"
    return path if path.exists() else None
