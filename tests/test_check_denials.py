"""The flow answers in the words of the one who asked, as the service chose; and what needs no token."""

import json
from dataclasses import replace

import pytest

from authz.form import DenialForm
from authz.protected_resource import WELL_KNOWN_RESOURCE
from authz.protocols.operation import Protocol
from authz.protocols.route import Route
from authz.services import Asker, Services
from identity.spiffe import SpiffeId
from tests.check_requests import check_request
from tests.denials import Seen, seen
from tests.fakes import DENY, GATEWAY, ISSUER, TICKETS, World, reason


def world(denials: DenialForm = "json_rpc", protocol: Protocol = "mcp") -> World:
    made = World()
    service = replace(made.services.by_name["tickets"], denials=denials, route=Route("tickets", protocol))
    made.services = Services.of((service,), (Asker(GATEWAY, frozenset({"tickets"})),), None)
    made.policy.answer = DENY
    return made


def ask(made: World, path: str, **parts: object) -> Seen:
    message = check_request(path=path, **{"headers": (), **parts})  # type: ignore[arg-type]  # as it takes
    return seen(made.check(message.SerializeToString()).SerializeToString())


@pytest.mark.parametrize(
    ("denials", "status"), [("json_rpc", 200), ("tool_error", 200), ("unknown_tool", 200), ("http", 403)]
)
def test_the_service_chooses_the_form(denials: DenialForm, status: int) -> None:
    made = world(denials)
    run = made.run("triage")
    response = made.check(made.request(made.token(run), run))
    assert response.denied_response.status.code == status
    hides = denials == "unknown_tool"
    assert reason(response) == ("" if hides else "DPT-AGENT-TIER")
    assert ("DPT-" in response.denied_response.body) is not hides
    # To the operator nothing is hidden.
    (record,) = made.records()
    assert record["code"] == "DPT-AGENT-TIER"
    assert response.dynamic_metadata["reason"] == "DPT-AGENT-TIER"


def test_a_rights_withdrawal_in_between_is_answered_in_that_form_too() -> None:
    made = world("http")
    made.policy.answer = {"effect": "allow", "reasons": [], "obligations": {}}
    run = made.run("triage")
    made.sink.full_after = 0
    answer = seen(made.check(made.request(made.token(run), run)).SerializeToString())
    assert (answer.status, "jsonrpc" in answer.json) == (503, False)


@pytest.mark.parametrize(
    ("protocol", "path", "member"),
    [
        ("mcp", "/mcp", "reason"),
        ("llm", "/v1/messages", "request_id"),
        ("a2a", "/message:send", "error"),
        ("http", "/x", "reason"),
    ],
)
def test_who_has_no_token_is_answered_in_the_words_of_the_route(
    protocol: Protocol, path: str, member: str
) -> None:
    answer = ask(world(protocol=protocol), path)
    assert answer.status == 401
    assert member in answer.json
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith('Bearer resource_metadata="https://broker.mesh.example/')
    assert challenge.endswith('scope="tickets:destroy tickets:read tickets:write"')


def test_who_speaks_grpc_is_answered_in_grpc() -> None:
    answer = ask(world(), "/l.v1.L/Get", headers=[("content-type", "application/grpc")])
    assert (answer.status, answer.headers["grpc-status"]) == (200, "16")


# ---- the metadata


@pytest.mark.parametrize("path", ["", "/mcp"])
def test_the_metadata_needs_no_token_and_leaves_no_record(path: str) -> None:
    """Nothing is decided about anybody; and a flood of it cannot use up the records of strangers."""
    made = world()
    answer = ask(made, WELL_KNOWN_RESOURCE + path, method="GET", principal="")
    assert answer.status == 200
    assert (answer.json["resource"], answer.json["authorization_servers"]) == (TICKETS, [ISSUER])
    assert made.records() == []
    assert made.policy.asked == []


def test_what_is_not_the_metadata_needs_a_token() -> None:
    for path, method in ((f"{WELL_KNOWN_RESOURCE}/x", "GET"), (WELL_KNOWN_RESOURCE, "POST"), ("/mcp", "GET")):
        assert ask(world(), path, method=method).status == 401


def test_a_proxy_gets_the_metadata_of_services_that_it_may_ask_about_only() -> None:
    made = world()
    for asker, extensions in (
        (SpiffeId.parse("spiffe://mesh.example/ns/x/sa/x"), {"service": "tickets"}),
        (GATEWAY, {"service": "billing"}),
    ):
        message = check_request(
            path=WELL_KNOWN_RESOURCE, method="GET", headers=(), extensions=extensions
        ).SerializeToString()
        answer = seen(made.check(message, asker).SerializeToString())
        assert answer.status == 403
        assert "authorization_servers" not in json.dumps(answer.json)
