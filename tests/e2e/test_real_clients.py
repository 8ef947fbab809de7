"""Real clients of MCP at real servers: through Envoy and Deputy they get what they get without.

And where a tool is denied, each shows our sentence, keeps its session and goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.real_clients import (
    EVERYTHING_STEPS,
    IN_EVERYTHING,
    IN_PAPERS,
    IN_RECONNECTING,
    PAPERS,
    PYTHON_CLIENTS,
    RECONNECTING,
    TYPESCRIPT,
    Client,
    Result,
    Step,
    call,
    denied,
    values,
)
from tests.e2e.real_servers import CONFORMING, EVERYTHING, EVERYTHING_DENIED, PYTHON_1, PYTHON_2
from tests.e2e.real_world import RealWorld, real_world
from tests.real_results import RESULTS

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Visit:
    """What is done at one server, what must be among the answers, and what nobody may call there."""

    steps: Sequence[Step]
    answers: Sequence[Any]
    denied: str
    allowed: Step


@dataclass(frozen=True)
class Walked:
    """What came of the steps without Deputy and with it, and of those that are refused with it."""

    without: list[Result]
    within: list[Result]
    refused: list[Result]


UNKNOWN = "no-such-tool"
_HELLO = call("echo", message="still here")
VISITS = {
    "python-1": Visit(PAPERS, IN_PAPERS, "tear_up", _HELLO),
    "python-2": Visit(PAPERS, IN_PAPERS, "tear_up", _HELLO),
    "everything": Visit(EVERYTHING_STEPS, IN_EVERYTHING, EVERYTHING_DENIED, _HELLO),
    "conforming": Visit(RECONNECTING, IN_RECONNECTING, "hidden", call("test_simple_text")),
}
_PYTHON = ("python-1", "python-2")


# npm takes its time, so what is of JavaScript is only there for the full tests.
def cases() -> list[Any]:
    clients = (*PYTHON_CLIENTS, TYPESCRIPT)
    return [
        pytest.param(
            client,
            server,
            id=f"{client.name}-{server}",
            marks=() if client in PYTHON_CLIENTS and server in _PYTHON else pytest.mark.full,
        )
        for server in VISITS
        for client in clients
    ]


@pytest.fixture(scope="module")
def python_servers() -> Iterator[RealWorld]:
    with real_world(PYTHON_1, PYTHON_2) as made:
        yield made


@pytest.fixture(scope="module")
def javascript_servers() -> Iterator[RealWorld]:
    with real_world(EVERYTHING, CONFORMING) as made:
        yield made


@pytest.fixture
def world(request: pytest.FixtureRequest, server: str) -> RealWorld:
    found = request.getfixturevalue("python_servers" if server in _PYTHON else "javascript_servers")
    assert isinstance(found, RealWorld)
    return found


@pytest.fixture(scope="module")
def walked() -> dict[tuple[str, str], Walked]:
    """What was walked already: a client starts once for both tests."""
    return {}


@pytest.fixture
def walk(world: RealWorld, client: Client, server: str, walked: dict[tuple[str, str], Walked]) -> Walked:
    key = (client.name, server)
    if key not in walked:
        visit = VISITS[server]
        refused = (visit.allowed, call(visit.denied), call(UNKNOWN), visit.allowed)
        without = client.walk(world.plain(server), visit.steps)
        within = client.walk(world.access(server), (*visit.steps, *refused))
        walked[key] = Walked(without, within[: -len(refused)], within[-len(refused) :])
    return walked[key]


def without_hidden(result: Result, hidden: str) -> Result:
    """A result as it is where its answer is guarded: in a list, what nobody may call is not there."""
    if "tools" not in result.get("ok", {}):
        return result
    tools = [tool for tool in result["ok"]["tools"] if tool["name"] != hidden]
    return {"ok": {**result["ok"], "tools": tools}}


@pytest.mark.parametrize(("client", "server"), cases())
def test_a_client_gets_through_deputy_what_it_gets_without(walk: Walked, server: str) -> None:
    visit = VISITS[server]
    for step, plain, guarded in zip(({"do": "begin"}, *visit.steps), walk.without, walk.within, strict=True):
        assert (step, guarded) == (step, without_hidden(plain, visit.denied))
        assert "ok" in guarded, (step, guarded)
    found = values(walk.within)
    for answer in visit.answers:
        assert answer in found, answer
    assert len(walk.within) == RESULTS["clients"]["answers"][server]


@pytest.mark.parametrize(("client", "server"), cases())
def test_a_denied_tool_is_an_error_with_our_sentence_and_the_session_goes_on(
    walk: Walked, client: Client, server: str
) -> None:
    before, refused, unknown, after = walk.refused
    for tool, result in ((VISITS[server].denied, refused), (UNKNOWN, unknown)):
        assert len(result["error"]["data"].pop("decision_id")) == 26
        assert result == {"error": denied(server, tool, typescript=client is TYPESCRIPT)}
    assert after == before
    assert "ok" in after
