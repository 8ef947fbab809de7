"""Replicas that pause wherever it hurts: when a barrier is passed, nobody answers by less than its epoch.

The readings, leases and barriers are the real ones; the clock, the disk and the order of all steps are drawn.
A pause is anything that happens to the others while one replica stands still: between its reading and its
lease, between its lease and its next reading, or while its event loop has not gone round.
"""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from authz.errors import StoreError
from authz.store.barrier import _Waiting
from authz.store.changes import Progress
from authz.store.following import Follower
from authz.store.port import Lease, Listed

REPLICAS = 3
SECONDS = st.sampled_from([0.0, 0.01, 0.06, 0.4, 0.6, 1.1, 4.0, 4.99, 5.0, 5.01, 30.0])
ONE = st.tuples(st.sampled_from(["withdraw", "pass", "look", "time"]), SECONDS)
# What matters most is drawn most often: something is withdrawn, and a barrier passed, within one pause.
STEPS = st.one_of(
    st.tuples(st.just(("withdraw", 0.0)), SECONDS.map(lambda s: ("time", s)), st.just(("pass", 0.0))).map(
        list
    ),
    st.lists(ONE, max_size=4),
)


class Replica:
    """One process: what it knows, and a follower whose turns the machine takes."""

    def __init__(self, world: "World", name: str) -> None:
        self.world, self.name = world, name
        self.known = Progress(1, 1, 1)
        self.pauses: dict[str, list[tuple[str, float]]] = {}
        self.rounds: list[Callable[[], None]] = []
        self.follower = Follower([self._look], lambda: self.known, self._acknowledge, lambda: world.seconds)
        self.follower._call = self.rounds.append  # type: ignore[method-assign, assignment]  # the event loop is drawn, too

    def _look(self) -> None:
        self._pause("before reading")
        if self.world.disk_fails:
            raise StoreError("no disk")
        found = self.world.progress
        self._pause("after reading")
        self.known = found

    def _acknowledge(self, progress: Progress, at: float) -> None:
        self._pause("before the lease")
        if self.world.disk_fails:
            raise StoreError("no disk")
        self.world.leases[self.name] = Lease(self.name, progress.term, progress.epoch, at, "", "")
        self._pause("after the lease")

    def _pause(self, where: str) -> None:
        for step in self.pauses.pop(where, []):
            self.world.take(step)

    def check(self) -> None:
        """What a call finds: it is answered by what is known, or not at all."""
        if self.follower.is_fresh:
            assert self.known.epoch >= self.world.promised


class World:
    """Everybody, and what has been promised by a barrier."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.progress = Progress(1, 1, 1)
        self.promised = 0
        self.disk_fails = False
        self.leases: dict[str, Lease] = {}
        self.waiting: list[_Waiting] = []
        self.replicas = [Replica(self, f"r{number}") for number in range(REPLICAS)]

    def take(self, step: tuple[str, float]) -> None:
        match step:
            case "withdraw", _:
                n = self.progress.last + 1
                self.progress = Progress(1, n, n)
                self.waiting.append(_Waiting(1, n, self.seconds, {}, {}, set()))
            case "pass", _:
                self.look()
                self.look()
            case "look", _:
                self.look()
            case _, seconds:
                self.seconds += seconds

    def look(self) -> None:
        """Each barrier looks at the leases; one that is passed is a promise."""
        for waiting in list(self.waiting):
            if not waiting.look(Listed(tuple(self.leases.values())), self.seconds):
                self.waiting.remove(waiting)
                self.promised = max(self.promised, waiting.epoch)
        for replica in self.replicas:
            replica.check()


class Replicas(RuleBasedStateMachine):
    """Any order of steps."""

    @initialize()
    def begin(self) -> None:
        self.world = World()

    @rule(
        which=st.integers(0, REPLICAS - 1),
        where=st.sampled_from(["before reading", "after reading", "before the lease", "after the lease"]),
        steps=STEPS,
    )
    def turn(self, which: int, where: str, steps: list[tuple[str, float]]) -> None:
        replica = self.world.replicas[which]
        replica.pauses = {where: steps}
        replica.follower._turn()
        replica.pauses = {}

    @rule(which=st.integers(0, REPLICAS - 1))
    def loop_goes_round(self, which: int) -> None:
        rounds = self.world.replicas[which].rounds
        if rounds:
            rounds.pop(0)()

    @rule(which=st.integers(0, REPLICAS - 1))
    def dies_and_another_starts(self, which: int) -> None:
        old = self.world.replicas[which]
        self.world.replicas[which] = Replica(self.world, f"{old.name}+")

    @rule(which=st.integers(0, REPLICAS - 1))
    def ends(self, which: int) -> None:
        old = self.world.replicas[which]
        self.world.leases.pop(old.name, None)
        self.world.replicas[which] = Replica(self.world, f"{old.name}+")

    @rule(step=ONE)
    def step(self, step: tuple[str, float]) -> None:
        self.world.take(step)

    @rule(fails=st.booleans())
    def disk(self, fails: bool) -> None:
        self.world.disk_fails = fails

    @invariant()
    def nobody_answers_by_less_than_was_promised(self) -> None:
        for replica in self.world.replicas:
            replica.check()


TestReplicas = Replicas.TestCase
TestReplicas.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
