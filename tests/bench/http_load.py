"""The process that asks over HTTP: ready-made requests over connections that stay open.

- One request at a time on a connection, so many connections at once; each request is written once and its
  answer read by `Content-Length`.
- Who asks disturbs who is measured as little as can be. What runs on the other half of a core takes a third
  of the speed of this half, so there is no framework here. To wake somebody on another core costs whoever
  does it more than to write the answer, and what it has in its caches; over a network nobody is woken. So
  nobody waits for an answer here: it is looked for every two milliseconds, while others still wait for
  theirs, and times are too long by that much at most.
- Only what was answered with 200 counts: one other answer, and the run is void.
"""

import asyncio
import json
import selectors
import socket
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
_READ = 1 << 16
_LOOK_EVERY = 0.002


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
    """Send one request; return the head of its answer."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    at = head.lower().index(_LENGTH) + len(_LENGTH)
    await reader.readexactly(int(head[at : head.index(b"\r", at)]))
    return head


class Connection:
    """A connection that stays open, and the request that waits on it for its answer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._unread = b""

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def read(self) -> bytes | None:
        """Return the answer, None while a part of it is missing."""
        piece = self.socket.recv(_READ)
        if not piece:
            raise ConnectionError("the one who is asked closed a connection")
        data = self._unread + piece
        head = data.find(b"\r\n\r\n")
        if head >= 0:
            at = data.lower().index(_LENGTH, 0, head) + len(_LENGTH)
            if len(data) >= head + 4 + int(data[at : data.index(b"\r", at)]):
                self._unread = b""
                return data
        self._unread = data
        return None


def run(question: dict[str, Any]) -> dict[str, object]:
    """Ask for some seconds, and say how long each answer took."""
    requests: Iterator[bytes] = cycle(read_requests(Path(question["requests"])))
    latencies: list[float] = []
    refused = 0
    with selectors.DefaultSelector() as selector:
        start = time.perf_counter()
        end = start + question["seconds"]
        for _ in range(question["in_flight"]):
            connection = Connection(question["port"])
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(next(requests))
        while selector.get_map():
            time.sleep(_LOOK_EVERY)
            for key, _ in selector.select(0):
                connection = key.data
                answer = connection.read()
                if answer is None:
                    continue
                now = time.perf_counter()
                latencies.append(now - connection.sent_at)
                refused += not answer.startswith(OK)
                if now < end:
                    connection.send(next(requests))
                else:
                    selector.unregister(connection.socket)
                    connection.socket.close()
        seconds = time.perf_counter() - start
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
        say(run(json.loads(line)))
