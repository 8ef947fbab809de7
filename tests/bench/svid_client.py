"""The process that holds thousands of streams open on private sockets, and calls one of them.

- A stream is FetchX509SVID on a connection of its own. It is read by a few lines that know just the frames
  that our server sends: a client library would be what is measured.
- Calls go through grpcio, so many in flight; FetchX509SVID is given up after its first message.
"""

import asyncio
import json
import struct
import sys
import time
from hashlib import sha256
from typing import Any, Final

import grpc
from hpack import Encoder

from identity.pb import workload_pb2 as pb
from tests.bench.cores import pin
from tests.bench.messages import say
from tests.bench.place import ISSUER

METADATA: Final = (("workload.spiffe.io", "true"),)
SERVICE: Final = "/SpiffeWorkloadAPI"
AT_ONCE: Final = 32

_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_FRAME: Final = struct.Struct("!HBBBI")
_MESSAGE: Final = struct.Struct("!BI")
_WIDE: Final = 2**30


def frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    return _FRAME.pack(len(data) >> 8, len(data) & 0xFF, kind, flags, stream) + data


def opening() -> bytes:
    """Return all that a stream ever says first."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"{SERVICE}/FetchX509SVID"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *METADATA,
    ]
    return b"".join(
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            frame(_SETTINGS, 0, 0, struct.pack("!HI", 4, _WIDE)),
            frame(_WINDOW, 0, 0, struct.pack("!I", _WIDE)),
            frame(_HEADERS, _END_HEADERS, 1, Encoder().encode(headers)),
            frame(_DATA, _END_STREAM, 1, _MESSAGE.pack(0, 0)),
        ]
    )


OPENING: Final = opening()


class Stream(asyncio.Protocol):
    """One stream: the newest certificate, and when it came."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.at = 0.0
        self.certificate = b""
        self.problem = ""
        self.transport: asyncio.Transport | None = None
        self._frames = bytearray()
        self._messages = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport
            transport.write(OPENING)

    def data_received(self, data: bytes) -> None:
        self._frames += data
        while len(self._frames) >= _FRAME.size:
            high, low, kind, flags, _ = _FRAME.unpack_from(self._frames)
            end = _FRAME.size + (high << 8 | low)
            if len(self._frames) < end:
                return
            payload = bytes(self._frames[_FRAME.size : end])
            del self._frames[:end]
            self._take(kind, flags, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("closed")

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _DATA:
            self._messages += payload
            self._read_messages()
        elif kind in {_SETTINGS, _PING} and not flags & _ACK and self.transport is not None:
            self.transport.write(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in {_RESET, _GOAWAY} or (kind == _HEADERS and flags & _END_STREAM):
            self._fail(f"ended by a frame of type {kind}")

    def _read_messages(self) -> None:
        while len(self._messages) >= _MESSAGE.size:
            _, size = _MESSAGE.unpack_from(self._messages)
            end = _MESSAGE.size + size
            if len(self._messages) < end:
                return
            (svid,) = pb.X509SVIDResponse.FromString(bytes(self._messages[_MESSAGE.size : end])).svids
            del self._messages[:end]
            certificate = sha256(svid.x509_svid).digest()
            if certificate != self.certificate:
                self.certificate, self.at = certificate, time.monotonic()
                self.came.set()

    def _fail(self, why: str) -> None:
        self.problem = self.problem or why
        self.came.set()


class Streams:
    """All streams."""

    def __init__(self) -> None:
        self.open: list[Stream] = []

    async def connect(self, paths: list[str]) -> int:
        loop = asyncio.get_running_loop()
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            made = [(await loop.create_unix_connection(Stream, path))[1] for path in some]
            self.open += made
            await self._all_came(made, 30.0)
        return len(self.open)

    def expect(self) -> None:
        """Wait for certificates that come from now on."""
        for stream in self.open:
            stream.came.clear()

    async def times(self, began: float, seconds: float) -> list[float]:
        """Return how long after a moment each stream had its new certificate."""
        await self._all_came(self.open, seconds)
        return sorted(stream.at - began for stream in self.open)

    def close(self) -> None:
        for stream in self.open:
            if stream.transport is not None:
                stream.transport.abort()
        self.open.clear()

    async def _all_came(self, streams: list[Stream], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            for stream in streams:
                await stream.came.wait()
        problems = {stream.problem for stream in streams if stream.problem}
        if problems:
            raise RuntimeError(f"streams that failed: {', '.join(problems)}")


async def calls(path: str, rpc: str, in_flight: int, seconds: float) -> dict[str, object]:
    """Call for some seconds, and say how long each answer took."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        call = _jwt_call(channel) if rpc == "FetchJWTSVID" else _x509_call(channel)
        await call()
        began = time.perf_counter()
        end = began + seconds

        async def ask() -> None:
            while (start := time.perf_counter()) < end:
                await call()
                latencies.append(time.perf_counter() - start)

        await asyncio.gather(*(ask() for _ in range(in_flight)))
        took = time.perf_counter() - began
    latencies.sort()
    p50, p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    return {"calls": len(latencies), "seconds": took, "p50": p50, "p99": p99}


def _jwt_call(channel: grpc.aio.Channel) -> Any:
    method: Any = channel.unary_unary(f"{SERVICE}/FetchJWTSVID")
    request = pb.JWTSVIDRequest(audience=[ISSUER]).SerializeToString()

    async def call() -> None:
        await method(request, metadata=METADATA)

    return call


def _x509_call(channel: grpc.aio.Channel) -> Any:
    method: Any = channel.unary_stream(f"{SERVICE}/FetchX509SVID")

    async def call() -> None:
        stream = method(b"", metadata=METADATA)
        await anext(aiter(stream))
        stream.cancel()

    return call


async def answer(streams: Streams, question: dict[str, Any]) -> dict[str, object]:
    match question["do"]:
        case "connect":
            return {"streams": await streams.connect(question["paths"])}
        case "expect":
            streams.expect()
            return {}
        case "times":
            return {"seconds": await streams.times(question["began"], question["seconds"])}
        case "calls":
            return await calls(question["path"], question["rpc"], question["in_flight"], question["seconds"])
    raise ValueError(question["do"])


async def main() -> None:
    loop = asyncio.get_running_loop()
    streams = Streams()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        say(await answer(streams, json.loads(line)))
    streams.close()


if __name__ == "__main__":
    if "--pinned" in sys.argv[1:]:
        pin(1)
    asyncio.run(main())
