"""The process that asks all replicas while something is withdrawn: a load, and a probe at each of them.

- The load is other callers, whose rights stay; one denial, and the run is void.
- A probe asks about the one whose rights are withdrawn, one call after the other, until it is denied: the
  time is that of the answer, on the clock that all processes of a machine share.
- A replica that allows once more after it has denied makes the run void, too.
"""

import asyncio
import json
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import grpc

from tests.bench.cores import pin
from tests.bench.load import ALLOWED, METHOD, channel
from tests.bench.messages import read_requests, say

# So often a probe asks again after the first denial.
AGAIN = 5


class Replica:
    """A connection to one replica, and what is asked over it."""

    def __init__(self, target: str) -> None:
        self._channel = channel(target, None)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(METHOD)
        self.latencies: list[float] = []
        self.denied = 0

    async def load(self, requests: list[bytes], stopped: asyncio.Event) -> None:
        turn = cycle(requests)
        while not stopped.is_set():
            start = time.perf_counter()
            answer = await self._call(next(turn))
            self.latencies.append(time.perf_counter() - start)
            self.denied += not answer.startswith(ALLOWED)

    async def probe(self, request: bytes, allowed: asyncio.Event) -> float:
        """Return when this replica denied for the first time."""
        while (await self._call(request)).startswith(ALLOWED):
            allowed.set()
        denied_at = time.monotonic()
        if not allowed.is_set():
            raise RuntimeError("a call was denied before its rights were withdrawn")
        for _ in range(AGAIN):
            if (await self._call(request)).startswith(ALLOWED):
                raise RuntimeError("a replica allowed what it had denied")
        return denied_at

    async def close(self) -> None:
        await self._channel.close()


class Client:
    """All replicas, the load on them, and the probes of the moment."""

    def __init__(self) -> None:
        self._replicas: list[Replica] = []
        self._stopped = asyncio.Event()
        self._loads: list[asyncio.Task[None]] = []
        self._probes: list[asyncio.Task[float]] = []
        self._began = 0.0

    async def answer(self, question: dict[str, Any]) -> dict[str, object]:
        match question["do"]:
            case "load":
                return self._load(question["targets"], Path(question["requests"]), question["in_flight"])
            case "probe":
                return await self._probe(read_requests(Path(question["requests"]))[0])
            case "denied":
                return {"at": await asyncio.gather(*self._probes)}
            case "stop":
                return await self._stop()
        raise ValueError(question["do"])

    def _load(self, targets: list[str], path: Path, in_flight: int) -> dict[str, object]:
        self._replicas = [Replica(target) for target in targets]
        requests, self._began = read_requests(path), time.perf_counter()
        self._loads = [
            asyncio.create_task(replica.load(requests[at:] + requests[:at], self._stopped))
            for replica in self._replicas
            for at in range(in_flight)
        ]
        return {}

    async def _probe(self, request: bytes) -> dict[str, object]:
        """Begin to probe; return once every replica allows."""
        allowed = [asyncio.Event() for _ in self._replicas]
        self._probes = [
            asyncio.create_task(replica.probe(request, event))
            for replica, event in zip(self._replicas, allowed, strict=True)
        ]
        for event, probe in zip(allowed, self._probes, strict=True):
            waiting = asyncio.create_task(event.wait())
            await asyncio.wait([waiting, probe], return_when=asyncio.FIRST_COMPLETED)
            if probe.done():
                probe.result()
        return {}

    async def _stop(self) -> dict[str, object]:
        self._stopped.set()
        await asyncio.gather(*self._loads)
        seconds = time.perf_counter() - self._began
        latencies = sorted(latency for replica in self._replicas for latency in replica.latencies)
        for replica in self._replicas:
            await replica.close()
        return {
            "calls": len(latencies),
            "seconds": seconds,
            "denied": sum(replica.denied for replica in self._replicas),
            "p50": latencies[len(latencies) // 2],
            "p99": latencies[len(latencies) * 99 // 100],
        }


async def main() -> None:
    loop, client = asyncio.get_running_loop(), Client()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        say(await client.answer(json.loads(line)))


if __name__ == "__main__":
    if "--pinned" in sys.argv[1:]:
        pin(1)
    asyncio.run(main())
