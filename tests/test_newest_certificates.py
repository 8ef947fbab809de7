"""Notes of many tasks share a write, and each hears of its own."""

import asyncio
import threading
from collections.abc import Mapping
from datetime import timedelta

import pytest

from authz.errors import StoreError
from authz.identity_service.newest_certificates import NewestCertificates
from identity.errors import NotEntitledError
from tests.broker_fakes import FakeTasks
from tests.identity_world import NOW, agent, task


class SlowTasks(FakeTasks):
    """A registry whose disk waits for the test."""

    def __init__(self, running: int) -> None:
        super().__init__((agent(),))
        self.tasks = {task(number=number).id: task(number=number) for number in range(running)}
        self.begun = threading.Event()
        self.go = threading.Event()
        self.writes: list[dict[str, str]] = []

    def set_thumbprints(self, thumbprints: Mapping[str, str]) -> frozenset[str]:
        self.writes.append(dict(thumbprints))
        self.begun.set()
        self.go.wait(10)
        return super().set_thumbprints(thumbprints)


def id_of(number: int) -> str:
    return task(number=number).id


def test_notes_gather_while_a_write_runs() -> None:
    async def run() -> None:
        tasks = SlowTasks(100)
        newest = NewestCertificates(tasks)
        first = asyncio.create_task(newest.note(id_of(0), "first"))
        await asyncio.to_thread(tasks.begun.wait, 10)
        others = [
            asyncio.create_task(newest.note(id_of(number), f"mark-{number}")) for number in range(1, 100)
        ]
        await asyncio.sleep(0)
        tasks.go.set()
        await asyncio.gather(first, *others)
        assert [len(write) for write in tasks.writes] == [1, 99]
        assert tasks.tasks[id_of(42)].thumbprint == "mark-42"

    asyncio.run(run())


def test_task_that_is_over_costs_the_others_nothing() -> None:
    async def run() -> None:
        tasks = SlowTasks(3)
        tasks.go.set()
        tasks.end_task(id_of(1), NOW + timedelta(seconds=1))
        newest = NewestCertificates(tasks)
        notes = [newest.note(id_of(number), "mark") for number in (0, 1, 2, 7)]
        results = await asyncio.gather(*notes, return_exceptions=True)
        assert [type(result) for result in results] == [
            type(None),
            NotEntitledError,
            type(None),
            NotEntitledError,
        ]

    asyncio.run(run())


def test_disk_that_refuses_is_told_to_all_and_tried_again() -> None:
    async def run() -> None:
        tasks = SlowTasks(2)
        tasks.go.set()
        tasks.broken = True
        newest = NewestCertificates(tasks)
        notes = [newest.note(id_of(number), "mark") for number in (0, 1)]
        assert all(
            isinstance(one, StoreError) for one in await asyncio.gather(*notes, return_exceptions=True)
        )
        tasks.broken = False
        await newest.note(id_of(0), "mark")
        assert tasks.tasks[id_of(0)].thumbprint == "mark"

    asyncio.run(run())


def test_caller_that_is_gone_stops_nobody_elses_note() -> None:
    async def run() -> None:
        tasks = SlowTasks(2)
        newest = NewestCertificates(tasks)
        gone, waiting = (asyncio.create_task(newest.note(id_of(number), "mark")) for number in (0, 1))
        await asyncio.to_thread(tasks.begun.wait, 10)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        tasks.go.set()
        await waiting
        assert {each.thumbprint for each in tasks.tasks.values()} == {"mark"}

    asyncio.run(run())


def test_of_two_notes_of_one_task_the_later_counts() -> None:
    async def run() -> None:
        tasks = SlowTasks(1)
        tasks.go.set()
        newest = NewestCertificates(tasks)
        await asyncio.gather(newest.note(id_of(0), "earlier"), newest.note(id_of(0), "later"))
        assert tasks.writes == [{id_of(0): "later"}]

    asyncio.run(run())
