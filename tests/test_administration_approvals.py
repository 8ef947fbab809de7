"""Calls that wait for a person, over HTTP: who sees them, who decides, and what nobody learns."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from authz.codes import Code
from authz.errors import ApprovalError
from identity.names import new_ulid
from identity.spiffe import agent_task_id
from tests.admin_world import uri
from tests.administration_world import (
    ADA,
    ALICE,
    DEPLOY,
    LOCAL,
    NOBODY,
    OLGA,
    OONA,
    PLATFORM,
    Person,
    Play,
    Who,
    World,
    play_in,
)
from tests.approvals_world import ASKED, asked
from tests.broker_fakes import CLIENT, SETTINGS
from tests.test_administration import no, ok

UNKNOWN = "01JD8Z7Y3M5E0QX2V9T4B6N8KZ"


@pytest.fixture
def play(tmp_path: Path) -> Play:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return play_in(directory)


async def approve(world: World, who: Who, approval: str, **body: object) -> httpx2.Response:
    return await world.post(who, f"/approvals/{approval}/approve", body)


async def deny(world: World, who: Who, approval: str, **body: object) -> httpx2.Response:
    return await world.post(who, f"/approvals/{approval}/deny", body)


def spend(world: World, of: Any = ASKED) -> object:
    key = replace(of.key, revision=world.policy.revision)
    return world.approvals.spend(key, world.brokers.clock.now, "")


def ids(answer: Any) -> list[str]:
    return [each["id"] for each in answer["approvals"]]


# ---------------------------------------------------------------- CA-06


def test_ca06_a_person_sees_exactly_what_they_approve_and_that_alone_passes(play: Play) -> None:
    """CA-06: what is shown is what is granted, to the letter, once, and for a short time."""

    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        shown = ok(await world.get(ALICE, f"/approvals/{approval}"))
        key = ASKED.key
        assert shown["arguments"] == {"customer": "C-1"}
        assert shown["arguments_sha256"] == key.arguments_sha256
        told = ("human", "agent", "task", "service", "action", "resource")
        assert [shown[name] for name in told] == [getattr(key, name) for name in told]
        assert (shown["via"], shown["policy"], shown["state"]) == (
            ["triage"],
            world.policy.revision,
            "pending",
        )
        approved = ok(await approve(world, ALICE, approval))
        assert (approved["state"], approved["decided_by"]) == ("approved", uri("alice"))
        assert spend(world, asked('{"customer":"C-2"}')) is None
        assert spend(world) is not None
        assert spend(world) is None

    play(scenario)


def test_ca06_an_agent_approves_nothing(play: Play) -> None:
    """CA-06: the approver is not the agent, by its certificate, its token, or a sign-in handed to it."""

    async def scenario(world: World) -> None:
        await world.register()
        approval = world.ask(ASKED)
        now = world.brokers.clock.now
        agent = world.workload(
            agent_task_id(world.brokers.broker.trust_domain, "listed", new_ulid(now, bytes(10)))
        )
        no(await approve(world, agent, approval), 403, Code.NOT_PERMITTED)
        no(await approve(world, Person("alice", claims={"aud": CLIENT}), approval), 403, Code.NOT_PERMITTED)
        no(
            await approve(world, Person("alice", claims={"act": {"sub": "listed"}}), approval),
            401,
            Code.TOKEN_CLAIMS,
        )
        no(await approve(world, NOBODY, approval), 401, Code.PEER_MISSING)
        assert spend(world) is None

    play(scenario)


def test_ca06_who_was_denied_stays_denied(play: Play) -> None:
    """CA-06 (`access_denied`): a denial is an answer, and is kept from being asked away."""

    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        denied = ok(await deny(world, ALICE, approval))
        assert (denied["state"], denied["reason"]) == ("denied", None)
        assert spend(world) is None

        with pytest.raises(ApprovalError) as refused:
            world.ask(ASKED)
        assert refused.value.code is Code.APPROVAL_DENIED
        no(await approve(world, ALICE, approval), 409, Code.CHANGED)

    play(scenario)


# ---------------------------------------------------------------- who


def test_an_operator_approves_what_is_not_their_agents(play: Play) -> None:
    async def scenario(world: World) -> None:
        for who in (OLGA, PLATFORM, LOCAL):
            ok(await approve(world, who, world.ask(ASKED), reason="asked on the telephone"))
            assert world.last["reason"] == "asked on the telephone"
            assert spend(world)
        await world.register(owner=uri("olga"))
        of = asked(agent="travel")
        approval = world.ask(of)
        said = no(await approve(world, OLGA, approval), 403, Code.NOT_PERMITTED)
        assert said["fix"] == "let the person whom it acts for decide, or another operator"
        assert spend(world, of) is None
        ok(await approve(world, ALICE, approval))
        assert spend(world, of)

    play(scenario)


def test_four_eyes_who_owns_an_agent_that_handed_the_work_on_does_not_approve(play: Play) -> None:
    """An agent of one's own would have another one ask."""

    async def scenario(world: World) -> None:
        await world.register(owner=uri("olga"))
        of = asked(via=("elsewhere", "travel"))
        approval = world.ask(of)
        no(await approve(world, OLGA, approval), 403, Code.NOT_PERMITTED)
        assert spend(world, of) is None
        ok(await approve(world, PLATFORM, approval))
        assert spend(world, of)

    play(scenario)


def test_what_an_agent_asks_for_nobody_is_an_operators_to_decide(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(asked(human=None))
        for who in (ALICE, OONA, ADA):
            no(await approve(world, who, approval), 403, Code.NOT_PERMITTED)
        ok(await approve(world, OLGA, approval))
        assert "human" not in world.last or world.last["human"] is None

    play(scenario)


def test_no_pipeline_approves(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        said = no(await approve(world, world.workload(DEPLOY), approval), 403, Code.NOT_PERMITTED)
        assert said["fix"] == "let the person whom it acts for decide, or an operator who signs in"
        ok(await deny(world, world.workload(DEPLOY), approval, reason="a freeze"))

    play(scenario)


def test_nobody_learns_of_requests_that_they_may_not_see(play: Play) -> None:
    """Neither that there is one, nor that there is none: the answers are the same."""

    async def scenario(world: World) -> None:
        await world.register()
        there = world.ask(asked(agent="travel", human=uri("olga")))
        for who in (ALICE, OONA):
            answers = []
            for approval in (there, UNKNOWN, "no-ulid"):
                for send in (
                    world.get(who, f"/approvals/{approval}"),
                    approve(world, who, approval),
                    deny(world, who, approval, reason="no"),
                ):
                    body = no(await send, 403, Code.NOT_PERMITTED)
                    answers.append((body["error"], body["fix"]))
            assert len(set(answers)) == 1, who
        no(await world.get(OLGA, f"/approvals/{UNKNOWN}"), 400, Code.REQUEST_MALFORMED)

    play(scenario)


def test_a_list_is_ones_own_unless_one_may_see_all(play: Play) -> None:
    async def scenario(world: World) -> None:
        mine, others = world.ask(ASKED), world.ask(asked(human=uri("olga")))
        assert ids(ok(await world.get(ALICE, "/approvals"))) == [mine]
        assert sorted(ids(ok(await world.get(LOCAL, "/approvals")))) == sorted([mine, others])
        assert len(ids(ok(await world.get(ADA, "/approvals", params={"human": "*"})))) == 2
        assert ids(ok(await world.get(ADA, "/approvals"))) == []
        no(await world.get(ALICE, "/approvals", params={"human": "*"}), 403, Code.NOT_PERMITTED)
        assert "C-1" not in (await world.get(LOCAL, "/approvals")).text
        # Arguments are personal: an auditor sees who asked for what, and not with which.
        no(await world.get(ADA, f"/approvals/{mine}"), 403, Code.NOT_PERMITTED)
        ok(await deny(world, ALICE, mine))
        assert ids(ok(await world.get(ALICE, "/approvals"))) == []
        assert ids(ok(await world.get(ALICE, "/approvals", params={"state": "denied"}))) == [mine]
        assert ids(ok(await world.get(ALICE, "/approvals", params={"state": "any"}))) == [mine]

    play(scenario)


@pytest.mark.parametrize("query", [{"state": "all"}, {"human": "alice"}, {"agent": "listed"}, {"state": ""}])
def test_refuses_a_list_of_what_there_is_not(play: Play, query: dict[str, str]) -> None:
    async def scenario(world: World) -> None:
        no(await world.get(LOCAL, "/approvals", params=query), 400, Code.REQUEST_MALFORMED)

    play(scenario)


# ---------------------------------------------------------------- the order and its record


def test_a_decision_is_recorded_before_it_counts_and_without_arguments(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        seen: list[object] = []
        world.sink.meanwhile = lambda: seen.append(spend(world))
        ok(await approve(world, ALICE, approval))
        assert seen == [None]
        record = world.last
        assert (record["kind"], record["action"], record["outcome"]) == (
            "admin",
            "approvals/approve",
            "ordered",
        )
        assert (record["subject"], record["by"]) == (f"approval {approval}", uri("alice"))
        assert record["agent"] == "listed"
        assert record["human"] == {"issuer": "https://idp.example", "subject": "alice"}
        assert world.sink.entries[-1].is_durable
        assert "C-1" not in str(world.records)

    play(scenario)


def test_who_denies_for_another_says_why(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        for body in ({}, {"reason": ""}, {"reason": " "}, {"reason": "a\nb"}, {"reason": 7}):
            no(await deny(world, OLGA, approval, **body), 400, Code.REQUEST_MALFORMED)
        no(await deny(world, ALICE, approval, why="no"), 400, Code.REQUEST_MALFORMED)
        ok(await deny(world, OLGA, approval, reason="not on a Friday"))
        assert world.last["reason"] == "not on a Friday"

    play(scenario)


def test_of_two_who_decide_at_once_one_is_told_that_it_is_over(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        answers = await asyncio.gather(*(approve(world, who, approval) for who in (ALICE, OLGA, LOCAL)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
        assert spend(world) is not None
        assert spend(world) is None
        failed = [record for record in world.records if record.get("outcome") == "failed"]
        assert len(failed) == 2

    play(scenario)


def test_what_was_approved_is_taken_back_until_it_is_used(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        ok(await approve(world, LOCAL, approval))
        ok(await deny(world, ALICE, approval))
        assert spend(world) is None
        no(await approve(world, LOCAL, approval), 409, Code.CHANGED)

    play(scenario)


def test_a_request_that_is_over_is_not_approved(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        world.brokers.clock.now += timedelta(seconds=600)
        no(await approve(world, LOCAL, approval), 409, Code.CHANGED)
        shown = ok(await world.get(LOCAL, f"/approvals/{approval}"))
        assert (shown["state"], shown["arguments"]) == ("expired", None)

    play(scenario)


def test_an_approval_is_for_the_policy_that_asked(play: Play) -> None:
    """By the old one it was to be approved; nobody knows what the new one says of it."""

    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        before = world.policy.revision
        world.policy.revision = "policy.newer"
        said = no(await approve(world, ALICE, approval), 409, Code.CHANGED)
        assert "let the agent ask again" in said["error"]
        world.policy.revision = before
        ok(await approve(world, ALICE, approval))

    play(scenario)


def test_four_eyes_an_agent_that_changes_hands_meanwhile_is_not_approved_for(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        approval = world.ask(asked(agent="travel"))
        now = world.brokers.clock.now

        def hand_over() -> None:
            agent = world.state.agent("travel")
            assert agent is not None
            world.state.change_agent(replace(agent, owner=uri("olga")), now)

        world.policy.meanwhile = hand_over
        no(await approve(world, OLGA, approval), 409, Code.CHANGED)
        no(await approve(world, OLGA, approval), 403, Code.NOT_PERMITTED)

    play(scenario)


def test_what_a_retired_agent_asked_for_is_denied_at_most(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        approval = world.ask(asked(agent="travel"))
        ok(await world.post(LOCAL, "/agents/travel/retire", {"reason": "over"}))
        said = no(await approve(world, LOCAL, approval), 400, Code.REQUEST_MALFORMED)
        assert "not registered any more" in said["error"]
        no(await approve(world, ALICE, approval), 403, Code.NOT_PERMITTED)
        ok(await deny(world, ALICE, approval))

    play(scenario)


def test_on_the_socket_what_waits_is_denied_where_the_policy_cannot_be_asked(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        world.policy.is_down = True
        no(await approve(world, LOCAL, approval), 503, Code.POLICY_UNAVAILABLE)
        no(await deny(world, ALICE, approval), 503, Code.POLICY_UNAVAILABLE)
        ok(await deny(world, LOCAL, approval, reason="stop everything"))
        assert spend(world) is None

    play(scenario)


def test_a_contained_person_decides_nothing(play: Play) -> None:
    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        body = {"kind": "human", "subject": uri("alice"), "reason": "account taken over"}
        ok(await world.post(LOCAL, "/withdrawals", body), 201)
        response = await approve(world, ALICE, approval)
        assert response.json()["code"] == Code.CONTAINED.value
        assert spend(world) is None

    play(scenario)


# ---------------------------------------------------------------- the page


async def page(world: World, approval: str) -> httpx2.Response:
    async with httpx2.AsyncClient(verify=world.trusting(), trust_env=False, timeout=20) as client:
        return await client.get(f"{world.base}/approvals/{approval}")


def test_the_page_says_how_to_decide_and_nothing_about_the_call(play: Play) -> None:
    """It is the same for what there is and for what there is not."""

    async def scenario(world: World) -> None:
        approval = world.ask(ASKED)
        there, unknown = await page(world, approval), await page(world, UNKNOWN)
        assert (there.status_code, unknown.status_code) == (200, 200)
        assert there.text.replace(approval, UNKNOWN) == unknown.text
        assert f"deputy approvals show {approval}" in there.text
        assert SETTINGS.issuer in there.text
        for secret in ("alice", "listed", "billing", "delete_customer", "C-1"):
            assert secret not in there.text
        assert there.headers["content-type"] == "text/plain; charset=utf-8"
        assert there.headers["cache-control"] == "no-store"
        assert there.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in there.headers["content-security-policy"]

    play(scenario)


@pytest.mark.parametrize(
    "name", ["x", UNKNOWN.lower(), UNKNOWN + "0", "%3Cscript%3E", "..%2F..", "01JD8Z7Y3M5E0QX2V9T4B6N8K%0A"]
)
def test_what_is_no_id_is_not_on_the_page(play: Play, name: str) -> None:
    async def scenario(world: World) -> None:
        response = await page(world, name)
        assert response.status_code == 404
        assert "script" not in response.text
        assert name not in response.text

    play(scenario)
