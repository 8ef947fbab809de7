"""Which withdrawals others are told of: read from the state as it is written."""

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authz.broker.event_signal import LANES, by_event, is_told, signal_of
from authz.broker.events_outgoing import Outbox, Outside
from authz.errors import StoreError
from authz.store.snapshot import State
from authz.store.sqlite import Store
from authz.store.withdrawal_log import WithdrawalLog, Written
from identity.caller import Agent, Human, Task
from identity.consent import Consent
from identity.event_subject import JwtId
from identity.names import new_ulid
from identity.security_event import issue_security_event
from identity.withdrawal import Withdrawal
from tests.broker_fakes import FakeSink, serving
from tests.event_world import EVENT_KEY, LEAD
from tests.identity_world import ISSUER, NOW, RUNNER, SECONDS, ulid
from tests.test_events_outgoing import FakeCursor, Party, receiver_at

TRIAGE = Agent("triage", "support", "ops", "sorts tickets", "observer", hosts=frozenset({RUNNER}))
GRANT, TASK, LONELY = ulid(1), ulid(2), ulid(3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "state.db"


@pytest.fixture
def state(path: Path) -> Iterator[State]:
    store = Store.open(path)
    state = State.load(store, NOW)
    state.register_agents([TRIAGE], NOW)
    hour = NOW + timedelta(hours=1)
    scopes = frozenset({"tickets:read"})
    state.add_consent(Consent(GRANT, LEAD.uri, "triage", scopes, None, frozenset(), NOW, hour), NOW)
    for task, human in ((TASK, LEAD.uri), (LONELY, None)):
        state.start_task(Task(task, "triage", human, RUNNER, NOW, hour), NOW)
    yield state
    store.close()


def withdraw(  # noqa: PLR0917 - what a withdrawal says
    state: State,
    kind: Any,
    subject: str,
    before: int | None = None,
    by: str = "uid 0",
    human: str | None = None,
) -> None:
    end = None if kind in {"human", "agent", "workload"} else NOW + timedelta(days=1)
    state.withdraw(Withdrawal(kind, subject, before, "a reason", by, NOW, end, human), NOW)


def test_each_withdrawal_names_the_person_behind_it_where_one_is_known(path: Path, state: State) -> None:
    withdraw(state, "human", LEAD.uri)
    withdraw(state, "human", LEAD.uri, before=7)
    state.revoke_consent(GRANT, NOW)
    withdraw(state, "task", TASK)
    withdraw(state, "task", LONELY)
    withdraw(state, "task", ulid(99))
    withdraw(state, "agent", "triage")
    withdraw(state, "token", "J" * 22)
    withdraw(state, "txn", "T" * 22)
    withdraw(state, "token", "K" * 22, human=LEAD.uri)
    withdraw(state, "txn", "U" * 22, human=LEAD.uri)

    found = WithdrawalLog(path).after(0, 100)

    named = [(one.withdrawal.kind, one.human) for one in found]
    assert named == [
        ("human", LEAD.uri),
        ("human", LEAD.uri),
        ("grant", LEAD.uri),
        ("task", LEAD.uri),
        ("task", None),
        ("task", None),
        ("agent", None),
        ("token", None),
        ("txn", None),
        ("token", LEAD.uri),
        ("txn", LEAD.uri),
    ]
    numbers = [one.number for one in found]
    assert numbers == sorted(set(numbers))
    assert found[1].withdrawal.before == 7
    told = [is_told(signal_of(one), None) for one in found]
    assert told == [True] * 4 + [False] * 5 + [True] * 2
    assert signal_of(found[-1]).txn == "U" * 22


def test_what_was_released_is_not_told_and_its_number_is_not_given_again(path: Path, state: State) -> None:
    withdraw(state, "human", LEAD.uri)
    (first,) = WithdrawalLog(path).after(0, 100)
    state.release("human", LEAD.uri, "uid 0", "it was a mistake", NOW)
    assert WithdrawalLog(path).after(0, 100) == ()
    withdraw(state, "human", LEAD.uri)
    (second,) = WithdrawalLog(path).after(0, 100)
    assert second.number > first.number
    assert WithdrawalLog(path).after(second.number, 100) == ()


def test_a_reading_is_bounded(path: Path, state: State) -> None:
    for number in range(5):
        withdraw(state, "txn", f"txn-{number:020d}")
    log = WithdrawalLog(path)
    first = log.after(0, 2)
    assert [one.withdrawal.subject[-1] for one in first] == ["0", "1"]
    assert [one.withdrawal.subject[-1] for one in log.after(first[-1].number, 2)] == ["2", "3"]


def test_a_reader_holds_no_writer_up(path: Path, state: State) -> None:
    log = WithdrawalLog(path)
    with log._engine.connect() as reading:  # an open reading, as long as it lasts
        reading.exec_driver_sql("BEGIN")
        reading.exec_driver_sql("SELECT count(*) FROM withdrawals").all()
        withdraw(state, "human", LEAD.uri)
    assert len(log.after(0, 9)) == 1


def test_a_state_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        WithdrawalLog(tmp_path / "state.db").after(0, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_person_whom_we_cannot_name_is_nobody() -> None:
    withdrawal = Withdrawal("task", TASK, None, "a reason", "uid 0", NOW)
    assert signal_of(Written(1, withdrawal, "not a person")).human is None
    assert signal_of(Written(1, withdrawal, LEAD.uri)).human == Human.parse_uri(LEAD.uri)


def test_what_the_state_withdraws_is_told(path: Path, state: State) -> None:
    withdraw(state, "human", LEAD.uri, by=by_event("https://idp.example"))
    withdraw(state, "human", LEAD.uri, before=7)
    withdraw(state, "agent", "triage")
    state.revoke_consent(GRANT, NOW)
    withdraw(state, "token", "J" * 22, by=str(RUNNER), human=LEAD.uri)
    withdraw(state, "txn", "T" * 22, by=LEAD.uri, human=LEAD.uri)
    withdraw(state, "token", "K" * 22)
    log, sink, party = WithdrawalLog(path), FakeSink(), Party()
    cursors = {lane: FakeCursor() for lane in LANES}

    async def scenario() -> None:
        outside = Outside(
            ISSUER,
            lambda after, limit: [signal_of(one) for one in log.after(after, limit)],
            lambda event, audience: issue_security_event(EVENT_KEY, event, audience),
            sink,
            lambda: NOW,
            lambda now: new_ulid(now, os.urandom(10)),
        )
        async with serving(party.app()) as base, asyncio.timeout(20):
            outbox = Outbox([receiver_at(base)], lambda _, lane: cursors[lane], outside)
            running = asyncio.create_task(outbox.run())
            last = log.after(0, 9)[-1].number
            while any(cursor.number < last for cursor in cursors.values()):
                await asyncio.sleep(0.01)
                outbox.wake()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    # The two lanes go beside each other.
    assert {(one.session, one.event_timestamp, one.initiating_entity, one.txn) for one in party.heard()} == {
        (None, 7, "admin", None),
        (f"grant:{GRANT}", SECONDS, "user", None),
        (JwtId(ISSUER, "J" * 22), SECONDS, "system", None),
        ("txn:" + "T" * 22, SECONDS, "user", "T" * 22),
    }
    assert {one.person for one in party.heard()} == {LEAD}
