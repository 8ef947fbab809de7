"""Whose call an answer is to: what `Check` writes is what is read, and nothing else is."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from authz.answers.passage import MAX_BYTES, Passage, require_standing
from authz.codes import Code
from authz.errors import AnswerError, AuthenticationError
from authz.pb import ext_authz_pb2 as pb
from authz.services import Services
from identity.authorization_details import Detail
from identity.caller import Human
from identity.withdrawal import KINDS, Kind, Withdrawal, Withdrawals
from tests.fakes import DENY, GATEWAY, LEAD, NOW, RUNNER, TICKETS, Run, World, reason

OK = 0
GRANT, PARENT = "01JD0000000000000000000001", "p" * 22
UNCACHED = {"accept-encoding", "range", "if-range", "if-none-match", "if-modified-since"}


def _guarded(world: World, **more: object) -> None:
    services = tuple(
        replace(service, is_guarded=True, **more)  # type: ignore[arg-type]  # the tests name real fields
        for service in world.services.by_name.values()
    )
    world.services = Services.of(services, tuple(world.services.askers.values()), None)


def _passage_text(response: pb.CheckResponse) -> str:
    assert response.status.code == OK
    return response.dynamic_metadata.fields["passage"].string_value


def _passed(world: World) -> tuple[Run, Run, Passage]:
    """Let a chain of two call once."""
    _guarded(world)
    presenter, delegator = world.run("triage"), world.run("resolver")
    token = world.token(presenter, delegator, grants=(GRANT,), parents=(PARENT,))
    return presenter, delegator, Passage.parse(_passage_text(world.check(world.request(token, presenter))))


def test_an_allow_of_a_guarded_service_says_whose_answer_comes_back() -> None:
    world = World()
    presenter, delegator, passage = _passed(world)
    assert (passage.service, passage.protocol, passage.method) == ("tickets", "mcp", "tools/call")
    assert passage.phase == "call"
    assert passage.decision_id == world.sink.entries[0].id
    assert passage.runs == (presenter.hop, delegator.hop)
    assert (passage.owner.human, passage.owner.agent) == (LEAD.uri, "triage")
    asked = {name: value for name, value in world.policy.asked[0].items() if name in passage.who}
    assert json.loads(json.dumps(asked)) == passage.who
    assert passage.who


def test_the_tools_of_a_narrow_credential_go_along() -> None:
    """A token with authorization details is for these tools of this service, and for nothing else there."""
    world = World()
    _guarded(world)
    run = world.run("triage")
    details = (
        Detail(TICKETS, "read_ticket", limits=()),
        Detail(TICKETS, "read_ticket", arguments_sha256="0" * 64),
        Detail("https://billing.mesh.example", "read_invoice"),
    )
    response = world.check(world.request(world.token(run, details=details), run))
    passage = Passage.parse(_passage_text(response))
    assert passage.tools == ("read_ticket",)
    assert passage.may_name("tool", "read_ticket")
    assert not passage.may_name("tool", "read_invoice")
    assert not passage.may_name("resource", "read_ticket")
    assert Passage.parse(passage.encode()) == passage


def test_a_credential_without_details_may_name_all() -> None:
    _, _, passage = _passed(World())
    assert passage.tools is None
    assert passage.may_name("prompt", "anything")


def test_what_is_written_is_what_is_read() -> None:
    world = World()
    _, _, passage = _passed(world)
    assert Passage.parse(passage.encode()) == passage


def test_the_whole_answer_is_asked_for_as_it_is() -> None:
    world = World()
    _guarded(world)
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert set(response.ok_response.headers_to_remove) >= UNCACHED


def test_an_answer_that_nobody_guards_is_left_alone() -> None:
    world = World()
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert "passage" not in response.dynamic_metadata.fields
    assert not UNCACHED & set(response.ok_response.headers_to_remove)


def test_an_answer_from_outside_is_guarded_too() -> None:
    world = World()
    _guarded(world, txn="none")
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert Passage.parse(_passage_text(response)).service == "tickets"
    assert set(response.ok_response.headers_to_remove) >= UNCACHED


def test_a_denial_has_no_passage() -> None:
    world = World()
    _guarded(world)
    world.policy.answer = DENY
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert reason(response) == "DPT-AGENT-TIER"
    assert "passage" not in response.dynamic_metadata.fields


TAKEN: list[tuple[Kind, Callable[[Run, Run], str], Code]] = [
    ("token", lambda _, __: "j" * 22, Code.REVOKED),
    ("token", lambda _, __: PARENT, Code.REVOKED),
    ("txn", lambda _, __: "t" * 22, Code.REVOKED),
    ("grant", lambda _, __: GRANT, Code.REVOKED),
    ("task", lambda presenter, _: presenter.task.id, Code.REVOKED),
    ("task", lambda _, delegator: delegator.task.id, Code.REVOKED),
    ("agent", lambda presenter, _: presenter.agent, Code.CONTAINED),
    ("agent", lambda _, delegator: delegator.agent, Code.CONTAINED),
    ("workload", lambda _, __: str(RUNNER), Code.CONTAINED),
    ("human", lambda _, __: LEAD.uri, Code.CONTAINED),
]


def test_each_kind_of_withdrawal_is_here() -> None:
    assert {kind for kind, _, _ in TAKEN} == KINDS


@pytest.mark.parametrize(("kind", "name", "code"), TAKEN)
def test_whatever_is_withdrawn_ends_the_answer(
    kind: Kind, name: Callable[[Run, Run], str], code: Code
) -> None:
    world = World()
    presenter, delegator, passage = _passed(world)
    require_standing(passage, world.rights, NOW)
    taken = Withdrawal(kind, name(presenter, delegator), None, "why", "who", NOW)
    world.rights.withdrawals = Withdrawals.of([taken])
    with pytest.raises(AuthenticationError) as refusal:
        require_standing(passage, world.rights, NOW)
    assert refusal.value.code == code


def test_the_workload_of_a_run_behind_the_presenter_counts_too() -> None:
    """Its credential does not name it; the registry does."""
    world = World()
    _, delegator, passage = _passed(world)
    elsewhere = replace(RUNNER, path="/ns/agents/sa/elsewhere")
    world.rights.tasks[delegator.task.id] = replace(delegator.task, workload=elsewhere)
    taken = Withdrawal("workload", str(elsewhere), None, "why", "who", NOW)
    world.rights.withdrawals = Withdrawals.of([taken])
    with pytest.raises(AuthenticationError) as refusal:
        require_standing(passage, world.rights, NOW)
    assert refusal.value.code == Code.CONTAINED


def test_what_is_withdrawn_of_others_ends_nobody_elses_answer() -> None:
    world = World()
    _, _, passage = _passed(world)
    other = Human.parse(LEAD.issuer, "another")
    world.rights.withdrawals = Withdrawals.of([Withdrawal("human", other.uri, None, "why", "who", NOW)])
    require_standing(passage, world.rights, NOW)


@pytest.mark.parametrize("which", [0, 1])
def test_the_end_of_a_run_ends_the_answer(which: int) -> None:
    world = World()
    presenter, delegator, passage = _passed(world)
    run = (presenter, delegator)[which]
    world.rights.tasks[run.task.id] = replace(run.task, ended_at=NOW)
    with pytest.raises(AuthenticationError) as refusal:
        require_standing(passage, world.rights, NOW)
    assert refusal.value.code == Code.TASK_ENDED


def test_the_deadline_of_a_run_ends_the_answer() -> None:
    world = World()
    _, _, passage = _passed(world)
    with pytest.raises(AuthenticationError) as refusal:
        require_standing(passage, world.rights, NOW + timedelta(hours=1))
    assert refusal.value.code == Code.TASK_ENDED


def test_an_agent_that_is_retired_gets_no_more() -> None:
    world = World()
    _, delegator, passage = _passed(world)
    del world.rights.agents[delegator.agent]
    with pytest.raises(AuthenticationError) as refusal:
        require_standing(passage, world.rights, NOW)
    assert refusal.value.code == Code.AGENT_UNKNOWN


def _changed(text: str, path: tuple[str | int, ...], value: object) -> str:
    document = json.loads(text)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(document)


WRONG: list[tuple[tuple[str | int, ...], object]] = [
    (("more",), 1),
    (("decision_id",), ""),
    (("service",), 7),
    (("protocol",), "ftp"),
    (("phase",), "later"),
    (("rpc_id",), 1.5),
    (("rpc_id",), ""),
    (("rpc_id",), {}),
    (("method",), None),
    (("who",), []),
    (("tools",), "read_ticket"),
    (("tools",), [1]),
    (("standing",), []),
    (("standing", "more"), 1),
    (("standing", "human"), 7),
    (("standing", "human"), "nobody"),
    (("standing", "agents"), []),
    (("standing", "agents"), "triage"),
    (("standing", "tasks"), []),
    (("standing", "tasks"), [1]),
    (("standing", "issued_at"), True),
    (("runs",), [{}]),
    (("runs", 0, "more"), 1),
    (("runs", 0, "agent"), 1),
    (("runs",), 7),
    (("ends_at",), "soon"),
    (("ends_at",), True),
    (("ends_at",), 1 << 52),
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_what_is_no_passage_is_refused(path: tuple[str | int, ...], value: object) -> None:
    _, _, passage = _passed(World())
    with pytest.raises(AnswerError) as refusal:
        Passage.parse(_changed(passage.encode(), path, value))
    assert refusal.value.code == Code.PASSAGE_MISSING


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "{", '{"a":1,"a":2}', " " * (MAX_BYTES + 1), "\ud800"]
)
def test_what_is_no_json_of_ours_is_refused(text: str) -> None:
    with pytest.raises(AnswerError) as refusal:
        Passage.parse(text)
    assert refusal.value.code == Code.PASSAGE_MISSING


def test_a_passage_shows_nothing_of_the_person_in_a_log() -> None:
    _, _, passage = _passed(World())
    assert LEAD.subject not in repr(passage)


def test_a_run_of_another_domain_is_known_by_its_end() -> None:
    """Nobody here can end it, so there is no run to look up; the end of its SVID counts."""
    _, _, passage = _passed(World())
    foreign = replace(
        passage,
        runs=(),
        standing=replace(passage.standing, agents=("triage",), human=None),
        ends_at=int(NOW.timestamp()) + 60,
    )
    world = World()
    require_standing(foreign, world.rights, NOW)
    with pytest.raises(AuthenticationError):
        require_standing(foreign, world.rights, NOW + timedelta(seconds=60))


def test_the_largest_caller_fits() -> None:
    """A chain, sixty-four long groups, a long subject: what authentication lets through can be written."""
    world = World()
    _guarded(world)
    groups = tuple(f"{number:064d}" for number in range(64))
    lead = Human.parse(LEAD.issuer, "s" * 255, groups)
    names = [f"agent-{number}" for number in range(4)]
    for name in names:
        world.rights.agents[name] = replace(world.rights.agents["triage"], name=name)
    runs = [world.run(name, human=lead) for name in names]
    response = world.check(world.request(world.token(*runs, human=lead), runs[0]), GATEWAY)
    assert len(Passage.parse(_passage_text(response)).runs) == len(names)
