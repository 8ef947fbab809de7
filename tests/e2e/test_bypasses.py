"""Every known way past an inspector, at real servers: directly, where many work, and through Deputy.

tests/vectors/bypasses.json says what is measured here, and docs/reference/bypasses.md is made of it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from authz.response import REASON_HEADER
from tests.bypass_tricks import TRICKS
from tests.conftest import ROOT
from tests.e2e.bypass_world import SERVERS, Gate, gate, visible

pytestmark = pytest.mark.e2e
MEASURED = json.loads((ROOT / "tests/vectors/bypasses.json").read_text("utf-8"))
CASES = [pytest.param(case, id=case["id"]) for case in MEASURED["cases"]]
Case = dict[str, Any]


# npm takes its time, so the SDK of TypeScript is only there for the full tests.
@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.full if kind == "typescript" else ()) for kind in SERVERS],
)
def before(request: pytest.FixtureRequest) -> Iterator[Gate]:
    """A server of one kind, Envoy and Deputy before it."""
    with gate(request.param) as made:
        yield made


def test_what_is_allowed_passes(before: Gate) -> None:
    """So a refusal below is for what the trick is, and not for who asks."""
    requests, ran = before.server.seen()
    assert before.through(visible()).status == 200
    assert before.server.seen() == (requests + 1, [*ran, "read_ticket"])


@pytest.mark.parametrize("case", CASES)
def test_the_hidden_tool_runs_where_the_server_is_asked_directly(before: Gate, case: Case) -> None:
    """Or not, if that is what the page says: a trick that works nowhere proves nothing."""
    _, ran = before.server.seen()
    before.direct(TRICKS[case["id"]])
    now = before.server.seen()[1][len(ran) :]
    assert ("secret" in now) == (before.kind in case["runs_at"])


@pytest.mark.parametrize("case", CASES)
def test_the_hidden_tool_never_runs_through_deputy(before: Gate, case: Case) -> None:
    seen = before.server.seen()
    answer = before.through(TRICKS[case["id"]])
    assert (answer.status, answer.headers.get(REASON_HEADER, "")) == (case["status"], case["reason"])
    assert before.server.seen() == seen


# ---- the page


def test_every_trick_has_its_row() -> None:
    assert [case["id"] for case in MEASURED["cases"]] == list(TRICKS)


def test_the_page_names_the_servers_that_were_asked() -> None:
    assert MEASURED["servers"] == {kind: server.name() for kind, server in SERVERS.items()}


def test_the_page_is_made_of_what_is_measured() -> None:
    subprocess.run([sys.executable, ROOT / "tools/bypasses.py", "--check"], check=True)
