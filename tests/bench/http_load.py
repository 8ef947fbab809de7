"""The process that asks over HTTP: ready-made requests over connections that stay open.

- One request at a time on a connection, so many connections at once; each request is written once and its
  answer read by `Content-Length`, so that the one who asks costs as little as can be.
- Only what was answered with 200 counts: one other answer, and the run is void.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from tests.bench.cores import pin
from tests.bench.measure import percentile
from tests.bench.messages import read_requests, say

OK = b"HTTP/1.1 200 "
_LENGTH = b"content-length: "


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send one request; return the head of its answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().index(_LENGTH) + len(_LENGTH)
    await reader.readexactly(int(head[at : head.index(b"\r", at)]))
    return head


async def run(question: dict[str, Any]) -> dict[str, object]:
    """Ask for some seconds, and say how long each answer took."""
    requests: Iterator[bytes] = cycle(read_requests(Path(question["requests"])))
    latencies: list[float] = []
    refused = 0
    connections = [
        await asyncio.open_connection("127.0.0.1", question["port"]) for _ in range(question["in_flight"])
    ]
    start = time.perf_counter()
    end = start + question["seconds"]

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        while (began := time.perf_counter()) < end:
            head = await exchange(reader, writer, next(requests))
            latencies.append(time.perf_counter() - began)
            refused += not head.startswith(OK)

    await asyncio.gather(*(ask(*connection) for connection in connections))
    seconds = time.perf_counter() - start
    for _, writer in connections:
        writer.close()
        await writer.wait_closed()
    return {
        "calls": len(latencies),
        "seconds": seconds,
        "refused": refused,
        "p50": percentile(latencies, 50),
        "p99": percentile(latencies, 99),
    }


if __name__ == "__main__":
    if "--pinned" in sys.argv[1:]:
        pin(1)
    for line in sys.stdin:
        say(asyncio.run(run(json.loads(line))))
