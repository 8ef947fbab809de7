"""Administration over HTTP: who may what, and that each change has its record first."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest

from authz.admin import Action
from authz.codes import Code
from identity.names import new_ulid
from identity.spiffe import agent_task_id
from tests.admin_world import OTHER_HOST, uri
from tests.administration_world import (
    ADA,
    ALICE,
    BODY,
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
from tests.broker_fakes import CLIENT, CONSOLE, RUNNER
from tests.pins_world import GOOD
from tests.state_world import broken_disk, task

CONTAIN = {"kind": "agent", "subject": "travel", "reason": "books what nobody asked for"}


@pytest.fixture
def play(tmp_path: Path) -> Play:
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return play_in(directory)


def ok(response: httpx2.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["cache-control"] == "no-store"
    return response.json()


def no(response: httpx2.Response, status: int, code: Code) -> Any:
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code.value), response.text
    assert response.headers["cache-control"] == "no-store"
    return body


# ---------------------------------------------------------------- who may what


async def _agents_list(world: World, who: Who) -> httpx2.Response:
    return await world.get(who, "/agents")


async def _agents_register(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, "/agents", {**BODY, "name": "another"})


async def _agents_change(world: World, who: Who) -> httpx2.Response:
    return await world.put(who, "/agents/travel", {**BODY, "purpose": "books trains"})


async def _agents_raise(world: World, who: Who) -> httpx2.Response:
    return await world.put(who, "/agents/travel", {**BODY, "ceiling": "contributor"})


async def _agents_retire(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, "/agents/travel/retire", {"reason": "replaced"})


async def _agents_contain(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, "/withdrawals", CONTAIN)


async def _agents_release(world: World, who: Who) -> httpx2.Response:
    await world.post(LOCAL, "/withdrawals", CONTAIN)
    return await world.post(who, "/releases", CONTAIN)


async def _people_contain(world: World, who: Who) -> httpx2.Response:
    body = {"kind": "human", "subject": uri("alice"), "reason": "account taken over"}
    return await world.post(who, "/withdrawals", body)


async def _people_release(world: World, who: Who) -> httpx2.Response:
    body = {"kind": "human", "subject": uri("mallory"), "reason": "account taken over"}
    await world.post(LOCAL, "/withdrawals", body)
    return await world.post(who, "/releases", body)


async def _workloads_contain(world: World, who: Who) -> httpx2.Response:
    body = {"kind": "workload", "subject": str(OTHER_HOST), "reason": "image not ours"}
    return await world.post(who, "/withdrawals", body)


async def _workloads_release(world: World, who: Who) -> httpx2.Response:
    body = {"kind": "workload", "subject": str(OTHER_HOST), "reason": "image not ours"}
    await world.post(LOCAL, "/withdrawals", body)
    return await world.post(who, "/releases", body)


async def _tokens_revoke(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, "/withdrawals", {"kind": "token", "subject": "j" * 22, "reason": "in a log"})


async def _tasks_revoke(world: World, who: Who) -> httpx2.Response:
    now = world.brokers.clock.now
    run = replace(task(1, "listed"), human=uri("alice"), started_at=now, deadline=now + timedelta(hours=1))
    world.state.start_task(run, now)
    return await world.post(who, "/withdrawals", {"kind": "task", "subject": run.id, "reason": "in circles"})


async def _grants_create(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, "/grants", {"agent": "travel", "scopes": ["tickets:read"]})


async def _grants_list(world: World, who: Who) -> httpx2.Response:
    return await world.get(who, "/grants", params={"human": uri("alice")})


async def _grants_revoke(world: World, who: Who) -> httpx2.Response:
    grant = await world.grant(ALICE)
    return await world.post(who, f"/grants/{grant}/revoke", {"reason": "over"})


async def _approvals_list(world: World, who: Who) -> httpx2.Response:
    return await world.get(who, "/approvals", params={"human": uri("alice")})


async def _approvals_show(world: World, who: Who) -> httpx2.Response:
    return await world.get(who, f"/approvals/{world.ask(ASKED)}")


async def _approvals_approve(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, f"/approvals/{world.ask(asked(agent='travel'))}/approve", {})


async def _approvals_deny(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, f"/approvals/{world.ask(ASKED)}/deny", {"reason": "not now"})


async def _pins_list(world: World, who: Who) -> httpx2.Response:
    return await world.get(who, "/pins")


async def _pins_show(world: World, who: Who) -> httpx2.Response:
    world.pins.learn(GOOD)
    return await world.get(who, f"/pins/billing/{GOOD.name}")


async def _pins_accept(world: World, who: Who) -> httpx2.Response:
    world.pins.learn(GOOD)
    return await world.post(who, f"/pins/billing/{GOOD.name}/accept", {"digest": GOOD.digest})


async def _pins_forget(world: World, who: Who) -> httpx2.Response:
    world.pins.learn(GOOD)
    return await world.post(who, f"/pins/billing/{GOOD.name}/forget", {})


async def _epochs_show(world: World, who: Who) -> httpx2.Response:
    return await world.get(who, "/withdrawals")


async def _policy_reload(world: World, who: Who) -> httpx2.Response:
    return await world.post(who, "/policy/reload", {})


PEOPLE: Mapping[str, Person] = {
    "operator": OLGA,
    "by-group": PLATFORM,
    "owner": OONA,
    "auditor": ADA,
    "person": ALICE,
    "passer-by": Person("mallory2"),
}
# What only reads has no record.
READING = {
    *("agents/list", "approvals/list", "approvals/show", "grants/list", "epochs/show"),
    *("pins/list", "pins/show"),
}
Order = Callable[[World, Who], Awaitable[httpx2.Response]]
WORKLOADS = {"deployer": str(DEPLOY), "runner": str(RUNNER)}
OPERATORS = {"operator", "by-group", "deployer", "local"}
# Each order, its action, and who may.
ORDERS: Mapping[str, tuple[Action, Order, set[str]]] = {
    "list agents": ("agents/list", _agents_list, OPERATORS | {"auditor"}),
    "register": ("agents/register", _agents_register, OPERATORS),
    "change": ("agents/change", _agents_change, OPERATORS | {"owner"}),
    "raise": ("agents/change", _agents_raise, OPERATORS),
    "retire": ("agents/retire", _agents_retire, OPERATORS | {"owner"}),
    "contain an agent": ("agents/contain", _agents_contain, OPERATORS | {"owner"}),
    "release an agent": ("agents/release", _agents_release, OPERATORS),
    "contain a person": ("people/contain", _people_contain, OPERATORS | {"person"}),
    "release a person": ("people/release", _people_release, OPERATORS),
    "contain a workload": ("workloads/contain", _workloads_contain, OPERATORS),
    "release a workload": ("workloads/release", _workloads_release, OPERATORS),
    "revoke a token": ("tokens/revoke", _tokens_revoke, OPERATORS),
    "revoke a task": ("tokens/revoke", _tasks_revoke, OPERATORS | {"person"}),
    "make a grant": ("grants/create", _grants_create, set(PEOPLE)),
    "list a person's grants": ("grants/list", _grants_list, OPERATORS | {"auditor", "person"}),
    "revoke a grant": ("grants/revoke", _grants_revoke, OPERATORS | {"person"}),
    "list what waits": ("approvals/list", _approvals_list, OPERATORS | {"auditor", "person"}),
    "show what waits": ("approvals/show", _approvals_show, OPERATORS | {"person"}),
    "approve": ("approvals/approve", _approvals_approve, OPERATORS - {"deployer"} | {"person"}),
    "deny": ("approvals/deny", _approvals_deny, OPERATORS | {"person"}),
    "list tools": ("pins/list", _pins_list, OPERATORS | {"auditor"}),
    "show a tool": ("pins/show", _pins_show, OPERATORS | {"auditor"}),
    "accept a tool": ("pins/accept", _pins_accept, OPERATORS),
    "forget a tool": ("pins/forget", _pins_forget, OPERATORS),
    "list what is withdrawn": ("epochs/show", _epochs_show, OPERATORS),
    "reload the policy": ("policy/reload", _policy_reload, OPERATORS),
}


def test_every_action_can_be_asked_for() -> None:
    """Signed events are received elsewhere: authz/broker/events_endpoint.py decides on who signed them."""
    assert {action for action, _, _ in ORDERS.values()} == set(get_args(Action)) - {"events/receive"}


@pytest.mark.parametrize("order", ORDERS)
def test_who_may(order: str, tmp_path: Path) -> None:
    """Each kind of actor in a world of its own, end to end; what is refused is recorded."""
    action, send, allowed = ORDERS[order]
    for number, name in enumerate((*PEOPLE, "deployer", "runner", "local")):
        directory = tmp_path / str(number)
        directory.mkdir(mode=0o700)

        async def scenario(world: World, name: str = name) -> None:
            await world.register()
            who: Who = PEOPLE.get(name, LOCAL)
            if name in {"deployer", "runner"}:
                who = world.workload(DEPLOY if name == "deployer" else RUNNER)
            response = await send(world, who)
            if name in allowed:
                assert response.status_code in {200, 201}, (order, name, response.text)
                if action not in READING:
                    assert (world.last["outcome"], world.last["action"]) == ("ordered", action)
            elif order == "make a grant":
                no(response, 400, Code.REQUEST_MALFORMED)
            else:
                no(response, 403, Code.NOT_PERMITTED)
                assert (world.last["outcome"], world.last["action"]) == ("refused", action)
                assert world.last["by"] == (uri(who.name) if isinstance(who, Person) else WORKLOADS[name])

        play_in(directory)(scenario)


def test_an_agent_is_nobody_here(play: Play) -> None:
    """Neither by the certificate of its task, nor by a delegation token, nor by a token with an actor."""

    async def scenario(world: World) -> None:
        now = world.brokers.clock.now
        spiffe_id = agent_task_id(world.brokers.broker.trust_domain, "listed", new_ulid(now, bytes(10)))
        for send in (_agents_list, _policy_reload, _grants_create, _agents_contain):
            response = await send(world, world.workload(spiffe_id))
            no(response, 403, Code.NOT_PERMITTED)
        acting = Person("olga", claims={"act": {"sub": "listed"}})
        no(await world.get(acting, "/agents"), 401, Code.TOKEN_CLAIMS)
        ours = Person("olga", claims={"iss": "https://broker.mesh.example", "typ_": "at+jwt"})
        no(await world.get(ours, "/agents"), 401, Code.TOKEN_ISSUER)
        assert {record["kind"] for record in world.records} == {"decision"}

    play(scenario)


def test_tx10_an_agent_makes_no_grant_with_the_sign_in_that_it_was_handed(play: Play) -> None:
    """TX-10: the ID token that an agent exchanges is no leave of the person's, nor an operator's word."""

    async def scenario(world: World) -> None:
        await world.register()
        for name in ("alice", "olga"):
            handed = Person(name, claims={"aud": CLIENT})
            for send in (_agents_list, _policy_reload, _grants_create, _agents_contain):
                no(await send(world, handed), 403, Code.NOT_PERMITTED)
        several = Person("olga", claims={"aud": [CLIENT, CONSOLE], "azp": CLIENT})
        no(await world.get(several, "/agents"), 403, Code.NOT_PERMITTED)
        assert (await world.get(OLGA, "/agents")).status_code == 200
        assert world.state.consents() == ()

    play(scenario)


def test_a_token_that_is_given_as_a_name_is_in_no_record_and_not_taken_for_revoked(play: Play) -> None:
    async def scenario(world: World) -> None:
        token = world.token(ALICE)
        for kind in ("token", "txn"):
            body = {"kind": kind, "subject": token, "reason": "found in a log"}
            no(await world.post(LOCAL, "/withdrawals", body), 400, Code.REQUEST_MALFORMED)
        assert len(world.state.withdrawals) == 0
        assert token[:24] not in str(world.records)

    play(scenario)


def test_what_begins_while_a_person_is_signed_out_is_taken_back_too(play: Play) -> None:
    """Between the order and its effect lie the policy and the disk; a token of then would have lived on."""

    async def scenario(world: World) -> None:
        clock = world.brokers.clock

        def pass_time() -> None:
            clock.now += timedelta(seconds=2)

        world.policy.meanwhile = pass_time
        body = {"kind": "human", "subject": uri("alice"), "reason": "laptop lost", "sessions": True}
        response = await world.post(LOCAL, "/withdrawals", body)
        (withdrawn,) = world.state.withdrawals.items
        assert withdrawn.before == int(clock.now.timestamp()) == response.json()["before"]

    play(scenario)


def test_who_shows_nothing_is_nobody_even_if_they_name_the_socket(play: Play) -> None:
    async def scenario(world: World) -> None:
        response = await world.get(NOBODY, "/agents", headers={"x-forwarded-for": "local", "host": "deputy"})
        no(response, 401, Code.PEER_MISSING)
        assert response.headers["www-authenticate"] == "Bearer"

    play(scenario)


def test_refuses_two_who_ask_at_once(play: Play) -> None:
    async def scenario(world: World) -> None:
        headers = {"authorization": f"Bearer {world.token(OLGA)}"}
        response = await world.get(world.workload(DEPLOY), "/agents", headers=headers)
        assert "not both" in no(response, 400, Code.REQUEST_MALFORMED)["error"]

    play(scenario)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic b2xnYTpvbGdh", "Bearer not-a-token", "Bearer a.b.c", "Bearer x y"]
)
def test_refuses_what_is_no_bearer(play: Play, header: str) -> None:
    async def scenario(world: World) -> None:
        response = await world.get(NOBODY, "/agents", headers={"authorization": header})
        assert response.status_code in {400, 401}
        assert "not-a-token" not in response.text

    play(scenario)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "of-nobody-here"}, Code.TOKEN_AUDIENCE),
        ({"aud": ["agent-runner", "of-nobody-here"], "azp": "of-nobody-here"}, Code.TOKEN_AUDIENCE),
        ({"iss": "https://evil.example"}, Code.TOKEN_ISSUER),
        ({"exp": 1}, Code.TOKEN_EXPIRED),
        ({"typ_": "at+jwt", "aud": "agent-runner"}, Code.TOKEN_AUDIENCE),
        ({"cnf": {"jkt": "x"}}, Code.TOKEN_CLAIMS),
    ],
)
def test_refuses_a_token_of_somebody_else_or_for_something_else(
    play: Play, claims: dict[str, object], code: Code
) -> None:
    async def scenario(world: World) -> None:
        response = await world.get(Person("olga", claims=claims), "/agents")
        assert response.status_code == 401
        assert response.json()["code"] in {code.value, Code.TOKEN_CLAIMS.value}
        assert world.last["kind"] == "decision"

    play(scenario)


def test_a_contained_operator_administers_nothing_and_signs_out_too(play: Play) -> None:
    async def scenario(world: World) -> None:
        ok(await world.get(OLGA, "/agents"))
        body = {"kind": "human", "subject": uri("olga"), "reason": "laptop lost", "sessions": True}
        ok(await world.post(LOCAL, "/withdrawals", body), 201)
        no(await world.get(OLGA, "/agents"), 401, Code.REVOKED)
        world.brokers.clock.forward(2)
        ok(await world.get(OLGA, "/agents"))
        body.pop("sessions")
        ok(await world.post(LOCAL, "/withdrawals", body), 201)
        for send in (_agents_list, _people_contain, _policy_reload):
            response = await send(world, OLGA)
            assert response.json()["code"] == Code.CONTAINED.value
        deployer = world.workload(DEPLOY)
        ok(await world.get(deployer, "/agents"))
        body = {"kind": "workload", "subject": str(DEPLOY), "reason": "pipeline taken over"}
        ok(await world.post(LOCAL, "/withdrawals", body), 201)
        assert (await world.get(deployer, "/agents")).json()["code"] == Code.CONTAINED.value

    play(scenario)


def test_nobody_without_a_role_learns_which_agents_there_are(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        runner = world.workload(RUNNER)
        for who in (ALICE, runner):
            answers = []
            for name in ("travel", "unknown", "listed"):
                for send in (
                    world.get(who, f"/agents/{name}"),
                    world.put(who, f"/agents/{name}", {**BODY, "name": name}),
                    world.post(who, "/agents", {**BODY, "name": name}),
                    world.post(who, f"/agents/{name}/retire", {"reason": "why not"}),
                    world.post(who, f"/orphans/{name}/retire", {"reason": "why not"}),
                    world.post(who, "/withdrawals", {"kind": "agent", "subject": name, "reason": "why not"}),
                    world.post(who, "/releases", {"kind": "agent", "subject": name, "reason": "why not"}),
                ):
                    body = no(await send, 403, Code.NOT_PERMITTED)
                    answers.append((body["error"], body["fix"]))
            assert len(set(answers)) == 1
        said = no(await world.get(ADA, "/agents/unknown"), 400, Code.REQUEST_MALFORMED)
        assert said["error"] == "no agent 'unknown' is registered"
        said = no(
            await world.post(OONA, "/agents/listed/retire", {"reason": "x"}), 400, Code.REQUEST_MALFORMED
        )
        assert "stands in deputy.yaml: change it there" in said["error"]

    play(scenario)


# ---------------------------------------------------------------- the record comes first


CHANGES: Mapping[str, tuple[Who, Order]] = {
    name: (ALICE if name == "make a grant" else LOCAL, send)
    for name, (action, send, _) in ORDERS.items()
    if action not in READING
}


# Something is recorded before these can be ordered.
NEED_A_RECORD = {"release an agent", "release a person", "release a workload", "revoke a grant"}


def seen(world: World) -> object:
    """All that an order can change."""
    return (
        world.state.agents(),
        world.state.withdrawals.items,
        world.state.consents(),
        [each for each in world.approvals.newest(world.brokers.clock.now) if each.state != "pending"],
        world.reloads,
        dict(world.pins.known().of("billing")),
    )


@pytest.mark.parametrize("order", CHANGES)
def test_each_change_has_its_durable_record_before_it_acts(order: str, play: Play) -> None:
    who, send = CHANGES[order]

    async def scenario(world: World) -> None:
        await world.register()
        world.pins.learn(GOOD)
        when_recorded: list[object] = []

        def look() -> None:
            when_recorded.append(seen(world))
            world.sink.meanwhile = look

        world.sink.meanwhile = look
        response = await send(world, who)
        assert response.status_code in {200, 201}
        assert seen(world) != when_recorded[-1]
        assert world.sink.entries[-1].is_durable
        record = world.last
        assert (record["kind"], record["outcome"]) == ("admin", "ordered")
        assert record["policy"] == world.policy.revision
        assert record["by"] == (uri("alice") if who is ALICE else f"uid:{os.getuid()}")

    play(scenario)


@pytest.mark.parametrize("order", sorted(CHANGES.keys() - NEED_A_RECORD))
def test_what_cannot_be_recorded_is_not_done(order: str, play: Play) -> None:
    who, send = CHANGES[order]

    async def scenario(world: World) -> None:
        await world.register()
        world.pins.learn(GOOD)
        before, epoch = seen(world), world.state.epoch
        world.sink.broken = True
        no(await send(world, who), 503, Code.AUDIT_UNAVAILABLE)
        assert (seen(world), world.state.epoch) == (before, epoch)

    play(scenario)


@pytest.mark.parametrize(
    "order", ["change", "retire", "contain an agent", "contain a person", "make a grant"]
)
def test_what_fails_after_its_record_has_a_second_one(order: str, play: Play) -> None:
    who, send = CHANGES[order]

    async def scenario(world: World) -> None:
        await world.register()
        first = len(world.records)
        with broken_disk(world.state):
            body = no(await send(world, who), 503, Code.INTERNAL)
        ordered, failed = world.records[first:]
        assert (ordered["outcome"], failed["outcome"]) == ("ordered", "failed")
        assert failed["code"] == Code.INTERNAL.value
        assert failed["detail"]
        assert body["decision_id"] == ordered["id"]

    play(scenario)


def test_what_was_contained_where_the_disk_refused_is_contained_until_a_restart_and_it_says_so(
    play: Play,
) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        with broken_disk(world.state):
            body = no(await world.post(LOCAL, "/withdrawals", CONTAIN), 503, Code.INTERNAL)
        assert "until a restart only" in body["error"]
        assert world.state.withdrawals.containment("agent", "travel") is not None

    play(scenario)


def test_strangers_fill_no_log(play: Play) -> None:
    async def scenario(world: World) -> None:
        for _ in range(40):
            response = await world.post(NOBODY, "/withdrawals", CONTAIN)
            no(response, 401, Code.PEER_MISSING)
        assert 0 < len(world.records) < 40
        assert {entry.of_stranger for entry in world.sink.entries} == {True}

    play(scenario)


# ---------------------------------------------------------------- break glass


def test_the_switch_works_on_the_socket_where_the_policy_cannot_be_asked(play: Play) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        grant = await world.grant()
        world.policy.is_down = True
        answer = ok(await world.post(LOCAL, "/withdrawals", CONTAIN), 201)
        assert answer["epoch"] == world.state.epoch
        assert world.last["policy"] == "a service without a policy to ask"
        for body in (
            {"kind": "token", "subject": "j" * 22, "reason": "in a log"},
            {"kind": "human", "subject": uri("alice"), "reason": "taken over"},
            {"kind": "grant", "subject": grant, "reason": "taken over"},
        ):
            ok(await world.post(LOCAL, "/withdrawals", body), 201)
        # It takes rights away, and gives none back.
        for method, path, order in (
            ("POST", "/releases", CONTAIN),
            ("POST", "/agents", {**BODY, "name": "another"}),
            ("PUT", "/agents/travel", BODY),
            ("GET", "/agents", None),
            ("POST", "/policy/reload", None),
        ):
            no(await world.call(LOCAL, method, path, json=order), 503, Code.POLICY_UNAVAILABLE)
            assert world.last["outcome"] == "refused"
        for who in (OLGA, world.workload(DEPLOY)):
            no(await world.post(who, "/withdrawals", CONTAIN), 503, Code.POLICY_UNAVAILABLE)

    play(scenario)


def test_the_switch_does_not_work_for_whom_the_policy_denies_even_on_the_socket(play: Play) -> None:
    """Only where it cannot be asked: a denial is an answer."""

    async def scenario(world: World) -> None:
        no(await world.post(ALICE, "/withdrawals", {**CONTAIN, "subject": "listed"}), 403, Code.NOT_PERMITTED)
        assert world.state.withdrawals.items == ()

    play(scenario)


# ---------------------------------------------------------------- malformed orders


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b'{"kind": "agent", "kind": "agent", "subject": "travel", "reason": "x"}',
        b'{"kind": "agent", "subject": "travel", "reason": NaN}',
        nested(2000),
        nested(12),
        b'{"kind": "agent", "subject": "travel"}',
        b'{"kind": "agent", "subject": "travel", "reason": ""}',
        b'{"kind": "agent", "subject": "travel", "reason": "   "}',
        b'{"kind": "agent", "subject": "travel", "reason": "two\\nlines"}',
        b'{"kind": "agent", "subject": "travel", "reason": 7}',
        b'{"kind": "agent", "subject": "travel", "reason": "' + b"x" * 501 + b'"}',
        b'{"kind": "agent", "subject": "travel", "reason": "x", "surprise": 1}',
        b'{"kind": "agent", "subject": "travel", "reason": "x", "wait": "yes"}',
        b'{"kind": "agent", "subject": "travel", "reason": "x", "sessions": true}',
        b'{"kind": "agents", "subject": "travel", "reason": "x"}',
        b'{"kind": ["agent"], "subject": "travel", "reason": "x"}',
        b'{"kind": "agent", "subject": ["travel"], "reason": "x"}',
        b'{"kind": "agent", "subject": "travel", "token": "x", "reason": "x"}',
        b'{"kind": "agent", "reason": "x"}',
        b'{"kind": "agent", "token": "a.b.c", "reason": "x"}',
        b'{"kind": "human", "subject": "alice", "reason": "x"}',
        b'{"kind": "workload", "subject": "not-spiffe", "reason": "x"}',
        b'{"kind": "task", "subject": "nothing", "reason": "x"}',
        b'{"kind": "grant", "subject": "nothing", "reason": "x"}',
        b'{"kind": "token", "subject": "a\\u0000b", "reason": "x"}',
        b'{"kind": "txn", "subject": "tooshort", "reason": "x"}',
        b'{"kind": "token", "subject": "' + b"x" * 801 + b'", "reason": "x"}',
        b'{"kind": "token", "subject": "\\ud800", "reason": "x"}',
    ],
)
@pytest.mark.parametrize("path", ["/withdrawals", "/releases"])
def test_a_malformed_order_is_refused_recorded_and_changes_nothing(
    content: bytes, path: str, play: Play
) -> None:
    async def scenario(world: World) -> None:
        await world.register()
        before, count = seen(world), len(world.records)
        headers = {"content-type": "application/json"}
        response = await world.call(LOCAL, "POST", path, content=content, headers=headers)
        assert response.status_code in {400, 401}, response.text
        assert response.json()["error"]
        assert seen(world) == before
        assert len(world.records) == count + 1
        assert world.last["outcome"] == "refused"

    play(scenario)


def test_a_huge_body_and_another_content_type_are_refused(play: Play) -> None:
    async def scenario(world: World) -> None:
        body = b'{"reason": "' + b"x" * (1 << 20) + b'"}'
        headers = {"content-type": "application/json"}
        for who in (LOCAL, OLGA):
            response = await world.call(who, "POST", "/withdrawals", content=body, headers=headers)
            no(response, 413, Code.BODY_TOO_LARGE)
            for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
                response = await world.call(
                    who, "POST", "/withdrawals", content=b"{}", headers={"content-type": content_type}
                )
                no(response, 400, Code.REQUEST_MALFORMED)

    play(scenario)


@pytest.mark.parametrize(
    "query", ["?surprise=1", "?human=a&human=b", "?human=", "?human=alice", "?human=%00", "?agent=a&agent=b"]
)
def test_refuses_a_query_that_is_not_understood(query: str, play: Play) -> None:
    async def scenario(world: World) -> None:
        no(await world.get(LOCAL, f"/grants{query}"), 400, Code.REQUEST_MALFORMED)
        if "agent=" not in query:
            no(await world.get(LOCAL, f"/agents{query}"), 400, Code.REQUEST_MALFORMED)

    play(scenario)


def test_no_such_endpoint_and_no_such_method_have_an_answer(play: Play) -> None:
    async def scenario(world: World) -> None:
        for who in (LOCAL, NOBODY, OLGA):
            for method, path in (("GET", "/nothing"), ("DELETE", "/agents/travel"), ("PATCH", "/grants")):
                response = await world.call(who, method, path)
                assert response.status_code in {404, 405}
                assert response.json()["code"] == Code.REQUEST_MALFORMED.value
        assert world.records == []

    play(scenario)


@pytest.mark.parametrize("issuer", ["https://idp.example/", "https://IDP.example", "https://idp.example.net"])
def test_a_person_of_no_provider_is_not_said_to_be_contained(play: Play, issuer: str) -> None:
    async def scenario(world: World) -> None:
        body = {"kind": "human", "subject": f"{issuer}#olga", "reason": "laptop lost"}
        response = await world.post(LOCAL, "/withdrawals", body)
        assert response.status_code == 400
        assert "no provider" in response.json()["error"]

    play(scenario)
