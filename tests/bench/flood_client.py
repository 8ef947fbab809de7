"""The process that asks for two: a steady caller, and a flood beside it on a connection of its own.

- The steady caller asks at a pace, whatever came of its last call, so that waiting is not left out of the
  count; each of its calls must be allowed.
- The flood asks as fast as it is answered, so many calls in flight.
"""

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

from tests.bench.cores import pin
from tests.bench.load import ALLOWED, METHOD, channel
from tests.bench.measure import percentile
from tests.bench.messages import read_requests, say

PACE_SECONDS = 0.005

Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


async def steady(call: Call, requests: list[bytes], seconds: float) -> list[float]:
    """Ask at the pace; return how long each answer took from when it was due."""
    turn, asked = cycle(requests), []

    async def ask(due: float) -> float:
        if not (await call(next(turn))).startswith(ALLOWED):
            raise RuntimeError("the steady caller was denied")
        return time.perf_counter() - due

    start = time.perf_counter()
    for number in range(int(seconds / PACE_SECONDS)):
        due = start + number * PACE_SECONDS
        await asyncio.sleep(due - time.perf_counter())
        asked.append(asyncio.create_task(ask(due)))
    return list(await asyncio.gather(*asked))


async def flood(call: Call, requests: list[bytes], seconds: float, in_flight: int) -> tuple[int, int]:
    """Ask without a pause; return how many calls there were, and how many of them were denied."""
    turn, end = cycle(requests), time.perf_counter() + seconds
    calls = denied = 0

    async def ask() -> None:
        nonlocal calls, denied
        while time.perf_counter() < end:
            answer = await call(next(turn))
            calls, denied = calls + 1, denied + (not answer.startswith(ALLOWED))

    await asyncio.gather(*(ask() for _ in range(in_flight)))
    return calls, denied


async def run(question: dict[str, Any]) -> dict[str, object]:
    """Ask for some seconds; without a flood the steady caller is alone."""
    seconds, path = question["seconds"], question["flood"]
    async with AsyncExitStack() as stack:
        calls: list[Call] = []
        for _ in range(2):
            made = await stack.enter_async_context(channel(question["target"], None))
            calls.append(made.unary_unary(METHOD))
        requests = read_requests(Path(question["requests"]))
        await calls[0](requests[0])
        waves = [] if path is None else read_requests(Path(path))
        latencies, (flooded, denied) = await asyncio.gather(
            steady(calls[0], requests, seconds),
            flood(calls[1], waves, seconds, question["in_flight"] if waves else 0),
        )
    return {
        "p50": percentile(latencies, 50),
        "p99": percentile(latencies, 99),
        "rate": flooded / seconds,
        "denied": denied,
        "flooded": flooded,
    }


if __name__ == "__main__":
    if "--pinned" in sys.argv[1:]:
        pin(1)
    for line in sys.stdin:
        say(asyncio.run(run(json.loads(line))))
