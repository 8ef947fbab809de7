"""Who may administer: every actor at every action and target, and the attacks on being somebody else."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from authz.admin import Action, Actor, AdminRequest, Permit, admin_query, decide_admin
from authz.decision import Deny
from authz.errors import PolicyUnavailableError
from authz.form import Form
from authz.policy.port import Query
from authz.policy.verdict import Reason, Verdict
from identity.caller import Agent, Human, OidcClient
from identity.errors import HumanError
from identity.spiffe import SpiffeId
from tests.admin_world import (
    AGENT,
    CLIENT,
    EXPIRY,
    ISSUER,
    OTHER_CLIENT,
    OTHER_HOST,
    RUNNER,
    Asked,
    ask,
    change,
    person,
    uri,
    workload,
)

ACTORS: dict[str, Actor] = {
    "local": Actor.of_local(1000),
    "oper": person("olga"),
    "group": person("gus", "platform"),
    "ci": workload("ns/ci/sa/deploy"),
    "owner": person("oona"),
    "op-own": person("omar"),
    "sponsor": person("sid"),
    "audit": person("ada"),
    "a-group": person("abe", "audit"),
    "signals": workload("ns/idp/sa/signals"),
    "person": person("pat"),
    "runner": Actor.of_workload(RUNNER),
}
# One row for each action and target, one column for each actor above; Y: permitted.
TABLE = """
                             local oper group ci owner op-own sponsor audit a-group signals person runner
agents/list all                Y    Y    Y    Y    -     Y      -      Y      Y       -      -      -
agents/list agent              Y    Y    Y    Y    Y     Y      -      Y      Y       -      -      -
agents/register new            Y    Y    Y    Y    -     Y      -      -      -       -      -      -
agents/register for-oneself    Y    Y    Y    Y    -     Y      -      -      -       -      -      -
agents/register again          Y    Y    Y    Y    -     Y      -      -      -       -      -      -
agents/register again-higher   Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change nothing          Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/change purpose          Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/change sponsor          Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/change sooner           Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/change shallower        Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/change lower            Y    Y    Y    Y    -     Y      -      -      -       -      -      -
agents/change fewer-hosts      Y    Y    Y    Y    -     Y      -      -      -       -      -      -
agents/change fewer-clients    Y    Y    Y    Y    -     Y      -      -      -       -      -      -
agents/change higher           Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change sideways         Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change unknown-tier     Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change autonomous       Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change more-hosts       Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change other-host       Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change more-clients     Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change deeper           Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change later            Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change never-ends       Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change no-sandbox       Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change other-sandbox    Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change hand-over        Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/change take-over        Y    -    -    Y    Y     Y      -      -      -       -      -      -
agents/retire agent            Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/contain agent           Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/contain own-again       Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/contain another's       Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/release own             Y    Y    Y    Y    Y     Y      -      -      -       -      -      -
agents/release another's       Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/release nobody's        Y    Y    Y    Y    -     -      -      -      -       -      -      -
agents/contain unknown         Y    Y    Y    Y    -     Y      -      -      -       -      -      -
grants/list self               Y    Y    Y    Y    Y     Y      Y      Y      Y       -      Y      -
grants/list other              Y    Y    Y    Y    -     Y      -      Y      Y       -      -      -
grants/list all                Y    Y    Y    Y    -     Y      -      Y      Y       -      -      -
grants/create self             -    Y    Y    -    Y     Y      Y      Y      Y       -      Y      -
grants/create other            -    -    -    -    -     -      -      -      -       -      -      -
grants/create all              -    -    -    -    -     -      -      -      -       -      -      -
grants/revoke self             Y    Y    Y    Y    Y     Y      Y      Y      Y       -      Y      -
grants/revoke other            Y    Y    Y    Y    -     Y      -      -      -       -      -      -
tokens/revoke self             Y    Y    Y    Y    Y     Y      Y      Y      Y       -      Y      -
tokens/revoke other            Y    Y    Y    Y    -     Y      -      -      -       -      -      -
tokens/revoke all              Y    Y    Y    Y    -     Y      -      -      -       -      -      -
approvals/list self            Y    Y    Y    Y    Y     Y      Y      Y      Y       -      Y      -
approvals/list other           Y    Y    Y    Y    -     Y      -      Y      Y       -      -      -
approvals/list all             Y    Y    Y    Y    -     Y      -      Y      Y       -      -      -
approvals/show self            Y    Y    Y    Y    Y     Y      Y      Y      Y       -      Y      -
approvals/show other           Y    Y    Y    Y    -     Y      -      -      -       -      -      -
approvals/show nobody's        Y    Y    Y    Y    -     Y      -      -      -       -      -      -
approvals/approve self         Y    Y    Y    -    Y     Y      Y      Y      Y       -      Y      -
approvals/approve other        Y    Y    Y    -    -     -      -      -      -       -      -      -
approvals/approve nobody's     Y    Y    Y    -    -     -      -      -      -       -      -      -
approvals/deny self            Y    Y    Y    Y    Y     Y      Y      Y      Y       -      Y      -
approvals/deny other           Y    Y    Y    Y    -     Y      -      -      -       -      -      -
approvals/deny nobody's        Y    Y    Y    Y    -     Y      -      -      -       -      -      -
people/contain self            Y    Y    Y    Y    Y     Y      Y      Y      Y       -      Y      -
people/contain self-another's  Y    -    -    Y    -     -      -      -      -       -      -      -
people/contain other           Y    Y    Y    Y    -     Y      -      -      -       -      -      -
people/release self            Y    -    -    Y    -     -      -      -      -       -      -      -
people/release other           Y    Y    Y    Y    -     Y      -      -      -       -      -      -
workloads/contain self         Y    Y    Y    Y    -     Y      -      -      -       -      -      -
workloads/contain self-another's Y  Y    Y    -    -     Y      -      -      -       -      -      -
workloads/contain other        Y    Y    Y    Y    -     Y      -      -      -       -      -      -
workloads/release self         Y    Y    Y    -    -     Y      -      -      -       -      -      -
workloads/release other        Y    Y    Y    Y    -     Y      -      -      -       -      -      -
pins/list all                  Y    Y    Y    Y    -     Y      -      Y      Y       -      -      -
pins/show tool                 Y    Y    Y    Y    -     Y      -      Y      Y       -      -      -
pins/accept tool               Y    Y    Y    Y    -     Y      -      -      -       -      -      -
pins/forget tool               Y    Y    Y    Y    -     Y      -      -      -       -      -      -
epochs/show all                Y    Y    Y    Y    -     Y      -      -      -       -      -      -
policy/reload all              Y    Y    Y    Y    -     Y      -      -      -       -      -      -
events/receive all             Y    Y    Y    Y    -     Y      -      -      -       Y      -      -
"""
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "purpose": {"purpose": "reads and closes tickets"},
    "sponsor": {"sponsor": uri("another")},
    "sooner": {"expires_at": EXPIRY - timedelta(seconds=1)},
    "shallower": {"max_depth": 3},
    "lower": {"ceiling": "observer"},
    "fewer-hosts": {"hosts": frozenset()},
    "fewer-clients": {"clients": frozenset()},
    "higher": {"ceiling": "contributor"},
    "sideways": {"ceiling": "cleaner"},
    "unknown-tier": {"ceiling": "a tier of tomorrow"},
    "autonomous": {"autonomous": True},
    "more-hosts": {"hosts": frozenset({RUNNER, OTHER_HOST})},
    "other-host": {"hosts": frozenset({OTHER_HOST})},
    "more-clients": {"clients": frozenset({CLIENT, OTHER_CLIENT})},
    "deeper": {"max_depth": 5},
    "later": {"expires_at": EXPIRY + timedelta(microseconds=1)},
    "never-ends": {"expires_at": None},
    "no-sandbox": {"sandbox": None},
    "other-sandbox": {"sandbox": "kata"},
    "hand-over": {"owner": uri("accomplice")},
}


def _cells() -> Iterator[tuple[str, Action, str, bool]]:
    head, *rows = TABLE.strip("\n").splitlines()
    for row in rows:
        action, target, *marks = row.split()
        assert set(marks) <= {"Y", "-"}
        for actor, mark in zip(head.split(), marks, strict=True):
            yield actor, action, target, mark == "Y"  # type: ignore[misc]  # an unknown action is seen below


CELLS = list(_cells())


def _agent_of(name: str) -> Agent:
    """The agent is the owner's; for the operator who owns one it is theirs."""
    return replace(AGENT, owner=uri("omar")) if name == "op-own" else AGENT


ANOTHERS = {"contained_by": uri("somebody")}


def _agent_target(actor: Actor, agent: Agent, target: str) -> dict[str, Any]:
    now: dict[str, Any] = {"agent": agent}
    changed: dict[str, dict[str, Any]] = {
        name: {**now, "proposed": replace(agent, **parts)} for name, parts in CHANGES.items()
    }
    return {
        "new": {"proposed": replace(agent, owner=uri("oona"))},
        "for-oneself": {"proposed": replace(agent, owner=actor.id)},
        "again": {**now, "proposed": agent},
        "again-higher": changed["higher"],
        **changed,
        "take-over": {**now, "proposed": replace(agent, owner=actor.id)},  # no change where they own it
        "agent": now,
        "own": {**now, "contained_by": actor.id},
        "own-again": {**now, "contained_by": actor.id},
        "another's": {**now, **ANOTHERS},
        "nobody's": now,
        "unknown": {},
    }[target]


def _target(name: str, action: Action, target: str) -> dict[str, Any]:
    actor = ACTORS[name]
    if target == "all":
        return {}
    if target == "tool":
        return {"id": "billing/delete_customer"}
    if action.startswith("agents/"):
        return _agent_target(actor, _agent_of(name), target)
    kind, unlike, other = ("human", uri("pat"), uri("another"))
    if action.startswith("approvals/"):
        whose = {"self": actor.id if actor.kind == kind else unlike, "other": other, "nobody's": None}[target]
        return {"human": whose, "agent": _agent_of(name), "id": "01JD8Z7Y3M5E0QX2V9T4B6N8KA"}
    if action.startswith("workloads/"):
        kind, unlike, other = ("workload", str(RUNNER), str(OTHER_HOST))
    who = {"self": actor.id if actor.kind == kind else unlike, "other": other}
    named = {word: {kind: SpiffeId.parse(x) if kind == "workload" else x} for word, x in who.items()}
    return {**named, "self-another's": {**named["self"], **ANOTHERS}}[target]


@pytest.mark.parametrize(("actor", "action", "target", "expected"), CELLS)
def test_every_cell(actor: str, action: Action, target: str, *, expected: bool) -> None:
    asked = ask(ACTORS[actor], action, **_target(actor, action, target))

    assert asked.allowed == expected
    if not asked.allowed:
        assert isinstance(asked.answer, Deny)
        assert (asked.answer.code, asked.answer.codes) == ("DPT-NOT-PERMITTED", ("DPT-NOT-PERMITTED",))


def test_the_table_is_complete() -> None:
    assert {action for _, action, _, _ in CELLS} == set(get_args(Action))
    assert {actor for actor, *_ in CELLS} == set(ACTORS)
    assert {target for _, action, target, _ in CELLS if action == "agents/change"} == {*CHANGES, "take-over"}


# ---- reasons


def _said(asked: Asked) -> tuple[str, str]:
    assert isinstance(asked.answer, Deny)
    return asked.answer.rule, asked.answer.message


def test_an_owner_reads_what_they_would_raise() -> None:
    asked = change(person("oona"), ceiling="contributor", hosts=AGENT.hosts | {OTHER_HOST}, autonomous=True)

    assert _said(asked) == (
        "owner_may",
        "an owner does not raise an agent of their own: autonomous, ceiling, hosts",
    )


def test_an_owner_reads_what_even_lowered_is_not_theirs_to_change() -> None:
    assert _said(change(person("oona"), hosts=frozenset())) == (
        "owner_may",
        "an owner does not change this of an agent of their own: hosts",
    )


def test_four_eyes_an_operator_who_owns_the_agent_is_told_to_ask_another() -> None:
    asked = change(person("omar"), replace(AGENT, owner=uri("omar")), ceiling="contributor")

    assert _said(asked) == (
        "raises_own",
        "who owns an agent does not raise it, nor makes it their own: ceiling",
    )
    assert isinstance(asked.answer, Deny)
    assert asked.answer.fix == "ask another operator, who does not own the agent"


def test_an_agent_cannot_be_raised_and_taken_over_in_one_change() -> None:
    asked = change(person("olga"), ceiling="contributor", owner=uri("olga"))

    assert _said(asked)[0] == "raises_own"
    assert "ceiling, owner" in _said(asked)[1]


def test_an_agent_cannot_be_given_away_to_be_raised_and_taken_back() -> None:
    omars = replace(AGENT, owner=uri("omar"))

    assert not change(person("omar"), omars, owner=uri("accomplice")).allowed
    assert not change(person("omar"), replace(AGENT, owner=uri("accomplice")), owner=uri("omar")).allowed


def test_an_operator_by_group_who_owns_the_agent_does_not_raise_it_either() -> None:
    gus = person("gus", "platform")

    assert not change(gus, replace(AGENT, owner=uri("gus")), max_depth=8).allowed
    assert change(gus, max_depth=8).allowed


def test_a_name_that_was_retired_is_no_new_one() -> None:
    retired = replace(AGENT, owner=uri("omar"), expires_at=EXPIRY)
    again = replace(retired, hosts=AGENT.hosts | {OTHER_HOST})

    assert not ask(person("omar"), "agents/register", agent=retired, proposed=again).allowed
    assert ask(person("olga"), "agents/register", agent=retired, proposed=again).allowed


def test_what_another_contained_is_not_contained_over_to_be_released() -> None:
    """Else the containment would carry the owner's name, and be theirs to release."""
    omars = replace(AGENT, owner=uri("omar"))
    for actor, agent in ((person("oona"), AGENT), (person("omar"), omars)):
        asked = ask(actor, "agents/contain", agent=agent, contained_by=uri("olga"))
        assert not asked.allowed
        assert _said(asked)[0] in {"owner_may", "releases_own"}


def test_four_eyes_who_owns_the_agent_reads_who_approves_instead() -> None:
    target = {"agent": replace(AGENT, owner=uri("omar")), "human": uri("pat"), "id": "01"}
    assert _said(ask(person("omar"), "approvals/approve", **target)) == (
        "approves_own",
        "who owns an agent does not approve what it asks for in another's name",
    )
    assert ask(person("omar"), "approvals/deny", **target).allowed


def test_no_workload_approves_whatever_its_role() -> None:
    target = {"agent": AGENT, "human": uri("pat"), "id": "01"}
    asked = ask(workload("ns/ci/sa/deploy"), "approvals/approve", **target)
    assert _said(asked) == ("approves_unseen", "a call is approved by a person, and by no workload")


def test_nobody_approves_for_an_agent_that_is_not_there() -> None:
    """Who owned it cannot be seen any more; what it asked for ended with it."""
    asked = ask(person("omar"), "approvals/approve", human=uri("pat"), id="01")
    assert isinstance(asked.answer, Deny)
    assert asked.answer.code == "DPT-POLICY-SHAPE"


def test_only_the_person_makes_a_grant_in_their_name() -> None:
    for actor in (Actor.of_local(0), person("olga"), workload("ns/ci/sa/deploy")):
        asked = ask(actor, "grants/create", human=uri("pat"))
        assert _said(asked)[0] == "is_self"


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"agent": AGENT},
        {"proposed": AGENT},
        {"agent": AGENT, "proposed": replace(AGENT, name="another")},
    ],
)
def test_a_change_is_of_one_agent_with_one_name(target: dict[str, Any]) -> None:
    for actor in (Actor.of_local(0), person("olga"), person("oona")):
        answer = ask(actor, "agents/change", **target).answer
        assert isinstance(answer, Deny)
        assert answer.code == "DPT-POLICY-SHAPE"


# ---- attacks


@pytest.mark.parametrize(
    "owner",
    [
        "oona",
        "#oona",
        ISSUER,
        f"{ISSUER}#",
        f"{ISSUER}/#oona",
        f"{ISSUER}#oona ",
        f" {ISSUER}#oona",
        f"{ISSUER}#oona\n",
        f"{ISSUER}#Oona",
        f"{ISSUER}#OONA",
        f"{ISSUER}#oon",
        f"{ISSUER}#oonaa",
        f"{ISSUER}#oona,{ISSUER}#pat",
        f"{ISSUER}#*",
        "*",
        "https://IDP.example#oona",
        "https://idp.example:443#oona",
        "https://idp.other#oona",
        f"{ISSUER}#\u043e\u043ena",
        f"{ISSUER}#oona\u200b",
        f"{ISSUER}%23oona",
    ],
)
def test_a_look_alike_of_the_owner_owns_nothing(owner: str) -> None:
    agent = replace(AGENT, owner=owner)

    assert not ask(person("oona"), "agents/retire", agent=agent).allowed
    assert not ask(person("oona"), "agents/contain", agent=agent).allowed
    assert not change(person("oona"), agent, max_depth=1).allowed


@pytest.mark.parametrize(
    "name", ["Olga", "olga.", "olg", "olgaa", "OLGA", "%6Flga", "olga#", "#olga", "olga/", "olga?"]
)
def test_a_look_alike_of_an_operator_is_none(name: str) -> None:
    assert not ask(person(name), "policy/reload").allowed


def test_the_same_subject_at_another_issuer_is_another_person() -> None:
    for issuer in ("https://idp.other", "https://idp.example/olga", "https://idp.example.other"):
        actor = Actor.of_human(Human.parse(issuer, "olga"))
        assert not ask(actor, "policy/reload").allowed
        assert not ask(actor, "grants/list", human=uri("olga")).allowed


def test_a_person_cannot_be_named_with_a_space_or_a_line_end() -> None:
    for subject in ("olga ", " olga", "olga\n", "olg\u0430", ""):
        with pytest.raises(HumanError):
            person(subject)


@pytest.mark.parametrize(
    "group",
    [
        uri("olga"),
        "https://idp.example#olga",
        "olga",
        "spiffe://mesh.example/ns/ci/sa/deploy",
        "Platform",
        "platform ",
        "operators",
        "people",
        "*",
        "uid:0",
    ],
)
def test_a_group_named_like_somebody_else_is_nobody(group: str) -> None:
    assert not ask(person("pat", group), "policy/reload").allowed
    assert not ask(person("pat", group), "agents/list").allowed


def test_groups_of_what_is_no_person_do_not_count() -> None:
    """No such actor can be made; the policy does not rely on it."""
    for actor in (
        Actor("workload", str(RUNNER), ("platform",)),
        Actor("workload", uri("olga")),
        Actor("human", "spiffe://mesh.example/ns/ci/sa/deploy"),
        Actor("workload", "uid:0"),
        Actor("human", "uid:0"),
    ):
        assert not ask(actor, "policy/reload").allowed


def test_an_owner_that_is_a_workload_or_a_user_id_is_no_owner() -> None:
    """A person owns; what a process is called in the registry gives it no rights."""
    runner = Actor.of_workload(RUNNER)

    assert not ask(runner, "agents/retire", agent=replace(AGENT, owner=runner.id)).allowed
    assert not ask(runner, "agents/release", agent=AGENT, contained_by=runner.id).allowed
    assert not ask(runner, "agents/contain", agent=replace(AGENT, owner=runner.id)).allowed


def test_a_sponsor_who_shares_a_group_with_operators_by_another_name_gets_nothing() -> None:
    asked = ask(person("sid", "sponsors"), "agents/retire", agent=AGENT)

    assert _said(asked) == ("permitted", "you may not administer this")


def test_an_auditor_cannot_write_and_a_transmitter_cannot_read() -> None:
    assert not ask(person("ada"), "epochs/show").allowed
    assert not ask(workload("ns/idp/sa/signals"), "agents/list").allowed


# ---- the question


def _query(before: datetime | None, after: datetime | None) -> tuple[object, object]:
    request = AdminRequest(
        "agents/change", agent=replace(AGENT, expires_at=before), proposed=replace(AGENT, expires_at=after)
    )
    target: Any = admin_query(person("oona"), request)["target"]
    return target["agent"]["expires_at"], target["proposed"]["expires_at"]


def test_a_part_of_a_second_never_makes_a_later_expiry_look_like_the_same() -> None:
    early, late = (datetime(2027, 1, 1, 0, 0, 0, part, UTC) for part in (1, 2))
    second = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())

    assert _query(early, early) == (second, second)
    assert _query(early, late) == (second, second + 1)
    assert not change(person("oona"), replace(AGENT, expires_at=early), expires_at=late).allowed
    assert _query(None, late) == (None, second + 1)
    assert _query(late, None) == (second, None)


def test_the_question_lists_hosts_and_clients_in_one_order() -> None:
    hosts, clients = frozenset({RUNNER, OTHER_HOST}), frozenset({CLIENT, OTHER_CLIENT, OidcClient("a", "b")})
    target: Any = admin_query(
        person("oona"), AdminRequest("agents/list", agent=replace(AGENT, hosts=hosts, clients=clients))
    )["target"]

    assert target["agent"]["hosts"] == sorted(map(str, hosts))
    assert [(one["issuer"], one["client_id"]) for one in target["agent"]["clients"]] == [
        ("a", "b"),
        (ISSUER, "desk"),
        (ISSUER, "other"),
    ]


# ---- the answer


class _Says:
    """A policy that says one thing."""

    revision = "r"

    def __init__(self, verdict: Verdict | None) -> None:
        self._verdict = verdict

    def payload_classes(self, service: str) -> frozenset[str]:
        raise AssertionError(f"no call was made to {service}")

    async def decide(self, query: Query) -> Verdict:
        assert query["version"] == "deputy.admin/v1"
        if self._verdict is None:
            raise PolicyUnavailableError("it is away")
        return self._verdict

    async def visible(self, query: Query) -> frozenset[str]:
        raise AssertionError(f"no list was answered: {query}")


def _decided(verdict: Verdict | None) -> Permit | Deny:
    return asyncio.run(decide_admin(_Says(verdict), person("olga"), AdminRequest("policy/reload")))


def test_a_permit_says_who_may_do_what_by_which_policy() -> None:
    permit = _decided(Verdict("allow", revision="r"))

    assert permit
    assert isinstance(permit, Permit)
    assert (permit.actor.id, permit.request.action, permit.revision) == (uri("olga"), "policy/reload", "r")
    with pytest.raises(AttributeError):
        permit.actor = person("pat")  # type: ignore[misc]  # what is tested


def test_a_policy_that_does_not_answer_permits_nothing() -> None:
    answer = _decided(None)

    assert isinstance(answer, Deny)
    assert not answer
    assert (answer.code, answer.form, answer.revision) == ("DPT-POLICY-UNAVAILABLE", Form.UNAVAILABLE, "r")


def test_an_approval_is_no_permit() -> None:
    reason = Reason("DPT-APPROVAL-REQUIRED", "ask", "r", "ask", "agent")

    assert not _decided(Verdict("approve", (reason,)))


def test_an_obligation_that_nobody_fulfils_is_no_permit() -> None:
    answer = _decided(Verdict("allow", obligations={"scopes": ("a:read",)}))

    assert isinstance(answer, Deny)
    assert answer.code == "DPT-POLICY-SHAPE"
