"""POST /token with a person's ID token: what is issued, and its HTTP form: TX-01, TX-05, CL, NR, JW-05."""

from typing import Any

import pytest

from authz.broker.token_request import ACCESS_TOKEN
from authz.codes import Code
from authz.policy.verdict import Verdict
from identity.caller import Human, KeyBinding, WorkloadBinding
from identity.jws import UnverifiedToken
from tests.broker_fakes import (
    BROKER,
    RUNNER,
    TICKETS,
    World,
    check_refused,
    consent,
    id_token_with,
    refused,
    run,
)

# ---------------------------------------------------------------- what is issued


def test_tx05_the_answer() -> None:
    """TX-05: its members, and no refresh token."""

    async def act(world: World) -> None:
        response = await world.exchange(await world.start())
        body = response.json()
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        assert set(body) == {
            "access_token", "issued_token_type", "token_type", "expires_in", "scope", "decision_id"
        }  # fmt: skip
        assert body["issued_token_type"] == ACCESS_TOKEN
        assert body["token_type"] == "Bearer"
        assert body["expires_in"] == 300
        assert body["scope"] == "tickets:read tickets:write"

    run(act)


def test_cl01_the_claims_name_the_person_and_the_agent() -> None:
    """CL-01: the claims of RFC 9068."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        unverified = UnverifiedToken.parse(token)
        now = int(world.clock.now.timestamp())
        claims = dict(unverified.unverified_claims)
        assert unverified.typ == "at+jwt"
        assert claims.pop("jti") != claims.pop("txn")
        assert claims == {
            "iss": BROKER,
            "sub": "https://idp.example#lead",
            "sub_profile": "user",
            "min_epoch": 1,
            "aud": TICKETS,
            "client_id": "triage",
            "scope": "tickets:read tickets:write",
            "iat": now,
            "exp": now + 300,
            "cnf": {"x5t#S256": task.identity.thumbprint},
            "act": {
                "iss": BROKER,
                "sub": "spiffe://mesh.example/agent/triage",
                "sub_profile": "ai_agent",
                "agent_instance": task.id,
            },
            "task": task.id,
            "grants": [consent("triage").id],
            "groups": ["lead"],
            "acr": "urn:mace:incommon:iap:silver",
            "auth_time": now,
        }
        verified = world.verified(token)
        assert verified.binding == KeyBinding(task.identity.thumbprint)
        assert verified.human == Human(
            "https://idp.example", "lead", ("lead",), "urn:mace:incommon:iap:silver", now
        )

    run(act)


def test_an_exchange_leaves_one_record_without_a_token_in_it() -> None:
    async def act(world: World) -> None:
        task, id_token = await world.start(), world.id_token()
        before = len(world.sink.entries)
        response = await world.exchange(task, id_token)
        token = response.json()["access_token"]
        verified = world.verified(token)
        (entry,) = world.sink.entries[before:]
        record = entry.members(1, "")
        assert record["kind"] == "exchange"
        assert (record["effect"], record["code"]) == ("allow", "DPT-ALLOWED")
        assert record["id"] == response.json()["decision_id"]
        assert record["human"] == {"issuer": "https://idp.example", "subject": "lead"}
        assert (record["agent"], record["task"]) == ("triage", task.id)
        assert record["chain"] == [{"agent": "triage", "task": task.id}]
        assert record["peer"] == str(task.identity.spiffe_id)
        assert record["binding"] == "key"
        assert record["policy"] == world.policy.revision
        assert (record["txn"], record["txn_jti"]) == (verified.txn, verified.jti)
        assert record["token_id"] == UnverifiedToken.parse(id_token).token_id
        issued: Any = record["issued"]
        assert issued["token_id"] == verified.token_id
        assert (issued["kind"], issued["audience"]) == ("delegation-token", TICKETS)
        assert issued["scopes"] == ["tickets:read", "tickets:write"]
        assert token not in str(record)
        assert id_token not in str(record)

    run(act)


def test_cl06_each_token_has_a_jti_and_each_sign_in_a_txn_of_its_own() -> None:
    """CL-06: `jti` is unique; `txn` names one sign-in with all that comes of it."""

    async def act(world: World) -> None:
        task = await world.start()
        tokens = [world.verified(await world.token(task)) for _ in range(3)]
        assert len({token.jti for token in tokens}) == 3
        assert len({token.txn for token in tokens}) == 3

    run(act)


def test_binding_workload_binds_to_the_workload_that_started_the_task() -> None:
    async def act(world: World) -> None:
        task = await world.start()
        token = world.verified(await world.token(task, binding="workload"))
        assert token.binding == WorkloadBinding(RUNNER)
        assert world.policy.queries[-1]["binding"] == "workload"
        assert world.sink.last["binding"] == "workload"

    run(act)


@pytest.mark.parametrize("kind", ["name", "class", "instance"])
def test_client_id_may_name_the_client(kind: str) -> None:
    async def act(world: World) -> None:
        task = await world.start()
        names = {
            "name": "triage",
            "class": "spiffe://mesh.example/agent/triage",
            "instance": str(task.identity.spiffe_id),
        }
        assert (await world.exchange(task, client_id=names[kind])).status_code == 200

    run(act)


# ---------------------------------------------------------------- lifetimes (CL-07)


def test_cl07_no_longer_than_the_sign_in() -> None:
    """CL-07: the ID token's end."""

    async def act(world: World) -> None:
        task = await world.start()
        now = int(world.clock.now.timestamp())
        id_token = id_token_with(world.provider, iat=now, exp=now + 3)
        response = await world.exchange(task, id_token)
        assert response.json()["expires_in"] == 3

    run(act)


def test_cl07_no_longer_than_the_task() -> None:
    """CL-07: the task's deadline."""

    async def act(world: World) -> None:
        task = await world.start(lifetime_seconds=100)
        assert (await world.exchange(task)).json()["expires_in"] == 100

    run(act)


def test_cl07_no_longer_than_the_certificate_that_it_is_bound_to() -> None:
    """CL-07: the certificate's end."""

    async def act(world: World) -> None:
        task = await world.start()
        world.clock.forward(500)
        assert (await world.exchange(task)).json()["expires_in"] == 100

    run(act)


def test_cl07_a_sign_in_that_the_leeway_forgives_gives_no_token() -> None:
    """CL-07: the leeway lengthens no life."""

    async def act(world: World) -> None:
        task = await world.start()
        now = int(world.clock.now.timestamp())
        id_token = id_token_with(world.provider, iat=now - 60, exp=now - 1)
        await refused(world, task, "invalid_request", Code.TOKEN_EXPIRED, id_token)

    run(act)


# ---------------------------------------------------------------- scopes and targets (NR)


@pytest.mark.parametrize(
    ("scope", "given"),
    [
        ("tickets:read", "tickets:read"),
        ("tickets:read tickets:write", "tickets:read tickets:write"),
        ("tickets:read tickets:destroy", "tickets:read"),
        ("tickets:read billing:read", "billing:read tickets:read"),
        ("tickets:read tickets:rea tickets:read:x TICKETS:READ", "tickets:read"),
    ],
)
def test_nr01_scopes_only_narrow(scope: str, given: str) -> None:
    """NR-01: requested, held, allowed: what is in all three."""

    async def act(world: World) -> None:
        response = await world.exchange(await world.start(), scope=scope)
        assert response.json()["scope"] == given

    run(act)


@pytest.mark.parametrize("scope", ["tickets:destroy", "billing:read", "tickets", "tickets:*", "*"])
def test_nr01_nothing_left_is_an_error(scope: str) -> None:
    """NR-01: the person granted something here, so it is the scope that asks for too much."""

    async def act(world: World) -> None:
        await refused(world, await world.start(), "invalid_scope", Code.CONSENT_MISSING, scope=scope)

    run(act)


def test_nr02_a_policy_that_names_no_scopes_allows_none() -> None:
    """NR-02: unknown is not unlimited."""

    async def act(world: World) -> None:
        task = await world.start()
        world.policy.verdict = Verdict("allow")
        await refused(world, task, "invalid_scope", Code.SCOPE_MISSING)

    run(act)


@pytest.mark.parametrize(
    "audience",
    [
        "https://other.example",
        "tickets",
        TICKETS + "/x",
        TICKETS + "?",
        TICKETS + ":8443",
        TICKETS.replace("https", "http"),
        BROKER,
        "https://tickets.mesh.example#x",
        "*",
    ],
)
def test_nr03_an_unknown_audience_is_an_invalid_target(audience: str) -> None:
    """NR-03: compared exactly."""

    async def act(world: World) -> None:
        await refused(world, await world.start(), "invalid_target", Code.SERVICE_UNKNOWN, audience=audience)

    run(act)


@pytest.mark.parametrize("audience", [TICKETS + "/", TICKETS.upper(), TICKETS + ":443", TICKETS + ":443/"])
def test_nr03_targets_are_compared_in_normal_form(audience: str) -> None:
    """NR-03: RFC 3986 section 6.2; the token names the service as it is configured."""

    async def act(world: World) -> None:
        token = await world.token(await world.start(), audience=audience)
        assert world.verified(token).audience == TICKETS

    run(act)


# ---------------------------------------------------------------- the HTTP form (TX-01)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_tx01_another_method(method: str) -> None:
    """TX-01: POST only."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        response = await world.send(method, "/token", task.identity)
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)


def test_tx01_parameters_in_the_query() -> None:
    """TX-01: a URL is logged by everybody on the way."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        response = await world.send("POST", "/token?audience=x", task.identity, data={"a": "b"})
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
        "",
        "application/x-www-form-urlencoded, text/plain",
    ],
)
def test_tx01_another_content_type(content_type: str) -> None:
    """TX-01: a form, and nothing else."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        headers = {"content-type": content_type}
        response = await world.send("POST", "/token", task.identity, content=b"a=b", headers=headers)
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)


def test_tx01_two_content_types() -> None:
    """TX-01: which of two counts is not guessed."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        form = ("content-type", "application/x-www-form-urlencoded")
        response = await world.send("POST", "/token", task.identity, content=b"a=b", headers=[form, form])
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)


def test_tx03_a_repeated_parameter_over_http() -> None:
    """TX-03: refused as it comes, before anything is verified."""

    async def act(world: World) -> None:
        task = await world.start()
        token = world.id_token()
        await refused(
            world,
            task,
            "invalid_request",
            Code.REQUEST_MALFORMED,
            subject_token=[token, token],  # type: ignore[arg-type] # httpx sends a list as a repeated parameter
        )

    run(act)


def test_jw05_a_token_of_1_mib() -> None:
    """JW-05: refused by its size."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        response = await world.exchange(task, "a" * (1 << 20))
        assert response.status_code == 413
        assert response.json()["error"] == "invalid_request"
        assert response.json()["deputy_code"] == "DPT-BODY-TOO-LARGE"
        assert len(world.sink.entries) == before + 1

    run(act)


@pytest.mark.parametrize(
    "token",
    ["a", "a.b", "a.b.c", "a" * 9000, "é.b.c", "eyJhbGciOiJFUzI1NiJ9..", "\0", "../../etc/passwd"],
)
def test_jw05_a_malformed_token(token: str) -> None:
    """JW-05: refused before crypto."""

    async def act(world: World) -> None:
        await refused(world, await world.start(), "invalid_request", Code.TOKEN_MALFORMED, token)

    run(act)
