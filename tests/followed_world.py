"""A state, and those who follow it: on a clock that the test turns, and readings that the test takes."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from authz.store.changes import Progress
from authz.store.followed import FollowedState
from authz.store.snapshot import State
from authz.store.sqlite import Store
from authz.store.sqlite_epochs import SqliteEpochs
from identity.caller import Task
from identity.names import new_ulid
from identity.withdrawal import Kind, Withdrawal
from tests.fakes import LEAD, RUNNER, agent


def utc() -> datetime:
    return datetime.now(UTC)


def withdrawal(kind: Kind = "agent", subject: str = "triage", **more: object) -> Withdrawal:
    made: dict[str, object] = {"before": None, "reason": "a drill", "by": "the test", "at": utc()}
    return Withdrawal(kind, subject, **(made | more))  # type: ignore[arg-type]  # the tests name real fields


def new_task(name: str = "triage", deadline: timedelta = timedelta(hours=1)) -> Task:
    now = utc()
    return Task(new_ulid(now, os.urandom(10)), name, LEAD.uri, RUNNER, now, now + deadline)


@dataclass
class Authority:
    """The process that writes."""

    directory: Path

    def __post_init__(self) -> None:
        self.open()
        self.state.register_agents([agent("triage"), agent("resolver")], utc())

    def open(self) -> None:
        self.store = Store.open(self.path)
        self.state = State.load(self.store, utc())

    def restart(self) -> None:
        self.store.close()
        self.open()

    def start_task(self, **more: object) -> Task:
        task = new_task(**more)  # type: ignore[arg-type]  # as new_task takes
        self.state.start_task(task, utc())
        return task

    @property
    def path(self) -> Path:
        return self.directory / "state.db"

    @property
    def term(self) -> int:
        return self.store.progress().term


@dataclass
class Replica:
    """Who follows; `seconds` is its clock, `leases` what it acknowledged."""

    path: Path
    seconds: float = 1000.0
    leases: list[tuple[Progress, float]] = field(default_factory=list)
    cannot_acknowledge: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.state = FollowedState(
            SqliteEpochs(self.path), self._acknowledge, utc, clock=lambda: self.seconds
        )

    def _acknowledge(self, progress: Progress, at: float) -> None:
        self.cannot_acknowledge()
        self.leases.append((progress, at))

    def polled(self) -> FollowedState:
        self.state.poll()
        return self.state

    def turn(self) -> None:
        """What the thread does."""
        self.state._follower._turn()
