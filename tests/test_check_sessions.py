"""The flow where requests have a session: whoever else presents it is refused, whatever they ask for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.codes import Code
from authz.pb import ext_authz_pb2 as pb
from authz.store.sessions import SessionFile
from authz.store.sessions_shared import SharedSessions
from identity.caller import Human
from tests.check_requests import MCP_HEADERS
from tests.fakes import DENY, LEAD, Run, World, reason

ID = "3f2c0a5e-9a1b-4c7d-8e6f-0123456789ab"
OLGA = Human.parse("https://idp.example", "olga")
META: dict[str, object] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
MODERN = {
    "jsonrpc": "2.0",
    "id": 7,
    "method": "tools/call",
    "params": {"name": "read_ticket", "arguments": {"ticket": "T-1"}, "_meta": META},
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World()
    file = SessionFile.open(tmp_path / "data" / "sessions.db")
    made.sessions = SharedSessions(file)
    yield made
    file.close()


def ask(
    world: World,
    run: Run,
    *ids: str,
    more: tuple[tuple[str, str], ...] = (),
    human: Human = LEAD,
    **parts: Any,
) -> pb.CheckResponse:
    """Send a request of an agent with these headers `Mcp-Session-Id`."""
    token = world.token(run, human=human)
    headers = [
        *MCP_HEADERS,
        ("authorization", f"Bearer {token}"),
        *(("mcp-session-id", each) for each in ids),
        *more,
    ]
    return world.check(world.request(None, run, headers=headers, **parts))


def is_allowed(response: pb.CheckResponse) -> bool:
    return response.status.code == 0 and response.HasField("ok_response")


def test_who_opened_a_session_goes_on_and_who_stole_its_id_does_not(world: World) -> None:
    ours, theirs = world.run("triage"), world.run("resolver")
    assert is_allowed(ask(world, ours, ID))
    assert reason(ask(world, theirs, ID)) == Code.SESSION_OTHERS.value
    assert is_allowed(ask(world, ours, ID))
    assert is_allowed(ask(world, theirs, "another"))
    assert is_allowed(ask(world, theirs))


def test_the_same_agent_for_another_person_is_somebody_else(world: World) -> None:
    assert is_allowed(ask(world, world.run("triage"), ID))
    run = world.run("triage", OLGA)
    assert reason(ask(world, run, ID, human=OLGA)) == Code.SESSION_OTHERS.value


def test_another_run_of_the_same_agent_for_the_same_person_goes_on(world: World) -> None:
    assert is_allowed(ask(world, world.run("triage"), ID))
    assert is_allowed(ask(world, world.run("triage"), ID))


CLIENT_RESPONSE = json.dumps({"jsonrpc": "2.0", "id": 3, "result": {"roots": []}}).encode()
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "c", "version": "1"},
    },
}


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"method": "GET", "body": b""},
        {"method": "DELETE", "body": b""},
        {"body": CLIENT_RESPONSE},
        {"body": json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()},
        {"body": json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled"}).encode()},
        {"body": json.dumps(INITIALIZE).encode()},
    ],
    ids=["call", "stream", "end", "response", "ping", "notification", "initialize"],
)
def test_a_stolen_id_is_refused_with_whatever_it_is_sent(world: World, parts: dict[str, Any]) -> None:
    """Also where no policy is asked about an item: streams show answers, and responses are some."""
    ours, theirs = world.run("triage"), world.run("resolver")
    assert is_allowed(ask(world, ours, ID))
    assert reason(ask(world, theirs, ID, **parts)) == Code.SESSION_OTHERS.value
    assert is_allowed(ask(world, ours, ID, **parts))


def test_in_the_newer_era_a_session_is_bound_too(world: World) -> None:
    """Its servers ignore the header; one that speaks both eras may go by it all the same."""
    more = (
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "read_ticket"),
    )
    body = json.dumps(MODERN).encode()
    ours, theirs = world.run("triage"), world.run("resolver")
    assert is_allowed(ask(world, ours, ID, more=more, body=body))
    assert reason(ask(world, theirs, ID, more=more, body=body)) == Code.SESSION_OTHERS.value
    assert reason(ask(world, theirs, ID)) == Code.SESSION_OTHERS.value


@pytest.mark.parametrize("text", ["", "x" * 10_000, f"{ID},other", "a b"])
def test_what_is_no_id_is_refused_and_bound_to_nobody(world: World, text: str) -> None:
    """A comma is how a proxy joins two headers: another id to us than to the server."""
    response = ask(world, world.run("triage"), text)
    assert reason(response) == Code.SESSION_MALFORMED.value
    assert json.loads(response.denied_response.body)["id"] == 7
    assert is_allowed(ask(world, world.run("resolver"), ID))


@pytest.mark.parametrize("name", ["session_id", "sessionId", "session%5Fid", "SESSIONID"])
@pytest.mark.parametrize("spelling", [ID, ID.upper(), ID.replace("-", ""), f"%33{ID[1:]}"])
def test_a_session_of_the_older_transport_is_bound_however_it_is_written(
    world: World, name: str, spelling: str
) -> None:
    """Its servers have the id in the query, and read it as a UUID."""
    ours, theirs = world.run("triage"), world.run("resolver")
    assert is_allowed(ask(world, ours, path=f"/mcp?session_id={ID}"))
    path = f"/mcp?a=b&{name}={spelling}"
    assert reason(ask(world, theirs, path=path)) == Code.SESSION_OTHERS.value
    assert reason(ask(world, theirs, "own", path=path)) == Code.SESSION_OTHERS.value
    assert is_allowed(ask(world, ours, path=path))


@pytest.mark.parametrize(
    "query",
    [
        f"session_id={ID}&sessionId=own",
        "session_id=",
        "session_id=0x2c0a5e9a1b4c7d8e6f0123456789ab",
        "session_id=urn:uuid:3f2c0a5e-9a1b-4c7d-8e6f-0123456789ab",
        "session_id=3f2c0a5e_9a1b4c7d8e6f0123456789ab",
        "&".join(["a=b"] * 200),
    ],
)
def test_a_query_that_servers_read_in_two_ways_names_no_session(world: World, query: str) -> None:
    response = ask(world, world.run("triage"), path=f"/mcp?{query}")
    assert reason(response) == Code.SESSION_MALFORMED.value


def test_an_id_that_stands_twice_is_refused(world: World) -> None:
    """One reader takes the first, another the last."""
    ours, theirs = world.run("triage"), world.run("resolver")
    assert is_allowed(ask(world, ours, ID))
    for ids in ((ID, "own"), ("own", ID)):
        assert reason(ask(world, theirs, *ids)) == Code.HEADER_DUPLICATE.value


def test_a_stranger_binds_nothing(world: World) -> None:
    run = world.run("triage")
    headers = [*MCP_HEADERS, ("mcp-session-id", ID)]
    assert reason(world.check(world.request(None, run, headers=headers))) == Code.TOKEN_MISSING.value
    headers.append(("authorization", "Bearer a.b.c"))
    assert not is_allowed(world.check(world.request(None, run, headers=headers)))
    assert is_allowed(ask(world, world.run("resolver"), ID))


def test_a_refusal_and_its_record_do_not_say_the_id(world: World) -> None:
    ours, theirs = world.run("triage"), world.run("resolver")
    ask(world, ours, ID)
    assert ID not in str(ask(world, theirs, ID))
    assert ID not in str(world.records())
    assert Code.SESSION_OTHERS.value in str(world.records()[-1])


def test_what_the_policy_denies_stays_denied_within_a_session(world: World) -> None:
    run = world.run("triage")
    assert is_allowed(ask(world, run, ID))
    world.policy.answer = DENY
    assert reason(ask(world, run, ID)) == "DPT-AGENT-TIER"


def test_who_may_do_nothing_takes_no_session_that_others_will_have(world: World) -> None:
    allowed, world.policy.answer = world.policy.answer, DENY
    assert reason(ask(world, world.run("resolver"), ID)) == "DPT-AGENT-TIER"
    world.policy.answer = allowed
    assert is_allowed(ask(world, world.run("triage"), ID))


def test_where_nobody_can_tell_the_answer_says_try_again(world: World, tmp_path: Path) -> None:
    file = SessionFile.open(tmp_path / "gone" / "sessions.db")
    world.sessions = SharedSessions(file)
    file.close()
    run = world.run("triage")
    assert reason(ask(world, run, ID)) == Code.SESSION_UNKNOWN.value
    assert is_allowed(ask(world, run))


def test_without_sessions_a_header_that_is_none_is_still_refused(world: World) -> None:
    world.sessions = None
    assert reason(ask(world, world.run("triage"), "x" * 10_000)) == Code.SESSION_MALFORMED.value
