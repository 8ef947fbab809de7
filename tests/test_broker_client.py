"""POST /token: who may ask, for whom, what the policy says, and the record: CA-02, CA-04, TX-06, TX-10."""

from dataclasses import replace

import pytest

from authz.broker.provider_keys import ProviderUnavailableError
from authz.broker.token_request import ACCESS_TOKEN, ID_TOKEN, JWT
from authz.codes import Code
from authz.errors import PolicyRevisionError, PolicyShapeError, PolicyUnavailableError
from identity.authority import Authority
from identity.spiffe import SpiffeId, agent_task_id
from tests.broker_fakes import (
    BILLING,
    MESH,
    RUNNER,
    SETTINGS,
    STRANGER,
    Started,
    World,
    check_refused,
    id_token_with,
    refused,
    run,
)

# ---------------------------------------------------------------- the client (CA-02, CA-04)


def test_ca02_no_certificate() -> None:
    """CA-02: nobody is a client."""

    async def act(world: World) -> None:
        response = await world.send("POST", "/token", None, data={"grant_type": "x"})
        assert response.status_code == 401
        assert response.json()["error"] == "invalid_client"
        assert response.json()["deputy_code"] == "DPT-PEER-MISSING"
        assert world.sink.entries[-1].of_stranger

    run(act)


def test_ca02_a_workloads_certificate_is_not_a_tasks() -> None:
    """CA-02: a workload starts tasks, and gets no token."""

    async def act(world: World) -> None:
        task = Started("", world.runner, {})
        await refused(world, task, "invalid_client", Code.TASK_UNKNOWN)

    run(act)


@pytest.mark.parametrize(
    "path", ["/agent/triage", "/agent/triage/task/lower", "/agent/triage/task/01ARZ3NDEKTSV4RRFFQ69G5FAV/x"]
)
def test_ca02_an_id_that_only_looks_like_a_tasks(path: str) -> None:
    """CA-02: the SPIFFE ID is read whole."""

    async def act(world: World) -> None:
        identity = world.workload(SpiffeId.parse("spiffe://mesh.example" + path))
        await refused(world, Started("", identity, {}), "invalid_client", Code.TASK_UNKNOWN)

    run(act)


def test_ca02_a_certificate_of_another_authority_ends_in_the_handshake() -> None:
    """CA-02: the bundle is that of the trust domain."""

    async def act(world: World) -> None:
        import httpx2

        task = await world.start()
        rogue = Authority.generate(MESH, world.clock.now)
        identity = world.workload(task.identity.spiffe_id, rogue)
        with pytest.raises(httpx2.TransportError):
            await world.exchange(Started(task.id, identity, {}))

    run(act)


def test_ca02_a_certificate_that_expired_on_an_open_connection() -> None:
    """CA-02: TLS looked at it once; the application looks at each request."""

    async def act(world: World) -> None:
        task = await world.start()
        world.clock.forward(601)
        response = await world.exchange(task)
        assert response.status_code == 401
        assert response.json()["deputy_code"] == "DPT-PEER-MISSING"

    run(act)


def test_ca02_a_certificate_of_an_unknown_task() -> None:
    """CA-02: a right certificate of a task that nobody started."""

    async def act(world: World) -> None:
        task_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
        identity = world.workload(agent_task_id(MESH, "triage", task_id))
        await refused(world, Started(task_id, identity, {}), "invalid_client", Code.TASK_UNKNOWN)

    run(act)


def test_ca02_a_certificate_with_the_task_of_another_agent() -> None:
    """CA-02: agent and task belong together."""

    async def act(world: World) -> None:
        task = await world.start("triage")
        identity = world.workload(agent_task_id(MESH, "resolver", task.id))
        await refused(world, Started(task.id, identity, {}), "invalid_client", Code.TASK_MISMATCH)

    run(act)


@pytest.mark.parametrize(
    "client_id",
    [
        "resolver",
        "triag",
        "spiffe://mesh.example/agent/resolver",
        "spiffe://mesh.example/agent/triage/task/x",
    ],
)
def test_ca02_client_id_of_another(client_id: str) -> None:
    """CA-02: `client_id` is that of the certificate, or absent."""

    async def act(world: World) -> None:
        await refused(world, await world.start(), "invalid_client", Code.TASK_MISMATCH, client_id=client_id)

    run(act)


@pytest.mark.parametrize("authorization", ["Basic dHJpYWdlOng=", "Bearer x", ""])
def test_ca04_a_second_login_in_a_header(authorization: str) -> None:
    """CA-04: `Authorization` beside the certificate is refused."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        headers = {"authorization": authorization}
        response = await world.send("POST", "/token", task.identity, data={"a": "b"}, headers=headers)
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)


# ---------------------------------------------------------------- what has ended, and who may not any more


def test_an_ended_task_gets_nothing() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.end_task(task.id, world.clock.now)
        await refused(world, task, "invalid_client", Code.TASK_ENDED)

    run(act)


def test_a_retired_agent_gets_nothing() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.retire("triage")
        await refused(world, task, "invalid_client", Code.AGENT_UNKNOWN)

    run(act)


def test_an_expired_agent_gets_nothing() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.change("triage", expires_at=world.clock.now)
        await refused(world, task, "invalid_client", Code.AGENT_EXPIRED)

    run(act)


def test_a_task_whose_workload_may_not_host_the_agent_any_more_gets_nothing() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.change("triage", hosts=frozenset({STRANGER}))
        await refused(world, task, "invalid_client", Code.AGENT_HOST)

    run(act)


# ---------------------------------------------------------------- the person


def test_a_token_of_another_person_than_the_tasks() -> None:
    async def act(world: World) -> None:
        task = await world.start(person="lead")
        clerk = world.id_token("clerk")
        await refused(world, task, "invalid_request", Code.TASK_MISMATCH, clerk)
        assert world.sink.last["human"] == {"issuer": "https://idp.example", "subject": "clerk"}

    run(act)


def test_a_task_for_nobody_gets_no_persons_token() -> None:
    """An autonomous agent cannot find a human on the way."""

    async def act(world: World) -> None:
        task = await world.start("nightly-report", person=None)
        await refused(world, task, "invalid_request", Code.TASK_MISMATCH)

    run(act)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"aud": "somebody-else"}, Code.TOKEN_AUDIENCE),
        ({"iss": "https://evil.example"}, Code.TOKEN_ISSUER),
        ({"act": {"sub": "x"}}, Code.TOKEN_CLAIMS),
        ({"may_act": {"sub": "x"}}, Code.MAY_ACT),
        ({"cnf": {"jkt": "x"}}, Code.TOKEN_CLAIMS),
        ({"typ_": "at+jwt"}, Code.TOKEN_TYPE),
        ({"exp": 1}, Code.TOKEN_EXPIRED),
    ],
)
def test_tx06_a_bad_subject_token_is_an_invalid_request(claims: dict[str, object], code: Code) -> None:
    """TX-06: RFC 8693 section 2.2.2."""

    async def act(world: World) -> None:
        task, now = await world.start(), int(world.clock.now.timestamp())
        token = id_token_with(world.provider, **{"iat": now, "exp": now + 60, **claims})
        await refused(world, task, "invalid_request", code, token)

    run(act)


def test_an_svid_is_no_subject_token() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        svid = await world.jwt_svid(task)
        await refused(world, task, "invalid_request", Code.TOKEN_ISSUER, svid)
        kind = {"subject_token_type": ACCESS_TOKEN}
        await refused(world, task, "invalid_request", Code.TOKEN_ISSUER, svid, **kind)
        delegated = {**kind, "actor_token": svid, "actor_token_type": JWT}
        await refused(world, task, "invalid_request", Code.REQUEST_MALFORMED, svid, **delegated)

    run(act)


def test_a_delegation_token_is_no_id_token() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        kind = {"subject_token_type": ID_TOKEN}
        await refused(world, task, "invalid_request", Code.TOKEN_ISSUER, token, **kind)

    run(act)


def test_a_provider_that_is_down_is_no_reason_to_believe_anybody() -> None:
    async def act(world: World) -> None:
        task = await world.start("nightly-report", person=None)
        world.web.break_down()
        await refused(world, task, "temporarily_unavailable", ProviderUnavailableError("").code)
        assert "down" in str(world.sink.last["detail"])

    run(act)


# ---------------------------------------------------------------- the policy (TX-10)


def test_tx10_the_policy_is_asked_with_everybody_in_it() -> None:
    """TX-10: person, agent and chain, not the client alone."""

    async def act(world: World) -> None:
        task = await world.start()
        await world.exchange(task, scope="tickets:read")
        query = world.policy.queries[-1]
        assert query["phase"] == "exchange"
        assert query["human"] == {
            "issuer": "https://idp.example",
            "subject": "lead",
            "uri": "https://idp.example#lead",
            "groups": ["lead"],
            "acr": "urn:mace:incommon:iap:silver",
            "auth_time": int(world.clock.now.timestamp()),
        }
        assert query["agent"] == {
            "name": "triage",
            "ceiling": "contributor",
            "autonomous": False,
            "owner": "team",
        }
        assert query["chain"] == [{"name": "triage", "ceiling": "contributor"}]
        assert query["task"] == {"id": task.id, "workload": str(RUNNER)}
        assert query["peer"] == str(task.identity.spiffe_id)
        assert query["resource"] == {"service": "tickets", "type": "server", "name": "tickets"}
        assert (query["binding"], query["scopes"]) == ("key", ["tickets:read"])

    run(act)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Code.HUMAN_NOT_GRANTED, "invalid_request"),
        (Code.AGENT_TIER, "invalid_request"),
        (Code.CHAIN_NARROWED, "invalid_request"),
        (Code.DENIED, "invalid_request"),
        (Code.AGENT_NOT_GRANTED, "invalid_target"),
        (Code.SERVICE_UNKNOWN, "invalid_target"),
    ],
)
def test_tx06_what_the_policy_refuses(code: Code, error: str) -> None:
    """TX-06: the error by the code; the target has an error of its own."""

    async def act(world: World) -> None:
        task = await world.start()
        world.policy.deny(code)
        await refused(world, task, error, code)
        assert "insides of the policy" in str(world.sink.last["detail"])
        assert world.sink.last["rule"] == "some.rule"

    run(act)


def test_what_needs_an_approval_is_refused() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.policy.deny(Code.APPROVAL_REQUIRED, "approve")
        await refused(world, task, "invalid_request", Code.APPROVAL_REQUIRED)

    run(act)


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (PolicyUnavailableError("OPA is down"), Code.POLICY_UNAVAILABLE),
        (PolicyRevisionError(), Code.POLICY_REVISION),
        (PolicyShapeError(), Code.POLICY_SHAPE),
        (RuntimeError("inside"), Code.INTERNAL),
    ],
)
def test_without_a_policy_nothing_is_issued(raised: Exception, code: Code) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.policy.verdict = raised
        await refused(world, task, "temporarily_unavailable", code)
        assert (await world.exchange(task)).headers["retry-after"] == "1"

    run(act)


# ---------------------------------------------------------------- record before answer, and races


def test_without_a_record_nothing_is_issued() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.sink.broken = True
        response = await world.exchange(task)
        assert response.status_code == 503
        assert "access_token" not in response.json()
        assert response.json()["deputy_code"] == "DPT-AUDIT-UNAVAILABLE"
        assert response.json()["error"] == "temporarily_unavailable"

    run(act)


def test_a_refusal_that_cannot_be_recorded_is_a_503() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.sink.broken = True
        response = await world.exchange(task, audience="unknown")
        assert (response.status_code, response.json()["deputy_code"]) == (503, "DPT-AUDIT-UNAVAILABLE")

    run(act)


def test_a_withdrawal_while_it_is_decided_wins() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.policy.meanwhile = lambda: world.tasks.end_task(task.id, world.clock.now)
        before = len(world.sink.entries)
        response = await world.exchange(task)
        assert (response.status_code, response.json()["deputy_code"]) == (401, "DPT-TASK-ENDED")
        assert "access_token" not in response.json()
        (entry,) = world.sink.entries[before:]
        assert (entry.kind, entry.fields["effect"]) == ("exchange", "deny")

    run(act)


def test_a_withdrawal_while_it_is_recorded_wins() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        world.sink.meanwhile = lambda: world.tasks.end_task(task.id, world.clock.now)
        before = len(world.sink.entries)
        response = await world.exchange(task)
        assert (response.status_code, response.json()["deputy_code"]) == (503, "DPT-WITHDRAWN")
        assert "access_token" not in response.json()
        allowed, withdrawn = (entry.members(1, "") for entry in world.sink.entries[before:])
        assert (allowed["kind"], allowed["effect"]) == ("exchange", "allow")
        assert (withdrawn["kind"], withdrawn["effect"]) == ("withdrawn", "deny")
        assert withdrawn["withdraws"] == allowed["id"]

    run(act)


def test_strangers_leave_few_and_short_records() -> None:
    async def act(world: World) -> None:
        for _ in range(30):
            response = await world.send("POST", "/token", None, data={"x": "y" * 3000})
            assert response.status_code == 401
        assert len(world.sink.entries) == 10
        assert all(entry.of_stranger for entry in world.sink.entries)

    run(act)


def test_the_settings_bound_the_lifetime() -> None:
    async def act(world: World) -> None:
        assert (await world.exchange(await world.start())).json()["expires_in"] == 20

    run(act, settings=replace(SETTINGS, delegation_token_seconds=20))


def test_billing_is_another_service() -> None:
    async def act(world: World) -> None:
        task = await world.start("resolver")
        token = await world.token(task, audience=BILLING)
        assert world.verified(token, BILLING).scopes == {"billing:read"}

    run(act)
