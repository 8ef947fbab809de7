"""A state on disk for tests: two listed agents; tasks, grants and withdrawals by number."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from authz.store.held_withdrawals import kept_until
from authz.store.snapshot import State
from authz.store.sqlite import Store
from identity.caller import Agent, Task
from identity.consent import Consent
from identity.names import new_ulid
from identity.spiffe import SpiffeId
from identity.withdrawal import Kind, Standing, Withdrawal

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
RUNNER = SpiffeId.parse("spiffe://mesh.example/ns/agents/sa/runner")
LEAD = "https://idp.example#lead"
OTHER = "https://idp.example#other"
TRIAGE = Agent("triage", "support", "ops", "sorts tickets", "observer", hosts=frozenset({RUNNER}))
RESOLVER = Agent("resolver", "support", "ops", "closes tickets", "contributor")
HIRED = Agent("hired", "support", "ops", "came by the API", "observer")


def ulid(number: int) -> str:
    return new_ulid(NOW, number.to_bytes(10))


def task(number: int, agent: str = "triage", minutes: int = 60) -> Task:
    return Task(ulid(number), agent, LEAD, RUNNER, NOW, NOW + timedelta(minutes=minutes))


def consent(
    number: int, human: str = LEAD, agent: str = "triage", hours: int = 8, created_at: datetime = NOW
) -> Consent:
    return Consent.parse(
        id=ulid(number),
        human=human,
        agent=agent,
        scopes=frozenset({"tickets.read", "tickets.write"}),
        tools=frozenset({"tickets/read", "tickets/close"}),
        delegates_to=frozenset({"resolver"} - {agent}),
        created_at=created_at,
        expires_at=created_at + timedelta(hours=hours),
    )


def withdrawal(
    kind: Kind, subject: str, *, before: int | None = None, at: datetime = NOW, end: datetime | None = None
) -> Withdrawal:
    return Withdrawal(kind, subject, before, "stolen", "admin", at, end or kept_until(kind, at))


def open_store(directory: Path) -> Store:
    return Store.open(directory / "data" / "state.db")


def load(directory: Path, now: datetime = NOW) -> State:
    state = State.load(open_store(directory), now)
    state.register_agents([TRIAGE, RESOLVER], now)
    return state


def again(state: State, directory: Path, now: datetime = NOW) -> State:
    """Stop the process, and start it anew."""
    state._store.close()
    return State.load(open_store(directory), now)


def is_denied(state: State, **acting: object) -> bool:
    return state.withdrawals.find(Standing(**acting)) is not None  # type: ignore[arg-type]  # any part of it


@contextmanager
def broken_disk(state: State) -> Iterator[None]:
    """Let every write fail, as on a disk that went read-only."""
    _query_only(state, "ON")
    yield
    _query_only(state, "OFF")


def _query_only(state: State, value: str) -> None:
    # Not as a transaction: none begins any more then.
    connection = state._store._engine.raw_connection()
    connection.cursor().execute(f"PRAGMA query_only = {value}")
    connection.close()
