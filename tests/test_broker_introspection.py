"""POST /introspect (RFC 7662, RFC 9701): who may ask, what is told, and what is not: CA-07, ID-06."""

from datetime import timedelta
from typing import Any

import pytest

from authz.broker.token_request import ACCESS_TOKEN, JWT_SPIFFE
from authz.codes import Code
from identity.jws import UnverifiedToken, sign, verify
from identity.spiffe import SpiffeId
from identity.withdrawal import Kind, Withdrawal
from tests.broker_fakes import (
    BILLING,
    BILLING_SERVER,
    BROKER,
    RUNNER,
    STRANGER,
    TICKETS,
    TICKETS_SERVER,
    Identity,
    Started,
    World,
    check_refused,
    run,
)

INACTIVE = {"active": False}


async def introspect(world: World, client: Identity | None, token: str, **more: Any) -> Any:
    headers = more.pop("headers", {})
    form = {"token": token, **more}
    return await world.send("POST", "/introspect", client, data=form, headers=headers)


async def is_active(world: World, client: Identity | None, token: str) -> bool:
    """Ask, and see one record and nothing but the one word where it is not active."""
    before = len(world.sink.entries)
    response = await introspect(world, client, token)
    assert response.status_code == 200, response.text
    (entry,) = world.sink.entries[before:]
    record = entry.members(1, "")
    body = response.json()
    assert record["effect"] == ("allow" if body["active"] else "deny")
    assert record["issued"] is None
    assert len(token) < 20 or token not in str(record)
    assert body["active"] or body == INACTIVE
    return bool(body["active"])


async def issued(world: World) -> tuple[Started, str]:
    task = await world.start()
    return task, await world.token(task)


def withdraw(world: World, kind: Kind, subject: str, before: int | None = None) -> None:
    now = world.clock.now
    world.tasks.withdraw(Withdrawal(kind, subject, before, "a drill", "tests", now), now)


def test_ca07_the_service_is_told_all_that_it_needs() -> None:
    """CA-07, ID-06: the members of RFC 7662, the whole chain, and that it is whole."""

    async def act(world: World) -> None:
        task, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        response = await introspect(world, service, token)
        claims = UnverifiedToken.parse(token).unverified_claims
        assert response.headers["content-type"] == "application/json"
        assert response.headers["cache-control"] == "no-store"
        hidden = {"min_epoch", "grants", "parents"}
        assert response.json() == {
            "active": True,
            "token_type": "Bearer",
            "chain_complete": True,
            **{name: value for name, value in claims.items() if name not in hidden},
        }
        assert response.json()["cnf"] == {"x5t#S256": task.identity.thumbprint}
        assert world.sink.last["peer"] == str(TICKETS_SERVER)
        assert world.sink.last["resource"] == {"name": "tickets", "service": "tickets", "type": "server"}

    run(act)


def test_ca07_whom_a_token_concerns() -> None:
    """CA-07: its service, its presenter, and the workload of that; to everybody else it does not exist."""

    async def act(world: World) -> None:
        task, token = await issued(world)
        other = await world.start("resolver")
        asked = {
            TICKETS_SERVER: world.workload(TICKETS_SERVER),
            RUNNER: world.runner,
            BILLING_SERVER: world.workload(BILLING_SERVER),
            STRANGER: world.workload(STRANGER),
        }
        told = {spiffe_id: await is_active(world, client, token) for spiffe_id, client in asked.items()}
        assert told == {TICKETS_SERVER: True, RUNNER: True, BILLING_SERVER: False, STRANGER: False}
        assert await is_active(world, task.identity, token)
        assert not await is_active(world, other.identity, token)
        assert world.sink.last["code"] == "DPT-NOT-BOUND"

    run(act)


def test_ca07_a_token_handed_on_is_no_more_the_first_ones() -> None:
    """CA-07: the presenter is the outermost, not everybody in the chain."""

    async def act(world: World) -> None:
        first, token = await issued(world)
        second = await world.start("resolver")
        handed = str((await world.delegate(first, token, second)).json()["access_token"])
        assert await is_active(world, second.identity, handed)
        assert not await is_active(world, first.identity, handed)

    run(act)


def test_ca07_a_task_asks_with_a_jwt_svid() -> None:
    """CA-07, CA-01: the login is that of the token endpoint."""

    async def act(world: World) -> None:
        task, token = await issued(world)
        login = {"client_assertion": await world.jwt_svid(task), "client_assertion_type": JWT_SPIFFE}
        assert (await introspect(world, None, token, **login)).json()["active"] is True
        wrong = {**login, "client_assertion": await world.jwt_svid(task, TICKETS)}
        before = len(world.sink.entries)
        response = await introspect(world, None, token, **wrong)
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
        assert len(world.sink.entries) == before + 1

    run(act)


def test_ca07_nobody_asks_without_a_login() -> None:
    """CA-07: the caller is authenticated."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        before = len(world.sink.entries)
        response = await introspect(world, None, token)
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
        assert response.json()["deputy_code"] == Code.PEER_MISSING.value
        assert world.sink.entries[before].of_stranger

    run(act)


@pytest.mark.parametrize("path", ["/agent/triage", "/agent/triage/task/01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_ca07_an_agent_is_no_workload(path: str) -> None:
    """CA-07: an identity below /agent/ that is no running task asks nothing."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        identity = world.workload(SpiffeId.parse("spiffe://mesh.example" + path))
        assert (await introspect(world, identity, token)).status_code == 401

    run(act)


@pytest.mark.parametrize("what", ["end", "expire", "retire", "agent-expired", "depth", "forget"])
def test_ca07_what_ended_is_inactive(what: str) -> None:
    """CA-07: as at `Check`, and nothing says why."""

    async def act(world: World) -> None:
        task, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        assert await is_active(world, service, token)
        match what:
            case "end":
                world.tasks.end_task(task.id, world.clock.now)
            case "expire":
                world.clock.forward(331)
            case "retire":
                world.tasks.retire("triage")
            case "agent-expired":
                world.tasks.change("triage", expires_at=world.clock.now)
            case "depth":
                world.tasks.change("triage", max_depth=0)
            case _:
                del world.tasks.tasks[task.id]
        assert not await is_active(world, service, token)

    run(act)


@pytest.mark.parametrize(
    "kind", ["token", "txn", "task", "grant", "agent", "workload", "human", "human-until"]
)
def test_ca07_what_was_withdrawn_is_inactive(kind: Any) -> None:
    """CA-07: each kind of withdrawal, at once."""

    async def act(world: World) -> None:
        task, text = await issued(world)
        token = world.verified(text)
        service = world.workload(TICKETS_SERVER)
        subjects = {
            "token": token.jti,
            "txn": token.txn,
            "task": task.id,
            "grant": token.grants[0] if token.grants else "",
            "agent": "triage",
            "workload": str(RUNNER),
            "human": token.human.uri,
            "human-until": token.human.uri,
        }
        until = int(world.clock.now.timestamp()) if kind == "human-until" else None
        assert await is_active(world, service, text)
        withdraw(world, kind.removesuffix("-until"), subjects[kind], until)
        assert not await is_active(world, service, text)

    run(act)


def test_ca07_a_service_that_is_contained_is_told_nothing() -> None:
    """CA-07: whoever was stopped asks nothing."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        withdraw(world, "workload", str(TICKETS_SERVER))
        response = await introspect(world, service, token)
        assert (response.status_code, response.json()["deputy_code"]) == (401, "DPT-CONTAINED")

    run(act)


def test_ca07_a_token_of_a_later_epoch_is_inactive() -> None:
    """CA-07: a state that was restored does not know what was taken back since."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        world.tasks.epoch = 0
        assert not await is_active(world, world.workload(TICKETS_SERVER), token)
        assert world.sink.last["code"] == Code.STALE.value

    run(act)


def test_ca07_what_is_no_token_of_ours_is_inactive() -> None:
    """CA-07: unknown, forged, of another kind: one answer."""

    async def act(world: World) -> None:
        task, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        claims = dict(UnverifiedToken.parse(token).unverified_claims)
        authority = world.broker.authority
        foreign = {"iss": "https://x.example"}
        for other in (
            "x",
            "a.b.c",
            "x" * 9000,
            world.id_token(),
            await world.jwt_svid(task),
            sign(authority.jwt_key, "at+jwt", claims),
            sign(authority.token_key, "at+jwt", claims | {"aud": "https://unknown.example"}),
            sign(authority.token_key, "at+jwt", claims | {"aud": [TICKETS]}),
            sign(authority.token_key, "at+jwt", claims | foreign),
            sign(authority.token_key, "oauth-id-jag+jwt", claims),
            sign(authority.token_key, "token-introspection+jwt", claims),
        ):
            assert not await is_active(world, service, other)
        nested: object = {}
        for _ in range(30):
            nested = {"act": nested}
        assert not await is_active(
            world, service, sign(authority.token_key, "at+jwt", claims | {"act": nested})
        )

    run(act)


def test_ca07_a_token_for_another_audience_is_that_services() -> None:
    """CA-07: the service of the audience, not whoever is named in a scope."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task, audience=BILLING, scope="billing:read tickets:read")
        assert await is_active(world, world.workload(BILLING_SERVER), token)
        assert not await is_active(world, world.workload(TICKETS_SERVER), token)

    run(act)


@pytest.mark.parametrize(
    "accept",
    [
        "application/token-introspection+jwt",
        "APPLICATION/Token-Introspection+JWT",
        "application/json;q=0.5, application/token-introspection+jwt;q=1",
    ],
)
def test_ca07_a_signed_answer(accept: str) -> None:
    """CA-07: RFC 9701; it is for who asked, and its type keeps it from being anything else (JW-04)."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        for text, active in ((token, True), ("x", False)):
            response = await introspect(world, service, text, headers={"accept": accept})
            assert response.headers["content-type"] == "application/token-introspection+jwt"
            assert response.headers["cache-control"] == "no-store"
            signed = verify(
                UnverifiedToken.parse(response.text),
                world.broker.authority.token_keys,
                typ=frozenset({"token-introspection+jwt"}),
            )
            assert signed.claims.keys() == {"iss", "aud", "iat", "token_introspection"}
            assert (signed.claims["iss"], signed.claims["aud"]) == (BROKER, str(TICKETS_SERVER))
            told: Any = signed.claims["token_introspection"]
            assert told["active"] is active
            assert active or told == INACTIVE
            task = await world.start()
            kind = {"subject_token_type": ACCESS_TOKEN}
            assert (await world.exchange(task, response.text, **kind)).status_code == 400

    run(act)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*", "text/html", "x" * 4000])
def test_ca07_nobody_gets_a_signed_answer_unasked(accept: str) -> None:
    """CA-07: JSON is what everybody reads."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        response = await introspect(world, service, token, headers={"accept": accept})
        assert response.headers["content-type"] == "application/json"

    run(act)


@pytest.mark.parametrize("path", ["/introspect", "/revoke"])
def test_ca07_the_form_of_a_request(path: str) -> None:
    """CA-07: what is not one form with one token is refused, with one record."""

    async def act(world: World) -> None:
        service = world.workload(TICKETS_SERVER)
        form = "application/x-www-form-urlencoded"
        for content, kind, query, headers in (
            (b"", form, "", {}),
            (b"token=", form, "", {}),
            (b"token=a&token=a", form, "", {}),
            (b"token=a&token_type_hint=x&token_type_hint=x", form, "", {}),
            (b"token=a", "application/json", "", {}),
            (b"token=a", "text/plain", "", {}),
            (b"token=a", form, "?token=a", {}),
            (b"token=a", form, "", {"authorization": "Bearer x"}),
            (b"token=a&client_secret=x", form, "", {}),
            (b"token=a&client_assertion=x", form, "", {}),
            (b"{", form, "", {}),
        ):
            before = len(world.sink.entries)
            response = await world.send(
                "POST", path + query, service, content=content, headers={"content-type": kind, **headers}
            )
            check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)
        before = len(world.sink.entries)
        response = await world.send("POST", path, service, data={"token": "a" * (1 << 20)})
        assert (response.status_code, len(world.sink.entries)) == (413, before + 1)
        for method in ("GET", "PUT", "DELETE"):
            assert (await world.send(method, path, service)).status_code == 405

    run(act)


def test_ca07_without_a_record_nothing_is_told() -> None:
    """CA-07: what cannot be recorded is not answered."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        world.sink.broken = True
        response = await introspect(world, service, token)
        assert response.status_code == 503
        assert "active" not in response.json()

    run(act)


def test_ca07_a_withdrawal_while_it_is_recorded_wins() -> None:
    """CA-07: nobody is told "active" of what was taken back meanwhile."""

    async def act(world: World) -> None:
        task, token = await issued(world)
        service = world.workload(TICKETS_SERVER)
        world.sink.meanwhile = lambda: world.tasks.end_task(task.id, world.clock.now)
        response = await introspect(world, service, token)
        assert (response.status_code, response.json()["deputy_code"]) == (503, "DPT-WITHDRAWN")

    run(act)


def test_ca07_a_service_keeps_asking_while_a_certificate_counts() -> None:
    """CA-07: an expired certificate is no login."""

    async def act(world: World) -> None:
        _, token = await issued(world)
        service = world.workload(TICKETS_SERVER, ttl=60)
        world.clock.now += timedelta(seconds=61)
        assert (await introspect(world, service, token)).status_code == 401

    run(act)
