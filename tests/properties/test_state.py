"""The state against a model of a few sets: whatever is done in whatever order, however often it restarts."""

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from authz.errors import StoreError
from authz.store.changes import read_progress
from authz.store.snapshot import State
from identity.withdrawal import CONTAINED, Kind, Standing
from tests.state_world import (
    HIRED,
    LEAD,
    NOW,
    OTHER,
    RESOLVER,
    RUNNER,
    TRIAGE,
    again,
    broken_disk,
    consent,
    load,
    task,
    ulid,
    withdrawal,
)

SUBJECTS: tuple[tuple[Kind, str], ...] = (
    ("token", "jti-1"),
    ("token", "jti-2"),
    ("txn", "txn-1"),
    ("task", ulid(1)),
    ("agent", "triage"),
    ("agent", "resolver"),
    ("workload", str(RUNNER)),
    ("human", LEAD),
    ("human", OTHER),
)
NUMBERS = st.integers(min_value=0, max_value=3)
AGENTS = st.sampled_from(["triage", "resolver", "hired"])


def _standing(kind: Kind, subject: str) -> Standing:
    match kind:
        case "token":
            return Standing(jti=subject)
        case "txn":
            return Standing(txn=subject)
        case "human":
            return Standing(human=subject)
        case _:
            return Standing(**{f"{kind}s": (subject,)})  # type: ignore[arg-type]  # the field of this kind


class StateMachine(RuleBasedStateMachine):
    """One state; `registered`, `withdrawn`, `granted` and `running` are what should be true of it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name)
        self.state: State = load(self.path)
        self.registered = {"triage", "resolver"}
        self.withdrawn: set[tuple[Kind, str]] = set()
        self.granted: dict[str, tuple[str, bool]] = {}
        self.running: dict[str, tuple[str, bool]] = {}
        self.epoch = self.state.epoch
        self.told = 0
        self.is_whole = True
        self.listen()

    def teardown(self) -> None:
        self.state._store.close()
        self.directory.cleanup()

    def listen(self) -> None:
        def tell() -> None:
            self.told += 1

        self.state.on_withdrawal(tell)

    @initialize()
    def hire(self) -> None:
        self.state.register_agent(HIRED, NOW)
        self.registered.add("hired")

    @rule(which=st.sampled_from(SUBJECTS))
    def withdraw(self, which: tuple[Kind, str]) -> None:
        epoch = self.state.withdraw(withdrawal(*which), NOW)
        assert epoch == self.state.epoch
        assert (epoch > self.epoch) == (which not in self.withdrawn) or not self.is_whole
        self.withdrawn.add(which)
        self.epoch = epoch

    @rule(which=st.sampled_from(SUBJECTS))
    def withdraw_though_the_disk_refuses(self, which: tuple[Kind, str]) -> None:
        with broken_disk(self.state), pytest.raises(StoreError):
            self.state.withdraw(withdrawal(*which), NOW)
        assert (self.state.epoch > self.epoch) == (which not in self.withdrawn)
        self.is_whole = self.is_whole and which in self.withdrawn
        self.withdrawn.add(which)
        self.epoch = self.state.epoch

    @rule(which=st.sampled_from(SUBJECTS))
    def release(self, which: tuple[Kind, str]) -> None:
        if which in self.withdrawn and which[0] in CONTAINED:
            assert self.state.release(*which, "admin", "it was a mistake", NOW) > self.epoch
            self.withdrawn.discard(which)
            self.epoch = self.state.epoch
        else:
            with pytest.raises(StoreError):
                self.state.release(*which, "admin", "it was a mistake", NOW)

    @rule(number=NUMBERS, agent=AGENTS)
    def start(self, number: int, agent: str) -> None:
        run = task(number, agent)
        if agent in self.registered and run.id not in self.running:
            self.state.start_task(run, NOW)
            self.running[run.id] = agent, True
        else:
            with pytest.raises(StoreError):
                self.state.start_task(run, NOW)

    @rule(number=NUMBERS)
    def end(self, number: int) -> None:
        self.state.end_task(ulid(number), NOW)
        agent, is_live = self.running.get(ulid(number), ("", False))
        assert (self.state.epoch > self.epoch) == is_live
        if is_live:
            self.running[ulid(number)] = agent, False
        self.epoch = self.state.epoch

    @rule(number=NUMBERS, agent=AGENTS)
    def grant(self, number: int, agent: str) -> None:
        given = consent(number, agent=agent)
        if agent in self.registered and given.id not in self.granted:
            assert self.state.add_consent(given, NOW) == self.epoch
            self.granted[given.id] = agent, True
        else:
            with pytest.raises(StoreError):
                self.state.add_consent(given, NOW)

    @rule(number=NUMBERS)
    def revoke(self, number: int) -> None:
        if ulid(number) in self.granted:
            agent, _ = self.granted[ulid(number)]
            epoch = self.state.revoke_consent(ulid(number), NOW)
            assert (epoch > self.epoch) == (("grant", ulid(number)) not in self.withdrawn)
            self.granted[ulid(number)] = agent, False
            self.withdrawn.add(("grant", ulid(number)))
            self.epoch = epoch
        else:
            with pytest.raises(StoreError):
                self.state.revoke_consent(ulid(number), NOW)

    @rule(agent=AGENTS)
    def retire(self, agent: str) -> None:
        self.state.retire(agent, NOW)
        assert (self.state.epoch > self.epoch) == (agent in self.registered)
        self.registered.discard(agent)
        self.epoch = self.state.epoch
        for held in (self.granted, self.running):
            for key, (of, _) in list(held.items()):
                if of == agent:
                    held[key] = of, False

    @rule()
    def list_anew(self) -> None:
        missing = {"triage", "resolver"} - self.registered
        assert set(self.state.register_agents([TRIAGE, RESOLVER], NOW).registered) == missing
        self.registered |= missing

    @precondition(lambda self: self.is_whole)
    @rule()
    def restart(self) -> None:
        self.state = again(self.state, self.path)
        self.listen()
        assert self.state.epoch == self.epoch

    @rule()
    def prune(self) -> None:
        self.state.prune(NOW + timedelta(minutes=5))

    @invariant()
    def memory_is_the_model(self) -> None:
        state = self.state
        assert {agent.name for agent in state.agents()} == self.registered
        for which in (*SUBJECTS, *(("grant", ulid(number)) for number in range(4))):
            kind, subject = which
            found = state.withdrawals.find(_standing(kind, subject))
            assert (found is not None) == (which in self.withdrawn)
        live = {each.id: (each.agent, each.is_live(NOW)) for each in state.consents()}
        assert live == self.granted
        runs = {number: state.task(ulid(number)) for number in range(4)}
        assert {run.id: (run.agent, run.is_live(NOW)) for run in runs.values() if run} == self.running

    @invariant()
    def epoch_is_that_of_the_disk_or_later(self) -> None:
        with self.state._store._engine.begin() as connection:
            written = read_progress(connection)
        assert written.epoch <= self.state.epoch == self.epoch
        assert written.epoch <= written.last
        if self.is_whole:
            assert written.epoch == self.state.epoch


TestState = StateMachine.TestCase
# Each step is a write that reaches the disk.
TestState.settings = settings(max_examples=max(settings().max_examples // 4, 10))
