"""The official conformance suite of MCP: its result through Envoy and Deputy is its result without.

The suite cannot send our credentials; a forwarder adds them (real_world.py). No difference is by design:
where the grants list what the suite calls, there is none.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conformance_suite import Checks, counts, run_suite, scenarios
from tests.e2e.real_servers import ASKED_EVERYTHING, CONFORMING, NARROWED
from tests.e2e.real_world import RealWorld, real_world
from tests.real_results import RESULTS

pytestmark = [pytest.mark.e2e, pytest.mark.full]
SERVERS = (CONFORMING, ASKED_EVERYTHING)


@pytest.fixture(scope="module")
def mesh() -> Iterator[RealWorld]:
    with real_world(*SERVERS, NARROWED) as made:
        yield made


def both_ways(mesh: RealWorld, service: str, tmp_path: Path, *more: str) -> tuple[dict[str, Checks], ...]:
    """The results without Deputy, and with it."""
    urls = {"without": mesh.direct(service), "with": mesh.forwarder(service)}
    without, within = (run_suite(f"{url}/mcp", tmp_path / way, *more) for way, url in urls.items())
    return without, within


@pytest.mark.parametrize("service", [server.name for server in SERVERS])
def test_the_result_through_deputy_is_the_result_without(
    mesh: RealWorld, service: str, tmp_path: Path
) -> None:
    without, within = both_ways(mesh, service, tmp_path)
    assert set(without) == scenarios()
    different = [name for name in without if without[name] != within.get(name)]
    assert {name: (without[name], within.get(name)) for name in different} == {}
    assert set(within) == set(without)
    assert counts(within) == RESULTS["conformance"][service]


def test_a_tool_that_is_denied_would_be_a_difference(mesh: RealWorld, tmp_path: Path) -> None:
    """So an equal result is not one that nobody compared."""
    without, within = both_ways(mesh, "narrowed", tmp_path, "--scenario", "tools-call-simple-text")
    assert (counts(without), counts(within)) == ({"SUCCESS": 1}, {"FAILURE": 1})
    (check,) = within["tools-call-simple-text"]
    assert "the tool test_simple_text is not listed for narrowed" in check["errorMessage"]
