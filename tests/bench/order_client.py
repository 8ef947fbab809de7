"""The process that orders: it contains an agent and releases it again, over the service's private socket.

Each order waits for its answer, which comes once the order is on the disk and counts.
"""

import asyncio
import json
import sys
import time
from typing import Any

from tests.bench.cores import pin
from tests.bench.http_load import exchange
from tests.bench.measure import percentile
from tests.bench.messages import say

PAUSE_SECONDS = 0.02
DONE = (b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")
ORDERS = {"contain": "withdrawals", "release": "releases"}


def order(path: str, agent: str) -> bytes:
    data = json.dumps({"kind": "agent", "subject": agent, "reason": "a drill"}).encode()
    head = (
        f"POST /admin/v1/{path} HTTP/1.1\r\nHost: deputy\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def run(question: dict[str, Any]) -> dict[str, object]:
    """Order so many times; say how long the answers took."""
    reader, writer = await asyncio.open_unix_connection(question["socket"])
    found: dict[str, list[float]] = {name: [] for name in ORDERS}
    for _ in range(question["times"]):
        for name, path in ORDERS.items():
            began = time.perf_counter()
            head = await exchange(reader, writer, order(path, question["agent"]))
            found[name].append(time.perf_counter() - began)
            if not head.startswith(DONE):
                raise RuntimeError(f"an order was refused: {head[:64]!r}")
            await asyncio.sleep(PAUSE_SECONDS)
    writer.close()
    await writer.wait_closed()
    return {
        name: {"p50": percentile(times, 50), "p99": percentile(times, 99), "longest": max(times)}
        for name, times in found.items()
    }


if __name__ == "__main__":
    if "--pinned" in sys.argv[1:]:
        pin(1)
    for line in sys.stdin:
        say(asyncio.run(run(json.loads(line))))
