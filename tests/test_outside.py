"""A service outside of the mesh (`txn: none`): it gets the request, and nothing that is ours."""

from typing import Any

import pytest

from authz.authzen.answer import answer_of
from authz.outside import KEPT_INSIDE, names_kept_inside
from authz.pb import ext_authz_pb2 as pb
from authz.protocols.route import Route
from authz.services import Asker, Service, Services
from tests import passed_on
from tests.check_requests import MCP_HEADERS
from tests.fakes import DENY, GATEWAY, TICKETS, World, reason

OK, DENIED = 0, 7


def outside(**more: Any) -> World:
    """A world whose tickets are kept by somebody else."""
    made = World()
    service = Service("tickets", TICKETS, Route("tickets", "mcp"), txn="none", **more)
    made.services = Services.of((service,), (Asker(GATEWAY, frozenset({"tickets"})),), None)
    return made


def ask(world: World, *headers: tuple[str, str]) -> pb.CheckResponse:
    run = world.run("triage")
    given = [*MCP_HEADERS, ("authorization", f"Bearer {world.token(run)}"), *headers]
    return world.check(world.request(None, run, headers=given))


def test_an_allow_sets_no_header_upstream() -> None:
    response = ask(outside())
    assert response.status.code == OK
    assert list(response.ok_response.headers) == []


def test_the_record_of_an_allow_has_everything_but_a_token() -> None:
    world = outside()
    response = ask(world)
    (record,) = world.records()
    assert (record["effect"], record["txn_jti"]) == ("allow", None)
    assert record["resource"] == {"name": "read_ticket", "service": "tickets", "type": "tool"}
    assert record["human"] is not None
    assert record["agent"] == "triage"
    (back,) = response.ok_response.response_headers_to_add
    assert (back.header.key, back.header.value) == ("x-deputy-decision", world.sink.entries[0].id)
    assert response.dynamic_metadata["decision_id"] == world.sink.entries[0].id


@pytest.mark.parametrize("name", KEPT_INSIDE)
def test_each_header_of_ours_is_removed_whether_it_was_seen_or_not(name: str) -> None:
    """Not each proxy shows all that it sends on."""
    assert name in ask(outside()).ok_response.headers_to_remove


@pytest.mark.parametrize(
    "name", ["x-deputy-human", "x-forwarded-host", "x-forwarded-client-cert", "x-b3-traceid", "uberctx-user"]
)
def test_what_begins_like_ours_is_removed(name: str) -> None:
    removed = list(ask(outside(), (name, "somebody")).ok_response.headers_to_remove)
    assert removed.count(name) == 1


def test_headers_of_the_call_itself_pass() -> None:
    kept = {"accept", "content-type", "content-length", "user-agent", "anthropic-version", ":path", "host"}
    assert kept.isdisjoint(names_kept_inside(kept))


def test_a_denial_is_that_of_any_service() -> None:
    world = outside()
    world.policy.answer = DENY
    response = ask(world)
    assert (response.status.code, reason(response)) == (DENIED, "DPT-AGENT-TIER")


def test_an_allow_whose_rights_are_withdrawn_meanwhile_does_not_leave() -> None:
    world = outside()

    def withdraw() -> None:
        world.rights.epoch += 1
        del world.rights.agents["triage"]

    world.policy.act = withdraw
    assert reason(ask(world)) == "DPT-WITHDRAWN"


def test_an_allow_without_a_record_does_not_leave() -> None:
    world = outside()
    world.sink.full_after = 0
    assert ask(world).status.code == DENIED


def test_a_service_of_ours_calls_outside_for_its_caller_and_its_token_stays_here() -> None:
    made = passed_on.world()
    known = made.services.by_name
    services = (known["tickets"], Service("billing", passed_on.BILLING, Route("billing", "mcp"), txn="none"))
    made.services = Services.of(services, tuple(made.services.askers.values()), None)
    run = made.run("resolver")
    response = passed_on.on(made, passed_on.first(made, run))
    assert response.status.code == OK
    assert list(response.ok_response.headers) == []
    assert "txn-token" in response.ok_response.headers_to_remove
    record = made.records()[-1]
    assert (record["agent"], record["txn_jti"], record["effect"]) == ("resolver", None, "allow")


def test_a_gateway_that_asks_by_authzen_gets_no_token_either() -> None:
    said: Any = answer_of(ask(outside()).SerializeToString())
    assert said["decision"] is True
    assert set(said["context"]) == {"decision_id"}
