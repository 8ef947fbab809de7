"""The kill switch in one process: from the request to contain an agent until its answer.

- The service answers calls meanwhile, as fast as it can, with as many in flight as said; those calls are of
  other agents, and none of them may be denied.
- The answer comes after the order's record is on the disk and the change is: whoever asks from then on is
  denied. The command `deputy agents contain` is this request, and the start of a Python process before it.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.bench.grants import AGENTS
from tests.bench.messages import Peer
from tests.bench.settings import Settings

LOADS = (0, 1, 16)
# No call of the load is of this one.
AGENT = AGENTS[-1]


@dataclass(frozen=True, slots=True)
class Orders:
    """Orders beside so many calls in flight; seconds, and the calls a second that were answered meanwhile."""

    order: str
    in_flight: int
    p50: float
    p99: float
    longest: float
    rate: float


def measure_orders(arms: Mapping[str, Any], settings: Settings) -> list[Orders]:
    """Order without load, and under some."""
    pinned = ["--pinned"] if settings.pinned else []
    found: list[Orders] = []
    with (
        Peer.start("tests.bench.order_client", *pinned) as client,
        Peer.start("tests.bench.load", *pinned) as load,
        ThreadPoolExecutor(1) as threads,
    ):
        for in_flight in LOADS:
            seconds = settings.orders * 0.06
            under = threads.submit(_load, load, arms["full"], in_flight, seconds)
            answer = client.ask(socket=arms["admin"]["socket"], agent=AGENT, times=settings.orders)
            rate = under.result()
            for order, times in answer.items():
                found.append(Orders(order, in_flight, times["p50"], times["p99"], times["longest"], rate))
    return found


def _load(load: Peer, arm: Mapping[str, Any], in_flight: int, seconds: float) -> float:
    if not in_flight:
        return 0.0
    answer = load.ask(**arm, in_flight=in_flight, seconds=seconds)
    if answer["denied"]:
        raise RuntimeError(f"{answer['denied']} calls of others were denied")
    return float(answer["calls"] / answer["seconds"])
