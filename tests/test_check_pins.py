"""The flow and the pins: a tool that is not what was accepted is denied, whatever the policy says."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest

from authz.codes import Code
from authz.errors import PinError
from authz.flow import Flow
from authz.pins.declared import Declared
from authz.pins.port import PinMode
from authz.services import Services
from tests.approvals_world import MemoryApprovals
from tests.fakes import APPROVE, DENY, World, reason

OK = 0
LIST = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'


@dataclass
class KnownPins:
    """Remembers what it was asked; refuses when told so."""

    refusal: PinError | None = None
    asked: list[tuple[str, str, PinMode]] = field(default_factory=list)

    async def require(self, service: str, tool: str, mode: PinMode) -> None:
        self.asked.append((service, tool, mode))
        if self.refusal is not None:
            raise self.refusal

    async def learn(
        self, service: str, declared: Sequence[Declared], mode: PinMode, now: datetime
    ) -> frozenset[str]:
        raise AssertionError("a request declares nothing")


class Pinning(World):
    """A world in which somebody looks at what tools are."""

    def __init__(self, refusal: Code | None = None) -> None:
        super().__init__()
        self.pins = self.known_pins = KnownPins(PinError(refusal) if refusal else None)
        self.approvals = MemoryApprovals()
        services = (replace(service, pins="require") for service in self.services.by_name.values())
        self.services = Services.of(tuple(services), tuple(self.services.askers.values()), None)

    def flow(self) -> Flow:
        return replace(super().flow(), approvals=self.approvals)

    def ask(self, **parts: object) -> tuple[int, str]:
        run = self.run("triage")
        response = self.check(self.request(self.token(run), run, **parts))
        return response.status.code, reason(response)


def test_a_call_of_a_tool_asks_what_the_tool_is_by_the_policys_name() -> None:
    world = Pinning()
    assert world.ask() == (OK, "")
    assert world.known_pins.asked == [("tickets", "read_ticket", "require")]


@pytest.mark.parametrize("code", [Code.TOOL_CHANGED, Code.TOOL_UNPINNED])
def test_a_tool_that_nobody_accepted_is_denied_though_the_policy_allows_it(code: Code) -> None:
    world = Pinning(code)
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    # In the form that the client of a tool call reads, not as a broken session.
    assert (reason(response), response.denied_response.status.code) == (code.value, 200)
    assert world.records()[0]["effect"] == "deny"


def test_what_cannot_be_known_is_refused() -> None:
    world = Pinning(Code.PINS_UNKNOWN)
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert (reason(response), response.denied_response.status.code) == ("DPT-PINS-UNKNOWN", 503)


def test_who_may_not_call_it_learns_nothing_of_a_tool() -> None:
    world = Pinning(Code.TOOL_CHANGED)
    world.policy.answer = DENY
    assert world.ask()[1] == "DPT-AGENT-TIER"
    assert not world.known_pins.asked


def test_nobody_is_asked_to_approve_a_tool_that_has_changed() -> None:
    world = Pinning(Code.TOOL_CHANGED)
    world.policy.answer = APPROVE
    assert world.ask()[1] == "DPT-TOOL-CHANGED"
    assert not world.approvals.asked


def test_what_calls_no_tool_asks_nothing() -> None:
    world = Pinning(Code.TOOL_CHANGED)
    assert world.ask(body=LIST) == (OK, "")
    assert not world.known_pins.asked
