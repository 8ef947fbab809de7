"""The benchmark's code runs, and its floors hold back what is too slow; no number of it is looked at."""

import asyncio
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from authz.policy.grants import Grants
from tests.bench.__main__ import EXIT_FLOOR_MISSED, exit_code, measure
from tests.bench.exchange import Exchange, Turn
from tests.bench.flood import FLOODS, QUIET, Wave
from tests.bench.grants import grants_yaml
from tests.bench.inspection import Inspection
from tests.bench.inspection_bodies import LARGE, LARGER, bodies
from tests.bench.listing import ARMS as LISTING_ARMS
from tests.bench.measure import Cost
from tests.bench.minting import JWT, X509
from tests.bench.order_client import ORDERS
from tests.bench.orders import LOADS, Orders
from tests.bench.place import open_place
from tests.bench.rates import Rate, Round
from tests.bench.report import Results
from tests.bench.revocation import Revocation, Withdrawn
from tests.bench.settings import PARTS, Settings
from tests.bench.steps import FULL, walk
from tests.bench.svids import RPCS, Rotation, Streams

ROUND = Round(rate=100.0, cpu=0.01, busy=1.0, p50=0.01, p99=0.02)


def rate(arm: str, ratio: float | None, in_flight: int = 16) -> Rate:
    return Rate(arm, in_flight, (ROUND,), ratio)


def results() -> Results:
    return Results(
        {"processor": "a fast one"},
        rates=[rate("noop", None), rate("full", 0.4), rate("opa", 0.1), rate("full", 0.1, in_flight=1)],
        scales={50: 1.1},
        chains={1: Cost(100.0, 100.0), 8: Cost(150.0, 160.0)},
        bombs={"body": 4.0, "token": 0.1},
        inspection={LARGE: inspection(64_000, 290.0), LARGER: inspection(512_000, 2300.0)},
        refusals={"members": 4.0},
        listing=listing(),
        minting={JWT: {"bare": Cost(25.0, 25.0), "minted": Cost(40.0, 40.0)}},
        streams=[streams()],
        orders=[Orders("contain", 16, 0.01, 0.02, 0.03, 100.0)],
        floods=[Wave("forged tokens", 0.01, 0.02, 100.0, 3.0, 1.4)],
        exchanges=[exchanges(0.31), exchanges(0.1, "RS256")],
        revocation=revocation(0.9),
    )


def inspection(size: int, cost: float) -> Inspection:
    bare = Cost(size / 640, size / 640)
    return Inspection(size, bare, bare, bare, Cost(cost, cost), Cost(cost, cost))


def listing(first: float = 1900.0, judged: float = 200.0, event: float = 250.0) -> dict[str, Cost]:
    found = {"bare": 650.0, "first": first, "known": 150.0, "judged": judged, "event": event}
    return {arm: Cost(cost, cost) for arm, cost in found.items()}


def exchanges(ratio: float, algorithm: str = "ES256") -> Exchange:
    turn = Turn(
        rate=1000 * ratio,
        cpu=0.001,
        busy=1.0,
        p50=0.01,
        p99=0.02,
        bare_rate=1000,
        loop_rate=1200,
        loop_cpu=0.001,
    )
    return Exchange(algorithm, {"sign ES256": 1}, (turn,))


def revocation(last: float) -> Revocation:
    return Revocation(4, (Withdrawn(0.1, 0.2, last, last), Withdrawn(0.1, 0.1, 0.2, 0.2)), 100.0, 0.01, 0.02)


def streams(*, last: float = 1.9, last_half: int = 10) -> Streams:
    memory = {0: 100, 2: 110, 4: 110 + last_half}
    return Streams("tasks", memory, tuple(Rotation(0.1, 0.5, each, 1.0, 0.01) for each in (1.0, last, 4.0)))


@pytest.mark.parametrize(
    "slow",
    [
        replace(results(), rates=[rate("noop-tls", None), rate("full-tls", 0.33)]),
        replace(results(), rates=[rate("full", 0.33, in_flight=64)]),
        replace(results(), scales={10: 1.3}),
        replace(results(), chains={1: Cost(100.0, 100.0), 8: Cost(201.0, 201.0)}),
        replace(results(), bombs={"body": 10.1}),
        replace(
            results(), inspection={LARGE: inspection(64_000, 301.0), LARGER: inspection(512_000, 2300.0)}
        ),
        replace(
            results(), inspection={LARGE: inspection(64_000, 200.0), LARGER: inspection(512_000, 2100.0)}
        ),
        replace(results(), refusals={"members": 10.1}),
        replace(results(), listing=listing(first=2601.0)),
        replace(results(), listing=listing(judged=1951.0)),
        replace(results(), listing=listing(event=1001.0)),
        replace(results(), minting={X509: {"bare": Cost(59.0, 59.0), "minted": Cost(100.0, 100.0)}}),
        replace(results(), streams=[streams(last=2.1)]),
        replace(results(), streams=[streams(last_half=13)]),
        replace(results(), exchanges=[exchanges(0.29)]),
        replace(results(), floods=[Wave("forged tokens", 0.01, 0.02, 100.0, 3.0, 1.6)]),
        replace(results(), revocation=revocation(1.1)),
    ],
)
def test_a_floor_that_is_missed_is_exit_3(slow: Results) -> None:
    assert exit_code(results()) == 0
    assert exit_code(slow) == EXIT_FLOOR_MISSED == 3
    assert "MISSED" in slow.text()


def test_result_is_json_with_the_floors_beside_the_numbers() -> None:
    written = json.loads(results().to_json())
    assert written["machine"] == {"processor": "a fast one"}
    assert {floor["met"] for floor in written["floors"]} == {True}
    assert written["rates"][1]["ratio"] == 0.4


def test_grants_are_as_large_as_they_say_and_always_the_same() -> None:
    one, again = Grants.parse(grants_yaml(1)), Grants.parse(grants_yaml(1))
    assert one.digest == again.digest
    assert 55_000 < len(one.canonical) < 62_000
    assert 9 < len(Grants.parse(grants_yaml(10)).canonical) / len(one.canonical) < 11


def test_each_call_is_allowed_with_other_arguments(tmp_path: Path) -> None:
    async def allowed() -> set[str | None]:
        async with open_place(tmp_path / "place") as place:
            calls = place.calls(place.presenter(8), 20)
            return {walk(data, place.parts.flow).operation.arguments_sha256 for data in calls}

    assert len(asyncio.run(allowed())) == 20


def test_all_parts_in_this_process_run(tmp_path: Path) -> None:
    found = measure(
        tmp_path, Settings.smoke(), frozenset({"steps", "growth", "bombs", "inspect", "lists", "identity"})
    )
    assert list(found.steps)[-1] == FULL
    assert set(found.chains) == set(range(1, 9))
    assert set(found.scales) == {2}
    assert [(streams.kind, streams.number) for streams in found.streams] == [("tasks", 8), ("shared", 8)]
    assert {(each.rpc, each.in_flight) for each in found.svid_rates} == set(product(RPCS, (1, 16)))
    assert set(found.minting) == {JWT, X509}
    assert set(found.inspection) == set(bodies())
    assert set(found.listing) == set(LISTING_ARMS)
    for name in (*found.steps, *found.bombs, *found.inspection, *found.refusals):
        assert name in found.text()


@pytest.mark.full
@pytest.mark.e2e
def test_host_and_load_run(tmp_path: Path, envoy_binary: Path) -> None:
    found = measure(tmp_path, Settings.smoke(), frozenset({"rates", "flood", "orders", "envoy"}))
    assert {(each.order, each.in_flight) for each in found.orders} == set(product(ORDERS, LOADS))
    assert [wave.company for wave in found.floods] == [QUIET, *FLOODS]
    assert {"noop", "full", "fresh", "noop-tls", "full-tls"} <= {each.arm for each in found.rates}
    assert set(found.latencies) == {"no authorizer", "noop", "full"}
    assert "mTLS" in found.text()


@pytest.mark.e2e
def test_exchanges_run_and_hold_the_signatures_that_they_say(tmp_path: Path) -> None:
    found = measure(tmp_path, Settings.smoke(), frozenset({"exchange"})).exchanges
    assert {each.algorithm: dict(each.counted) for each in found} == {
        "ES256": {"sign ES256": 1, "verify ES256": 2},
        "RS256": {"sign ES256": 1, "verify ES256": 1, "verify RS256": 1},
    }


@pytest.mark.full
@pytest.mark.e2e
def test_withdrawals_under_replicas_run(tmp_path: Path) -> None:
    found = measure(tmp_path, Settings.smoke(), frozenset({"revocation"})).revocation
    assert found is not None
    assert (found.replicas, len(found.withdrawals)) == (2, 2)
    assert all(each.first <= each.last for each in found.withdrawals)


def test_parts_have_names() -> None:
    of_the_server = {"rates", "flood", "orders", "envoy"}
    of_others = {"identity", "exchange", "revocation"}
    assert set(PARTS) == of_the_server | of_others | {"steps", "growth", "bombs", "inspect", "lists"}
