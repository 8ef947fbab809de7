"""POST /token: logins by JWT-SVID and certificate, and proofs of possession: CA-01 to CA-05, TX-11, CL-08."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from authz.broker.deps import AssertionTarget
from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, ID_JAG, ID_TOKEN, JWT, JWT_SPIFFE
from authz.codes import Code
from authz.errors import StoreError
from identity.authority import Authority
from identity.base64url import decode_base64url, encode_base64url
from identity.caller import DpopBinding, KeyBinding, WorkloadBinding
from identity.dpop_nonce import DpopNonces
from identity.jwk_thumbprint import jwk_thumbprint
from identity.jws import UnverifiedToken, sign
from identity.spiffe import SpiffeId, agent_task_id
from identity.withdrawal import Withdrawal
from tests import dpop_proofs
from tests.broker_fakes import (
    BROKER,
    MESH,
    RUNNER,
    SETTINGS,
    STRANGER,
    TICKETS,
    Identity,
    Started,
    World,
    check_refused,
    run,
)

OURS = jwk_thumbprint(dpop_proofs.JWK)
PARTNER = "https://as.partner.example"
_NUMBERS = count()


def form_of(world: World, subject: str | None = None, **more: str) -> dict[str, str]:
    return {
        "grant_type": GRANT_TYPE,
        "subject_token": world.id_token() if subject is None else subject,
        "subject_token_type": ID_TOKEN,
        "audience": TICKETS,
        **more,
    }


def login(assertion: str) -> dict[str, str]:
    return {"client_assertion": assertion, "client_assertion_type": JWT_SPIFFE}


def proof(world: World, **changes: object) -> dict[str, str]:
    """A right proof for the token endpoint, unless a claim is changed."""
    right = {
        "htu": f"{BROKER}/token",
        "iat": int(world.clock.now.timestamp()),
        "jti": f"proof-{next(_NUMBERS):020d}",
    }
    return {"dpop": dpop_proofs.proof(None, **(right | changes))}


async def ask(
    world: World,
    client: Identity | None,
    form: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
) -> Any:
    return await world.send("POST", "/token", client, data=dict(form), headers=dict(headers or {}))


async def refused(  # noqa: PLR0917 - who asks what, and what comes of it
    world: World,
    client: Identity | None,
    form: Mapping[str, str],
    error: str,
    code: Code,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Ask, and see one refusal; a stranger's record is short."""
    before = len(world.sink.entries)
    response = await ask(world, client, form, headers)
    body = response.json()
    assert (body["error"], body["deputy_code"]) == (error, code.value)
    (entry,) = world.sink.entries[before:]
    if entry.of_stranger:
        assert response.status_code == 401
    else:
        check_refused(world, response, before, error, code)
    return response


# ---------------------------------------------------------------- JWT-SVID (CA-01)


def test_ca01_a_jwt_svid_alone_logs_in() -> None:
    """CA-01: what is issued is bound to the task's own key, so the bearer of a stolen one gets nothing."""

    async def act(world: World) -> None:
        task = await world.start()
        response = await ask(world, None, form_of(world, **login(await world.jwt_svid(task))))
        token = world.verified(response.json()["access_token"])
        assert token.binding == KeyBinding(task.identity.thumbprint)
        assert token.chain[0].task == task.id
        assert response.json()["expires_in"] == 60  # that of the login (CL-07)
        assert world.sink.last["peer"] == str(task.identity.spiffe_id)

    run(act)


@pytest.mark.parametrize("audience", [f"{BROKER}/token", f"{BROKER}/", TICKETS, [BROKER, TICKETS], "*"])
def test_ca01_the_audience_is_our_issuer_alone(audience: object) -> None:
    """CA-01: rfc7523bis; the address of the token endpoint is refused."""

    async def act(world: World) -> None:
        task = await world.start()
        now = int(world.clock.now.timestamp())
        claims = {"sub": str(task.identity.spiffe_id), "aud": audience, "iat": now, "exp": now + 60}
        assertion = sign(world.broker.authority.jwt_key, "JWT", claims)
        form = form_of(world, **login(assertion))
        await refused(world, None, form, "invalid_client", Code.TOKEN_AUDIENCE)

    run(act)


def test_ca01_a_foreign_trust_domain() -> None:
    """CA-01: the key is that of the trust domain of the subject, and tasks are of ours."""

    async def act(world: World) -> None:
        task = await world.start()
        now, later = world.clock.now, world.clock.now + timedelta(hours=1)
        rogue = Authority.generate(MESH, now)
        foreign = SpiffeId.parse(f"spiffe://other.example/agent/triage/task/{task.id}")
        claims = {"sub": str(foreign), "aud": BROKER, "exp": int(later.timestamp())}
        for assertion, code in (
            (rogue.issue_jwt_svid(task.identity.spiffe_id, BROKER, now, 60, later), Code.TOKEN_KEY),
            (sign(rogue.jwt_key, "JWT", claims), Code.TOKEN_ISSUER),
            (sign(world.broker.authority.jwt_key, "JWT", claims), Code.TOKEN_ISSUER),
        ):
            await refused(world, None, form_of(world, **login(assertion)), "invalid_client", code)

    run(act)


@pytest.mark.parametrize("path", ["/ns/agents/sa/runner", "/agent/triage", "/agent/triage/task/x"])
def test_ca01_a_jwt_svid_that_is_not_a_tasks(path: str) -> None:
    """CA-01: a workload asks for nobody's token."""

    async def act(world: World) -> None:
        now = world.clock.now
        spiffe_id = SpiffeId.parse(f"spiffe://mesh.example{path}")
        assertion = world.broker.authority.issue_jwt_svid(
            spiffe_id, BROKER, now, 60, now + timedelta(hours=1)
        )
        await refused(world, None, form_of(world, **login(assertion)), "invalid_client", Code.TASK_UNKNOWN)

    run(act)


def test_ca01_other_tokens_are_no_login() -> None:
    """CA-01, JW-04: neither a person's token nor one of ours, nor what is no token."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        for other, code in (
            (token, Code.TOKEN_TYPE),
            (world.id_token(), Code.TOKEN_CLAIMS),
            ("x", Code.TOKEN_MALFORMED),
            ("a.b.c", Code.TOKEN_MALFORMED),
        ):
            await refused(world, None, form_of(world, **login(other)), "invalid_client", code)

    run(act)


@pytest.mark.parametrize("what", ["task", "agent", "host", "expired"])
def test_ca01_a_login_of_what_may_not_act_any_more(what: str) -> None:
    """CA-01: the login is as good as the task behind it."""

    async def act(world: World) -> None:
        task = await world.start()
        form = form_of(world, **login(await world.jwt_svid(task)))
        code = Code.TASK_ENDED
        match what:
            case "task":
                world.tasks.end_task(task.id, world.clock.now)
            case "agent":
                world.tasks.retire("triage")
                code = Code.AGENT_UNKNOWN
            case "host":
                world.tasks.change("triage", hosts=frozenset({STRANGER}))
                code = Code.AGENT_HOST
            case _:
                world.clock.forward(91)
                code = Code.TOKEN_EXPIRED
        await refused(world, None, form, "invalid_client", code)

    run(act)


def test_ca03_a_jwt_svid_may_be_shown_again() -> None:
    """CA-03: vendors keep them, and they have no `jti`; without a proof it gives nothing to anybody else."""

    async def act(world: World) -> None:
        task = await world.start()
        assertion = login(await world.jwt_svid(task))
        for _ in range(3):
            assert (await ask(world, None, form_of(world, **assertion))).status_code == 200

    run(act)


# ---------------------------------------------------------------- two logins (CA-04)


def test_ca04_both_logins_of_one_task() -> None:
    """CA-04: they are one client where they are of one task."""

    async def act(world: World) -> None:
        task = await world.start()
        response = await ask(world, task.identity, form_of(world, **login(await world.jwt_svid(task))))
        assert response.json()["expires_in"] == 300  # the certificate is the login

    run(act)


def test_ca04_the_workload_and_the_jwt_svid_of_its_task() -> None:
    """CA-04: where the mesh's certificate is the only one, it is that of the task's host."""

    async def act(world: World) -> None:
        task = await world.start()
        form = form_of(world, binding="workload", **login(await world.jwt_svid(task)))
        token = world.verified((await ask(world, world.runner, form)).json()["access_token"])
        assert token.binding == WorkloadBinding(RUNNER)

    run(act)


def test_ca04_the_logins_of_two() -> None:
    """CA-01, CA-04: of another task than the certificate, or of a workload that did not start it."""

    async def act(world: World) -> None:
        task, other = await world.start(), await world.start()
        form = form_of(world, **login(await world.jwt_svid(other)))
        await refused(world, task.identity, form, "invalid_client", Code.TASK_MISMATCH)
        await refused(world, world.workload(STRANGER), form, "invalid_client", Code.TASK_MISMATCH)

    run(act)


def test_ca04_a_replaced_certificate_is_not_saved_by_a_jwt_svid() -> None:
    """CA-04: whoever holds an older key of the task logs in with nothing that it adds."""

    async def act(world: World) -> None:
        task = await world.start()
        assertion = login(await world.jwt_svid(task))
        await world.renew(task)
        await refused(world, task.identity, form_of(world, **assertion), "invalid_client", Code.NOT_BOUND)

    run(act)


@pytest.mark.parametrize(
    "more",
    [
        {"client_secret": "x"},
        {"client_assertion": "x"},
        {"client_assertion_type": JWT_SPIFFE},
        {
            "client_assertion": "x",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        },
    ],
)
def test_ca04_another_login_beside_the_certificate(more: dict[str, str]) -> None:
    """CA-04: refused, not ignored."""

    async def act(world: World) -> None:
        task = await world.start()
        form = form_of(world, **more)
        await refused(world, task.identity, form, "invalid_request", Code.REQUEST_MALFORMED)

    run(act)


def test_ca04_no_login_at_all() -> None:
    """CA-04: `none` is no method; naming oneself is no login."""

    async def act(world: World) -> None:
        form = form_of(world, client_id="triage")
        await refused(world, None, form, "invalid_client", Code.PEER_MISSING)

    run(act)


def test_ca02_a_certificate_of_a_contained_workload() -> None:
    """CA-02: what was stopped logs in no more."""

    async def act(world: World) -> None:
        task = await world.start()
        now = world.clock.now
        world.tasks.withdraw(Withdrawal("workload", str(RUNNER), None, "a drill", "tests", now), now)
        await refused(world, task.identity, form_of(world), "invalid_client", Code.CONTAINED)

    run(act)


# ---------------------------------------------------------------- proofs (CA-05, CL-08, TX-11)


def test_cl08_a_proof_binds_to_its_key() -> None:
    """CL-08: exactly one `cnf`, with `jkt`, and the type of the token says so."""

    async def act(world: World) -> None:
        task = await world.start()
        response = await ask(world, task.identity, form_of(world), proof(world))
        assert response.json()["token_type"] == "DPoP"
        token = response.json()["access_token"]
        assert UnverifiedToken.parse(token).unverified_claims["cnf"] == {"jkt": OURS}
        assert world.verified(token).binding == DpopBinding(OURS)
        assert world.policy.queries[-1]["binding"] == "key"
        assert world.sink.last["binding"] == "key"

    run(act)


def test_ca05_a_jwt_svid_with_a_proof_counts_once() -> None:
    """CA-05: a stolen login that is bound to the thief's key is noticed by whoever comes second."""

    async def act(world: World) -> None:
        task = await world.start()
        form = form_of(world, **login(await world.jwt_svid(task)))
        response = await ask(world, None, form, proof(world))
        assert world.verified(response.json()["access_token"]).binding == DpopBinding(OURS)
        await refused(world, None, form, "invalid_request", Code.REPLAYED, proof(world))
        # Without a proof it still logs its own task in.
        assert (await ask(world, None, form)).status_code == 200

    run(act)


def test_ca05_a_second_spelling_of_a_jwt_svid_is_no_second_one() -> None:
    """CA-05: what is signed counts once, however the signature is written."""

    async def act(world: World) -> None:
        task = await world.start()
        assertion = await world.jwt_svid(task)
        head, _, signature = assertion.rpartition(".")
        raw = decode_base64url(signature)
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        flipped = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
        twin = f"{head}.{encode_base64url(flipped)}"
        assert (await ask(world, None, form_of(world, **login(assertion)), proof(world))).status_code == 200
        form = form_of(world, **login(twin))
        await refused(world, None, form, "invalid_request", Code.REPLAYED, proof(world))

    run(act)


def test_tx11_a_token_bound_to_a_proof_continues_with_it() -> None:
    """TX-11: the same key, and no other; never bound to unbound."""

    async def act(world: World) -> None:
        task = await world.start()
        token = (await ask(world, task.identity, form_of(world), proof(world))).json()["access_token"]
        form = form_of(world, token, subject_token_type=ACCESS_TOKEN)
        response = await ask(world, task.identity, form, proof(world))
        assert world.verified(response.json()["access_token"]).binding == DpopBinding(OURS)
        await refused(world, task.identity, form, "invalid_request", Code.DPOP_MISSING)
        other, _ = dpop_proofs.foreign_proof(
            "ES256",
            htu=f"{BROKER}/token",
            iat=int(world.clock.now.timestamp()),
            jti="another-key-0000000000000",
        )
        await refused(world, task.identity, form, "invalid_dpop_proof", Code.DPOP_INVALID, {"dpop": other})

    run(act)


def test_tx11_another_task_with_the_right_proof() -> None:
    """TX-09, TX-11: the key alone is not the presenter."""

    async def act(world: World) -> None:
        task, thief = await world.start(), await world.start()
        token = (await ask(world, task.identity, form_of(world), proof(world))).json()["access_token"]
        form = form_of(world, token, subject_token_type=ACCESS_TOKEN)
        await refused(world, thief.identity, form, "invalid_request", Code.NOT_BOUND, proof(world))

    run(act)


def test_tx11_handed_on_it_is_bound_to_the_actors_own_key() -> None:
    """TX-11: the proof is the client's, and the client's key does not follow the token."""

    async def act(world: World) -> None:
        first, second = await world.start("triage"), await world.start("resolver")
        token = (await ask(world, first.identity, form_of(world), proof(world))).json()["access_token"]
        form = form_of(
            world,
            token,
            subject_token_type=ACCESS_TOKEN,
            actor_token=await world.jwt_svid(second),
            actor_token_type=JWT,
        )
        response = await ask(world, first.identity, form, proof(world))
        handed = world.verified(response.json()["access_token"])
        assert handed.binding == KeyBinding(second.identity.thumbprint)
        assert response.json()["token_type"] == "Bearer"

    run(act)


def test_tx11_rebinding_to_a_proof_needs_the_key_before() -> None:
    """TX-11: a token bound to a certificate is bound to a proof by whoever holds that certificate."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        form = form_of(world, token, subject_token_type=ACCESS_TOKEN)
        response = await ask(world, task.identity, form, proof(world))
        assert world.verified(response.json()["access_token"]).binding == DpopBinding(OURS)
        thief = await world.start()
        await refused(world, thief.identity, form, "invalid_request", Code.NOT_BOUND, proof(world))

    run(act)


@pytest.mark.parametrize("bound", ["key", "workload"])
def test_tx11_a_login_that_proves_no_key_takes_a_token_to_no_other_one(bound: str) -> None:
    """TX-11: whoever found a token and a JWT-SVID of its task has neither its key nor its workload."""

    async def act(world: World) -> None:
        task = await world.start()
        token = (await ask(world, task.identity, form_of(world, binding=bound))).json()["access_token"]
        form = form_of(world, token, subject_token_type=ACCESS_TOKEN, **login(await world.jwt_svid(task)))
        await refused(world, None, form, "invalid_request", Code.NOT_BOUND, proof(world))
        # Nor does the workload that started the task have the task's key.
        form |= login(await world.jwt_svid(task))
        host = world.workload(RUNNER)
        if bound == "key":
            await refused(world, host, form, "invalid_request", Code.NOT_BOUND, proof(world))
            wider = {**form, "binding": "workload"}
            await refused(world, None, wider, "invalid_request", Code.NOT_BOUND)
            await refused(world, host, wider, "invalid_request", Code.NOT_BOUND)
        else:
            form |= login(await world.jwt_svid(task))
            response = await ask(world, host, form, proof(world))
            assert world.verified(response.json()["access_token"]).binding == DpopBinding(OURS)
        # What comes back bound as it was, or to the task's own key, is of no use to them.
        response = await ask(world, None, form)
        assert world.verified(response.json()["access_token"]).binding == KeyBinding(task.identity.thumbprint)

    run(act)


def test_tx11_a_jwt_svid_alone_takes_no_bound_token_to_another_domain() -> None:
    """TX-11, CL-05: an assertion for another domain's server is bound to no key of ours."""

    async def act(world: World) -> None:
        task = await world.start()
        token = await world.token(task)
        wanted = {"audience": PARTNER, "requested_token_type": ID_JAG, "subject_token_type": ACCESS_TOKEN}
        form = {**form_of(world, token), **wanted}
        bearer = form | login(await world.jwt_svid(task))
        await refused(world, None, bearer, "invalid_request", Code.NOT_BOUND)
        response = await ask(world, task.identity, form)
        assert response.json()["issued_token_type"] == ID_JAG, response.text

    target = AssertionTarget(PARTNER, "tickets", {"triage": "partner-triage"})
    run(act, settings=replace(SETTINGS, assertion_targets={target.issuer: target}))


def test_tx11_not_to_a_workload_and_to_a_key() -> None:
    """TX-11, CL-08: there is one binding."""

    async def act(world: World) -> None:
        task = await world.start()
        form = form_of(world, binding="workload")
        await refused(world, task.identity, form, "invalid_request", Code.REQUEST_MALFORMED, proof(world))

    run(act)


@pytest.mark.parametrize(
    "changes",
    [
        {"htu": f"{BROKER}/tasks"},
        {"htu": "https://other.example/token"},
        {"htm": "GET"},
        {"jti": None},
        {"iat": 1},
        {"iat": "now"},
        {"htm": None},
    ],
)
def test_ca05_a_proof_for_something_else(changes: dict[str, object]) -> None:
    """CA-05: method, address, time and name are checked."""

    async def act(world: World) -> None:
        task = await world.start()
        await refused(
            world,
            task.identity,
            form_of(world),
            "invalid_dpop_proof",
            Code.DPOP_INVALID,
            proof(world, **changes),
        )

    run(act)


def test_ca05_a_proof_counts_once() -> None:
    """CA-05, JW-09: also where the first request was refused after it."""

    async def act(world: World) -> None:
        task = await world.start()
        once = proof(world)
        assert (await ask(world, task.identity, form_of(world, audience="x"), once)).status_code == 400
        await refused(world, task.identity, form_of(world), "invalid_request", Code.REPLAYED, once)

    run(act)


def test_ca05_two_proofs_are_none() -> None:
    """CA-05: which of two counts is not guessed."""

    async def act(world: World) -> None:
        task = await world.start()
        before = len(world.sink.entries)
        headers = [("dpop", proof(world)["dpop"]), ("dpop", proof(world)["dpop"])]
        response = await world.send("POST", "/token", task.identity, data=form_of(world), headers=headers)
        check_refused(world, response, before, "invalid_dpop_proof", Code.DPOP_INVALID)

    run(act)


class Forgetful:
    """A memory that cannot be asked."""

    def first_time(self, *_: object, **__: object) -> bool:
        raise StoreError("the disk is full")


@pytest.mark.parametrize("by", ["certificate", "assertion"])
def test_jw09_what_cannot_be_remembered_does_not_count(by: str) -> None:
    """JW-09: the memory is down, so nothing that counts once counts."""

    async def act(world: World) -> None:
        task = await world.start()
        more = login(await world.jwt_svid(task)) if by == "assertion" else {}
        object.__setattr__(world.broker, "replay", Forgetful())
        await refused(
            world,
            None if more else task.identity,
            form_of(world, **more),
            "temporarily_unavailable",
            Code.REPLAY_UNKNOWN,
            proof(world),
        )

    run(act)


@pytest.mark.parametrize("by", ["certificate", "assertion"])
def test_ca05_the_nonce_flow(by: str) -> None:
    """CA-05: `use_dpop_nonce` with a nonce beside it; the same login is good for the second try."""

    async def act(world: World) -> None:
        object.__setattr__(world.broker, "nonces", DpopNonces(b"k" * 32, "token"))
        task = await world.start()
        more = login(await world.jwt_svid(task)) if by == "assertion" else {}
        client, form = None if more else task.identity, form_of(world, **more)
        response = await refused(world, client, form, "use_dpop_nonce", Code.DPOP_INVALID, proof(world))
        nonce = response.headers["dpop-nonce"]
        stale = proof(world, nonce="stale")
        await refused(world, client, form, "use_dpop_nonce", Code.DPOP_INVALID, stale)
        response = await ask(world, client, form, proof(world, nonce=nonce))
        assert response.json()["token_type"] == "DPoP"
        # Without a proof nobody is asked for a nonce.
        assert "dpop-nonce" not in (await ask(world, task.identity, form_of(world))).headers

    run(act)


def test_tx06_a_client_that_changed_while_it_was_decided() -> None:
    """TX-06: who renewed the certificate meanwhile gets nothing with the older one."""

    async def act(world: World) -> None:
        task = await world.start()

        def renewed() -> None:
            world.policy.meanwhile = lambda: None
            world.tasks.set_thumbprint(task.id, "x" * 43)
            world.tasks.another_ends()

        world.policy.meanwhile = renewed
        await refused(world, task.identity, form_of(world), "invalid_client", Code.NOT_BOUND)

    run(act)


def test_the_withdrawn_record_is_of_the_token_that_was_recorded() -> None:
    """Asked again, the decision names another token; the record of its end names the recorded one."""

    async def act(world: World) -> None:
        task = await world.start()
        world.sink.meanwhile = lambda: world.tasks.retire("triage")
        before = len(world.sink.entries)
        await ask(world, task.identity, form_of(world))
        allowed, withdrawn = (entry.members(1, "") for entry in world.sink.entries[before:])
        assert (withdrawn["txn"], withdrawn["txn_jti"]) == (allowed["txn"], allowed["txn_jti"])

    run(act)


def test_cl08_the_binding_is_the_presenters() -> None:
    """CL-08: whatever the subject was bound to, `cnf` is of the outermost actor."""

    async def act(world: World) -> None:
        task = await world.start()
        other = Started(task.id, world.workload(agent_task_id(MESH, "triage", task.id)), {})
        # A certificate of the same name, but not the newest: it is no login.
        await refused(world, other.identity, form_of(world), "invalid_client", Code.NOT_BOUND)
        world.tasks.tasks[task.id] = replace(world.tasks.tasks[task.id], thumbprint=other.identity.thumbprint)
        token = await world.token(other)
        assert world.verified(token).binding == KeyBinding(other.identity.thumbprint)

    run(act)
