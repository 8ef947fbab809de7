"""Lists for a credential that is for single tools (RFC 9396): what it is not for is not in them."""

from dataclasses import replace

import pytest

from tests.answers_world import AnswersWorld, names_in, response, tools


def _narrow(*names: str) -> AnswersWorld:
    world = AnswersWorld()
    world.allowed = replace(world.allowed, tools=names)
    return world


def test_tools_that_the_credential_is_not_for_are_taken_out() -> None:
    world = _narrow("read")
    assert names_in(world.answer(response(tools("read", "write"))).result) == ["read"]
    assert world.policy.asked[0]["resource"] == {
        "service": "tickets",
        "type": "tool",
        "name": "tickets",
        "names": ["read"],
    }


def test_what_the_policy_hides_stays_hidden() -> None:
    world = _narrow("read", "write")
    world.policy.hidden = frozenset({"write"})
    assert names_in(world.answer(response(tools("read", "write", "more"))).result) == ["read"]


@pytest.mark.parametrize(
    ("method", "member", "key"), [("resources/list", "resources", "uri"), ("prompts/list", "prompts", "name")]
)
def test_it_is_for_nothing_but_tools(method: str, member: str, key: str) -> None:
    """A prompt of the same name is not what the person lent."""
    world = _narrow("read")
    sent = world.answer(response({member: [{key: "read"}]}), to=method)
    assert sent.result == {member: []}
    assert not world.policy.asked
