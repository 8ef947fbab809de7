"""Transaction tokens at the token endpoint: for a call, or in place of another one (CL-02, CL-04)."""

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from authz.broker.token_request import ACCESS_TOKEN, GRANT_TYPE, ID_TOKEN, JWT, JWT_SPIFFE, TXN_TOKEN
from authz.codes import Code
from authz.protocols.route import Route
from authz.services import Service, Services
from identity.canonical import arguments_sha256
from identity.jws import UnverifiedToken
from identity.spiffe import SpiffeId, agent_task_id
from identity.transaction import TransactionToken, verify_transaction_token
from tests.broker_fakes import (
    BILLING,
    MESH,
    RUNNER,
    TICKETS,
    Identity,
    Started,
    World,
    check_refused,
    run,
)
from tests.dpop_proofs import proof

TICKETS_WORKLOAD = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/tickets")
BILLING_WORKLOAD = SpiffeId.parse("spiffe://mesh.example/ns/shop/sa/billing")
CALL = {"service": "tickets", "action": "tools/call", "tool": "read_ticket", "arguments": {"ticket": "T-1"}}
ON = {**CALL, "service": "billing", "tool": "read_invoice"}
SCOPES = "tickets:read billing:read"


# What a transaction token is never made of (TX-04): a refresh token by the draft, the rest by our choice.
NEVER = [
    f"urn:ietf:params:oauth:token-type:{kind}"
    for kind in ("refresh_token", "saml1", "saml2", "self_signed", "unsigned_json", "id-jag")
]


def with_services(world: World) -> World:
    """The broker knows what `Check` protects: tickets and billing pass calls on, files does not."""
    made = (
        Service("tickets", TICKETS, Route("tickets", "mcp"), workloads=frozenset({TICKETS_WORKLOAD})),
        Service("billing", BILLING, Route("billing", "mcp"), workloads=frozenset({BILLING_WORKLOAD})),
        Service("leaf", "https://leaf.mesh.example", Route("leaf", "mcp")),
        Service("files", "https://files.mesh.example", Route("files", "http")),
    )
    object.__setattr__(world.broker, "services", Services.of(made, (), None))
    return world


async def delegated(world: World, task: Started, **more: str) -> str:
    return await world.token(task, **{"scope": SCOPES, **more})


async def ask(world: World, task: Started, token: str, call: object = None, **more: Any) -> httpx2.Response:
    form = {
        "subject_token_type": ACCESS_TOKEN,
        "requested_token_type": TXN_TOKEN,
        "audience": MESH.name,
        "scope": SCOPES,
        "request_details": json.dumps(CALL if call is None else call),
        **more,
    }
    given = {name: value for name, value in form.items() if value is not ...}
    return await world.exchange(task, token, **given)


async def replace_with(world: World, workload: Identity, token: str, **more: Any) -> httpx2.Response:
    stand_in = Started("", workload, {})
    return await ask(world, stand_in, token, **{"call": ON, "subject_token_type": TXN_TOKEN, **more})


def read(world: World, response: httpx2.Response, service: str = "tickets") -> TransactionToken:
    assert response.status_code == 200, response.text
    return verify_transaction_token(
        response.json()["access_token"],
        world.broker.authority.token_keys,
        issuer=world.broker.settings.issuer,
        trust_domain=MESH,
        service=service,
        now=world.clock.now,
        leeway=0,
    )


def test_cl02_a_transaction_token_for_a_call() -> None:
    """CL-02: `typ`, `kid`, `aud` the trust domain, `req_wl`, `tctx`. TX-05: `N_A`, no refresh token."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        response = await ask(world, task, await delegated(world, task))
        token, body = read(world, response), response.json()
        header = UnverifiedToken.parse(body["access_token"]).header
        assert (header["typ"], header["kid"]) == ("txntoken+jwt", world.broker.authority.token_key.kid)
        assert set(body) == {
            "access_token",
            "issued_token_type",
            "token_type",
            "expires_in",
            "scope",
            "decision_id",
        }
        assert (body["issued_token_type"], body["token_type"]) == (TXN_TOKEN, "N_A")
        assert 0 < body["expires_in"] <= 60
        assert body["scope"] == "billing:read tickets:read"
        assert (token.service, token.tool) == ("tickets", "read_ticket")
        assert token.arguments_sha256 == arguments_sha256({"ticket": "T-1"})
        assert (token.decision_id, token.chain[0].task) == (body["decision_id"], task.id)
        assert token.requester == agent_task_id(MESH, "triage", task.id)
        assert response.headers["cache-control"] == "no-store"

    run(act)


def test_the_question_is_that_of_check() -> None:
    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        await ask(world, task, await delegated(world, task))
        query = world.policy.queries[-1]
        assert (query["phase"], query["request"]) == ("check", None)
        assert query["action"] == {"protocol": "mcp", "method": "tools/call", "phase": "call"}
        assert query["resource"] == {"service": "tickets", "type": "tool", "name": "read_ticket"}
        assert (query["arguments"], query["binding"]) == ({"ticket": "T-1"}, "key")
        record = world.sink.last
        assert (record["kind"], record["effect"]) == ("exchange", "allow")
        assert record["issued"]["kind"] == "transaction-token"  # type: ignore[index]  # an object

    run(act)


def test_cl02_scopes_only_narrow() -> None:
    """CL-02: what is asked for and held; NR-01: nothing left is `invalid_scope`."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task)
        less = read(world, await ask(world, task, token, scope="tickets:read payroll:read"))
        assert less.scopes == {"tickets:read"}
        assert world.policy.queries[-1]["scopes"] == ["tickets:read"]
        await _refused(world, task, token, "invalid_scope", Code.SCOPE_MISSING, scope="payroll:read")
        await _refused(world, task, token, "invalid_request", Code.REQUEST_MALFORMED, scope=...)

    run(act)


async def _refused(world: World, task: Started, token: str, error: str, code: Code, **more: Any) -> None:
    before = len(world.sink.entries)
    check_refused(world, await ask(world, task, token, **more), before, error, code)


@pytest.mark.parametrize(
    ("changes", "error", "code"),
    [
        ({"audience": TICKETS}, "invalid_target", Code.SERVICE_UNKNOWN),
        ({"audience": "other.example"}, "invalid_target", Code.SERVICE_UNKNOWN),
        ({"audience": ""}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"call": {**CALL, "service": "payroll"}}, "invalid_target", Code.SERVICE_UNKNOWN),
        ({"call": {**CALL, "service": "files"}}, "invalid_target", Code.SERVICE_UNKNOWN),
        ({"call": {**CALL, "service": "billing"}}, "invalid_request", Code.TOKEN_AUDIENCE),
        ({"call": {**CALL, "tool": "a b"}}, "invalid_request", Code.MCP_PARAMS),
        ({"call": {**CALL, "tool": ""}}, "invalid_request", Code.MCP_PARAMS),
        ({"call": {**CALL, "action": "tools/list"}}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"call": {**CALL, "arguments": None}}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"call": {**CALL, "arguments": []}}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"call": {**CALL, "sub": "root"}}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"call": []}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"request_details": ...}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"request_details": '{"a":1,"a":2}'}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"request_details": "[" * 200}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"actor_token": "x", "actor_token_type": JWT}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"resource": TICKETS}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"binding": "workload"}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"client_id": "somebody"}, "invalid_client", Code.TASK_MISMATCH),
        *(
            ({"subject_token_type": kind}, "invalid_request", Code.REQUEST_MALFORMED)
            for kind in (ID_TOKEN, *NEVER)
        ),
        ({"grant_type": "password"}, "unsupported_grant_type", Code.REQUEST_MALFORMED),
        ({"grant_type": ""}, "invalid_request", Code.REQUEST_MALFORMED),
        ({"authorization_details": "{}"}, "invalid_authorization_details", Code.REQUEST_MALFORMED),
    ],
)
def test_cl02_a_request_that_is_not_one(changes: dict[str, Any], error: str, code: Code) -> None:
    """CL-02, TX-04: what is needed is there, once; a refresh token is never a subject."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task)
        await _refused(world, task, token, error, code, **changes)

    run(act)


def test_tx12_no_parameter_reaches_a_claim() -> None:
    """TX-12: what a client adds changes nothing."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task)
        more = {
            "sub": "root",
            "txn": "x" * 22,
            "act": "{}",
            "exp": "9999999999",
            "request_context": '{"a":1}',
        }
        plain, full = await ask(world, task, token), await ask(world, task, token, **more)
        keys = {"sub", "txn", "act", "aud", "iss", "scope", "req_wl"}
        said = [
            {
                name: UnverifiedToken.parse(each.json()["access_token"]).unverified_claims[name]
                for name in keys
            }
            for each in (plain, full)
        ]
        assert said[0] == said[1]

    run(act)


def test_tx09_a_delegation_token_of_somebody_else() -> None:
    """TX-09: whoever found a token is not its presenter."""

    async def act(world: World) -> None:
        with_services(world)
        owner, thief = await world.start(), await world.start()
        token = await delegated(world, owner)
        await _refused(world, thief, token, "invalid_request", Code.NOT_BOUND)

    run(act)


def test_a_policy_that_refuses_the_call_gives_no_token() -> None:
    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task)
        world.policy.deny(Code.AGENT_TIER)
        await _refused(world, task, token, "invalid_request", Code.AGENT_TIER)
        world.policy.deny(Code.APPROVAL_REQUIRED, "approve")
        await _refused(world, task, token, "invalid_request", Code.APPROVAL_REQUIRED)

    run(act)


def test_the_policy_is_asked_about_the_data_in_the_call_as_at_check() -> None:
    """Else a token would be issued for a call that `Check` refuses."""

    async def act(world: World) -> None:
        with_services(world)
        world.policy.payload = frozenset({"card_number", "email"})
        task = await world.start()
        token = await delegated(world, task)
        await ask(world, task, token, call={**CALL, "arguments": {"note": "4111 1111 1111 1111"}})
        assert world.policy.queries[-1]["payload"] == ("card_number",)
        assert world.policy.queries[-1]["phase"] == "check"

    run(act)


def test_nr04_details_of_the_token_and_of_the_request() -> None:
    """NR-04: both hold; what goes beyond what is held is refused."""

    def details(tool: str) -> str:
        detail = {"type": "mcp_tool_call", "locations": [TICKETS], "actions": ["tools/call"], "tool": tool}
        return json.dumps([detail])

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task, authorization_details=details("read_ticket"))
        read(world, await ask(world, task, token))
        wrong = {**CALL, "tool": "close_ticket"}
        await _refused(world, task, token, "invalid_request", Code.DETAILS, call=wrong)
        given = details("close_ticket")
        error = "invalid_authorization_details"
        await _refused(world, task, token, error, Code.DETAILS, authorization_details=given)

    run(act)


# ---------------------------------------------------------------- CL-04: in place of another one


def test_cl04_a_service_replaces_the_token_that_it_got() -> None:
    """CL-04: same `txn, sub, aud`, narrower scopes, no longer life, and who asked before."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        held = await ask(world, task, await delegated(world, task))
        before, service = read(world, held), world.workload(TICKETS_WORKLOAD)
        billing = world.workload(BILLING_WORKLOAD)
        world.clock.forward(10)
        response = await replace_with(world, service, held.json()["access_token"], scope="billing:read")
        after = read(world, response, "billing")
        assert (after.txn, after.human, after.chain) == (before.txn, before.human, before.chain)
        assert after.scopes == {"billing:read"}
        assert after.expires_at == before.expires_at
        assert (after.requester, after.requesters) == (TICKETS_WORKLOAD, (before.requester,))
        assert world.policy.queries[-1]["peer"] == str(TICKETS_WORKLOAD)
        assert world.sink.last["peer"] == str(TICKETS_WORKLOAD)
        third = await replace_with(world, billing, response.json()["access_token"], scope="tickets:read")
        check_refused(world, third, len(world.sink.entries) - 1, "invalid_scope", Code.SCOPE_MISSING)

    run(act)


@pytest.mark.parametrize("who", [BILLING_WORKLOAD, RUNNER, SpiffeId.parse("spiffe://mesh.example/ns/x/sa/y")])
def test_cl04_only_the_service_that_it_was_made_for(who: SpiffeId) -> None:
    """CL-04: a workload that stole it, also one of another service, gets nothing; the record names both."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        held = await ask(world, task, await delegated(world, task))
        before = len(world.sink.entries)
        response = await replace_with(world, world.workload(who), held.json()["access_token"])
        check_refused(world, response, before, "invalid_request", Code.NOT_BOUND)
        assert (world.sink.last["peer"], world.sink.last["task"]) == (str(who), task.id)

    run(act)


def test_cl04_an_agent_replaces_nothing() -> None:
    """CL-04: the agent whose call it is for is no service; nor is who shows no certificate."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        held = (await ask(world, task, await delegated(world, task))).json()["access_token"]
        for client, code in ((task.identity, Code.AGENT_HOST), (None, Code.PEER_MISSING)):
            response = await replace_with(world, client, held)  # type: ignore[arg-type]  # none is the point
            assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
            assert response.json()["deputy_code"] == code.value

    run(act)


def test_cl04_never_from_an_expired_one() -> None:
    """CL-04: not even within the clock's leeway."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        held = await ask(world, task, await delegated(world, task))
        service = world.workload(TICKETS_WORKLOAD)
        world.clock.forward(61)
        before = len(world.sink.entries)
        response = await replace_with(world, service, held.json()["access_token"])
        check_refused(world, response, before, "invalid_request", Code.TOKEN_EXPIRED)

    run(act)


def test_cl04_of_a_service_that_passes_nothing_on_nothing_comes() -> None:
    """CL-04: its token says so."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        services = world.broker.services
        bare = replace(services.by_name["tickets"], workloads=frozenset())
        object.__setattr__(
            world.broker, "services", replace(services, by_name={**services.by_name, "tickets": bare})
        )
        held = await ask(world, task, await delegated(world, task))
        with_services(world)
        before = len(world.sink.entries)
        response = await replace_with(world, world.workload(TICKETS_WORKLOAD), held.json()["access_token"])
        check_refused(world, response, before, "invalid_request", Code.TOKEN_CLAIMS)

    run(act)


def test_cl04_a_delegation_token_is_replaced_by_no_service() -> None:
    """CL-04: a service has transaction tokens, whatever the form calls what it sends."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task)
        before = len(world.sink.entries)
        response = await replace_with(world, world.workload(TICKETS_WORKLOAD), token)
        check_refused(world, response, before, "invalid_request", Code.TOKEN_TYPE)

    run(act)


def test_ca04_a_service_logs_in_with_its_certificate_alone() -> None:
    """CA-04: an assertion or a proof beside it is refused."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        held = (await ask(world, task, await delegated(world, task))).json()["access_token"]
        assertion = {
            "client_assertion": await world.jwt_svid(task),
            "client_assertion_type": JWT_SPIFFE,
        }
        before = len(world.sink.entries)
        response = await replace_with(world, world.workload(TICKETS_WORKLOAD), held, **assertion)
        check_refused(world, response, before, "invalid_request", Code.REQUEST_MALFORMED)
        response = await replace_with(world, world.workload(TICKETS_WORKLOAD), held, client_id="tickets")
        assert response.json()["error"] == "invalid_client"

    run(act)


def test_a_revocation_while_it_is_decided_wins() -> None:
    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task)

        def end() -> None:
            world.policy.meanwhile = lambda: None
            world.tasks.end_task(task.id, world.clock.now)

        world.policy.meanwhile = end
        response = await ask(world, task, token)
        assert response.status_code in {400, 401}
        assert "access_token" not in response.json()

    run(act)


def test_tx03_a_repeated_parameter() -> None:
    """TX-03: also the one that says what is asked for."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task)
        form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", token),
            ("subject_token_type", ACCESS_TOKEN),
            ("audience", MESH.name),
            ("scope", SCOPES),
            ("request_details", json.dumps(CALL)),
            ("requested_token_type", TXN_TOKEN),
            ("requested_token_type", ACCESS_TOKEN),
        ]
        body = "&".join(f"{name}={value}" for name, value in form).replace(" ", "+")
        headers = {"content-type": "application/x-www-form-urlencoded"}
        response = await world.send("POST", "/token", task.identity, content=body, headers=headers)
        assert (response.status_code, response.json()["error"]) == (400, "invalid_request")

    run(act)


def test_tx11_a_token_bound_to_a_key_of_proofs() -> None:
    """TX-11: asked for with a proof of that key, or not at all."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        endpoint = world.broker.settings.token_endpoint

        async def post(number: int, *, proven: bool, **form: str) -> httpx2.Response:
            jti, iat = f"{number:022d}", int(world.clock.now.timestamp())
            headers = {"DPoP": proof(htm="POST", htu=endpoint, iat=iat, jti=jti)} if proven else {}
            return await world.send("POST", "/token", task.identity, data=form, headers=headers)

        common = {"grant_type": GRANT_TYPE, "scope": SCOPES}
        sign_in = {"subject_token": world.id_token(), "subject_token_type": ID_TOKEN, "audience": TICKETS}
        given = await post(1, proven=True, **common, **sign_in)
        asked = {
            "subject_token": given.json()["access_token"],
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": TXN_TOKEN,
            "audience": MESH.name,
            "request_details": json.dumps(CALL),
        }
        before = len(world.sink.entries)
        refused = await post(2, proven=False, **common, **asked)
        check_refused(world, refused, before, "invalid_request", Code.DPOP_MISSING)
        read(world, await post(3, proven=True, **common, **asked))
        assert world.policy.queries[-1]["binding"] == "key"
        again = await post(3, proven=True, **common, **asked)
        assert again.json()["deputy_code"] == Code.REPLAYED.value

    run(act)


@pytest.mark.parametrize("binding", ["key", "workload"])
def test_tx11_a_jwt_svid_alone_makes_no_call_of_a_bound_token(binding: str) -> None:
    """TX-11: a transaction token is bound to nobody, so whoever found both could have the call made."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        form = {
            "grant_type": GRANT_TYPE,
            "subject_token": await delegated(world, task, binding=binding),
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": TXN_TOKEN,
            "audience": MESH.name,
            "scope": SCOPES,
            "request_details": json.dumps(CALL),
            "client_assertion": await world.jwt_svid(task),
            "client_assertion_type": JWT_SPIFFE,
        }
        before = len(world.sink.entries)
        response = await world.send("POST", "/token", None, data=form)
        check_refused(world, response, before, "invalid_request", Code.NOT_BOUND)
        response = await world.send("POST", "/token", world.workload(RUNNER), data=form)
        if binding == "workload":
            assert read(world, response).requester == RUNNER
        else:
            assert response.json()["deputy_code"] == Code.NOT_BOUND.value

    run(act)


def test_a_workload_bound_token_is_asked_about_as_that_workload() -> None:
    """What `Check` would see: the peer is the workload, and the binding the weaker one."""

    async def act(world: World) -> None:
        with_services(world)
        task = await world.start()
        token = await delegated(world, task, binding="workload")
        assert read(world, await ask(world, task, token)).requester == RUNNER
        query = world.policy.queries[-1]
        assert (query["binding"], query["peer"]) == ("workload", str(RUNNER))

    run(act)
