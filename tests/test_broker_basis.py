"""POST /token: why an agent may act for this person at all: TX-07, TX-10, CL-01, CL-07, NR-01, NR-02."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authz.broker.deps import AssertionTarget
from authz.broker.token_request import ACCESS_TOKEN, ID_JAG, JWT
from authz.codes import Code
from identity.authorization_details import Detail
from identity.caller import OidcClient
from identity.consent import Consent
from identity.names import new_ulid
from identity.withdrawal import Withdrawal
from tests.broker_fakes import (
    BILLING,
    BROKER,
    CLIENT,
    ISSUER,
    SETTINGS,
    TICKETS,
    Started,
    World,
    check_refused,
    consent,
    id_token_with,
    refused,
    run,
)

CONTINUED = {"subject_token_type": ACCESS_TOKEN}


def sign_in(world: World, **claims: object) -> str:
    now = int(world.clock.now.timestamp())
    return id_token_with(world.provider, **{"iat": now, "exp": now + 600, **claims})


def access_token(world: World, **claims: object) -> str:
    """An access token of the person's provider for this broker (RFC 9068)."""
    now = int(world.clock.now.timestamp())
    right: dict[str, object] = {"aud": BROKER, "typ_": "at+jwt", "client_id": CLIENT, "auth_time": now}
    return sign_in(world, **{**right, **claims})


def grants(world: World, *consents: Consent) -> None:
    world.tasks.consents = list(consents)


def numbered(number: int) -> str:
    return new_ulid(consent("x").created_at, number.to_bytes(10))


async def refused_handover(world: World, own: Started, token: str, actor: Started, error: str) -> None:
    form = {**CONTINUED, "actor_token": await world.jwt_svid(actor), "actor_token_type": JWT}
    await refused(world, own, error, Code.CONSENT_MISSING, token, **form)


# ---------------------------------------------------------------- grants (TX-07, TX-10)


@pytest.mark.parametrize(
    "held",
    [
        (),
        (consent("resolver"),),
        (consent("triage", f"{ISSUER}#clerk"),),
        (consent("triage", "https://other.example#lead"),),
        (consent("triage", expires_at=consent("triage").created_at + timedelta(days=1)),),
        (replace(consent("triage"), revoked_at=consent("triage").created_at),),
        (consent("triage", scopes=frozenset({"billing:read"})),),
        (consent("triage", scopes=frozenset({"ticketsx:read"})),),
        (consent("triage", tools=frozenset({"billing/pay"})),),
    ],
    ids=["none", "agent", "person", "provider", "expired", "revoked", "service", "prefix", "tool"],
)
def test_tx07_without_a_basis_nobody_acts_for_a_person(held: tuple[Consent, ...]) -> None:
    """TX-07, TX-10: a grant of this person, to this agent, on this service, alive; else nothing is issued."""

    async def act(world: World) -> None:
        task = await world.start()
        grants(world, *held)
        await refused(world, task, "invalid_request", Code.CONSENT_MISSING)

    run(act)


def test_tx10_a_grant_that_is_not_yet() -> None:
    """TX-10: one that begins later is none now."""

    async def act(world: World) -> None:
        task = await world.start()
        later = world.clock.now + timedelta(minutes=1)
        grants(world, consent("triage", created_at=later))
        await refused(world, task, "invalid_request", Code.CONSENT_MISSING)
        world.clock.forward(60)
        assert (await world.exchange(task)).status_code == 200

    run(act)


def test_nr01_scopes_of_the_grant_bound_those_of_the_policy() -> None:
    """NR-01: granted is requested and allowed and the person's."""

    async def act(world: World) -> None:
        task = await world.start()
        grants(world, consent("triage", scopes=frozenset({"tickets:read", "tickets:destroy"})))
        assert (await world.exchange(task)).json()["scope"] == "tickets:read"
        response = await world.exchange(task, scope="tickets:read tickets:write")
        assert response.json()["scope"] == "tickets:read"
        await refused(world, task, "invalid_scope", Code.CONSENT_MISSING, scope="tickets:write")
        await refused(world, task, "invalid_scope", Code.SCOPE_MISSING, scope="tickets:destroy")

    run(act)


def test_nr01_grants_are_never_added_up() -> None:
    """NR-01: the one that gives most counts, and what is revoked takes all of its own with it."""

    async def act(world: World) -> None:
        task = await world.start()
        grants(
            world,
            consent("triage", id=numbered(1), scopes=frozenset({"tickets:read"})),
            consent("triage", id=numbered(2), scopes=frozenset({"tickets:write"})),
        )
        token = world.verified(await world.token(task, scope="tickets:read tickets:write"))
        assert len(token.scopes) == len(token.grants) == 1
        grants(world, *world.tasks.consents, consent("triage", id=numbered(3)))
        token = world.verified(await world.token(task, scope="tickets:read tickets:write"))
        assert (set(token.scopes), token.grants) == ({"tickets:read", "tickets:write"}, (numbered(3),))

    run(act)


def test_cl07_a_token_ends_with_its_grant() -> None:
    """CL-07: nothing outlives what stands behind it."""

    async def act(world: World) -> None:
        task = await world.start()
        grants(world, consent("triage", expires_at=world.clock.now + timedelta(seconds=40)))
        assert (await world.exchange(task)).json()["expires_in"] == 40

    run(act)


def test_nr04_tools_of_a_grant_become_authorization_details() -> None:
    """NR-04: the person named tools, so the token is for these."""

    async def act(world: World) -> None:
        task = await world.start()
        tools = frozenset({"tickets/close", "tickets/list", "billing/pay"})
        grants(world, consent("triage", tools=tools))
        token = world.verified(await world.token(task, scope="tickets:read tickets:write"))
        assert token.details == (Detail(TICKETS, "close"), Detail(TICKETS, "list"))
        more = world.verified(await world.token(task, scope="tickets:read billing:read"))
        assert set(more.details or ()) == {*token.details, Detail(BILLING, "pay")}

    run(act)


def test_a_grant_is_named_in_the_token_and_falls_with_a_withdrawal() -> None:
    """TX-10: revoking a grant revokes what came of it, also what was handed on."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first)
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        own, given = consent("triage").id, consent("resolver").id
        assert world.verified(token).grants == (own,)
        assert world.verified(handed).grants == (own, given)
        now = world.clock.now
        world.tasks.withdraw(Withdrawal("grant", own, None, "changed my mind", "lead", now), now)
        for task, text in ((first, token), (second, handed)):
            await refused(world, task, "invalid_request", Code.REVOKED, text, **CONTINUED)

    run(act)


def test_a_grant_that_is_revoked_while_it_is_recorded_gives_nothing() -> None:
    """TX-10: a revocation wins the race."""

    async def act(world: World) -> None:
        task = await world.start()

        def revoke() -> None:
            grants(world)
            world.tasks.another_ends()

        world.sink.meanwhile = revoke
        response = await world.exchange(task)
        assert response.json()["deputy_code"] == Code.WITHDRAWN.value
        assert world.sink.last["kind"] == "withdrawn"

    run(act)


# ---------------------------------------------------------------- handed on


def test_tx10_hop_two_with_its_own_grant() -> None:
    """TX-10: the person let the second agent act, too; its grant bounds what it is given."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        grants(world, consent("triage"), consent("resolver", scopes=frozenset({"tickets:read"})))
        token = await world.token(first)
        assert (await world.delegate(first, token, second)).json()["scope"] == "tickets:read"

    run(act)


def test_tx10_hop_two_without_a_grant() -> None:
    """TX-10: an agent does not let another one act for a person."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        grants(world, consent("triage"), consent("resolver", f"{ISSUER}#clerk"))
        await refused_handover(world, first, await world.token(first), second, "invalid_request")

    run(act)


def test_tx10_hop_two_that_the_first_grant_names() -> None:
    """TX-10: `delegates_to` is the person's word, and nobody else's agents are in it."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        first_grant = consent("triage", delegates_to=frozenset({"resolver"}))
        grants(world, first_grant)
        token = await world.token(first, scope="tickets:read")
        handed = world.verified((await world.delegate(first, token, second)).json()["access_token"])
        assert (set(handed.scopes), handed.grants) == ({"tickets:read"}, (first_grant.id,))
        # It names whom work is handed on to, not who may begin.
        await refused(world, second, "invalid_request", Code.CONSENT_MISSING)
        third = await world.start("triage")
        handed_text = (await world.delegate(first, token, second)).json()["access_token"]
        form = {**CONTINUED, "actor_token": await world.jwt_svid(third), "actor_token_type": JWT}
        await refused(world, second, "invalid_request", Code.CHAIN_CYCLE, handed_text, **form)

    run(act)


@pytest.mark.parametrize("what", ["revoked", "expired", "gone"])
def test_tx10_hop_two_that_a_dead_grant_names(what: str) -> None:
    """TX-10: what is over names nobody."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        held = consent("triage", delegates_to=frozenset({"resolver"}))
        grants(world, held)
        token = await world.token(first)
        match what:
            case "revoked":
                grants(world, replace(held, revoked_at=world.clock.now))
            case "expired":
                grants(world, replace(held, expires_at=world.clock.now))
            case _:
                grants(world)
        await refused_handover(world, first, token, second, "invalid_request")

    run(act)


def test_tx10_a_grant_of_tools_narrows_what_is_handed_on() -> None:
    """TX-10, NR-04: of the first agent's tools those that the second one was granted; none is an error."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        both, other = frozenset({"tickets/close", "tickets/list"}), frozenset({"tickets/open"})
        grants(world, consent("triage", tools=both), consent("resolver", tools=both | other))
        token = await world.token(first)
        handed = world.verified((await world.delegate(first, token, second)).json()["access_token"])
        assert {detail.tool for detail in handed.details or ()} == {"close", "list"}
        grants(world, consent("triage", tools=both), consent("resolver", tools=other))
        before = len(world.sink.entries) + 1  # one for the actor's JWT-SVID
        response = await world.delegate(first, token, second)
        check_refused(world, response, before, "invalid_authorization_details", Code.DETAILS)

    run(act)


# ---------------------------------------------------------------- may_act (TX-10)


@pytest.mark.parametrize(
    "may_act",
    [
        {"iss": BROKER, "sub": "spiffe://mesh.example/agent/triage"},
        {"iss": ISSUER, "sub": CLIENT},
        {"sub": CLIENT},
    ],
    ids=["ours", "client", "client-without-iss"],
)
def test_tx10_may_act_names_the_agent(may_act: dict[str, str]) -> None:
    """TX-10: by our name for it, or as an application of its own at the provider; then no grant is needed."""

    async def act(world: World) -> None:
        task = await world.start()
        grants(world)
        token = world.verified(await world.token(task, subject_token=sign_in(world, may_act=may_act)))
        assert (set(token.scopes), token.grants) == ({"tickets:read", "tickets:write"}, ())

    run(act)


@pytest.mark.parametrize(
    "may_act",
    [
        {"sub": "triage"},
        {"iss": BROKER, "sub": "spiffe://mesh.example/agent/resolver"},
        {"iss": BROKER, "sub": "spiffe://mesh.example/agent/triag"},
        {"iss": BROKER, "sub": "triage"},
        {"iss": ISSUER, "sub": "spiffe://mesh.example/agent/triage"},
        {"sub": "spiffe://mesh.example/agent/triage"},
        {"iss": BROKER, "sub": CLIENT},
        {"iss": "https://other.example", "sub": CLIENT},
        {"iss": ISSUER, "sub": "other"},
        {"sub": "other"},
    ],
)
def test_tx10_may_act_of_another_forbids_what_a_grant_allows(may_act: dict[str, str]) -> None:
    """TX-10: the whole pair, and `may_act` wins where a grant exists, too."""

    async def act(world: World) -> None:
        task = await world.start()
        token = sign_in(world, may_act=may_act)
        await refused(world, task, "invalid_request", Code.MAY_ACT, token)

    run(act)


@pytest.mark.parametrize("may_act", [{}, {"sub": ""}, {"sub": 1}, {"sub": CLIENT, "x": 1}, [CLIENT], CLIENT])
def test_tx10_a_may_act_that_is_not_understood(may_act: object) -> None:
    """TX-10: a member that we do not know could narrow it."""

    async def act(world: World) -> None:
        task = await world.start()
        token = sign_in(world, may_act=may_act)
        await refused(world, task, "invalid_request", Code.TOKEN_CLAIMS, token)

    run(act)


# ---------------------------------------------------------------- the application (aud, azp)


def test_an_id_token_of_an_application_that_is_not_the_agents() -> None:
    """CL-01: it was meant for somebody else, whatever the person granted."""

    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.change("triage", clients=frozenset({OidcClient(ISSUER, "other")}))
        await refused(world, task, "invalid_request", Code.CLIENT_UNREGISTERED)
        world.tasks.change("triage", clients=frozenset({OidcClient("https://other.example", CLIENT)}))
        await refused(world, task, "invalid_request", Code.CLIENT_UNREGISTERED)
        world.tasks.change("triage", clients=frozenset())
        await refused(world, task, "invalid_request", Code.CLIENT_UNREGISTERED)

    run(act)


def test_the_authorized_party_is_the_application() -> None:
    """CL-01: `azp` says which of them it was issued to."""

    async def act(world: World) -> None:
        task = await world.start()
        for claims, ok in (
            ({"aud": CLIENT, "azp": CLIENT}, True),
            ({"aud": [CLIENT]}, True),
            ({"aud": CLIENT, "azp": "other"}, False),
            ({"aud": "other", "azp": CLIENT}, False),
            ({"aud": [CLIENT, "other"]}, False),
        ):
            response = await world.exchange(task, sign_in(world, **claims))
            assert (response.status_code == 200) is ok, claims

    run(act)


def test_a_persons_access_token_for_this_broker() -> None:
    """CL-01: its only audience is the broker, and the application is the agent's."""

    async def act(world: World) -> None:
        task = await world.start()
        token = access_token(world, amr=["pwd", "otp"], acr="gold")
        issued = world.verified(await world.token(task, subject_token=token, **CONTINUED))
        assert (issued.human.amr, issued.human.acr) == (("pwd", "otp"), "gold")
        issued = world.verified(await world.token(task, subject_token=token, subject_token_type=JWT))
        assert issued.chain[0].task == task.id
        for audience in (TICKETS, f"{BROKER}/token", [BROKER, TICKETS], CLIENT):
            other = access_token(world, aud=audience)
            await refused(world, task, "invalid_request", Code.TOKEN_AUDIENCE, other, **CONTINUED)
        stranger = access_token(world, client_id="short-lived")
        await refused(world, task, "invalid_request", Code.TOKEN_AUDIENCE, stranger, **CONTINUED)
        of_itself = access_token(world, sub=CLIENT)
        await refused(world, task, "invalid_request", Code.TOKEN_CLAIMS, of_itself, **CONTINUED)

    run(act)


def test_an_id_token_is_no_access_token_and_the_other_way_round() -> None:
    """JW-04: what the client calls it does not make it one."""

    async def act(world: World) -> None:
        task = await world.start()
        await refused(world, task, "invalid_request", Code.TOKEN_AUDIENCE, world.id_token(), **CONTINUED)
        await refused(world, task, "invalid_request", Code.TOKEN_TYPE, access_token(world))

    run(act)


def test_cl01_the_login_of_the_person_is_carried() -> None:
    """CL-01: `auth_time`, `acr` and `amr`, over all hops, and into an assertion (CL-05)."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        then = int(world.clock.now.timestamp()) - 100
        token = await world.token(
            first, subject_token=sign_in(world, auth_time=then, acr="gold", amr=["pwd", "otp"])
        )
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        for text in (token, handed):
            human = world.verified(text).human
            assert (human.auth_time, human.acr, human.amr) == (then, "gold", ("pwd", "otp"))

    run(act)


# ---------------------------------------------------------------- what was taken back


@pytest.mark.parametrize("kind", ["token", "txn", "task", "agent", "workload", "human"])
def test_tx08_nothing_of_what_was_taken_back_is_exchanged(kind: Any) -> None:
    """TX-08: neither continued nor handed on, whichever part of it was withdrawn."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = await world.token(first)
        handed = (await world.delegate(first, token, second)).json()["access_token"]
        verified = world.verified(token)
        subjects = {
            "token": verified.jti,
            "txn": verified.txn,
            "task": first.id,
            "agent": "triage",
            "workload": str(world.runner.spiffe_id),
            "human": verified.human.uri,
        }
        now = world.clock.now
        world.tasks.withdraw(Withdrawal(kind, subjects[kind], None, "a drill", "tests", now), now)
        response = await world.exchange(second, handed, **CONTINUED)
        code = Code.CONTAINED if kind in {"agent", "workload", "human"} else Code.REVOKED
        assert response.json()["deputy_code"] == code.value
        assert "access_token" not in response.json()

    run(act)


def test_tx08_a_sign_in_before_the_withdrawal_of_all_sessions() -> None:
    """TX-08: what a person signed in to until then gives nothing; what begins later counts."""

    async def act(world: World) -> None:
        task = await world.start()
        now = world.clock.now
        old = sign_in(world, auth_time=int(now.timestamp()))
        until = int(now.timestamp())
        held = Withdrawal("human", f"{ISSUER}#lead", until, "signed out", "idp", now)
        world.clock.forward(2)
        task = await world.start()
        world.tasks.withdraw(held, now)
        await refused(world, task, "invalid_request", Code.REVOKED, old)
        assert (await world.exchange(task)).status_code == 200

    run(act)


def test_a_token_of_a_later_epoch_is_not_exchanged() -> None:
    """TX-08: a state that was restored does not know what was taken back since."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        world.tasks.epoch = 0
        await refused(world, task, "temporarily_unavailable", Code.STALE, token, **CONTINUED)

    run(act)


def test_a_token_names_the_epoch_that_it_was_decided_at() -> None:
    """CL-01: who knows fewer withdrawals reads them first."""

    async def act(world: World) -> None:
        task = await world.start()
        world.tasks.epoch = 41
        assert world.verified(await world.token(task)).min_epoch == 41

    run(act)


def test_an_assertion_needs_the_same_basis() -> None:
    """TX-10, CL-05: another domain's server is no way around the person."""

    async def act(world: World) -> None:
        task = await world.start()
        grants(world)
        form = {"audience": "https://as.example", "requested_token_type": ID_JAG}
        await refused(world, task, "invalid_request", Code.CONSENT_MISSING, **form)

    target = AssertionTarget("https://as.example", "tickets", {"triage": "t"})
    run(act, settings=replace(SETTINGS, assertion_targets={target.issuer: target}))
