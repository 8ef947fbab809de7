"""POST /token with a delegation token and an actor: TX-08, TX-09, TX-11, ID-01, ID-04, ID-05, NR-01."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from authz.broker.token_request import ACCESS_TOKEN, JWT
from authz.codes import Code
from identity.authority import Authority
from identity.caller import Hop, KeyBinding, WorkloadBinding
from identity.jws import UnverifiedToken, sign
from identity.spiffe import SpiffeId
from tests.broker_fakes import (
    BILLING,
    BROKER,
    MESH,
    RUNNER,
    STRANGER,
    TICKETS,
    Started,
    World,
    check_refused,
    refused,
    run,
)

DELEGATED = {"subject_token_type": ACCESS_TOKEN, "actor_token_type": JWT}


async def pair(world: World) -> tuple[Started, Started, str]:
    """Two tasks for the same person, and the token of the first."""
    first, second = await world.start("triage"), await world.start("resolver")
    return first, second, await world.token(first)


async def refused_delegation(
    world: World, own: Started, token: str, actor: Started, code: Code, **form: str
) -> None:
    """Delegate, and see one refusal."""
    actor_token = await world.jwt_svid(actor)
    await refused(world, own, "invalid_request", code, token, **DELEGATED, actor_token=actor_token, **form)


# ---------------------------------------------------------------- what is issued


def test_tx11_the_output_is_bound_to_the_actors_key() -> None:
    """TX-11, CL-08: rebound to the new presenter."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        response = await world.delegate(first, token, second)
        handed = world.verified(response.json()["access_token"])
        assert handed.binding == KeyBinding(second.identity.thumbprint)
        assert second.identity.thumbprint != first.identity.thumbprint

    run(act)


def test_id01_the_chain_grows_outwards_and_the_person_stays() -> None:
    """ID-01: outermost is the presenter, innermost the first agent."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        own = world.verified(token)
        handed = world.verified((await world.delegate(first, token, second)).json()["access_token"])
        assert handed.chain == (Hop("resolver", second.id), Hop("triage", first.id))
        assert handed.client_id == "resolver"
        assert handed.human == own.human
        assert handed.txn == own.txn
        assert handed.jti != own.jti

    run(act)


def test_id05_inherited_actors_stay_as_they_were() -> None:
    """ID-05: byte for byte."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        outer: Any = UnverifiedToken.parse(handed).unverified_claims["act"]
        assert outer["act"] == UnverifiedToken.parse(token).unverified_claims["act"]

    run(act)


def test_the_record_names_both_and_the_client() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        await world.delegate(first, token, second)
        record = world.sink.last
        assert record["chain"] == [
            {"agent": "resolver", "task": second.id}, {"agent": "triage", "task": first.id}
        ]  # fmt: skip
        assert record["peer"] == str(first.identity.spiffe_id)
        assert record["token_id"] == world.verified(token).token_id
        assert record["txn"] == world.verified(token).txn

    run(act)


def test_the_policy_sees_the_whole_chain_with_the_new_presenter_first() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        await world.delegate(first, token, second)
        query = world.policy.queries[-1]
        agent: Any = query["agent"]
        chain: Any = query["chain"]
        assert agent["name"] == "resolver"
        assert [hop["name"] for hop in chain] == ["resolver", "triage"]
        assert query["task"] == {"id": second.id, "workload": str(RUNNER)}
        assert query["scopes"] == ["tickets:read", "tickets:write"]

    run(act)


def test_nr01_a_delegation_never_has_more_scopes_than_its_subject() -> None:
    """NR-01: granted is within subject.scope."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first, scope="tickets:read")
        for more in ({}, {"scope": "tickets:read tickets:write"}):
            handed = await world.delegate(first, token, second, **more)
            assert handed.json()["scope"] == "tickets:read"

    run(act)


def test_nr01_what_the_subject_lacks_cannot_be_asked_for() -> None:
    """NR-01: and the error is `invalid_scope`."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first, scope="tickets:read")
        for form in ({"scope": "tickets:write"}, {"audience": BILLING}):
            before = len(world.sink.entries) + 1  # one for the actor's JWT-SVID
            response = await world.delegate(first, token, second, **form)
            check_refused(world, response, before, "invalid_scope", Code.SCOPE_MISSING)

    run(act)


def test_cl07_no_longer_than_subject_and_actor() -> None:
    """CL-07: the least of both."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        response = await world.delegate(first, token, second)
        assert response.json()["expires_in"] == 60  # the actor's JWT-SVID
        world.clock.forward(270)
        response = await world.delegate(first, token, second)
        assert response.json()["expires_in"] == 30  # the subject

    run(act)


def test_cl07_no_longer_than_any_task_of_the_chain() -> None:
    """CL-07: also of a task that delegated long ago."""

    async def act(world: World) -> None:
        first, second = await world.start("triage", lifetime_seconds=300), await world.start("resolver")
        token = await world.token(first)
        world.clock.forward(280)
        assert (await world.delegate(first, token, second)).json()["expires_in"] == 20

    run(act)


def test_a_workload_bound_token_is_handed_on_by_its_task() -> None:
    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first, binding="workload")
        handed = await world.delegate(first, token, second)
        assert world.verified(handed.json()["access_token"]).binding == KeyBinding(second.identity.thumbprint)
        handed = await world.delegate(first, token, second, binding="workload")
        assert world.verified(handed.json()["access_token"]).binding == WorkloadBinding(RUNNER)

    run(act)


# ---------------------------------------------------------------- depth and cycles (ID-04, ID-05)


def test_id04_a_chain_of_four_and_not_of_five() -> None:
    """ID-04: over the limit is `invalid_request`; nothing is cut off."""

    async def act(world: World) -> None:
        tasks = [await world.start("triage") for _ in range(5)]
        token = await world.token(tasks[0])
        for own, actor in pairwise(tasks[:4]):
            token = (await world.delegate(own, token, actor)).json()["access_token"]
        assert len(world.verified(token).chain) == 4
        await refused_delegation(world, tasks[3], token, tasks[4], Code.CHAIN_DEPTH)
        assert len(world.sink.last["chain"]) == 5  # type: ignore[arg-type] # a record's chain is a list

    run(act)


def test_id04_an_agent_may_allow_less() -> None:
    """ID-04: the local maximum is of each agent, too."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        world.tasks.change("triage", max_depth=1)
        await refused_delegation(world, first, token, second, Code.CHAIN_DEPTH)

    run(act)


def test_id05_an_agent_does_not_come_back() -> None:
    """ID-05: a deeper cycle is denied."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        third = await world.start("triage")
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        await refused_delegation(world, second, handed, third, Code.CHAIN_CYCLE)

    run(act)


def test_nobody_delegates_to_itself() -> None:
    async def act(world: World) -> None:
        first, _, token = await pair(world)
        await refused_delegation(world, first, token, first, Code.CHAIN_CYCLE)

    run(act)


# ---------------------------------------------------------------- found tokens (TX-09, TX-11)


def test_tx09_another_task_exchanges_a_token_that_it_found() -> None:
    """TX-09: who found a token is not its presenter."""

    async def act(world: World) -> None:
        _, second, token = await pair(world)
        thief = await world.start("triage")
        await refused_delegation(world, thief, token, second, Code.NOT_BOUND)
        assert world.sink.last["peer"] == str(thief.identity.spiffe_id)
        assert world.sink.last["human"] == {"issuer": "https://idp.example", "subject": "lead"}

    run(act)


def test_tx09_the_actor_cannot_take_what_it_was_not_given() -> None:
    """TX-09: the actor itself presents the other's token and its own SVID."""

    async def act(world: World) -> None:
        _, second, token = await pair(world)
        await refused_delegation(world, second, token, second, Code.NOT_BOUND)

    run(act)


def test_tx09_a_workload_bound_token_is_not_every_task_of_the_workloads() -> None:
    """TX-09: the presenter is the task, whatever the token is bound to."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first, binding="workload")
        thief = await world.start("triage")
        await refused_delegation(world, thief, token, second, Code.NOT_BOUND)

    run(act)


def test_tx11_a_token_of_an_older_certificate_of_the_same_task() -> None:
    """TX-11: the key of `cnf` is proven, or nothing is exchanged."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        renewed = await world.renew(first)
        await refused_delegation(world, renewed, token, second, Code.NOT_BOUND)

    run(act)


def test_tx11_no_parameter_loosens_the_binding() -> None:
    """TX-11: unbound laundering: whatever is asked for, what comes out is bound."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        for form in ({"cnf": ""}, {"cnf": "{}"}, {"token_type": "N_A"}, {"binding": ""}):
            response = await world.delegate(first, token, second, **form)
            handed = world.verified(response.json()["access_token"])
            assert handed.binding == KeyBinding(second.identity.thumbprint)

    run(act)


def test_tx08_a_token_with_act_keeps_it_without_an_actor() -> None:
    """TX-08: whoever continues alone has the same chain, the same key, and no more than before."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        response = await world.exchange(second, handed, subject_token_type=ACCESS_TOKEN, scope="tickets:read")
        before, after = world.verified(handed), world.verified(response.json()["access_token"])
        assert after.chain == before.chain
        assert after.binding == before.binding
        assert (after.human, after.txn, after.grants) == (before.human, before.txn, before.grants)
        assert after.scopes == {"tickets:read"}
        assert after.expires_at <= before.expires_at

    run(act)


# ---------------------------------------------------------------- the actor


def test_the_actors_task_is_for_another_person() -> None:
    async def act(world: World) -> None:
        first = await world.start("triage", person="lead")
        second = await world.start("resolver", person="clerk")
        await refused_delegation(world, first, await world.token(first), second, Code.TASK_MISMATCH)

    run(act)


def test_the_actors_task_is_for_nobody() -> None:
    async def act(world: World) -> None:
        first = await world.start("triage")
        nightly = await world.start("nightly-report", person=None)
        await refused_delegation(world, first, await world.token(first), nightly, Code.TASK_MISMATCH)

    run(act)


@pytest.mark.parametrize("what", ["task", "agent", "host"])
def test_an_actor_that_may_not_act_any_more(what: str) -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        actor_token = await world.jwt_svid(second)
        code = Code.TASK_ENDED
        match what:
            case "task":
                world.tasks.end_task(second.id, world.clock.now)
            case "agent":
                world.tasks.retire("resolver")
                code = Code.AGENT_UNKNOWN
            case _:
                world.tasks.change("resolver", hosts=frozenset({STRANGER}))
                code = Code.AGENT_HOST
        await refused(world, first, "invalid_request", code, token, **DELEGATED, actor_token=actor_token)

    run(act)


@pytest.mark.parametrize("what", ["task", "agent"])
def test_a_chain_with_an_inner_agent_that_may_not_act_any_more(what: str) -> None:
    """TX-08: replay after the actor is disabled."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        third = await world.start("resolver")
        if what == "task":
            world.tasks.end_task(first.id, world.clock.now)
        else:
            world.tasks.retire("triage")
        code = Code.TASK_ENDED if what == "task" else Code.AGENT_UNKNOWN
        await refused_delegation(world, second, handed, third, code)

    run(act)


def test_an_actor_token_for_another_audience() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        actor_token = await world.jwt_svid(second, TICKETS)
        form = {**DELEGATED, "actor_token": actor_token}
        await refused(world, first, "invalid_request", Code.TOKEN_AUDIENCE, token, **form)

    run(act)


def test_an_expired_actor_token() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        actor_token = await world.jwt_svid(second)
        form = {**DELEGATED, "actor_token": actor_token}
        for seconds in (60, 31):  # within the leeway, and beyond it
            world.clock.forward(seconds)
            await refused(world, first, "invalid_request", Code.TOKEN_EXPIRED, token, **form)

    run(act)


def test_an_actor_token_of_a_workload() -> None:
    async def act(world: World) -> None:
        first, _, token = await pair(world)
        later = world.clock.now + timedelta(hours=1)
        actor_token = world.broker.authority.issue_jwt_svid(RUNNER, BROKER, world.clock.now, 60, later)
        form = {**DELEGATED, "actor_token": actor_token}
        await refused(world, first, "invalid_request", Code.TASK_UNKNOWN, token, **form)

    run(act)


def test_an_actor_token_of_another_trust_domain() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        now, later = world.clock.now, world.clock.now + timedelta(hours=1)
        rogue = Authority.generate(MESH, now)
        forged = rogue.issue_jwt_svid(second.identity.spiffe_id, BROKER, now, 60, later)
        form = {**DELEGATED, "actor_token": forged}
        await refused(world, first, "invalid_request", Code.TOKEN_KEY, token, **form)
        other = SpiffeId.parse(f"spiffe://other.example/agent/resolver/task/{second.id}")
        foreign = sign(
            rogue.jwt_key, "JWT", {"sub": str(other), "aud": BROKER, "exp": int(later.timestamp())}
        )
        form = {**DELEGATED, "actor_token": foreign}
        await refused(world, first, "invalid_request", Code.TOKEN_ISSUER, token, **form)

    run(act)


def test_a_delegation_token_or_an_id_token_is_no_actor_token() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        own = await world.token(second)
        form = {**DELEGATED, "actor_token": own}
        await refused(world, first, "invalid_request", Code.TOKEN_TYPE, token, **form)
        form = {**DELEGATED, "actor_token": world.id_token()}
        await refused(world, first, "invalid_request", Code.TOKEN_CLAIMS, token, **form)

    run(act)


def test_an_actor_without_a_certificate_has_nothing_to_bind_to() -> None:
    async def act(world: World) -> None:
        from dataclasses import replace

        first, second, token = await pair(world)
        actor_token = await world.jwt_svid(second)
        world.tasks.tasks[second.id] = replace(world.tasks.tasks[second.id], thumbprint=None)
        form = {**DELEGATED, "actor_token": actor_token}
        await refused(world, first, "invalid_request", Code.NOT_BOUND, token, **form)

    run(act)


# ---------------------------------------------------------------- forged subjects


def test_a_subject_signed_with_an_svid_key_is_refused() -> None:
    """The two key sets never mix: the key of JWT-SVIDs makes no token for a person."""

    async def act(world: World) -> None:
        first, second, token = await pair(world)
        claims = UnverifiedToken.parse(token).unverified_claims
        forged = sign(world.broker.authority.jwt_key, "at+jwt", claims)
        await refused_delegation(world, first, forged, second, Code.TOKEN_KEY)

    run(act)


def test_a_transaction_token_is_no_subject() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        claims = UnverifiedToken.parse(token).unverified_claims
        other = sign(world.broker.authority.token_key, "txntoken+jwt", claims)
        await refused_delegation(world, first, other, second, Code.TOKEN_TYPE)

    run(act)


def test_a_tampered_subject_is_refused() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        head, _, signature = token.rpartition(".")
        bad = signature[:-4] + ("AAAA" if signature[-4:] != "AAAA" else "BBBB")
        await refused_delegation(world, first, f"{head}.{bad}", second, Code.TOKEN_SIGNATURE)

    run(act)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        # Another issuer's token could only be a sign-in, and that is exchanged without an actor.
        ({"iss": "https://other.example"}, Code.REQUEST_MALFORMED),
        ({"aud": "https://unknown.example"}, Code.TOKEN_AUDIENCE),
        ({"aud": [TICKETS]}, Code.TOKEN_AUDIENCE),
        ({"exp": 1}, Code.TOKEN_EXPIRED),
        ({"cnf": {}}, Code.TOKEN_CLAIMS),
        ({"cnf": {"jkt": "x"}}, Code.TOKEN_CLAIMS),
        ({"may_act": {"sub": "x"}}, Code.TOKEN_CLAIMS),
        ({"act": {}}, Code.TOKEN_CLAIMS),
    ],
)
def test_a_subject_that_says_something_else(change: dict[str, object], code: Code) -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        claims = {**UnverifiedToken.parse(token).unverified_claims, **change}
        changed = sign(world.broker.authority.token_key, "at+jwt", claims)
        await refused_delegation(world, first, changed, second, code)

    run(act)


def test_a_withdrawal_between_record_and_answer_wins() -> None:
    async def act(world: World) -> None:
        first, second, token = await pair(world)
        actor_token = await world.jwt_svid(second)
        world.sink.meanwhile = lambda: world.tasks.retire("triage")
        response = await world.exchange(first, token, **DELEGATED, actor_token=actor_token)
        assert response.json()["deputy_code"] == "DPT-WITHDRAWN"
        assert world.sink.last["kind"] == "withdrawn"

    run(act)
