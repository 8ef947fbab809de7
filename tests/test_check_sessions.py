"""The flow and the sessions of MCP: who presents a session's id is asked about, wherever the id can stand."""

import json
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from authz.codes import Code
from authz.errors import AuthenticationError
from authz.protocols.route import Route
from authz.services import Asker, Service, Services
from authz.sessions.port import Owner
from tests.check_requests import MCP_HEADERS
from tests.fakes import GATEWAY, LEAD, TICKETS, World, reason

OK = 0
SESSION = ("mcp-session-id", "s-1")


@dataclass
class KnownSessions:
    """Remembers what it was asked; refuses when told so."""

    refusal: AuthenticationError | None = None
    asked: list[tuple[str, str, Owner]] = field(default_factory=list)

    async def bind(self, service: str, session_id: str, owner: Owner, now: datetime) -> None:
        del now
        self.asked.append((service, session_id, owner))
        if self.refusal is not None:
            raise self.refusal


def _world(refusal: Code | None = None) -> tuple[World, KnownSessions]:
    world = World()
    known = KnownSessions(AuthenticationError(refusal) if refusal else None)
    world.sessions = known
    return world, known


def _request(world: World, *more: tuple[str, str], **parts: object) -> bytes:
    run = world.run("triage")
    headers = [*MCP_HEADERS, ("authorization", f"Bearer {world.token(run)}"), *more]
    return world.request(None, run, headers=headers, **parts)


def test_a_session_is_bound_to_the_person_and_the_agent() -> None:
    world, known = _world()
    assert world.check(_request(world, SESSION)).status.code == OK
    assert known.asked == [("tickets", "s-1", Owner(LEAD.uri, "triage"))]


def test_a_request_without_a_session_asks_nobody() -> None:
    world, known = _world()
    assert world.check(_request(world)).status.code == OK
    assert not known.asked


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_streams_and_ends_are_of_a_session_too(method: str) -> None:
    world, known = _world(Code.SESSION_OTHERS)
    response = world.check(_request(world, SESSION, method=method, body=b""))
    assert reason(response) == "DPT-SESSION-OTHERS"
    assert len(known.asked) == 1


def test_the_response_of_a_client_is_of_a_session_too() -> None:
    world, _ = _world(Code.SESSION_OTHERS)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}).encode()
    assert reason(world.check(_request(world, SESSION, body=body))) == "DPT-SESSION-OTHERS"


def test_somebody_elses_session_is_refused_before_the_policy_is_asked() -> None:
    """The id alone gives nobody a decision to learn from, and the record names who tried."""
    world, _ = _world(Code.SESSION_OTHERS)
    response = world.check(_request(world, SESSION))
    assert reason(response) == "DPT-SESSION-OTHERS"
    assert not world.policy.asked
    (record,) = world.records()
    assert (record["effect"], record["agent"]) == ("deny", "triage")
    assert "s-1" not in json.dumps(record, default=str)


def test_what_cannot_be_known_is_refused() -> None:
    world, _ = _world(Code.SESSION_UNKNOWN)
    response = world.check(_request(world, SESSION))
    assert (reason(response), response.denied_response.status.code) == ("DPT-SESSION-UNKNOWN", 503)


def test_two_ids_are_no_id() -> None:
    world, known = _world()
    assert reason(world.check(_request(world, SESSION, ("mcp-session-id", "s-2")))) == "DPT-HEADER-DUPLICATE"
    assert not known.asked


def test_an_empty_id_names_no_session() -> None:
    world, known = _world()
    assert world.check(_request(world, ("mcp-session-id", ""))).status.code == OK
    assert not known.asked


def test_other_protocols_have_no_such_sessions() -> None:
    world, known = _world(Code.SESSION_OTHERS)
    world.services = Services.of(
        (Service("tickets", TICKETS, Route("tickets", "http")),),
        (Asker(GATEWAY, frozenset({"tickets"})),),
        None,
    )
    assert world.check(_request(world, SESSION, method="GET", body=b"")).status.code == OK
    assert not known.asked
