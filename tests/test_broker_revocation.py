"""POST /revoke (RFC 7009): who may take back what, and what falls with it: CA-07, TX-08."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authz.broker import revocation
from authz.broker.token_request import ACCESS_TOKEN, JWT_SPIFFE
from authz.codes import Code
from identity.delegation import MAX_PARENTS
from identity.jws import UnverifiedToken, sign
from identity.withdrawal import Withdrawal
from tests.broker_fakes import (
    BILLING,
    BROKER,
    RUNNER,
    SETTINGS,
    STRANGER,
    TICKETS_SERVER,
    Identity,
    Started,
    World,
    check_refused,
    run,
)

CONTINUED = {"subject_token_type": ACCESS_TOKEN}


async def revoke(world: World, client: Identity | None, token: str, **more: str) -> Any:
    return await world.send("POST", "/revoke", client, data={"token": token, **more})


async def revoked(world: World, client: Identity | None, token: str, **more: str) -> None:
    response = await revoke(world, client, token, **more)
    assert (response.status_code, response.json()) == (200, {})
    assert response.headers["cache-control"] == "no-store"


async def is_active(world: World, token: str) -> bool:
    service = world.workload(TICKETS_SERVER)
    response = await world.send("POST", "/introspect", service, data={"token": token})
    return bool(response.json()["active"])


async def chain(world: World) -> tuple[list[Started], list[str]]:
    """A token, the one that it was handed on as, and the one that was continued from this."""
    first, second = await world.start("triage"), await world.start("resolver")
    token = await world.token(first)
    handed = str((await world.delegate(first, token, second)).json()["access_token"])
    continued = str((await world.exchange(second, handed, **CONTINUED)).json()["access_token"])
    return [first, second], [token, handed, continued]


def test_ca07_the_presenter_takes_its_token_back() -> None:
    """CA-07: at once, everywhere it could be used, recorded before it acts."""

    async def act(world: World) -> None:
        task = await world.start()
        token, other = await world.token(task), await world.token(task)
        epoch = world.tasks.epoch
        await revoked(world, task.identity, token)
        assert world.tasks.epoch == epoch + 1
        record = world.sink.last
        assert (record["kind"], record["action"], record["outcome"]) == ("admin", "tokens/revoke", "ordered")
        assert record["by"] == str(task.identity.spiffe_id)
        assert record["human"] == {"issuer": "https://idp.example", "subject": "lead"}
        assert token not in str(record)
        assert not await is_active(world, token)
        assert await is_active(world, other)
        response = await world.exchange(task, token, **CONTINUED)
        assert (response.json()["error"], response.json()["deputy_code"]) == (
            "invalid_request",
            Code.REVOKED.value,
        )

    run(act)


@pytest.mark.parametrize("more", [{}, {"lineage": "true"}])
def test_ca07_what_is_taken_back_keeps_whose_it_was(more: dict[str, str]) -> None:
    """CA-07: the person of the token's signature; a parameter of the request names nobody."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        await revoke(world, task.identity, token, human="https://idp.example#clerk", **more)
        await revoke(world, task.identity, token, sub="https://idp.example#clerk", **more)
        (held,) = world.tasks.withdrawals.items
        assert (held.kind, held.human) == ("txn" if more else "token", "https://idp.example#lead")

    run(act)


def test_ca07_the_host_of_the_presenter_takes_it_back() -> None:
    """CA-07: the workload that started the task, also when the task is over."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        await revoked(world, world.runner, token)
        assert not await is_active(world, token)
        assert world.sink.entries[-2].fields["by"] == str(RUNNER)

    run(act)


def test_ca07_a_task_without_a_connection_of_its_own_takes_it_back() -> None:
    """CA-07, CA-01: with its JWT-SVID."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        login = {"client_assertion": await world.jwt_svid(task), "client_assertion_type": JWT_SPIFFE}
        await revoked(world, None, token, **login)
        assert not await is_active(world, token)

    run(act)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_ca07_what_came_of_a_token_falls_with_it(number: int) -> None:
    """CA-07: children and their children; parents stay."""

    async def act(world: World) -> None:
        tasks, tokens = await chain(world)
        owner = tasks[min(number, 1)]
        await revoked(world, owner.identity, tokens[number])
        assert [await is_active(world, token) for token in tokens] == [each < number for each in range(3)]

    run(act)


def test_ca07_what_came_of_it_for_another_service_falls_too() -> None:
    """CA-07: a new audience is no new life."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task, scope="tickets:read billing:read")
        more = await world.exchange(task, token, audience=BILLING, **CONTINUED)
        billing = more.json()["access_token"]
        await revoked(world, task.identity, token)
        response = await world.exchange(task, billing, audience=BILLING, **CONTINUED)
        assert response.json()["deputy_code"] == Code.REVOKED.value

    run(act)


def test_ca07_a_lineage_is_all_that_came_of_one_sign_in() -> None:
    """CA-07: `lineage=true` takes back the transaction; another sign-in is another one."""

    async def act(world: World) -> None:
        tasks, tokens = await chain(world)
        other = await world.token(tasks[0])
        before = len(world.sink.entries)
        response = await revoke(world, tasks[1].identity, tokens[2], lineage="true")
        check_refused(world, response, before, "invalid_request", Code.NOT_BOUND)
        assert await is_active(world, tokens[0])
        await revoked(world, tasks[0].identity, tokens[0], lineage="true")
        assert [await is_active(world, token) for token in tokens] == [False] * 3
        assert await is_active(world, other)

    run(act)


def test_ca07_nobody_fills_the_memory_with_lineages(monkeypatch: pytest.MonkeyPatch) -> None:
    """CA-07: their number is bounded, and each is forgotten when nothing of it can be alive."""
    monkeypatch.setattr(revocation, "MAX_WITHDRAWALS", 1)

    async def act(world: World) -> None:
        task = await world.start()
        await revoked(world, task.identity, await world.token(task), lineage="true")
        (held,) = world.tasks.withdrawals.items
        assert held.expires_at is not None
        lives = timedelta(seconds=world.broker.settings.delegation_token_seconds)
        assert lives < held.expires_at - world.clock.now < timedelta(hours=1)
        before = len(world.sink.entries) + 1
        response = await revoke(world, task.identity, await world.token(task), lineage="true")
        assert (response.status_code, response.json()["error"]) == (503, "temporarily_unavailable")
        assert len(world.sink.entries) == before + 1

    run(act)


def test_ca07_each_token_names_those_that_it_came_of() -> None:
    """CA-07: in order, none left out; what signs in anew names none."""

    async def act(world: World) -> None:
        _, tokens = await chain(world)
        first, handed, continued = map(world.verified, tokens)
        assert first.parents == ()
        assert handed.parents == (first.jti,)
        assert continued.parents == (first.jti, handed.jti)

    run(act)


def test_ca07_a_token_is_not_exchanged_for_ever() -> None:
    """CA-07: no name is left out to make room, so there is an end."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        for _ in range(MAX_PARENTS):
            token = str((await world.exchange(task, token, **CONTINUED)).json()["access_token"])
        before = len(world.sink.entries)
        response = await world.exchange(task, token, **CONTINUED)
        check_refused(world, response, before, "invalid_request", Code.TOKEN_CLAIMS)

    run(act)


def test_ca07_nobody_takes_back_the_token_of_somebody_else() -> None:
    """CA-07: found is not owned: no service, no other task or workload, no first agent."""

    async def act(world: World) -> None:
        tasks, tokens = await chain(world)
        thief = await world.start("triage")
        for client in (
            thief.identity,
            world.workload(STRANGER),
            world.workload(TICKETS_SERVER),
            tasks[0].identity,
        ):
            for more in ({}, {"lineage": "true"}):
                before, epoch = len(world.sink.entries), world.tasks.epoch
                response = await revoke(world, client, tokens[1], **more)
                check_refused(world, response, before, "invalid_request", Code.NOT_BOUND)
                assert world.tasks.epoch == epoch
        assert await is_active(world, tokens[1])

    run(act)


def test_ca07_a_token_that_is_no_more_is_no_error() -> None:
    """CA-07: RFC 7009 section 2.2: unknown, expired, forged, taken back already."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        claims = dict(UnverifiedToken.parse(token).unverified_claims)
        authority = world.broker.authority
        epoch = world.tasks.epoch
        for other in (
            "x",
            "a.b.c",
            "x" * 9000,
            sign(authority.jwt_key, "at+jwt", claims),
            sign(authority.token_key, "at+jwt", claims | {"exp": 1}),
            sign(authority.token_key, "at+jwt", claims | {"iss": "https://x.example"}),
            sign(authority.token_key, "at+jwt", claims | {"aud": "https://x.example"}),
        ):
            before = len(world.sink.entries)
            await revoked(world, task.identity, other)
            assert len(world.sink.entries) == before + 1
        assert world.tasks.epoch == epoch
        await revoked(world, task.identity, token)
        await revoked(world, task.identity, token)
        assert not await is_active(world, token)

    run(act)


def test_ca07_what_cannot_be_taken_back_here() -> None:
    """CA-07: `unsupported_token_type` for an ID token, an SVID, an assertion."""

    async def act(world: World) -> None:
        task = await world.start()
        claims = dict(UnverifiedToken.parse(await world.token(task)).unverified_claims)
        key = world.broker.authority.token_key
        for other in (
            world.id_token(),
            await world.jwt_svid(task),
            sign(key, "oauth-id-jag+jwt", claims),
            sign(key, "token-introspection+jwt", claims),
        ):
            before = len(world.sink.entries)
            response = await revoke(world, task.identity, other)
            check_refused(world, response, before, "unsupported_token_type", Code.TOKEN_TYPE)

    run(act)


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "urn:x", "€", ""])
def test_ca07_a_wrong_hint_has_no_effect(hint: str) -> None:
    """CA-07: RFC 7009 section 2.1."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        await revoked(world, task.identity, token, token_type_hint=hint)
        assert not await is_active(world, token)

    run(act)


@pytest.mark.parametrize("lineage", ["TRUE", "1", "yes", "true ", "False"])
def test_ca07_a_lineage_that_is_neither_true_nor_false(lineage: str) -> None:
    """CA-07: what is not understood takes nothing back."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        before = len(world.sink.entries)
        response = await revoke(world, task.identity, token, lineage=lineage)
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)
        assert await is_active(world, token)
        await revoked(world, task.identity, token, lineage="false")

    run(act)


def test_ca07_nobody_revokes_without_a_login() -> None:
    """CA-07: the client is authenticated."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        response = await revoke(world, None, token)
        assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
        assert await is_active(world, token)

    run(act)


@pytest.mark.parametrize("what", ["log", "disk"])
def test_ca07_what_cannot_be_recorded_or_kept_is_not_said_to_be_done(what: str) -> None:
    """CA-07: the client is told to come again."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        world.sink.broken, world.tasks.broken = what == "log", what == "disk"
        response = await revoke(world, task.identity, token)
        assert response.status_code == 503
        world.sink.broken = world.tasks.broken = False
        await revoked(world, task.identity, token)
        assert not await is_active(world, token)

    run(act)


def test_ca07_a_withdrawal_goes_on_whatever_else_is_withdrawn() -> None:
    """CA-07: who ends many tasks keeps nobody from taking back a token."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        world.sink.meanwhile = world.tasks.another_ends
        await revoked(world, task.identity, token)
        assert not await is_active(world, token)

    run(act)


def test_ca07_a_parent_that_is_taken_back_while_its_child_is_recorded() -> None:
    """CA-07: the revocation wins the race, whoever asked first."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        now = world.clock.now
        gone = Withdrawal("token", world.verified(token).jti, None, "a drill", "tests", now)
        world.sink.meanwhile = lambda: world.tasks.withdraw(gone, now)
        response = await world.exchange(task, token, **CONTINUED)
        assert response.json()["deputy_code"] == Code.WITHDRAWN.value
        assert "access_token" not in response.json()

    run(act)


def test_ca07_below_the_path_of_the_issuer() -> None:
    """CA-07, DM-01: where the metadata says."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        base = world.base.removesuffix("/a/b")
        world.base = base
        well_known = "/.well-known/oauth-authorization-server/a/b"
        metadata = (await world.send("GET", well_known, None)).json()
        for name in ("introspection_endpoint", "revocation_endpoint"):
            path = metadata[name].removeprefix(BROKER)
            response = await world.send("POST", path, task.identity, data={"token": token})
            assert response.status_code == 200

    run(act, settings=replace(SETTINGS, issuer=f"{BROKER}/a/b"))
