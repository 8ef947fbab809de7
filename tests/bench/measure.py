"""How a time is taken on a machine with neighbours: in turns, in small batches.

- Arms take turns (A B A B …), so that what disturbs one disturbs the other; only ratios of one run say much.
- Of the batches of one arm the fastest tells what the work costs, the median what it cost today.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of one piece of work."""

    best: float
    median: float


def costs(arms: Mapping[str, Work], *, seconds: float, rounds: int = 12) -> dict[str, Cost]:
    """Time each arm for about so many seconds in all."""
    batches = {name: _batch(work, seconds / rounds) for name, work in arms.items()}
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, work in arms.items():
            times[name].append(_time(work, batches[name]))
    return {name: Cost(min(found), statistics.median(found)) for name, found in times.items()}


def percentile(values: list[float], percent: int) -> float:
    """Return the value below which so many percent lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _batch(work: Work, seconds: float) -> int:
    """Warm the work up, and return how often it fits into so many seconds."""
    once = min(_time(work, 1) for _ in range(3)) / 1e6
    return max(1, int(seconds / max(once, 1e-7)))


def _time(work: Work, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - start) / count * 1e6
