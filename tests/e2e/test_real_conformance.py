"""The official conformance suite of MCP: its result through Envoy and Deputy is its result without.

- The suite cannot send our credentials; a forwarder adds them (real_world.py).
- Of the released suite there is no difference at all, in no check and no detail, where the grants list what
  it calls; not where answers are guarded, either.
- The coming one looks at what a server refuses in the era of 2026-07-28, and Deputy refuses before it, in
  its own words. The checks that end in another way are listed, each with its reason.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conformance_suite import (
    ALL,
    COMING,
    MODERN,
    RELEASED,
    Checks,
    counts,
    differences,
    run_suite,
    scenarios,
)
from tests.e2e.real_servers import ASKED_EVERYTHING, CONFORMING, MODERN_SERVER, NARROWED, UNGUARDED
from tests.e2e.real_world import RealWorld, real_world
from tests.real_results import RESULTS

pytestmark = [pytest.mark.e2e, pytest.mark.full]
SERVERS = (CONFORMING, UNGUARDED, ASKED_EVERYTHING)


@pytest.fixture(scope="module")
def mesh() -> Iterator[RealWorld]:
    with real_world(*SERVERS, NARROWED, MODERN_SERVER) as made:
        yield made


def both_ways(
    mesh: RealWorld, service: str, tmp_path: Path, *which: str, suite: str
) -> tuple[dict[str, Checks], ...]:
    """The results without Deputy, and with it."""
    urls = {"without": mesh.direct(service), "with": mesh.forwarder(service)}
    without, within = (
        run_suite(f"{url}/mcp", tmp_path / way, *which, suite=suite) for way, url in urls.items()
    )
    return without, within


@pytest.mark.parametrize("service", [server.name for server in SERVERS])
def test_the_result_through_deputy_is_the_result_without(
    mesh: RealWorld, service: str, tmp_path: Path
) -> None:
    without, within = both_ways(mesh, service, tmp_path, *ALL, suite=RELEASED)
    assert set(without) == scenarios()
    different = [name for name in without if without[name] != within.get(name)]
    assert {name: (without[name], within.get(name)) for name in different} == {}
    assert set(within) == set(without)
    assert counts(within) == RESULTS["conformance"]["released"][service]


def test_a_tool_that_is_denied_would_be_a_difference(mesh: RealWorld, tmp_path: Path) -> None:
    """So an equal result is not one that nobody compared."""
    without, within = both_ways(
        mesh, "narrowed", tmp_path, "--scenario", "tools-call-simple-text", suite=RELEASED
    )
    assert (counts(without), counts(within)) == ({"SUCCESS": 1}, {"FAILURE": 1})
    (check,) = within["tools-call-simple-text"]
    assert "the tool test_simple_text is not listed for narrowed" in check["errorMessage"]


def test_in_the_modern_era_only_what_is_listed_differs(mesh: RealWorld, tmp_path: Path) -> None:
    without, within = both_ways(mesh, "modern", tmp_path, *MODERN, suite=COMING)
    known = RESULTS["conformance"]["coming"]
    assert differences(without, within) == {case["check"]: case["differs"] for case in known["differences"]}
    assert (counts(without), counts(within)) == (known["without"], known["with"])
