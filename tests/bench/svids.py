"""SVIDs over real sockets: calls a second, and thousands of streams that follow a rotation.

- One process serves on one core, another has the streams open on the other.
- A rotation is forced: the next key is made and takes over at once. It is over when the last stream has its
  new certificate. The floor is for the median of some: a neighbour on the core can double any of them.
- Memory is what the server has resident after each quarter of the streams, tidied up.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.bench.measure import percentile
from tests.bench.messages import Peer
from tests.bench.settings import Settings

IN_FLIGHT = (1, 16)
RPCS = ("FetchJWTSVID", "FetchX509SVID")
# Nobody waits for a rotation for so long: the run is void then.
_TOO_LONG = 60.0


@dataclass(frozen=True, slots=True)
class SvidRate:
    """Calls of one method; seconds."""

    rpc: str
    in_flight: int
    rate: float
    cpu: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Rotation:
    """How long after the first step a stream had its new certificate; seconds.

    `stall` is the longest that anything else on the server's loop waited meanwhile.
    """

    first: float
    median: float
    last: float
    cpu: float
    stall: float


@dataclass(frozen=True, slots=True)
class Streams:
    """Many streams: all rotations, and the server's memory by the number of streams."""

    kind: str
    memory: dict[int, int]
    rotations: tuple[Rotation, ...]

    @property
    def number(self) -> int:
        return max(self.memory)

    @property
    def last(self) -> float:
        """How long a rotation took to reach the last stream, the median of all."""
        return statistics.median(rotation.last for rotation in self.rotations)

    @property
    def growth(self) -> float:
        """What a stream of the second half costs, by what one of the first half costs."""
        start, middle, end = (self.memory[count] for count in (0, self.number // 2, self.number))
        return (end - middle) / max(1, middle - start)

    def per_stream(self) -> Iterator[tuple[int, float]]:
        """Return for each quarter the bytes that one of its streams costs."""
        counts = sorted(self.memory)
        for before, after in pairwise(counts):
            yield after, (self.memory[after] - self.memory[before]) / (after - before)


def measure_svid_rates(directory: Path, settings: Settings) -> list[SvidRate]:
    """Call both methods; each answer is minted, and recorded."""
    with _server(directory / "calls", settings) as server, _client(settings) as client:
        (path,) = server.ask(do="open", kind="calls", number=1)["paths"]
        return [
            _rate(server, client, rpc, path=path, in_flight=in_flight, seconds=settings.seconds)
            for rpc in RPCS
            for in_flight in IN_FLIGHT
        ]


def measure_streams(directory: Path, kind: str, settings: Settings) -> Streams:
    """Open the streams, and let the key change under them."""
    with _server(directory / kind, settings) as server, _client(settings) as client:
        quarter = settings.streams // 4
        memory = {0: server.ask(do="memory")["bytes"]}
        for _ in range(4):
            paths = server.ask(do="open", kind=kind, number=quarter)["paths"]
            opened = client.ask(do="connect", paths=paths)["streams"]
            memory[opened] = server.ask(do="memory")["bytes"]
        return Streams(kind, memory, tuple(_rotate(server, client) for _ in range(settings.rotations)))


def _rotate(server: Peer, client: Peer) -> Rotation:
    client.ask(do="expect")
    before = server.ask(do="cpu")["cpu"]
    began = server.ask(do="rotate")["began"]
    times = client.ask(do="times", began=began, seconds=_TOO_LONG)["seconds"]
    after = server.ask(do="cpu")
    return Rotation(times[0], percentile(times, 50), times[-1], after["cpu"] - before, after["stall"])


def _rate(server: Peer, client: Peer, rpc: str, **options: Any) -> SvidRate:
    before = server.ask(do="cpu")["cpu"]
    answer = client.ask(do="calls", rpc=rpc, **options)
    cpu = (server.ask(do="cpu")["cpu"] - before) / answer["calls"]
    rate = answer["calls"] / answer["seconds"]
    return SvidRate(rpc, options["in_flight"], rate, cpu, answer["p50"], answer["p99"])


def _server(directory: Path, settings: Settings) -> Peer:
    return Peer.start("tests.bench.svid_server", str(directory), *_pinned(settings))


def _client(settings: Settings) -> Peer:
    return Peer.start("tests.bench.svid_client", *_pinned(settings))


def _pinned(settings: Settings) -> list[str]:
    return ["--pinned"] if settings.pinned else []
