"""Administration of agents and grants: four eyes, races, what ends, and what people grant."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authz.codes import Code
from authz.errors import StoreError
from identity.caller import Hop, Human, KeyBinding
from identity.delegation import Delegation, issue_delegation_token
from identity.names import new_ulid
from identity.withdrawal import Standing
from tests.admin_world import uri
from tests.administration_world import (
    ADA,
    ALICE,
    BODY,
    DEPLOY,
    LOCAL,
    OLGA,
    OMAR,
    OONA,
    Person,
    Play,
    World,
    play_in,
)
from tests.broker_fakes import BROKER, ISSUER, MESH, TICKETS
from tests.state_world import broken_disk
from tests.test_administration import CONTAIN, no, ok

RELEASE = {"kind": "agent", "subject": "travel", "reason": "looked into it"}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return play_in(directory)


# ---------------------------------------------------------------- agents


def test_an_agent_is_shown_as_it_was_registered_and_can_be_sent_back(play: Play) -> None:
    async def scenario(world: World) -> None:
        sent = {**BODY, "expires_at": "2031-01-31T10:00:00+02:00", "max_depth": 2, "sandbox": "gvisor"}
        made = ok(await world.post(OLGA, "/agents", sent), 201)
        assert made.pop("epoch") == world.state.epoch
        assert made["expires_at"] == "2031-01-31T08:00:00Z"
        assert (made["managed_by"], made["contained"]) == ("api", None)
        shown = ok(await world.get(OONA, "/agents/travel"))
        assert shown == made
        back = {name: shown[name] for name in shown if name not in {"managed_by", "contained"}}
        assert ok(await world.put(OLGA, "/agents/travel", back)) == {**made, "epoch": world.state.epoch}
        assert world.last["reason"] == ""
        listed = ok(await world.get(ADA, "/agents"))["agents"]
        assert [agent["name"] for agent in listed] == ["listed", "travel"]

    play(scenario)


@pytest.mark.parametrize(
    "change",
    [
        {"owner": ""},
        {"owner": 7},
        {"autonomous": "yes"},
        {"max_depth": "4"},
        {"max_depth": 99},
        {"max_depth": 1e9},
        {"hosts": []},
        {"hosts": "spiffe://mesh.example/ns/agents/sa/runner"},
        {"hosts": ["not-spiffe"]},
        {"name": "Not A Label"},
        {"name": "x" * 300},
        {"expires_at": "tomorrow"},
        {"expires_at": "2031-01-31T10:00:00"},
        {"expires_at": "9999-12-31T23:59:59-12:00"},
        {"expires_at": "0001-01-01T00:00:00+12:00"},
        {"clients": [{"issuer": ISSUER, "id": "of-nobody"}]},
        {"clients": [{"issuer": "https://evil.example", "id": "agent-runner"}]},
        {"clients": [{"issuer": ISSUER}]},
        {"managed_by": "file"},
        {"contained": None},
        {"purpose": None},
        {"owner": "a\u0000b"},
        {"owner": "\ud800"},
    ],
)
def test_a_malformed_agent_is_not_registered(change: Mapping[str, Any], play: Play) -> None:
    async def scenario(world: World) -> None:
        content = json.dumps({**BODY, **change}).encode()
        headers = {"content-type": "application/json"}
        response = await world.call(OLGA, "POST", "/agents", content=content, headers=headers)
        no(response, 400, Code.REQUEST_MALFORMED)
        assert world.last["outcome"] == "refused"
        assert [agent.name for agent in world.state.agents()] == ["listed"]

    play(scenario)


@pytest.mark.parametrize("missing", ["name", "owner", "sponsor", "purpose", "ceiling", "hosts"])
def test_owner_sponsor_and_the_rest_are_required(missing: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        body = {name: value for name, value in BODY.items() if name != missing}
        said = no(await world.post(OLGA, "/agents", body), 400, Code.REQUEST_MALFORMED)
        assert said["error"] == f"missing: {missing}"

    play(scenario)


def test_an_agent_keeps_its_name_and_what_is_registered_is_changed_with_put(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        assert "already" in no(await world.post(OLGA, "/agents", BODY), 400, Code.REQUEST_MALFORMED)["error"]
        renamed = await world.put(OLGA, "/agents/travel", {**BODY, "name": "another"})
        assert "keeps its name" in no(renamed, 400, Code.REQUEST_MALFORMED)["error"]
        listed = await world.put(OLGA, "/agents/listed", {**BODY, "name": "listed"})
        assert "deputy.yaml" in no(listed, 400, Code.REQUEST_MALFORMED)["error"]
        retired = await world.post(OLGA, "/agents/listed/retire", {"reason": "old"})
        assert "deputy.yaml" in no(retired, 400, Code.REQUEST_MALFORMED)["error"]

    play(scenario)


@pytest.mark.parametrize(
    "change",
    [
        {"ceiling": "contributor"},
        {"hosts": ["spiffe://mesh.example/ns/agents/sa/other", *BODY["hosts"]]},
        {"hosts": ["spiffe://mesh.example/ns/agents/sa/other"]},
        {"max_depth": 8},
        {"autonomous": True},
        {"owner": uri("mallory")},
        {"clients": []},
    ],
)
def test_an_owner_raises_nothing_of_their_own_even_as_operator(change: dict[str, Any], play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        no(await world.put(OONA, "/agents/travel", {**BODY, **change}), 403, Code.NOT_PERMITTED)
        assert "owner" in world.last["detail"] or world.last["detail"] == ""
        operator = Person("oona", ("platform",))
        response = await world.put(operator, "/agents/travel", {**BODY, **change})
        if change != {"clients": []}:
            no(response, 403, Code.NOT_PERMITTED)
        ok(await world.put(OLGA, "/agents/travel", {**BODY, **change}))

    play(scenario)


def test_an_operator_who_owns_an_agent_cannot_retire_it_and_register_it_higher(play: Play) -> None:
    async def scenario(world: World) -> None:
        owner = Person("oona", ("platform",))
        await world.register(expires_at="2031-01-01T00:00:00Z")
        body = {**BODY, "expires_at": "2031-01-01T00:00:00Z"}
        ok(await world.post(owner, "/agents/travel/retire", {"reason": "making room"}))
        for change in ({"ceiling": "contributor"}, {"autonomous": True}, {"expires_at": None}):
            response = await world.post(owner, "/agents", {**body, **change})
            no(response, 403, Code.NOT_PERMITTED)
        # Nor by way of another owner's name, which would be theirs again tomorrow.
        another = await world.post(owner, "/agents", {**body, "owner": uri("omar"), "ceiling": "contributor"})
        no(another, 403, Code.NOT_PERMITTED)
        ok(await world.post(owner, "/agents", body), 201)
        ok(await world.post(owner, "/agents/travel/retire", {"reason": "making room"}))
        ok(await world.post(OLGA, "/agents", {**body, "ceiling": "contributor"}), 201)

    play(scenario)


def test_a_change_brings_no_retired_agent_back(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        ok(await world.post(OLGA, "/agents/travel/retire", {"reason": "replaced"}))
        no(await world.put(OLGA, "/agents/travel", BODY), 400, Code.REQUEST_MALFORMED)
        assert world.state.agent("travel") is None

    play(scenario)


def test_what_an_operator_lowered_meanwhile_an_owner_does_not_write_back(play: Play) -> None:
    async def scenario(world: World) -> None:
        old = await world.register()
        lowered = replace(old, ceiling="observer")
        now = world.brokers.clock.now
        world.policy.meanwhile = lambda: world.state.change_agent(lowered, now)
        response = await world.put(OONA, "/agents/travel", {**BODY, "purpose": "books trains"})
        said = no(response, 409, Code.CHANGED)
        assert "changed meanwhile: read it again" in said["error"]
        assert world.state.agent("travel") == lowered
        assert [record["outcome"] for record in world.records[-2:]] == ["ordered", "failed"]

    play(scenario)


def test_an_owner_who_is_none_any_more_does_not_retire(play: Play) -> None:
    async def scenario(world: World) -> None:
        old = await world.register()
        now = world.brokers.clock.now
        world.policy.meanwhile = lambda: world.state.change_agent(replace(old, owner=uri("omar")), now)
        no(await world.post(OONA, "/agents/travel/retire", {"reason": "mine"}), 409, Code.CHANGED)
        assert world.state.agent("travel") is not None

    play(scenario)


def test_a_name_that_somebody_else_had_meanwhile_is_decided_on_again(play: Play) -> None:
    async def scenario(world: World) -> None:
        old = await world.register()
        ok(await world.post(OLGA, "/agents/travel/retire", {"reason": "x"}))
        now = world.brokers.clock.now

        def meanwhile() -> None:
            world.state.register_agent(replace(old, ceiling="observer"), now)
            world.state.retire("travel", now)

        world.policy.meanwhile = meanwhile
        no(await world.post(Person("oona", ("platform",)), "/agents", BODY), 409, Code.CHANGED)
        assert world.state.agent("travel") is None

    play(scenario)


def test_orphans_are_found_and_retired_one_by_one(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register(expires_at="2031-01-01T00:00:00Z")
        await world.register(name="other", owner=uri("omar"), sponsor=uri("omar"))
        assert ok(await world.get(OLGA, "/orphans")) == {"orphans": []}
        no(await world.post(OLGA, "/orphans/travel/retire", {"reason": "x"}), 400, Code.REQUEST_MALFORMED)
        body = {"kind": "human", "subject": uri("omar"), "reason": "left the company"}
        ok(await world.post(LOCAL, "/withdrawals", body), 201)
        world.brokers.clock.forward(10)
        found = ok(await world.get(OLGA, "/orphans"))["orphans"]
        assert [(each["name"], each["why"]) for each in found] == [
            ("other", "its owner and its sponsor are contained")
        ]
        ok(await world.post(OLGA, "/orphans/other/retire", {"reason": "sweep"}))
        assert world.state.agent("other") is None
        assert world.last["action"] == "agents/retire"

    play(scenario)


# ---------------------------------------------------------------- contain and release


def test_who_contains_in_advance_cannot_release_what_an_operator_contains_later(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        ok(await world.post(OONA, "/withdrawals", CONTAIN), 201)
        ok(await world.post(OLGA, "/withdrawals", {**CONTAIN, "reason": "under investigation"}), 201)
        shown = ok(await world.get(OONA, "/agents/travel"))
        assert shown["contained"] == {"by": uri("olga"), "reason": "under investigation"}
        no(await world.post(OONA, "/releases", RELEASE), 403, Code.NOT_PERMITTED)
        no(await world.post(OONA, "/withdrawals", CONTAIN), 403, Code.NOT_PERMITTED)
        ok(await world.post(OMAR, "/releases", RELEASE))
        said = no(await world.post(OONA, "/releases", RELEASE), 400, Code.REQUEST_MALFORMED)
        assert said["error"] == "agent 'travel' is not contained"
        ok(await world.post(OONA, "/withdrawals", CONTAIN), 201)
        ok(await world.post(OONA, "/releases", RELEASE))

    play(scenario)


def test_an_owners_release_under_way_does_not_end_an_operators_containment(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        ok(await world.post(OONA, "/withdrawals", CONTAIN), 201)
        held = world.state.withdrawals.items[0]
        now = world.brokers.clock.now
        world.policy.meanwhile = lambda: world.state.withdraw(replace(held, by=uri("olga")), now)
        no(await world.post(OONA, "/releases", RELEASE), 409, Code.CHANGED)
        found = world.state.withdrawals.containment("agent", "travel")
        assert found is not None
        assert found.by == uri("olga")

    play(scenario)


def test_an_owners_containment_under_way_does_not_take_over_an_operators(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        ok(await world.post(OONA, "/withdrawals", CONTAIN), 201)
        held = world.state.withdrawals.items[0]
        ok(await world.post(OONA, "/releases", RELEASE))
        now = world.brokers.clock.now
        world.policy.meanwhile = lambda: world.state.withdraw(replace(held, by=uri("olga")), now)
        no(await world.post(OONA, "/withdrawals", CONTAIN), 409, Code.CHANGED)
        no(await world.post(OONA, "/releases", RELEASE), 403, Code.NOT_PERMITTED)

    play(scenario)


def test_an_answer_names_the_epoch_and_waits_for_replicas_on_request(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        answer = ok(await world.post(OLGA, "/withdrawals", CONTAIN), 201)
        assert answer["epoch"] == world.state.epoch
        assert "obeyed" not in answer
        answer = ok(await world.post(OLGA, "/releases", {**RELEASE, "wait": True}))
        assert (answer["released"], answer["obeyed"]["everywhere"]) == (True, True)
        answer = ok(await world.post(OLGA, "/agents/travel/retire", {"reason": "x", "wait": True}))
        assert answer["obeyed"]["everywhere"] is True
        assert world.barrier.epochs[-1] == answer["epoch"] == world.state.epoch

    play(scenario)


def test_what_is_done_is_no_failure_where_nobody_can_say_who_obeys(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        world.barrier.error = StoreError("the leases cannot be read")
        answer = ok(await world.post(OLGA, "/withdrawals", {**CONTAIN, "wait": True}), 201)
        assert answer["obeyed"]["everywhere"] is False
        assert world.last["outcome"] == "ordered"

    play(scenario)


def test_what_is_withdrawn_is_listed_and_the_list_is_bounded(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        ok(await world.post(OLGA, "/withdrawals", CONTAIN), 201)
        for number in range(3):
            body = {"kind": "token", "subject": f"{number}" * 22, "reason": "in a log"}
            ok(await world.post(OLGA, "/withdrawals", body), 201)
        shown = ok(await world.get(OLGA, "/withdrawals"))
        assert (shown["epoch"], shown["total"]) == (world.state.epoch, 4)
        first = shown["withdrawals"][0]
        assert (first["kind"], first["subject"], first["by"], first["until"]) == (
            "agent",
            "travel",
            uri("olga"),
            "released",
        )

    play(scenario)


# ---------------------------------------------------------------- tokens


def token_of(world: World, person: str, **more: Any) -> str:
    """A delegation token of ours: the agent "listed" acts for a person at the tickets."""
    now = world.brokers.clock.now
    delegation = Delegation(
        issuer=BROKER,
        trust_domain=MESH,
        human=Human.parse(ISSUER, person),
        audience=TICKETS,
        scopes=frozenset({"tickets:read"}),
        chain=(Hop("listed", new_ulid(now, bytes(10))),),
        binding=KeyBinding("k" * 43),
        txn="t" * 22,
        jti="j" * 22,
        issued_at=int(now.timestamp()),
        expires_at=int(now.timestamp()) + 300,
    )
    key = world.brokers.broker.authority.token_key
    return issue_delegation_token(key, replace(delegation, **more))


@pytest.mark.parametrize(("kind", "subject"), [("token", "j" * 22), ("txn", "t" * 22)])
def test_a_person_revokes_the_token_that_acts_for_them_and_nobody_elses(
    kind: str, subject: str, play: Play
) -> None:
    async def scenario(world: World) -> None:
        token = token_of(world, "alice")
        body = {"kind": kind, "token": token, "reason": "found in a log"}
        no(await world.post(Person("bob"), "/withdrawals", body), 403, Code.NOT_PERMITTED)
        answer = ok(await world.post(ALICE, "/withdrawals", body), 201)
        assert (answer["kind"], answer["subject"], answer["by"]) == (kind, subject, uri("alice"))
        # By its signature: nobody says whose a token is.
        (held,) = world.state.withdrawals.items
        assert held.human == answer["human"] == uri("alice")
        assert world.state.withdrawals.find(Standing(jti="j" * 22, txn="t" * 22)) is not None
        assert token not in str(world.records)
        assert token not in str(answer)

    play(scenario)


def test_nobody_says_whose_a_token_is_and_who_only_names_it_does_not_learn_it(play: Play) -> None:
    """Else an operator could have an event sent about anybody, and learn by a name who acts."""

    async def scenario(world: World) -> None:
        named = {"kind": "token", "subject": "j" * 22, "reason": "found in a log"}
        no(
            await world.post(OLGA, "/withdrawals", {**named, "human": uri("bob")}),
            400,
            Code.REQUEST_MALFORMED,
        )
        answer = ok(await world.post(OLGA, "/withdrawals", named), 201)
        assert answer["human"] is None
        shown = {"kind": "token", "token": token_of(world, "alice"), "reason": "found in a log"}
        later = ok(await world.post(OLGA, "/withdrawals", shown), 201)
        # It is another withdrawal than that of nobody's token: of this one others are told.
        assert (later["human"], later["epoch"] > answer["epoch"]) == (uri("alice"), True)
        once_more = ok(await world.post(OLGA, "/withdrawals", named), 201)
        assert (once_more["human"], once_more["epoch"]) == (None, later["epoch"])
        listed = ok(await world.get(OLGA, "/withdrawals"))["withdrawals"]
        assert [one["human"] for one in listed] == [uri("alice")]

    play(scenario)


@pytest.mark.parametrize(
    "changed",
    [
        {"audience": "https://unknown.mesh.example"},
        {"issuer": "https://evil.example"},
        {"issued_at": 1, "expires_at": 2},
    ],
)
def test_a_token_that_is_none_of_ours_names_nothing(changed: dict[str, Any], play: Play) -> None:
    async def scenario(world: World) -> None:
        token = token_of(world, "alice", **changed)
        body = {"kind": "token", "token": token, "reason": "found in a log"}
        response = await world.post(OLGA, "/withdrawals", body)
        assert response.status_code == 401
        forged = token_of(world, "alice")[:-8] + "AAAAAAAA"
        response = await world.post(OLGA, "/withdrawals", {**body, "token": forged})
        assert response.status_code == 401
        assert world.state.withdrawals.items == ()
        assert world.last["by"] == uri("olga")

    play(scenario)


# ---------------------------------------------------------------- grants


def test_a_grant_without_an_end_lasts_thirty_days(play: Play) -> None:
    async def scenario(world: World) -> None:
        made = ok(await world.post(ALICE, "/grants", {"agent": "listed", "scopes": ["tickets:read"]}), 201)
        now = world.brokers.clock.now
        consent = world.state.consent(made["id"])
        assert consent is not None
        assert consent.expires_at - now == timedelta(days=30)
        assert (made["human"], made["agent"], made["tools"], made["delegates_to"], made["state"]) == (
            uri("alice"),
            "listed",
            None,
            [],
            "live",
        )
        record = world.last
        assert (record["action"], record["subject"], record["agent"]) == (
            "grants/create",
            f"grant {made['id']}",
            "listed",
        )

    play(scenario)


@pytest.mark.parametrize(
    "change",
    [
        {"agent": "unknown"},
        {"agent": ""},
        {"agent": ["listed"]},
        {"delegates_to": ["unknown"]},
        {"delegates_to": "listed"},
        {"delegates_to": ["listed", "listed"]},
        {"scopes": []},
        {"scopes": "tickets:read"},
        {"scopes": [7]},
        {"scopes": ["tickets:read", "tickets:read"]},
        {"scopes": ["with space"]},
        {"scopes": [f"tickets:s{number}" for number in range(200)]},
        {"tools": []},
        {"tools": ["no-service"]},
        {"tools": [f"tickets/t{number}" for number in range(200)]},
        {"tools": None},
        {"expires_at": "2000-01-01T00:00:00Z"},
        {"expires_at": "2099-01-01T00:00:00Z"},
        {"expires_at": "9999-12-31T23:59:59-23:59"},
        {"expires_at": "soon"},
        {"expires_at": 7},
        {"human": uri("bob")},
        {"surprise": 1},
    ],
)
def test_a_malformed_grant_is_none(change: Mapping[str, Any], play: Play) -> None:
    async def scenario(world: World) -> None:
        body = {"agent": "listed", "scopes": ["tickets:read"], **change}
        no(await world.post(ALICE, "/grants", body), 400, Code.REQUEST_MALFORMED)
        assert world.state.consents() == ()
        assert world.last["outcome"] == "refused"

    play(scenario)


def test_a_grant_lasts_at_most_four_hundred_days(play: Play) -> None:
    async def scenario(world: World) -> None:
        end = world.brokers.clock.now + timedelta(days=400)
        await world.grant(expires_at=end.isoformat())
        body = {"agent": "listed", "scopes": ["tickets:read"]}
        late = {**body, "expires_at": (end + timedelta(seconds=1)).isoformat()}
        assert (
            "400 days" in no(await world.post(ALICE, "/grants", late), 400, Code.REQUEST_MALFORMED)["error"]
        )

    play(scenario)


@pytest.mark.parametrize("who", ["local", "workload"])
def test_nobody_grants_in_somebodys_name(who: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        asker = LOCAL if who == "local" else world.workload(DEPLOY)
        body = {"agent": "listed", "scopes": ["tickets:read"]}
        said = no(await world.post(asker, "/grants", body), 400, Code.REQUEST_MALFORMED)
        assert "the person who signed in" in said["error"]

    play(scenario)


def test_a_person_sees_and_revokes_their_own_grants_only(play: Play) -> None:
    async def scenario(world: World) -> None:
        own, other = await world.grant(ALICE), await world.grant(Person("bob"))
        shown = ok(await world.get(ALICE, "/grants"))["grants"]
        assert [each["id"] for each in shown] == [own]
        for query in ({"human": uri("bob")}, {"human": "*"}):
            no(await world.get(ALICE, "/grants", params=query), 403, Code.NOT_PERMITTED)
        no(await world.post(ALICE, f"/grants/{other}/revoke", {"reason": "x"}), 403, Code.NOT_PERMITTED)
        assert ok(await world.post(ALICE, f"/grants/{own}/revoke", {}))["state"] == "revoked"
        # Once more is the same.
        assert ok(await world.post(ALICE, f"/grants/{own}/revoke", {}))["state"] == "revoked"
        no(await world.post(ALICE, "/grants/unknown/revoke", {}), 400, Code.REQUEST_MALFORMED)

    play(scenario)


def test_operators_and_auditors_see_the_grants_of_everybody(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        first = await world.grant(ALICE)
        world.brokers.clock.forward(1)
        second = await world.grant(Person("bob"), agent="travel")
        for who in (OLGA, ADA):
            assert ok(await world.get(who, "/grants"))["grants"] == []
            listed = ok(await world.get(who, "/grants", params={"human": "*"}))["grants"]
            assert [each["id"] for each in listed] == [first, second]
        for machine in (LOCAL, world.workload(DEPLOY)):
            listed = ok(await world.get(machine, "/grants", params={"agent": "travel"}))["grants"]
            assert [each["id"] for each in listed] == [second]
        listed = ok(await world.get(LOCAL, "/grants", params={"human": uri("alice")}))["grants"]
        assert [each["id"] for each in listed] == [first]

    play(scenario)


def test_whoever_revokes_somebody_elses_grant_says_why(play: Play) -> None:
    async def scenario(world: World) -> None:
        grant = await world.grant()
        said = no(await world.post(OLGA, f"/grants/{grant}/revoke", {}), 400, Code.REQUEST_MALFORMED)
        assert "reason" in said["error"]
        wrong = await world.post(OLGA, f"/grants/{grant}/revoke", {"reason": "x", "wait": "yes"})
        no(wrong, 400, Code.REQUEST_MALFORMED)
        ok(await world.post(OLGA, f"/grants/{grant}/revoke", {"reason": "asked by phone"}))
        assert world.last["reason"] == "asked by phone"

    play(scenario)


def test_what_came_of_a_revoked_grant_is_dead_at_once(play: Play) -> None:
    async def scenario(world: World) -> None:
        grant = await world.grant()
        epoch = world.state.epoch
        answer = ok(await world.post(ALICE, f"/grants/{grant}/revoke", {"wait": True}))
        assert answer["epoch"] > epoch
        assert answer["obeyed"]["everywhere"] is True
        assert world.state.withdrawals.find(Standing(grants=(grant,))) is not None

    play(scenario)


def test_a_grant_that_the_disk_refuses_is_none(play: Play) -> None:
    async def scenario(world: World) -> None:
        with broken_disk(world.state):
            body = {"agent": "listed", "scopes": ["tickets:read"]}
            no(await world.post(ALICE, "/grants", body), 503, Code.INTERNAL)
        assert world.state.consents() == ()

    play(scenario)


def test_a_grant_of_a_contained_person_is_not_made(play: Play) -> None:
    async def scenario(world: World) -> None:
        body = {"kind": "human", "subject": uri("alice"), "reason": "taken over"}
        ok(await world.post(LOCAL, "/withdrawals", body), 201)
        response = await world.post(ALICE, "/grants", {"agent": "listed", "scopes": ["tickets:read"]})
        no(response, 403, Code.CONTAINED)

    play(scenario)
