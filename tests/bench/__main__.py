"""`make bench`: measure, print tables, write JSON; exit 3 when a floor is missed.

- `--quick` takes about a minute, the whole a few; `--only` takes some parts of it.
- A denied call, or a part that does not start, is an error (exit 1): its numbers would be of something else.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from authz.errors import ConfigError
from authz.mesh.envoy_process import find_envoy
from tests.bench.bombs import measure_bombs
from tests.bench.cores import pin
from tests.bench.envoy import measure_latencies
from tests.bench.exchange import measure_exchange
from tests.bench.flood import measure_flood
from tests.bench.growth import measure_chains, measure_scales
from tests.bench.inspection import measure_inspection, measure_refusals
from tests.bench.listing import measure_listing
from tests.bench.machine import describe
from tests.bench.messages import ROOT, Peer
from tests.bench.minting import measure_minting
from tests.bench.orders import measure_orders
from tests.bench.place import Place, open_place
from tests.bench.rates import measure_rates, opa_binary
from tests.bench.report import Results
from tests.bench.revocation import measure_revocation
from tests.bench.settings import PARTS, Settings
from tests.bench.steps import measure_steps
from tests.bench.svids import measure_streams, measure_svid_rates

EXIT_FLOOR_MISSED = 3


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="some parts only")
    parser.add_argument("--out", type=Path, default=ROOT / "bench-results" / "latest.json")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    settings = Settings.quick() if options.quick else Settings.whole()
    # Not below the project: the path of a Unix socket has 107 bytes.
    with tempfile.TemporaryDirectory(prefix="dpt-bench-") as directory:
        results = measure(Path(directory), settings, frozenset(options.only))
    results.write(options.out)
    print(results.text())
    print(f"written to {options.out}")
    return exit_code(results)


def exit_code(results: Results) -> int:
    """Say whether every floor is met."""
    return 0 if all(floor.met for floor in results.floors()) else EXIT_FLOOR_MISSED


def measure(directory: Path, settings: Settings, parts: frozenset[str]) -> Results:
    """Measure some parts of it."""
    results = Results(describe())
    if parts & {"rates", "flood", "orders", "envoy"}:
        _measure_server(directory, settings, parts, results)
    if "identity" in parts:
        _measure_sockets(directory, settings, results)
    if "exchange" in parts:
        say("token exchange over HTTP")
        results.exchanges += measure_exchange(directory, settings)
    if "revocation" in parts:
        say(f"withdrawals under {settings.replicas} replicas")
        results.revocation = asyncio.run(measure_revocation(settings))
    if settings.pinned:
        pin(0)
    if "lists" in parts:
        say("lists")
        results.listing |= measure_listing(seconds=settings.growth_seconds)
    asyncio.run(_measure_in_process(directory, settings, parts, results))
    return results


def _measure_server(directory: Path, settings: Settings, parts: frozenset[str], results: Results) -> None:
    opa = opa_binary(ROOT) if "rates" in parts else None
    options = ([] if opa is None else ["--opa", str(opa)]) + (["--pinned"] if settings.pinned else [])
    with Peer.start("tests.bench.server", str(directory / "server"), *options) as server:
        arms = server.read()
        if "rates" in parts:
            say("calls a second")
            results.rates += measure_rates(server, arms, settings)
        if "flood" in parts:
            say("floods of tokens beside a steady caller")
            results.floods += measure_flood(arms, settings)
        if "orders" in parts:
            say("orders to contain, beside calls")
            results.orders += measure_orders(arms, settings)
        if "envoy" in parts and has_envoy():
            say("added latency through a real Envoy")
            results.latencies |= measure_latencies(directory, arms, calls=settings.envoy_calls)


def _measure_sockets(directory: Path, settings: Settings, results: Results) -> None:
    say("SVIDs over a socket")
    results.svid_rates += measure_svid_rates(directory, settings)
    for kind in ("tasks", "shared"):
        say(f"{settings.streams} streams: {kind}")
        results.streams.append(measure_streams(directory, kind, settings))


async def _measure_in_process(
    directory: Path, settings: Settings, parts: frozenset[str], results: Results
) -> None:
    if "identity" in parts:
        say("minting")
        results.minting |= measure_minting(seconds=settings.growth_seconds)
    if "inspect" in parts:
        say("inspection")
        results.inspection |= measure_inspection(seconds=settings.growth_seconds)
        results.refusals |= measure_refusals(seconds=settings.bomb_seconds)
    if parts & {"steps", "growth", "bombs"}:
        async with open_place(directory / "place") as place:
            _measure_place(await place.without_waiting(), settings, parts, results)
    if "growth" in parts:
        say("grants and registry")
        results.scales |= await measure_scales(directory, settings.scales, seconds=settings.growth_seconds)


def _measure_place(place: Place, settings: Settings, parts: frozenset[str], results: Results) -> None:
    if "steps" in parts:
        say("steps")
        results.steps |= measure_steps(place, seconds=settings.step_seconds, walks=settings.walks)
    if "growth" in parts:
        say("chains")
        results.chains |= measure_chains(place, seconds=settings.growth_seconds)
    if "bombs" in parts:
        say("bombs")
        results.bombs |= measure_bombs(place, seconds=settings.bomb_seconds)


def has_envoy() -> bool:
    """Say whether there is an Envoy to measure through."""
    try:
        find_envoy()
    except ConfigError as error:
        say(f"nothing through Envoy: {error}")
        return False
    return True


def say(what: str) -> None:
    """Show progress, apart from the results."""
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
