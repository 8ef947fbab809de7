"""What comes out: tables for people, JSON for programs, and the floors that stand beside the numbers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench import listing
from tests.bench.envoy import NOBODY, Latency
from tests.bench.exchange import FLOOR_ARM, Exchange
from tests.bench.flood import KNOWN, QUIET, Wave
from tests.bench.inspection import Inspection, growth
from tests.bench.inspection import rows as inspection_rows
from tests.bench.measure import Cost
from tests.bench.minting import Minting
from tests.bench.orders import Orders
from tests.bench.rates import Rate
from tests.bench.revocation import Revocation
from tests.bench.steps import FULL
from tests.bench.svids import Streams, SvidRate

Row = Sequence[str]

# The full flow reaches at least a third of the no-op rate on the same host, where the host has enough to do.
RATE_FLOOR = 1 / 3
LOADED = (16, 64)
# No step walks over grants, registry or chain. The margins are for the noise of a shared machine.
SCALE_CEILING = 1.25
CHAIN_CEILING = 2.0
# The aim is 5 ms (rules/reliability.md section 2); twice that for slower machines.
BOMB_CEILING_MS = 10.0
# The inspector, by `json.loads` of the same body; a byte of a larger body, by a byte of a large one.
INSPECTION_CEILING = 3.0
INSPECTION_GROWTH_CEILING = 1.25
# Cutting a list of 200 tools, by `json.loads` of it, the first time too; in milliseconds, once it is known.
LISTING_CEILING = 3.0
LISTING_CEILING_MS = 1.0
# The rate of minting, by that of the bare calls of `cryptography` in it.
MINT_FLOOR = 0.6
# The rate of token exchange over HTTP, by that of the bare signatures in it, under the same load.
EXCHANGE_FLOOR = 0.30
# A steady caller in a flood of unknown tokens, by the same flood of known ones: the 99th percentiles.
FLOOD_CEILING = 1.5
# A forced rotation reaches the last of thousands of streams within so many seconds.
ROTATION_CEILING = 2.0
# The 99th percentile of what it takes until the last replica denies what was withdrawn, in seconds.
REVOCATION_CEILING = 1.0
# Memory grows linearly: a stream of the second half costs what one of the first half does, and some noise.
GROWTH_CEILING = 1.25

NAMES = {
    "noop": "no-op, Unix socket",
    "full": "full flow, Unix socket",
    "fresh": "full flow, a new token each call",
    "opa": "full flow on real OPA",
    "noop-tls": "no-op, mTLS",
    "full-tls": "full flow, mTLS",
    "tasks": "streams, each of a task of its own",
    "shared": "streams of one workload",
}


@dataclass(frozen=True, slots=True)
class Floor:
    """One thing that must be so; `at_least` else at most."""

    what: str
    measured: float
    limit: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(slots=True)
class Results:
    """All that one run measured; a part that was left out stays empty."""

    machine: Mapping[str, str]
    rates: list[Rate] = field(default_factory=list)
    steps: dict[str, tuple[Cost, float]] = field(default_factory=dict)
    scales: dict[int, float] = field(default_factory=dict)
    chains: dict[int, Cost] = field(default_factory=dict)
    bombs: dict[str, float] = field(default_factory=dict)
    inspection: dict[str, Inspection] = field(default_factory=dict)
    refusals: dict[str, float] = field(default_factory=dict)
    listing: dict[str, Cost] = field(default_factory=dict)
    latencies: dict[str, Latency] = field(default_factory=dict)
    minting: Minting = field(default_factory=dict)
    svid_rates: list[SvidRate] = field(default_factory=list)
    streams: list[Streams] = field(default_factory=list)
    floods: list[Wave] = field(default_factory=list)
    orders: list[Orders] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    revocation: Revocation | None = None

    def floors(self) -> list[Floor]:
        """Return the floors, each with what was measured."""
        floors = [
            Floor(
                f"{NAMES[rate.arm]}, {rate.in_flight} in flight, by the no-op", rate.ratio, RATE_FLOOR, True
            )
            for rate in self.rates
            if rate.ratio is not None and rate.arm in {"full", "full-tls"} and rate.in_flight in LOADED
        ]
        for scale, ratio in self.scales.items():
            floors.append(Floor(f"a call with {scale} times the grants, by 1", ratio, SCALE_CEILING, False))
        if self.chains:
            longest = max(self.chains)
            ratio = self.chains[longest].best / self.chains[1].best
            floors.append(Floor(f"a call with a chain of {longest}, by 1", ratio, CHAIN_CEILING, False))
        if self.bombs:
            worst = max(self.bombs, key=lambda name: self.bombs[name])
            floors.append(Floor(f"ms to refuse {worst}", self.bombs[worst], BOMB_CEILING_MS, False))
        floors += self._inspection_floors()
        floors += self._listing_floors()
        for wave in self.floods:
            if wave.company not in {QUIET, KNOWN}:
                what = f"p99 beside {wave.company}, by known tokens"
                floors.append(Floor(what, wave.by_known, FLOOD_CEILING, False))
        for found in self.exchanges:
            if found.algorithm == FLOOR_ARM:
                what = f"exchange for a person's {found.algorithm}, by the bare signatures"
                floors.append(Floor(what, found.ratio, EXCHANGE_FLOOR, True))
        if self.revocation is not None:
            what = f"s until the last of {self.revocation.replicas} replicas denies, p99"
            floors.append(Floor(what, self.revocation.percentile("last", 99), REVOCATION_CEILING, False))
        return floors + list(self._identity_floors())

    def _inspection_floors(self) -> Iterable[Floor]:
        for name, found in self.inspection.items():
            yield Floor(f"inspecting a {name}, by json.loads", found.ratio, INSPECTION_CEILING, False)
        if self.inspection:
            what = "a byte of a larger call, by one of a large call"
            yield Floor(what, growth(self.inspection), INSPECTION_GROWTH_CEILING, False)
        if self.refusals:
            worst = max(self.refusals, key=lambda name: self.refusals[name])
            yield Floor(f"ms until {worst} is refused", self.refusals[worst], BOMB_CEILING_MS, False)

    def _listing_floors(self) -> Iterable[Floor]:
        if not self.listing:
            return
        for arm in ("judged", "first"):
            ratio = listing.ratio(self.listing, arm)
            yield Floor(f"cutting a list of 200 tools ({arm}), by json.loads", ratio, LISTING_CEILING, False)
        milliseconds = max(self.listing[arm].best for arm in ("judged", "event")) / 1000
        yield Floor("ms to cut a list of 200 tools", milliseconds, LISTING_CEILING_MS, False)

    def _identity_floors(self) -> Iterable[Floor]:
        for name, arms in self.minting.items():
            yield Floor(f"minting a {name}, by the bare calls", _mint_ratio(arms), MINT_FLOOR, True)
        for found in self.streams:
            name = f"{found.number:,} {NAMES[found.kind]}"
            yield Floor(f"s until a rotation reached {name}", found.last, ROTATION_CEILING, False)
            yield Floor(f"memory of {name}, by the first half", found.growth, GROWTH_CEILING, False)

    def to_json(self) -> str:
        floors = [{**asdict(floor), "met": floor.met} for floor in self.floors()]
        return json.dumps({**asdict(self), "floors": floors}, indent=2) + "\n"

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json(), "utf-8")

    def text(self) -> str:
        """Return all tables."""
        return "\n".join(
            [
                *_table("machine", ["", ""], self.machine.items(), left=2),
                *_table(
                    "calls a second on one core, and the ratio to the no-op of the same host",
                    ["", "in flight", "calls/s", "CPU µs/call", "busy", "p50 ms", "p99 ms", "ratio"],
                    map(_rate_row, self.rates),
                ),
                *_table(
                    "steps, µs",
                    ["", "alone", "in the flow", "share"],
                    _steps(self.steps),
                ),
                *_table(
                    "grants and registry, by the cost with 1 time", ["times", "ratio"], _ratios(self.scales)
                ),
                *_table("chain of agents, µs for a call", ["agents", "best", "median"], _chains(self.chains)),
                *_table(
                    "added latency through a real Envoy, one connection, µs",
                    ["", "calls", "p50", "p99", "added p50", "added p99"],
                    _latencies(self.latencies),
                ),
                *_table("bombs: ms to refuse", ["", "ms"], _bombs(self.bombs)),
                *_table(
                    "inspection, µs, and the inspector by json.loads of the same body",
                    ["", "json.loads", "strict JSON", "inspected", "and read", "all data classes", "ratio"],
                    inspection_rows(self.inspection),
                ),
                *_table(
                    "inspection of bodies made to be slow: ms to refuse", ["", "ms"], _bombs(self.refusals)
                ),
                *_table(
                    "lists that are cut, µs, and json.loads of the same body",
                    ["", *listing.ARMS],
                    listing.rows(self.listing),
                ),
                *_table(
                    "minting, µs, and its rate by that of the bare calls",
                    ["", "bare", "minted", "ratio"],
                    map(_mint_row, self.minting.items()),
                ),
                *_table(
                    "SVIDs over a Unix socket, minted and recorded for each call",
                    ["", "in flight", "calls/s", "CPU µs/call", "p50 ms", "p99 ms"],
                    map(_svid_row, self.svid_rates),
                ),
                *_table(
                    "seconds from a forced rotation until streams have their new certificate",
                    ["", "streams", "first", "median", "last", "CPU s", "longest stall of the loop"],
                    _rotations(self.streams),
                ),
                *_table(
                    "memory of the server, by the streams that are open",
                    ["", "streams", "MiB", "kB a stream more"],
                    _memory(self.streams),
                ),
                *_table(
                    "a steady caller with a known token, by who else calls",
                    ["", "calls/s of it", "p50 ms", "p99 ms", "p99 by quiet", "p99 by known"],
                    map(_flood_row, self.floods),
                ),
                *_table(
                    "orders over the private socket of one process, on the disk before the answer",
                    ["", "calls in flight", "calls/s", "p50 ms", "p99 ms", "longest ms"],
                    map(_order_row, self.orders),
                ),
                *_table(
                    "token exchange over HTTP with a JWT-SVID, and the bare signatures in it, on one core",
                    [
                        *("", "a second", "CPU µs", "busy", "p50 ms", "p99 ms"),
                        *("bare between/s", "bare in a loop/s", "CPU µs", "by between", "by the loop"),
                    ],
                    map(_exchange_row, self.exchanges),
                ),
                *_table(
                    "withdrawn under load: ms from the command on",
                    ["", "times", "p50", "p99", "longest"],
                    _revocation(self.revocation),
                ),
                *_table("floors", ["", "measured", "limit", ""], map(_floor_row, self.floors())),
            ]
        )


def _table(title: str, head: Row, rows: Iterable[Row], left: int = 1) -> list[str]:
    lines = [list(map(str, row)) for row in rows]
    if not lines:
        return []
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]

    def render(line: Row) -> str:
        cells = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return ("  " + "  ".join(cells)).rstrip()

    headline = [render(head)] if any(head) else []
    return [title, *headline, *map(render, lines), ""]


def _rate_row(rate: Rate) -> Row:
    return [
        NAMES[rate.arm],
        str(rate.in_flight),
        f"{rate.median('rate'):,.0f}",
        f"{rate.median('cpu') * 1e6:.0f}",
        f"{rate.median('busy'):.0%}",
        f"{rate.median('p50') * 1e3:.2f}",
        f"{rate.median('p99') * 1e3:.2f}",
        "" if rate.ratio is None else f"{rate.ratio:.3f}",
    ]


def _steps(steps: Mapping[str, tuple[Cost, float]]) -> Iterable[Row]:
    for name, (alone, in_flow) in steps.items():
        yield [name, f"{alone.best:.1f}", f"{in_flow:.1f}", f"{in_flow / steps[FULL][1]:.0%}"]


def _ratios(scales: Mapping[int, float]) -> Iterable[Row]:
    return ([str(scale), f"{ratio:.2f}"] for scale, ratio in scales.items())


def _chains(chains: Mapping[int, Cost]) -> Iterable[Row]:
    return ([str(depth), f"{cost.best:.0f}", f"{cost.median:.0f}"] for depth, cost in chains.items())


def _latencies(latencies: Mapping[str, Latency]) -> Iterable[Row]:
    for name, found in latencies.items():
        base = latencies[NOBODY]
        yield [
            name,
            str(found.calls),
            f"{found.p50:.0f}",
            f"{found.p99:.0f}",
            "" if found is base else f"{found.p50 - base.p50:.0f}",
            "" if found is base else f"{found.p99 - base.p99:.0f}",
        ]


def _bombs(bombs: Mapping[str, float]) -> Iterable[Row]:
    return ([name, f"{milliseconds:.2f}"] for name, milliseconds in bombs.items())


def _flood_row(wave: Wave) -> Row:
    return [
        wave.company,
        f"{wave.rate:,.0f}",
        f"{wave.p50 * 1e3:.2f}",
        f"{wave.p99 * 1e3:.2f}",
        f"{wave.by_quiet:.2f}",
        f"{wave.by_known:.2f}",
    ]


def _order_row(found: Orders) -> Row:
    times = (f"{seconds * 1e3:.2f}" for seconds in (found.p50, found.p99, found.longest))
    return [f"{found.order} an agent", str(found.in_flight), f"{found.rate:,.0f}", *times]


def _exchange_row(found: Exchange) -> Row:
    counted = ", ".join(f"{number} {name}" for name, number in found.counted.items())
    return [
        counted,
        f"{found.median('rate'):,.0f}",
        f"{found.median('cpu') * 1e6:.0f}",
        f"{found.median('busy'):.0%}",
        f"{found.median('p50') * 1e3:.2f}",
        f"{found.median('p99') * 1e3:.2f}",
        f"{found.median('bare_rate'):,.0f}",
        f"{found.median('loop_rate'):,.0f}",
        f"{found.median('loop_cpu') * 1e6:.0f}",
        f"{found.ratio:.3f}",
        f"{found.loop_ratio:.3f}",
    ]


def _mint_ratio(arms: Mapping[str, Cost]) -> float:
    return arms["bare"].best / arms["minted"].best


def _mint_row(found: tuple[str, Mapping[str, Cost]]) -> Row:
    name, arms = found
    return [name, f"{arms['bare'].best:.1f}", f"{arms['minted'].best:.1f}", f"{_mint_ratio(arms):.2f}"]


def _svid_row(found: SvidRate) -> Row:
    return [
        found.rpc,
        str(found.in_flight),
        f"{found.rate:,.0f}",
        f"{found.cpu * 1e6:.0f}",
        f"{found.p50 * 1e3:.2f}",
        f"{found.p99 * 1e3:.2f}",
    ]


def _rotations(found: Iterable[Streams]) -> Iterable[Row]:
    for streams in found:
        for each in streams.rotations:
            times = (each.first, each.median, each.last, each.cpu, each.stall)
            yield [NAMES[streams.kind], str(streams.number), *(f"{seconds:.2f}" for seconds in times)]


def _memory(found: Iterable[Streams]) -> Iterable[Row]:
    for streams in found:
        yield [NAMES[streams.kind], "0", f"{streams.memory[0] / 2**20:.0f}", ""]
        for number, cost in streams.per_stream():
            mebibytes = streams.memory[number] / 2**20
            yield [NAMES[streams.kind], str(number), f"{mebibytes:.0f}", f"{cost / 1024:.1f}"]


def _revocation(found: Revocation | None) -> Iterable[Row]:
    if found is None:
        return
    steps = {
        "written": "on disk at the authority",
        "first": "the first replica denies",
        "last": f"the last of {found.replicas} replicas denies",
        "barrier": "the barrier is passed (--wait)",
    }
    for name, what in steps.items():
        times = (found.percentile(name, percent) for percent in (50, 99, 100))
        yield [what, str(len(found.withdrawals)), *(f"{seconds * 1e3:.0f}" for seconds in times)]
    load = f"the load meanwhile: {found.rate:,.0f} calls/s"
    yield [load, "", f"{found.p50 * 1e3:.1f}", f"{found.p99 * 1e3:.1f}", ""]


def _floor_row(floor: Floor) -> Row:
    sign = "≥" if floor.at_least else "≤"
    return [
        floor.what,
        f"{floor.measured:.3f}",
        f"{sign} {floor.limit:.3f}",
        "met" if floor.met else "MISSED",
    ]
