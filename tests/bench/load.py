"""The process that asks: a gRPC client with ready-made bytes, so many calls in flight.

- One connection, as one worker of Envoy has; each worker here waits for its answer before it asks again.
- Only the time of calls that were allowed counts: one denial, and the run is void.
"""

import asyncio
import json
import resource
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

from authz.hosts.grpc import SERVICE
from tests.bench.cores import pin
from tests.bench.messages import read_requests, say

METHOD = f"/{SERVICE}/Check"
# `CheckResponse.status` with the code 0: the first field, empty.
ALLOWED = b"\x0a\x00"
# The deputy's certificate names its SPIFFE ID and this.
SERVER_NAME = "localhost"


def channel(target: str, tls: str | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(target)
    chain, key, roots = (Path(tls, f"{name}.pem").read_bytes() for name in ("chain", "key", "roots"))
    return grpc.aio.secure_channel(
        target,
        grpc.ssl_channel_credentials(roots, key, chain),
        options=[("grpc.ssl_target_name_override", SERVER_NAME)],
    )


async def run(question: dict[str, Any]) -> dict[str, object]:
    """Ask for some seconds, and say how long each answer took."""
    requests = cycle(read_requests(Path(question["requests"])))
    latencies: list[float] = []
    denied = 0
    async with channel(question["target"], question["tls"]) as made:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = made.unary_unary(METHOD)
        await call(next(requests))
        end = time.perf_counter() + question["seconds"]

        async def ask() -> None:
            nonlocal denied
            while (start := time.perf_counter()) < end:
                answer = await call(next(requests))
                latencies.append(time.perf_counter() - start)
                denied += not answer.startswith(ALLOWED)

        start, cpu = time.perf_counter(), used()
        await asyncio.gather(*(ask() for _ in range(question["in_flight"])))
        seconds = time.perf_counter() - start
    latencies.sort()
    return {
        "calls": len(latencies),
        "seconds": seconds,
        "denied": denied,
        "cpu": used() - cpu,
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[len(latencies) * 99 // 100],
    }


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    if "--pinned" in sys.argv[1:]:
        pin(1)
    for line in sys.stdin:
        say(asyncio.run(run(json.loads(line))))
