"""The flow where grants have rules about data: what was found is asked about, recorded, and kept nowhere."""

import json

import pytest

from tests.fakes import World

CARD = "4111 1111 1111 1111"


def call(world: World, arguments: dict[str, object], **params: object) -> None:
    message = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "read_ticket", "arguments": arguments, **params},
    }
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run, body=json.dumps(message).encode()))
    assert CARD not in str(response)
    assert response.HasField("ok_response")


@pytest.fixture
def world() -> World:
    made = World()
    made.policy.payload = frozenset({"card_number", "email"})
    return made


def test_the_policy_and_the_record_have_the_classes_that_were_found(world: World) -> None:
    call(world, {"note": f"card {CARD} of ada@customer.example"})
    assert world.policy.asked[-1]["payload"] == ("card_number", "email")
    assert world.records()[-1]["payload"] == ["card_number", "email"]
    assert CARD not in str(world.records())


def test_what_is_not_an_argument_counts_too(world: World) -> None:
    """A rule that looks at arguments alone is passed by whoever writes into `_meta`."""
    call(world, {"ticket": "T-1"}, _meta={"note": CARD})
    assert world.records()[-1]["payload"] == ["card_number"]


def test_what_no_rule_names_is_not_looked_for(world: World) -> None:
    world.policy.payload = frozenset()
    call(world, {"note": CARD})
    assert world.policy.asked[-1]["payload"] == ()
    assert world.records()[-1]["payload"] == []


def test_a_call_without_such_data_has_an_empty_list(world: World) -> None:
    call(world, {"ticket": "T-1"})
    assert world.records()[-1]["payload"] == []
