"""Agents of deputy.yaml and agents of the API: each is changed where it stands."""

import dataclasses
import threading
from pathlib import Path

import pytest

from authz.errors import StoreError
from authz.store import agents as agents_module
from authz.store.snapshot import State
from identity.caller import OidcClient
from identity.withdrawal import Standing
from tests.state_world import (
    HIRED,
    LEAD,
    NOW,
    RESOLVER,
    TRIAGE,
    again,
    broken_disk,
    consent,
    load,
    task,
    withdrawal,
)

CLIENTS = frozenset(
    {OidcClient("https://idp.example", "tickets-app"), OidcClient("https://idp.example", 'q"ü\\')}
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    return load(tmp_path)


def test_agent_of_the_api_comes_back_as_it_was(state: State, tmp_path: Path) -> None:
    hired = dataclasses.replace(HIRED, clients=CLIENTS)
    state.register_agent(hired, NOW)
    restarted = again(state, tmp_path)

    for each in (state, restarted):
        assert each.agent("hired") == hired
        assert each.managed_by("hired") == "api"
        assert each.managed_by("triage") == "file"
        assert each.managed_by("nobody") is None
        assert set(each.agents()) == {hired, TRIAGE, RESOLVER}


def test_list_of_deputy_yaml_neither_retires_nor_changes_agents_of_the_api(state: State) -> None:
    state.register_agent(HIRED, NOW)
    state.start_task(task(1, "hired"), NOW)
    assert state.compare_agents([TRIAGE]).retired == ("resolver",)
    state.register_agents([TRIAGE], NOW)

    assert state.agent("hired") == HIRED
    assert state.task(task(1).id) == task(1, "hired")


def test_name_of_deputy_yaml_that_the_api_registered_is_an_error_that_names_it(state: State) -> None:
    state.register_agent(HIRED, NOW)
    taken = [TRIAGE, RESOLVER, dataclasses.replace(HIRED, ceiling="operator")]
    with pytest.raises(StoreError, match=r"agent 'hired' of deputy\.yaml was registered by the API"):
        state.compare_agents(taken)
    with pytest.raises(StoreError, match=r"agent 'hired' of deputy\.yaml was registered by the API"):
        state.register_agents(taken, NOW)

    assert state.agent("hired") == HIRED
    state.retire("hired", NOW)
    state.register_agents(taken, NOW)
    assert state.managed_by("hired") == "file"


def test_name_is_registered_once(state: State) -> None:
    state.register_agent(HIRED, NOW)
    for agent in (HIRED, dataclasses.replace(TRIAGE, ceiling="operator")):
        with pytest.raises(StoreError, match="is registered already"):
            state.register_agent(agent, NOW)
    assert state.agent("triage") == TRIAGE
    assert state.managed_by("triage") == "file"


def test_agent_of_deputy_yaml_is_changed_there_only(state: State) -> None:
    bigger = dataclasses.replace(TRIAGE, ceiling="operator")
    with pytest.raises(StoreError, match=r"it stands in deputy\.yaml: change it there"):
        state.change_agent(bigger, NOW)
    assert state.agent("triage") == TRIAGE


def test_change_of_an_agent_moves_the_epoch_and_needs_the_disk(state: State, tmp_path: Path) -> None:
    state.register_agent(HIRED, NOW)
    epoch = state.epoch
    smaller = dataclasses.replace(HIRED, max_depth=1)
    with broken_disk(state), pytest.raises(StoreError):
        state.change_agent(dataclasses.replace(HIRED, ceiling="operator"), NOW)
    assert state.agent("hired") == HIRED
    assert state.change_agent(smaller, NOW) == state.epoch > epoch
    for each in (state, again(state, tmp_path)):
        assert each.agent("hired") == smaller
        assert each.managed_by("hired") == "api"


def test_registering_needs_the_disk(state: State) -> None:
    with broken_disk(state), pytest.raises(StoreError):
        state.register_agent(HIRED, NOW)
    assert state.agent("hired") is None


def test_what_is_not_registered_cannot_be_changed(state: State) -> None:
    state.register_agent(HIRED, NOW)
    state.retire("hired", NOW)
    for agent in (HIRED, dataclasses.replace(HIRED, name="unknown")):
        with pytest.raises(StoreError, match="is registered"):
            state.change_agent(agent, NOW)
        assert state.agent(agent.name) is None


def test_retired_name_can_be_registered_anew_without_its_tasks(state: State, tmp_path: Path) -> None:
    state.register_agent(HIRED, NOW)
    state.start_task(task(1, "hired"), NOW)
    state.retire("hired", NOW)
    state.register_agent(dataclasses.replace(HIRED, owner="somebody-else"), NOW)
    for each in (state, again(state, tmp_path)):
        run = each.task(task(1).id)
        assert run is not None
        assert not run.is_live(NOW)


def test_number_of_agents_is_bounded(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents_module, "MAX_AGENTS", 3)
    state.register_agent(HIRED, NOW)
    another = dataclasses.replace(HIRED, name="another")
    with pytest.raises(StoreError, match="3 agents are registered"):
        state.register_agent(another, NOW)
    state.retire("hired", NOW)
    state.register_agent(another, NOW)


def test_lists_can_be_read_while_they_change(state: State) -> None:
    stop, wrong = threading.Event(), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                state.agents()
                state.consents()
                state.consents_of(LEAD)
                state.withdrawals.find(Standing(human=LEAD, agents=("triage",)))
        except BaseException as error:  # noqa: BLE001 - whatever a thread died of
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(60):
        state.register_agent(dataclasses.replace(HIRED, name=f"hired-{number}"), NOW)
        state.add_consent(consent(number), NOW)
        state.withdraw(withdrawal("token", f"jti-{number}"), NOW)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


@pytest.mark.parametrize("clients", ["{}", "[1]", '[["https://idp.example"]]', "nothing", "[[1, 2]]"])
def test_clients_that_we_did_not_write_are_an_error(state: State, clients: str) -> None:
    with state._store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE agents SET clients = ?", (clients,))
    with pytest.raises(StoreError, match="an agent that we did not write"):
        state._store.agents()
