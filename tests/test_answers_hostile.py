"""Servers that want to take more than their answer needs: time, memory, the end of what was stopped."""

import asyncio
from dataclasses import replace

import pytest

from authz.answers.guard import Guard
from authz.answers.listing import MAX_MEMBERS
from authz.codes import Code
from authz.errors import StoreError
from authz.headers import Headers
from authz.protocols.members import MAX_FOLDED_CHARS
from identity.withdrawal import Withdrawal, Withdrawals
from tests.answers_world import EVENTS, JSON, AnswersWorld, names_in, operation_of, response, tools
from tests.fakes import NOW

UNREADABLE = Code.ANSWER_UNREADABLE.value
# One character of which folding makes eighteen.
LONG = "\ufdfa"


def test_names_of_members_that_take_long_to_fold_are_folded_for_a_while_only() -> None:
    """Each element may have as many as one message; 4,000 of these took five seconds of the whole process."""
    size = MAX_FOLDED_CHARS // 4
    elements = [{"name": f"t{number}", LONG * (size - 1) + chr(0x4E00 + number): 1} for number in range(9)]
    sent = AnswersWorld().answer(response({"tools": [*elements, {"name": "plain"}]}))
    assert names_in(sent.result) == ["t0", "t1", "t2", "t3", "plain"]


def test_elements_that_name_their_own_members_alike_are_all_shown() -> None:
    elements = [{"name": f"t{number}", "\u8aac\u660e" * 50: 1} for number in range(200)]
    assert len(names_in(AnswersWorld().answer(response({"tools": elements})).result)) == len(elements)


def test_a_result_with_a_quarter_of_a_million_members_is_replaced() -> None:
    for count in (MAX_MEMBERS, 250_000):
        sent = AnswersWorld().answer(response({**tools("a"), **{str(n): n for n in range(count)}}))
        assert sent.reason == UNREADABLE
    sent = AnswersWorld().answer(response({**tools("a"), **{str(n): n for n in range(MAX_MEMBERS - 1)}}))
    assert names_in(sent.result) == ["a"]


@pytest.mark.parametrize(("length", "kind"), [(1 << 14, "pass"), ((1 << 14) + 1, "watch")])
def test_an_answer_that_says_its_length_and_takes_its_time_is_watched(length: int, kind: str) -> None:
    """A server that drips a mebibyte would answer the contained for as long as a connection lives."""
    headers = [("content-length", str(length))]
    sent = AnswersWorld().answer("a", to="chat.completions", headers=headers)
    assert sent.head.kind == kind


def test_what_is_held_is_what_has_no_end_yet() -> None:
    """Not what came, less what was sent on: comments are not sent on, and are not held either."""
    asyncio.run(_hold(AnswersWorld()))


async def _hold(world: AnswersWorld) -> None:
    for media_type, chunk, held in (
        (EVENTS, b": a comment of no use\n\n" * 100, 0),
        (EVENTS, b"data: {}\n\n", 0),
        (EVENTS, b'data: {"a":1,\ndata: 2', 20),
        (JSON, b"0123456789", 10),
    ):
        guard = Guard(world.passage(operation_of("tools/list")), world.service, world.ports)
        headers = Headers.parse([("content-type", media_type.encode())])
        await guard.on_headers(200, headers, end_of_stream=False)
        assert guard.held == 0
        await guard.on_body(chunk, end_of_stream=False)
        assert guard.held == pytest.approx(held, abs=8)
        if media_type == JSON:
            await guard.on_body(b"", end_of_stream=True)
            assert guard.held == 0


class _Behind:
    """A replica that hears of the caller when it asks."""

    def __init__(self, world: AnswersWorld, *, error: StoreError | None = None) -> None:
        self.rights, self.error, self.asked = world.rights, error, 0
        self.agents = dict(world.rights.agents)
        world.rights.agents.clear()

    async def refresh(self) -> None:
        """Nothing new."""

    async def reach(self, min_epoch: int) -> None:
        raise AssertionError(min_epoch)

    async def learn(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        self.rights.agents.update(self.agents)


def test_an_answer_that_comes_to_another_replica_than_its_call_waits_until_that_knows_the_caller() -> None:
    world = AnswersWorld()
    behind = _Behind(world)
    world.ports = replace(world.ports, following=behind)
    assert names_in(world.answer(response(tools("a"))).result) == ["a"]
    assert behind.asked == 1


def test_a_caller_whom_no_replica_knows_gets_no_answer() -> None:
    for error, code in ((None, Code.AGENT_UNKNOWN), (StoreError("locked"), Code.STALE)):
        world = AnswersWorld()
        behind = _Behind(world, error=error)
        behind.agents.clear()
        world.ports = replace(world.ports, following=behind)
        assert world.answer(response(tools("a"))).reason == code.value


def test_who_is_known_to_be_contained_is_not_asked_about_again() -> None:
    world = AnswersWorld()
    behind = _Behind(world)
    world.rights.agents.update(behind.agents)
    world.ports = replace(world.ports, following=behind)
    taken = Withdrawal("agent", "triage", None, "why", "who", NOW)
    world.rights.withdrawals = Withdrawals.of([taken])
    assert world.answer(response(tools("a"))).reason == Code.CONTAINED.value
    assert behind.asked == 0
