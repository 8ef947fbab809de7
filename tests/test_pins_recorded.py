"""Who reviews later sees when a tool changed: one record for each change, or no list is answered."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authz.audit.record import GENESIS
from authz.check_parts import drift_recorder
from authz.errors import AuditError
from authz.pins.change import PinChange, change_of
from authz.pins.declared import Declared
from authz.pins.pin import LEARNED, Acceptance, Pin, Sighting
from authz.store.pinning import SharedPins
from tests.fakes import NOW, MemorySink
from tests.pins_world import BAD, EVIL, GOOD, SERVICE, PinBook, declared, shared

OTHER = declared("other")
OTHER_BAD = declared("other", description=EVIL)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[PinBook]:
    made = PinBook(tmp_path / "data")
    yield made
    made.file.close()


class Lists:
    """Lists that come one after another, and what is recorded of them."""

    def __init__(self, book: PinBook, sink: MemorySink | None = None) -> None:
        self.book, self.sink = book, sink or MemorySink()
        self.pins: SharedPins = shared(book, drift_recorder(self.sink, lambda: NOW, bytes))

    async def see(self, *tools: Declared, service: str = SERVICE) -> frozenset[str]:
        return await self.pins.learn(service, tools, "learn", self.book.now)

    def records(self) -> list[dict[str, Any]]:
        return [dict(entry.members(1, GENESIS)) for entry in self.sink.entries]

    def changes(self) -> list[tuple[Any, Any, Any]]:
        return [(each["change"], each["resource"]["name"], each["seen_sha256"]) for each in self.records()]


def test_a_change_has_one_record_however_often_it_is_seen(book: PinBook) -> None:
    lists = Lists(book)

    async def scenario() -> None:
        await lists.see(GOOD, OTHER)
        assert lists.changes() == []
        for _ in range(3):
            assert await lists.see(BAD, OTHER) == {GOOD.name}

    asyncio.run(scenario())
    (record,) = lists.records()
    assert record["kind"] == "drift"
    assert record["resource"] == {"name": GOOD.name, "service": SERVICE, "type": "tool"}
    assert (record["accepted_sha256"], record["seen_sha256"]) == (GOOD.digest, BAD.digest)
    assert record["code"] == "DPT-TOOL-CHANGED"
    assert EVIL not in str(record)


def test_what_goes_back_is_told_and_what_alternates_is_not_told_for_ever(book: PinBook) -> None:
    lists = Lists(book)

    async def scenario() -> None:
        for each in (GOOD, BAD, GOOD, BAD, GOOD, BAD, GOOD):
            book.after += 1
            await lists.see(each)

    asyncio.run(scenario())
    assert lists.changes() == [
        ("changed", GOOD.name, BAD.digest),
        ("went-back", GOOD.name, GOOD.digest),
        ("changed", GOOD.name, BAD.digest),
    ]


def test_a_server_that_shows_something_else_each_time_has_a_record_a_minute(book: PinBook) -> None:
    lists = Lists(book)

    async def scenario() -> None:
        await lists.see(GOOD)
        for number in range(120):
            book.after = number
            await lists.see(declared(description=f"version {number}"))

    asyncio.run(scenario())
    assert len(lists.changes()) == 2


def test_two_declarations_of_one_name_are_one_change(book: PinBook) -> None:
    lists = Lists(book)

    async def scenario() -> None:
        await lists.see(GOOD)
        assert await lists.see(BAD, GOOD) == {GOOD.name}

    asyncio.run(scenario())
    assert lists.changes() == [("changed", GOOD.name, BAD.digest)]


def test_without_the_record_there_is_no_list_and_the_tool_is_denied(book: PinBook) -> None:
    lists = Lists(book, MemorySink(full_after=0))

    async def scenario() -> None:
        await lists.see(GOOD, OTHER)
        for _ in range(2):
            # Also a list that shows nothing new: the one before it has no record yet.
            with pytest.raises(AuditError):
                await lists.see(BAD, OTHER_BAD)
            assert book.refusal() == "TOOL_CHANGED"
        with pytest.raises(AuditError):
            await lists.see(OTHER)
        # Another service has nothing to record.
        assert await lists.see(GOOD, service="tickets") == frozenset()
        lists.sink.full_after = None
        assert await lists.see(BAD, OTHER_BAD) == {GOOD.name, OTHER.name}

    asyncio.run(scenario())
    assert [tool for _, tool, _ in lists.changes()].count(GOOD.name) == 1
    assert BAD.digest in {seen for _, _, seen in lists.changes()}


def test_who_hangs_up_takes_no_record_along(book: PinBook) -> None:
    lists = Lists(book)

    async def scenario() -> None:
        await lists.see(GOOD)
        first = asyncio.create_task(lists.see(BAD))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await lists.see(BAD)

    asyncio.run(scenario())
    assert lists.changes() == [("changed", GOOD.name, BAD.digest)]


def test_nobody_is_answered_while_the_record_is_being_written(book: PinBook) -> None:
    order: list[str] = []

    async def scenario() -> None:
        writing, may_go_on = asyncio.Event(), asyncio.Event()

        async def record(change: PinChange) -> None:
            writing.set()
            await may_go_on.wait()
            order.append(f"record {change.tool}")

        async def see(pins: SharedPins, *tools: Declared) -> None:
            await pins.learn(SERVICE, tools, "learn", NOW)
            order.append("answer")

        pins = shared(book, record)
        await see(pins, GOOD)
        first = asyncio.create_task(see(pins, BAD))
        await writing.wait()
        second = asyncio.create_task(see(pins, BAD))
        for _ in range(10):
            await asyncio.sleep(0)
        may_go_on.set()
        await asyncio.gather(first, second)

    asyncio.run(scenario())
    assert order == ["answer", f"record {GOOD.name}", "answer", "answer"]


def test_of_two_processes_one_writes_the_record(tmp_path: Path) -> None:
    books = [PinBook(tmp_path / "data") for _ in range(2)]
    lists = [Lists(each) for each in books]

    async def scenario() -> None:
        await lists[0].see(GOOD)
        found = await asyncio.gather(*(each.see(BAD) for each in lists))
        assert found == [{GOOD.name}] * 2

    asyncio.run(scenario())
    for each in books:
        each.file.close()
    assert len([*lists[0].changes(), *lists[1].changes()]) == 1


def test_only_what_counts_can_change() -> None:
    seen = Sighting("b" * 64, NOW)
    new = Pin(SERVICE, "tool", None, Sighting("a" * 64, NOW))
    assert change_of(new, new.notice(Sighting("b" * 64, NOW + timedelta(hours=1)), learns=False)) is None
    learnt = Pin(SERVICE, "tool", Acceptance("a" * 64, LEARNED, NOW), Sighting("a" * 64, NOW))
    assert change_of(learnt, learnt) is None
    assert change_of(learnt, learnt.notice(seen, learns=True)) == PinChange(
        "changed", SERVICE, "tool", "a" * 64, "b" * 64, NOW
    )


def test_who_has_much_to_record_keeps_no_other_service_waiting(book: PinBook) -> None:
    async def scenario() -> None:
        going, over = asyncio.Event(), asyncio.Event()

        async def record(_: PinChange) -> None:
            going.set()
            await over.wait()

        pins = shared(book, record)
        await pins.learn(SERVICE, (GOOD,), "learn", book.now)
        changed = asyncio.create_task(pins.learn(SERVICE, (BAD,), "learn", book.now))
        await going.wait()
        async with asyncio.timeout(10):
            assert await pins.learn("tickets", (GOOD,), "learn", book.now) == frozenset()
        over.set()
        assert await changed == {GOOD.name}

    asyncio.run(scenario())
