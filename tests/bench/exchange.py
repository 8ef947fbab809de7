"""Token exchange over HTTP by login with a JWT-SVID, beside the bare signatures that one exchange contains.

- The broker serves on one core, another process asks over connections that stay open on the other.
- Bare are the signatures that an exchange was seen to check and to make: the login, the person's sign-in and
  the new token. They run in the broker's own process on its core, twice:
  in a loop, while nobody asks: an idle neighbour, and caches that hold nothing else;
  between exchanges: behind one of so many, while the same client asks as before. So both are measured on the
  same machine: with the same neighbour on the other half of the core, and with caches that hold the rest.
- The floor is about those between exchanges; the ratio to the loop stands beside it. Each ratio is the median
  over the rounds, each compared with its neighbour in time. While the ones between are timed no exchange is.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.messages import Peer
from tests.bench.settings import Settings

IN_FLIGHT = 16
# For whom the floor is: most signatures weigh as much as ours. One of RSA costs a third of that to check, so
# that the same work on our side stands beside less.
FLOOR_ARM = "ES256"


@dataclass(frozen=True, slots=True)
class Turn:
    """Exchanges and bare signatures, one after the other; rates a second, CPU in seconds for one."""

    rate: float
    cpu: float
    busy: float
    p50: float
    p99: float
    bare_rate: float
    loop_rate: float
    loop_cpu: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """Exchanges of the people of one provider; `counted` is what one of them was seen to contain."""

    algorithm: str
    counted: Mapping[str, int]
    turns: tuple[Turn, ...]

    @property
    def ratio(self) -> float:
        """The rate of exchanges by that of the bare signatures between them."""
        return statistics.median(turn.rate / turn.bare_rate for turn in self.turns)

    @property
    def loop_ratio(self) -> float:
        """The same by the bare signatures in a loop."""
        return statistics.median(turn.rate / turn.loop_rate for turn in self.turns)

    def median(self, name: str) -> float:
        return statistics.median([float(getattr(turn, name)) for turn in self.turns])


def measure_exchange(directory: Path, settings: Settings) -> list[Exchange]:
    """Exchange for the people of each provider."""
    pinned = ["--pinned"] if settings.pinned else []
    with (
        Peer.start("tests.bench.exchange_server", str(directory / "exchange"), *pinned) as server,
        Peer.start("tests.bench.http_load", *pinned) as client,
    ):
        arms = server.read()
        turns: dict[str, list[Turn]] = {name: [] for name in arms}
        for _ in range(settings.rounds):
            for name, arm in arms.items():
                turns[name].append(_turn(server, client, name, arm, settings.seconds))
        return [Exchange(name, arm["counted"], tuple(turns[name])) for name, arm in arms.items()]


def _turn(server: Peer, client: Peer, name: str, arm: Mapping[str, Any], seconds: float) -> Turn:
    loop = server.ask(do="bare", arm=name, seconds=seconds)
    server.ask(do="between", arm=name)
    _load(client, arm, seconds)
    bare = server.ask(do="between", arm=None)
    before = server.ask(do="cpu")["cpu"]
    answer = _load(client, arm, seconds)
    cpu = server.ask(do="cpu")["cpu"] - before
    calls, took = answer["calls"], answer["seconds"]
    return Turn(
        rate=calls / took,
        cpu=cpu / calls,
        busy=cpu / took,
        p50=answer["p50"],
        p99=answer["p99"],
        bare_rate=bare["calls"] / bare["seconds"],
        loop_rate=loop["calls"] / loop["seconds"],
        loop_cpu=loop["cpu"] / loop["calls"],
    )


def _load(client: Peer, arm: Mapping[str, Any], seconds: float) -> Any:
    answer = client.ask(port=arm["port"], requests=arm["requests"], in_flight=IN_FLIGHT, seconds=seconds)
    if answer["refused"]:
        raise RuntimeError(f"{answer['refused']} of {answer['calls']} exchanges were refused")
    return answer
