"""What people granted: bounded, revoked with all that came of it, and gone with the agent it was for."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest

from authz.errors import StoreError
from authz.store import held_consents, rights
from authz.store.held_consents import KEPT_CONSENTS, HeldConsents
from authz.store.snapshot import State
from tests.state_world import (
    HIRED,
    LEAD,
    NOW,
    OTHER,
    RESOLVER,
    TRIAGE,
    again,
    broken_disk,
    consent,
    is_denied,
    load,
    task,
    ulid,
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return load(tmp_path)


def test_grants_come_back_as_they_were(state: State, tmp_path: Path) -> None:
    unlimited = dataclasses.replace(consent(2), tools=None, delegates_to=frozenset())
    state.add_consent(consent(1), NOW)
    state.add_consent(unlimited, NOW)
    state.add_consent(consent(3, OTHER), NOW)
    state.revoke_consent(ulid(3), NOW)
    restarted = again(state, tmp_path)

    for each in (state, restarted):
        assert each.consent(ulid(1)) == consent(1)
        assert each.consents_of(LEAD) == (consent(1), unlimited)
        assert each.consents_of(OTHER) == (dataclasses.replace(consent(3, OTHER), revoked_at=NOW),)
        assert len(each.consents()) == 3
        assert each.consent(ulid(4)) is None
        assert each.consents_of("https://idp.example#nobody") == ()


def test_revoking_a_grant_withdraws_all_that_came_of_it(state: State, tmp_path: Path) -> None:
    state.add_consent(consent(1), NOW)
    epoch = state.epoch

    assert state.revoke_consent(ulid(1), NOW, by="admin", reason="they left") == state.epoch > epoch

    for each in (state, again(state, tmp_path)):
        revoked = each.consent(ulid(1))
        assert revoked is not None
        assert not revoked.is_live(NOW)
        assert is_denied(each, grants=(ulid(2), ulid(1)))
        (written,) = each.withdrawals.items
        assert (written.by, written.reason, written.kind) == ("admin", "they left", "grant")


@pytest.mark.parametrize("hours", [1, 24 * 365])
def test_the_withdrawal_of_a_grant_lasts_at_least_as_long_as_it_and_its_tokens(
    state: State, hours: int
) -> None:
    state.add_consent(consent(1, hours=hours), NOW)
    state.revoke_consent(ulid(1), NOW)
    (written,) = state.withdrawals.items
    assert written.by == LEAD
    assert written.expires_at is not None
    assert written.expires_at >= consent(1, hours=hours).expires_at
    assert written.expires_at > NOW + timedelta(hours=24)


def test_revoking_again_and_again_moves_no_epoch(state: State) -> None:
    state.add_consent(consent(1), NOW)
    epoch = state.revoke_consent(ulid(1), NOW)
    for minute in range(1, 20):
        assert state.revoke_consent(ulid(1), NOW + timedelta(minutes=minute)) == epoch
    assert state.consent(ulid(1)) == dataclasses.replace(consent(1), revoked_at=NOW)


def test_unknown_grant_cannot_be_revoked(state: State) -> None:
    with pytest.raises(StoreError, match="there is no grant"):
        state.revoke_consent(ulid(1), NOW)


def test_revoked_grant_stays_so_in_memory_though_the_disk_refuses(state: State, tmp_path: Path) -> None:
    state.add_consent(consent(1), NOW)
    with broken_disk(state):
        with pytest.raises(StoreError, match="is revoked until a restart only"):
            state.revoke_consent(ulid(1), NOW)
        revoked = state.consent(ulid(1))
        assert revoked is not None
        assert not revoked.is_live(NOW)
        assert is_denied(state, grants=(ulid(1),))

    state.revoke_consent(ulid(1), NOW + timedelta(minutes=1))
    restarted = again(state, tmp_path)
    assert is_denied(restarted, grants=(ulid(1),))
    known = restarted.consent(ulid(1))
    assert known is not None
    assert known.revoked_at is not None


def test_grant_needs_the_disk(state: State) -> None:
    with broken_disk(state), pytest.raises(StoreError):
        state.add_consent(consent(1), NOW)
    assert state.consent(ulid(1)) is None


def test_nobody_can_grant_to_an_agent_that_is_not_registered(state: State) -> None:
    state.retire("resolver", NOW)
    for agent in ("resolver", "unknown"):
        with pytest.raises(StoreError, match=f"no agent '{agent}' is registered"):
            state.add_consent(consent(1, agent=agent), NOW)
    assert state.consents() == ()


def test_id_of_a_grant_is_used_once(state: State) -> None:
    state.add_consent(consent(1), NOW)
    with pytest.raises(StoreError, match="a name is taken"):
        state.add_consent(consent(1, OTHER), NOW)
    assert state.consents_of(OTHER) == ()
    assert state.consent(ulid(1)) == consent(1)


@pytest.mark.parametrize("by", ["hand", "list"])
def test_whoever_registers_a_retired_name_gets_none_of_what_it_was_granted(
    state: State, tmp_path: Path, by: str
) -> None:
    state.add_consent(consent(1), NOW)
    state.add_consent(consent(2, agent="resolver"), NOW)
    if by == "hand":
        state.retire("triage", NOW)
    else:
        state.register_agents([RESOLVER], NOW)
    state.register_agents([dataclasses.replace(TRIAGE, owner="somebody-else"), RESOLVER], NOW)

    for each in (state, again(state, tmp_path)):
        first, second = each.consent(ulid(1)), each.consent(ulid(2))
        assert first is not None
        assert second is not None
        assert not first.is_live(NOW)
        assert second.is_live(NOW)


def test_one_person_holds_so_many_at_once(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_consents, "MAX_OF_ONE_PERSON", 3)
    for number in range(3):
        state.add_consent(consent(number), NOW)
    with pytest.raises(StoreError, match="holds 3 grants"):
        state.add_consent(consent(8), NOW)
    state.add_consent(consent(9, OTHER), NOW)
    state.revoke_consent(ulid(1), NOW)
    state.add_consent(consent(8), NOW)
    assert sum(each.is_live(NOW) for each in state.consents_of(LEAD)) == 3


def test_revoking_frees_no_place_among_those_of_a_day(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights, "MAX_CONSENTS_A_DAY", 3)
    for number in range(3):
        state.add_consent(consent(number), NOW)
        state.revoke_consent(ulid(number), NOW)
    with pytest.raises(StoreError, match="3 grants within a day"):
        state.add_consent(consent(8), NOW)
    state.add_consent(consent(9, OTHER), NOW)
    tomorrow = NOW + timedelta(days=1)
    state.add_consent(consent(8, created_at=tomorrow), tomorrow)


def test_all_people_hold_so_many(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_consents, "MAX_CONSENTS", 3)
    for number in range(3):
        state.add_consent(consent(number, f"https://idp.example#{number}", hours=1), NOW)
    with pytest.raises(StoreError, match="3 grants are held"):
        state.add_consent(consent(9), NOW)
    later = NOW + timedelta(hours=1) + KEPT_CONSENTS
    state.add_consent(consent(9, created_at=later), later)
    assert [each.id for each in state.consents()] == [ulid(9)]


def test_revoked_grants_in_memory_are_bounded_the_oldest_leave_first(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_consents, "MAX_REVOKED", 3)
    for number in range(20):
        state.add_consent(consent(number), NOW)
        state.revoke_consent(ulid(number), NOW)
    state.prune(NOW)

    assert [each.id for each in state.consents()] == [ulid(number) for number in (17, 18, 19)]
    assert len(state._consents._ends) <= 12
    state.prune(NOW + timedelta(days=1))
    assert state.consents() == state.consents_of(LEAD) == ()
    assert not state._consents._revoked


def test_ended_grants_leave_memory_and_later_the_disk(state: State) -> None:
    state.add_consent(consent(1, hours=1), NOW)
    just_before = NOW + timedelta(hours=1) + KEPT_CONSENTS - timedelta(seconds=1)
    state.prune(just_before)
    assert state.consent(ulid(1)) is not None
    state.prune(just_before + timedelta(seconds=1))
    assert state.consent(ulid(1)) is None

    assert state._store.consents(NOW) == (consent(1, hours=1),)
    state.prune(NOW + timedelta(days=32))
    assert state._store.consents(NOW) == ()


def test_putting_the_same_grant_twice_holds_it_once() -> None:
    held = HeldConsents()
    revoked = dataclasses.replace(consent(1), revoked_at=NOW)
    for each in (consent(1), consent(1), revoked, revoked):
        held.put(each)
    assert held.all() == held.of(LEAD) == (revoked,)
    held.revoke(ulid(2), NOW)
    held.prune(NOW + timedelta(days=1))
    assert held.all() == ()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE consents SET scopes = 'tickets.read'",
        "UPDATE consents SET scopes = '{\"a\": 1}'",
        "UPDATE consents SET scopes = '[1]'",
        "UPDATE consents SET scopes = '[]'",
        "UPDATE consents SET tools = '[\"everything\"]'",
        "UPDATE consents SET human = 'lead'",
        "UPDATE consents SET expires_at = 'never'",
    ],
)
def test_grant_that_we_did_not_write_is_an_error(state: State, change: str) -> None:
    state.add_consent(consent(1), NOW)
    with state._store._engine.begin() as connection:
        connection.exec_driver_sql(change)
    with pytest.raises(StoreError, match="a grant that we did not write"):
        state._store.consents(NOW)


def test_grant_of_an_agent_of_the_api_ends_with_it(state: State) -> None:
    state.register_agent(HIRED, NOW)
    state.add_consent(consent(1, agent="hired"), NOW)
    state.start_task(task(2, "hired"), NOW)
    state.retire("hired", NOW)
    granted, run = state.consent(ulid(1)), state.task(ulid(2))
    assert granted is not None
    assert run is not None
    assert not granted.is_live(NOW)
    assert not run.is_live(NOW)
