"""When a replica may answer: how old its reading may be, and what its lease is worth."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from authz.errors import StoreError
from authz.store import following
from authz.store.changes import Progress
from authz.store.following import FRESH_SECONDS, Follower
from authz.store.port import LEASE_SECONDS


class World:
    """What is followed; a test takes the turns of the thread itself, or starts it."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.progress = Progress(1, 5, 5)
        self.known = self.progress
        self.looks = 0
        self.leases: list[tuple[Progress, float]] = []
        self.problem: str | None = None
        self.full = False
        self.act: Callable[[], None] = lambda: None
        self.follower = Follower([self._look], lambda: self.known, self._acknowledge, lambda: self.seconds)

    def _look(self) -> None:
        self.looks += 1
        self.act()
        if self.problem is not None:
            raise StoreError(self.problem)
        self.known = self.progress

    def _acknowledge(self, progress: Progress, at: float) -> None:
        if self.full:
            raise StoreError("no space")
        self.leases.append((progress, at))

    def moves(self) -> None:
        n = self.progress.last + 1
        self.progress = Progress(1, n, n)

    def turn(self) -> None:
        self.follower._turn()

    def renews(self) -> None:
        """Take the turns of a second, with an event loop that goes round."""
        self.turn()
        if self.follower._next_lease is None and self.follower._handed is not None:
            self.follower._next_lease = (self.follower._handed, self.seconds)
        self.turn()


def test_what_was_never_read_may_not_be_used() -> None:
    assert not World().follower.is_fresh


def test_the_first_lease_is_followed_by_one_more_reading() -> None:
    """What was withdrawn between the reading and the lease: nobody waited for this replica yet."""
    world = World()
    world.act = lambda: world.moves() if world.leases else None
    world.turn()
    assert world.leases == [(Progress(1, 5, 5), 1000.0)]
    assert world.known.epoch == 6
    assert world.follower.is_fresh


def test_a_first_reading_that_takes_longer_than_a_lease_is_no_reason_not_to_start() -> None:
    """A hundred thousand runs take seconds; what is new since then takes none."""
    world = World()

    def takes_long() -> None:
        if world.looks == 1:
            world.seconds += 2 * LEASE_SECONDS

    world.act = takes_long
    world.turn()
    assert world.leases == [(Progress(1, 5, 5), 1000.0 + 2 * LEASE_SECONDS)]
    assert world.follower.is_fresh


@pytest.mark.parametrize(
    ("after", "fresh"), [(0.0, True), (FRESH_SECONDS, True), (FRESH_SECONDS + 0.01, False), (3600.0, False)]
)
def test_a_reading_may_be_used_for_half_a_second(after: float, *, fresh: bool) -> None:
    world = World()
    world.turn()
    world.seconds += after
    assert world.follower.is_fresh is fresh


def test_a_clock_that_went_back_makes_nothing_fresh() -> None:
    world = World()
    world.turn()
    world.seconds -= 10
    assert not world.follower.is_fresh


def test_a_clock_that_stands_still_gives_no_rights_back() -> None:
    """Each turn reads all the same; only ages are not told apart, and nobody needs them while turns go on."""
    world = World()
    world.turn()
    looks = world.looks
    world.turn()
    assert world.looks == looks + 1


def test_who_cannot_renew_its_lease_in_time_may_not_answer() -> None:
    """Others wait for it no more then: what it reads a moment later may be too late for them."""
    world = World()
    world.turn()
    world.full = True
    while world.seconds < 1000.0 + LEASE_SECONDS:
        assert world.follower.is_fresh
        world.seconds += 0.5
        world.renews()
    assert not world.follower.is_fresh
    world.full = False
    world.turn()
    assert world.follower.is_fresh


def test_a_lease_is_renewed_each_second() -> None:
    world = World()
    world.turn()
    for _ in range(40):
        world.seconds += 0.25
        world.renews()
    assert 10 <= len(world.leases) <= 12


def test_a_new_epoch_is_acknowledged_only_after_the_loop_went_round() -> None:
    """What was decided on before may still be on its way to the caller."""

    async def run() -> None:
        world = World()
        world.follower._loop = asyncio.get_running_loop()
        world.turn()
        world.moves()
        world.turn()
        world.turn()
        assert world.known.epoch == 6
        assert [progress.epoch for progress, _ in world.leases] == [5]
        await asyncio.sleep(0)
        world.turn()
        assert [progress.epoch for progress, _ in world.leases] == [5, 6]

    asyncio.run(run())


def test_what_was_handed_over_before_a_pause_renews_no_lease_after_it() -> None:
    async def run() -> None:
        world = World()
        world.follower._loop = asyncio.get_running_loop()
        world.turn()
        world.moves()
        world.turn()
        await asyncio.sleep(0)
        world.seconds += 60
        world.turn()
        world.turn()
        assert [at for _, at in world.leases] == [1000.0, 1060.0]

    asyncio.run(run())


def test_who_was_stopped_reads_before_it_answers() -> None:
    """SIGSTOP, a withdrawal, SIGCONT: the first question after it is answered by a new reading."""

    async def run() -> None:
        world = World()
        world.follower.start()
        try:
            world.moves()
            world.seconds += 3600
            await world.follower.refresh()
            assert world.known.epoch == 6
            assert world.follower.is_fresh
        finally:
            world.follower.stop()

    asyncio.run(run())


def test_a_reading_that_fails_is_said_and_recovers() -> None:
    async def run() -> None:
        world = World()
        world.follower.start()
        try:
            world.problem = "the disk is gone"
            world.seconds += 1
            with pytest.raises(StoreError, match="the disk is gone"):
                await world.follower.refresh()
            with pytest.raises(StoreError, match="the disk is gone"):
                await world.follower.learn()
            world.problem = None
            await world.follower.refresh()
        finally:
            world.follower.stop()

    asyncio.run(run())


def test_a_fault_that_nobody_foresaw_does_not_end_the_readings() -> None:
    async def run() -> None:
        world = World()
        world.follower.start()

        def bug() -> None:
            raise KeyError("secret")

        try:
            world.act = bug
            with pytest.raises(StoreError, match="KeyError") as caught:
                await world.follower.learn()
            assert "secret" not in str(caught.value)
            world.act = lambda: None
            await world.follower.learn()
        finally:
            world.follower.stop()

    asyncio.run(run())


def test_nothing_to_follow_is_said_at_the_start() -> None:
    async def run() -> None:
        world = World()
        world.problem = "no state there"
        with pytest.raises(StoreError, match="no state there"):
            world.follower.start()
        world.follower.stop()

    asyncio.run(run())


def test_an_epoch_is_reached_as_soon_as_it_is_read() -> None:
    async def run() -> None:
        world = World()
        world.follower.start()
        try:
            await world.follower.reach(5)
            world.moves()
            await world.follower.reach(6)
            assert world.known.epoch == 6
        finally:
            world.follower.stop()

    asyncio.run(run())


def test_an_epoch_that_never_comes_is_given_up() -> None:
    async def run() -> None:
        world = World()
        world.follower.start()

        def time_passes() -> None:
            world.seconds += 0.05

        try:
            world.act = time_passes
            with pytest.raises(StoreError, match="epoch 99"):
                await world.follower.reach(99)
        finally:
            world.follower.stop()

    asyncio.run(run())


def test_a_flood_of_questions_shares_readings() -> None:
    async def run() -> None:
        world = World()
        world.follower.start()
        try:
            looks = world.looks
            await asyncio.gather(*(world.follower.learn() for _ in range(5000)))
            assert world.looks - looks <= 100
        finally:
            world.follower.stop()

    asyncio.run(run())


def test_a_reading_begins_after_the_question() -> None:
    """A run that began while a reading was under way is not in it."""

    async def run() -> None:
        world, inside, go_on = World(), threading.Event(), threading.Event()
        world.follower.start()

        def wait() -> None:
            inside.set()
            go_on.wait(10)

        try:
            world.act = wait
            first = asyncio.create_task(world.follower.learn())
            await asyncio.to_thread(inside.wait, 10)
            second = asyncio.create_task(world.follower.learn())
            await asyncio.sleep(0)
            looks, world.act = world.looks, lambda: None
            go_on.set()
            await asyncio.gather(first, second)
            assert world.looks > looks
        finally:
            go_on.set()
            world.follower.stop()

    asyncio.run(run())


def test_a_reading_that_hangs_holds_nobody_up_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "WAIT_SECONDS", 0.01)

    async def run() -> None:
        world, go_on = World(), threading.Event()
        world.follower.start()

        def hang() -> None:
            go_on.wait(10)

        try:
            world.act = hang
            with pytest.raises(StoreError, match="in time"):
                await world.follower.learn()
        finally:
            go_on.set()
            world.follower.stop()

    asyncio.run(run())


def test_who_gives_up_waiting_takes_the_reading_from_nobody() -> None:
    async def run() -> None:
        world = World()
        world.follower.start()
        try:
            impatient = asyncio.create_task(world.follower.learn())
            patient = asyncio.create_task(world.follower.learn())
            await asyncio.sleep(0)
            impatient.cancel()
            await patient
        finally:
            world.follower.stop()

    asyncio.run(run())


def test_a_follower_that_was_stopped_says_so_by_its_age() -> None:
    async def run() -> None:
        world = World()
        world.follower.start()
        world.follower.stop()
        looks = world.looks
        world.seconds += 1
        with pytest.raises(StoreError):
            await world.follower.refresh()
        assert world.looks == looks

    asyncio.run(run())
