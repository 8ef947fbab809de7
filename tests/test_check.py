"""The flow, with real keys and tokens over in-memory ports: what passes, and every way of not passing."""

import asyncio
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from authz.audit.entry import Entry
from authz.audit.sink import Receipt
from authz.check import check
from authz.errors import ConfigError, PolicyUnavailableError
from authz.pb import ext_authz_pb2 as pb
from authz.response import fallback_response, overloaded_response, stranger_response
from authz.services import Asker, Services
from identity.base64url import encode_base64url
from identity.caller import Hop, WorkloadBinding
from identity.keys import SigningKey
from identity.spiffe import SpiffeId
from identity.transaction import verify_transaction_token
from identity.withdrawal import Withdrawal, Withdrawals
from tests.check_requests import PROXY
from tests.fakes import (
    ALLOW,
    APPROVE,
    DENY,
    DOMAIN,
    GATEWAY,
    ISSUER,
    LEAD,
    NOW,
    RUNNER,
    TICKETS,
    WEB,
    Run,
    World,
    agent,
    reason,
)

OK, DENIED = 0, 7


def _header(response: pb.CheckResponse, name: str) -> str:
    options = [*response.ok_response.headers, *response.denied_response.headers]
    return next((option.header.value for option in options if option.header.key == name), "")


def test_allows_with_one_transaction_token_and_one_record() -> None:
    world = World()
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert response.status.code == OK
    token = verify_transaction_token(
        _header(response, "txn-token"),
        world.authority.token_keys,
        issuer=ISSUER,
        trust_domain=DOMAIN,
        service="tickets",
        now=NOW,
        leeway=0,
    )
    assert (token.human, token.chain, token.tool) == (LEAD_WITHOUT_GROUPS, (run.hop,), "read_ticket")
    (record,) = world.records()
    assert (record["kind"], record["effect"], record["code"]) == ("decision", "allow", "DPT-ALLOWED")
    assert record["human"] == {"issuer": LEAD.issuer, "subject": LEAD.subject}
    assert response.dynamic_metadata["decision_id"] == world.sink.entries[0].id
    assert "T-1" not in json.dumps(record, default=str)


def test_record_and_token_hold_hashes_of_the_same_arguments() -> None:
    world = World()
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    token = verify_transaction_token(
        _header(response, "txn-token"),
        world.authority.token_keys,
        issuer=ISSUER,
        trust_domain=DOMAIN,
        service="tickets",
        now=NOW,
        leeway=0,
    )
    canonical = b'{"ticket":"T-1"}'
    assert token.arguments_sha256 == hashlib.sha256(canonical).hexdigest()
    (record,) = world.records()
    assert record["args_hmac"] == hmac.new(bytes(32), canonical, "sha256").hexdigest()


LEAD_WITHOUT_GROUPS = type(LEAD).parse(LEAD.issuer, LEAD.subject)


def test_removes_the_credential_and_every_header_of_ours() -> None:
    world = World()
    run = world.run("triage")
    token = world.token(run)
    headers = [
        ("content-type", "application/json"),
        ("authorization", f"Bearer {token}"),
        ("x-deputy-human", "root"),
    ]
    response = world.check(world.request(None, run, headers=headers))
    assert {"authorization", "x-deputy-human"} <= set(response.ok_response.headers_to_remove)
    (option,) = response.ok_response.headers
    assert option.append_action == pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


def test_the_policy_sees_what_authentication_established() -> None:
    world = World()
    first, second = world.run("resolver"), world.run("triage")
    world.check(world.request(world.token(second, first), second))
    (query,) = world.policy.asked
    assert query["chain"] == [
        {"name": "triage", "ceiling": "contributor"},
        {"name": "resolver", "ceiling": "contributor"},
    ]
    assert (query["binding"], query["arguments"]) == ("key", {"ticket": "T-1"})
    assert query["resource"] == {"service": "tickets", "type": "tool", "name": "read_ticket"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [(DENY, "DPT-AGENT-TIER"), (APPROVE, "DPT-APPROVAL-REQUIRED"), ({}, "DPT-POLICY-SHAPE")],
)
def test_a_policy_that_does_not_allow_denies(answer: object, code: str) -> None:
    world = World()
    world.policy.answer = answer
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert (response.status.code, reason(response)) == (DENIED, code)
    (record,) = world.records()
    assert (record["effect"], record["code"]) == ("deny", code)


def test_a_policy_denial_of_an_mcp_call_is_200_with_the_id() -> None:
    world = World()
    world.policy.answer = DENY
    run = world.run("triage")
    denied = world.check(world.request(world.token(run), run)).denied_response
    body = json.loads(denied.body)
    assert (denied.status.code, body["id"], body["error"]["code"]) == (200, 7, 403)
    assert body["error"]["data"]["reason"] == "DPT-AGENT-TIER"
    assert body["error"]["data"]["decision_id"] == world.sink.entries[0].id


@pytest.mark.parametrize("error", [PolicyUnavailableError("down"), ValueError("bug"), RecursionError()])
def test_an_engine_that_fails_denies(error: Exception) -> None:
    world = World()
    world.policy.answer = error
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert response.status.code == DENIED
    assert response.denied_response.status.code == 503
    assert len(world.records()) == 1


def test_no_record_no_allow() -> None:
    world = World()
    world.sink.full_after = 0
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert (response.status.code, reason(response)) == (DENIED, "DPT-AUDIT-UNAVAILABLE")


def _end(world: World, run: Run) -> None:
    world.rights.tasks[run.task.id] = replace(run.task, ended_at=NOW)
    world.rights.epoch += 1


def _lower(world: World, name: str) -> None:
    world.rights.agents[name] = agent(name, ceiling="observer")
    world.rights.epoch += 1


def test_a_revocation_while_the_policy_decides_wins() -> None:
    world = World()
    run = world.run("triage")
    world.policy.act = lambda: _end(world, run)
    response = world.check(world.request(world.token(run), run))
    assert (response.status.code, reason(response)) == (DENIED, "DPT-WITHDRAWN")
    assert [record["kind"] for record in world.records()] == ["decision", "withdrawn"]
    assert world.records()[1]["withdraws"] == world.sink.entries[0].id


def test_a_revocation_while_the_record_is_written_wins() -> None:
    world = World()
    run = world.run("triage")
    world.sink.act = lambda: _end(world, run)
    response = world.check(world.request(world.token(run), run))
    assert reason(response) == "DPT-WITHDRAWN"


@pytest.mark.parametrize("name", ["triage", "resolver"])
def test_an_agent_of_the_chain_whose_ceiling_is_lowered_meanwhile_is_withdrawn(name: str) -> None:
    world = World()
    first, second = world.run("resolver"), world.run("triage")
    world.policy.act = lambda: _lower(world, name)
    assert reason(world.check(world.request(world.token(second, first), second))) == "DPT-WITHDRAWN"


def test_a_delegator_whose_task_ends_meanwhile_withdraws_its_delegate() -> None:
    world = World()
    first, second = world.run("resolver"), world.run("triage")
    world.policy.act = lambda: _end(world, first)
    assert reason(world.check(world.request(world.token(second, first), second))) == "DPT-WITHDRAWN"


def test_the_end_of_somebody_elses_task_denies_nobody() -> None:
    """Tasks end all the time: a busy mesh must not stand still for it."""
    world = World()
    run, other = world.run("triage"), world.run("triage")
    world.policy.act = lambda: _end(world, other)
    assert world.check(world.request(world.token(run), run)).status.code == OK
    assert [record["kind"] for record in world.records()] == ["decision"]


def test_a_withdrawal_that_cannot_be_recorded_denies_too() -> None:
    world = World()
    world.sink.full_after = 1
    run = world.run("triage")
    world.policy.act = lambda: _end(world, run)
    assert reason(world.check(world.request(world.token(run), run))) == "DPT-AUDIT-UNAVAILABLE"


@pytest.mark.parametrize(
    ("asker", "service", "code"),
    [
        (None, "tickets", "DPT-ASKER-UNKNOWN"),
        (WEB, "tickets", "DPT-ASKER-UNKNOWN"),
        (GATEWAY, "billing", "DPT-ASKER-TARGET"),
        (GATEWAY, "payroll", "DPT-SERVICE-UNKNOWN"),
    ],
)
def test_no_proxy_mints_for_another_service(asker: object, service: str, code: str) -> None:
    world = World()
    run = world.run("triage")
    data = world.request(world.token(run), run, extensions={"service": service})
    assert reason(world.check(data, asker)) == code  # type: ignore[arg-type]  # SpiffeId or None


def test_no_peer_no_pass() -> None:
    world = World()
    run = world.run("triage")
    assert reason(world.check(world.request(world.token(run), principal=""))) == "DPT-PEER-MISSING"


def test_no_token_no_pass() -> None:
    world = World()
    response = world.check(world.request(None, world.run("triage")))
    assert reason(response) == "DPT-TOKEN-MISSING"
    assert response.denied_response.status.code == 401
    assert _header(response, "www-authenticate").startswith("Bearer resource_metadata=")


def test_dm02_a_challenge_says_where_tokens_for_the_service_come_from() -> None:
    """DM-02: RFC 9728 section 5.1, whatever is wrong with the token; before there is a service, nothing."""
    world = World()
    run = world.run("triage")
    query = "resource=https%3A%2F%2Ftickets.mesh.example"
    where = f'resource_metadata="https://broker.mesh.example/.well-known/oauth-protected-resource?{query}"'
    assert _header(world.check(world.request(None, run)), "www-authenticate").startswith(f"Bearer {where}")
    tampered = world.request(f"{world.token(run)[:-4]}AAAA", run)
    assert f'", {where}' in _header(world.check(tampered), "www-authenticate")
    unknown = world.check(world.request(None, run, extensions={"service": "payroll"}))
    assert "www-authenticate" not in {each.header.key for each in unknown.denied_response.headers}


def test_two_tokens_no_pass() -> None:
    world = World()
    run = world.run("triage")
    bearer = f"Bearer {world.token(run)}"
    headers = [("content-type", "application/json"), ("authorization", bearer), ("authorization", bearer)]
    assert reason(world.check(world.request(None, run, headers=headers))) == "DPT-HEADER-DUPLICATE"


def test_a_stolen_token_is_not_bound_to_the_thief() -> None:
    world = World()
    owner, thief = world.run("triage"), world.run("triage")
    response = world.check(world.request(world.token(owner), thief))
    assert reason(response) == "DPT-NOT-BOUND"
    (record,) = world.records()
    assert (record["task"], record["peer"]) == (owner.task.id, str(thief.spiffe_id))


def test_the_right_key_under_another_name_is_not_bound() -> None:
    """A certificate's hash alone would let whoever controls `source.principal` choose the caller."""
    world = World()
    run = world.run("triage")
    assert reason(world.check(world.request(world.token(run), run, principal=str(WEB)))) == "DPT-NOT-BOUND"


def test_a_token_bound_to_a_workload_counts_from_there_only() -> None:
    world = World()
    run = world.run("triage")
    token = world.token(run, binding=WorkloadBinding(RUNNER))
    assert world.check(world.request(token, principal=str(RUNNER))).status.code == OK
    assert world.policy.asked[-1]["binding"] == "workload"
    assert reason(world.check(world.request(token, principal=str(WEB)))) == "DPT-NOT-BOUND"
    assert reason(world.check(world.request(token, run))) == "DPT-NOT-BOUND"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires_at": int(NOW.timestamp()) - 31}, "DPT-TOKEN-EXPIRED"),
        ({"expires_at": int(NOW.timestamp()) - 1}, "DPT-TOKEN-EXPIRED"),
        ({"issued_at": int(NOW.timestamp()) + 31}, "DPT-TOKEN-NOT-YET"),
        ({"audience": "https://billing.mesh.example"}, "DPT-TOKEN-AUDIENCE"),
        ({"issuer": "https://other.example"}, "DPT-TOKEN-ISSUER"),
        ({"human": type(LEAD).parse("https://idp.example", "clerk")}, "DPT-TASK-MISMATCH"),
    ],
)
def test_a_token_that_says_something_else_is_refused(changes: dict[str, object], code: str) -> None:
    world = World()
    run = world.run("triage")
    assert reason(world.check(world.request(world.token(run, **changes), run))) == code  # type: ignore[arg-type]  # fields


def test_a_token_signed_by_the_svid_key_is_refused() -> None:
    """Key sets never mix: whoever can have SVIDs signed must not be able to speak for people."""
    world = World()
    run = world.run("triage")
    svid_key, token_key = world.authority.jwt_key, world.authority.token_key
    _, claims, _ = world.token(run).split(".")
    codes = []
    for kid in (svid_key.kid, token_key.kid):
        header = encode_base64url(json.dumps({"alg": "ES256", "kid": kid, "typ": "at+jwt"}).encode())
        signature = encode_base64url(svid_key.sign(f"{header}.{claims}".encode()))
        codes.append(reason(world.check(world.request(f"{header}.{claims}.{signature}", run))))
    assert codes == ["DPT-TOKEN-KEY", "DPT-TOKEN-SIGNATURE"]


def test_a_tampered_token_is_refused() -> None:
    world = World()
    run = world.run("triage")
    head, claims, signature = world.token(run).split(".")
    swapped = ("A" if signature[3] != "A" else "B") + signature[4:]
    assert (
        reason(world.check(world.request(f"{head}.{claims}.{signature[:3]}{swapped}", run)))
        == "DPT-TOKEN-SIGNATURE"
    )


def test_a_transaction_token_is_no_credential() -> None:
    world = World()
    run = world.run("triage")
    txn = _header(world.check(world.request(world.token(run), run)), "txn-token")
    assert reason(world.check(world.request(txn, run))) == "DPT-TOKEN-TYPE"


def test_an_agent_cannot_shed_its_human() -> None:
    world = World()
    run = world.run("triage")
    assert reason(world.check(world.request(world.svid(run), run))) == "DPT-HUMAN-MISSING"


def test_an_autonomous_agent_acts_for_nobody() -> None:
    world = World()
    run = world.run("nightly-report", human=None)
    assert world.check(world.request(world.svid(run), run)).status.code == OK
    (record,) = world.records()
    assert (record["autonomous"], record["human"], record["binding"]) == (True, None, "svid")


def test_an_autonomous_agent_that_runs_for_somebody_needs_their_token() -> None:
    world = World()
    run = world.run("nightly-report")
    assert reason(world.check(world.request(world.svid(run), run))) == "DPT-HUMAN-MISSING"


def test_an_agent_that_is_not_autonomous_cannot_run_for_nobody() -> None:
    world = World()
    run = world.run("triage", human=None)
    assert reason(world.check(world.request(world.svid(run), run))) == "DPT-HUMAN-MISSING"


def test_a_stolen_svid_does_not_count_from_another_peer() -> None:
    world = World()
    run, other = world.run("nightly-report", human=None), world.run("nightly-report", human=None)
    assert reason(world.check(world.request(world.svid(run), other))) == "DPT-NOT-BOUND"
    assert reason(world.check(world.request(world.svid(run), principal=str(WEB)))) == "DPT-NOT-BOUND"
    assert world.check(world.request(world.svid(run), principal=str(RUNNER))).status.code == OK


def test_the_svid_that_proves_an_actor_to_the_broker_is_no_credential_for_a_call() -> None:
    """A delegate hands it to whoever delegates to it, who must not be able to call with it."""
    world = World()
    run = world.run("nightly-report", human=None)
    response = world.check(world.request(world.svid(run, ISSUER), run))
    assert reason(response) == "DPT-TOKEN-AUDIENCE"


def test_the_svid_of_a_workload_is_no_task() -> None:
    world = World()
    token = world.authority.issue_jwt_svid(RUNNER, TICKETS, NOW, 60, NOW + timedelta(hours=1))
    assert reason(world.check(world.request(token, principal=str(RUNNER)))) == "DPT-TOKEN-TYPE"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ended_at": NOW}, "DPT-TASK-ENDED"),
        ({"deadline": NOW}, "DPT-TASK-ENDED"),
        ({"agent": "resolver"}, "DPT-TASK-MISMATCH"),
        ({"human": None}, "DPT-TASK-MISMATCH"),
    ],
)
def test_the_task_must_be_alive_and_its_own(change: dict[str, object], code: str) -> None:
    world = World()
    run = world.run("triage")
    token = world.token(run)
    world.rights.tasks[run.task.id] = replace(run.task, **change)  # type: ignore[arg-type]  # real fields
    assert reason(world.check(world.request(token, run))) == code


def test_a_delegator_whose_task_ended_takes_its_delegate_along() -> None:
    world = World()
    first, second = world.run("resolver"), world.run("triage")
    token = world.token(second, first)
    assert world.check(world.request(token, second)).status.code == OK
    world.rights.tasks[first.task.id] = replace(first.task, ended_at=NOW)
    assert reason(world.check(world.request(token, second))) == "DPT-TASK-ENDED"


def test_an_unknown_task_is_refused() -> None:
    world = World()
    run = world.run("triage")
    token = world.token(run)
    world.rights.tasks.clear()
    assert reason(world.check(world.request(token, run))) == "DPT-TASK-UNKNOWN"


def test_a_retired_or_expired_agent_anywhere_in_the_chain_is_refused() -> None:
    world = World()
    first, second = world.run("resolver"), world.run("triage")
    token = world.token(second, first)
    world.rights.agents["resolver"] = agent("resolver", expires_at=NOW)
    assert reason(world.check(world.request(token, second))) == "DPT-AGENT-EXPIRED"
    del world.rights.agents["resolver"]
    assert reason(world.check(world.request(token, second))) == "DPT-AGENT-UNKNOWN"


def test_a_chain_is_as_deep_as_its_strictest_agent_allows() -> None:
    world = World()
    first, second = world.run("resolver"), world.run("triage")
    world.rights.agents["resolver"] = agent("resolver", max_depth=1)
    assert reason(world.check(world.request(world.token(second, first), second))) == "DPT-CHAIN-DEPTH"


def test_a_chain_beyond_the_limit_is_refused() -> None:
    world = World()
    runs = [world.run("triage") for _ in range(5)]
    assert world.check(world.request(world.token(*runs[:4]), runs[0])).status.code == OK
    assert reason(world.check(world.request(world.token(*runs), runs[0]))) == "DPT-CHAIN-DEPTH"


def test_a_contained_proxy_has_nothing_minted() -> None:
    world = World()
    run = world.run("triage")
    data = world.request(world.token(run), run)
    world.rights.withdrawals = Withdrawals.of(
        [Withdrawal("workload", str(GATEWAY), None, "taken over", "uid:1", NOW)]
    )
    assert reason(world.check(data, GATEWAY)) == "DPT-CONTAINED"
    assert world.policy.asked == []
    assert len(world.records()) == 1
    world.rights.withdrawals = Withdrawals()
    assert world.check(data, GATEWAY).status.code == OK


def test_a_proxy_that_is_contained_while_it_asks_gets_nothing() -> None:
    world = World()
    run = world.run("triage")
    append = world.sink.append

    async def contain(entry: Entry) -> Receipt:
        receipt = await append(entry)
        stopped = Withdrawal("workload", str(GATEWAY), None, "taken over", "uid:1", NOW)
        world.rights.withdrawals, world.rights.epoch = Withdrawals.of([stopped]), 2
        return receipt

    world.sink.append = contain  # type: ignore[method-assign]  # once the allow is recorded
    response = world.check(world.request(world.token(run), run), GATEWAY)
    assert reason(response) == "DPT-WITHDRAWN"


def test_an_agent_does_not_come_back_in_a_chain() -> None:
    world = World()
    first, second, third = world.run("triage"), world.run("resolver"), world.run("triage")
    assert reason(world.check(world.request(world.token(third, second, first), third))) == "DPT-CHAIN-CYCLE"


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [(b"[" + READ + b"]", "DPT-MCP-BATCH", 400) for READ in (b'{"jsonrpc":"2.0","id":1,"method":"ping"}',)]
    + [
        (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', "DPT-JSON-DUPLICATE-KEY", 400),
        (b'{"jsonrpc":"2.0","id":1,"method":"evil/method"}', "DPT-MCP-METHOD-UNKNOWN", 200),
        (b"{", "DPT-JSON-MALFORMED", 400),
    ],
)
def test_a_body_with_two_readings_is_refused_and_recorded_with_both_principals(
    body: bytes, code: str, status: int
) -> None:
    world = World()
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run, body=body))
    assert (reason(response), response.denied_response.status.code) == (code, status)
    (record,) = world.records()
    assert (record["agent"], record["human"]) == ("triage", {"issuer": LEAD.issuer, "subject": "lead"})
    assert world.policy.asked == []


def test_a_stranger_leaves_short_and_few_records() -> None:
    world = World()
    flow = world.flow()
    run = world.run("triage")
    data = world.request("x" * 8000, run, body=b"y" * 100_000)

    async def storm() -> None:
        for _ in range(500):
            await check(data, GATEWAY, flow)

    asyncio.run(storm())
    assert 0 < len(world.sink.entries) <= 20
    assert all(entry.of_stranger for entry in world.sink.entries)


def test_a_thief_does_not_hide_the_theft_behind_noise() -> None:
    """Refusals of one's own used up the budget, and the stolen token after them left no name of its owner."""
    world = World()
    owner, thief = world.run("triage"), world.run("resolver")
    flow = world.flow()
    for _ in range(50):
        asyncio.run(check(world.request("junk", thief), GATEWAY, flow))
    asyncio.run(check(world.request(world.token(owner), thief), GATEWAY, flow))
    last = world.records()[-1]
    assert (last["code"], last["human"]) == (
        "DPT-NOT-BOUND",
        {"issuer": LEAD.issuer, "subject": LEAD.subject},
    )


def test_the_last_resorts_of_a_host_are_denials() -> None:
    for answer in (fallback_response(), overloaded_response(), stranger_response()):
        response = pb.CheckResponse.FromString(answer)
        assert (response.status.code, response.HasField("denied_response")) == (DENIED, True)


def test_no_secret_is_in_a_record_or_an_answer() -> None:
    world = World()
    run = world.run("triage")
    token = world.token(run)
    for data in (
        world.request(token, run),
        world.request(token, run, body=b"{"),
        world.request(token[:-1], run),
        world.request(token, world.run("triage")),
        world.request(token, run, path=f"/mcp?access_token={token}"),
        world.request(token, run, path=f"/mcp?access_token={token}#x"),
        world.request(token, run, path=f"/mcp/..;/x?access_token={token}"),
        world.request(token, run, path=f"/mcp?access_token={token}&q=\x01"),
    ):
        response = world.check(data)
        text = json.dumps(world.records(), default=str) + response.denied_response.body
        assert token not in text
        assert token.split(".")[2] not in text


def test_hops_are_recorded_from_the_presenter_inwards() -> None:
    world = World()
    first, second = world.run("resolver"), world.run("triage")
    world.check(world.request(world.token(second, first), second))
    (record,) = world.records()
    hops: list[Hop] = [second.hop, first.hop]
    assert record["chain"] == [{"agent": hop.agent, "task": hop.task} for hop in hops]


def test_a_key_that_is_not_the_brokers_is_unknown() -> None:
    world = World()
    run = world.run("triage")
    token = world.token(run)
    world.authority = type(world.authority).of(
        world.authority.ca, world.authority.jwt_key, SigningKey.generate(), NOW
    )
    assert reason(world.check(world.request(token, run))) == "DPT-TOKEN-KEY"


def test_what_goes_upstream_ends_with_the_credential() -> None:
    """CL-07: a transaction token outlives neither the token nor the task behind it."""
    world = World()
    run = world.run("triage")
    response = world.check(world.request(world.token(run, expires_at=int(NOW.timestamp()) + 7), run))
    token = verify_transaction_token(
        _header(response, "txn-token"),
        world.authority.token_keys,
        issuer=ISSUER,
        trust_domain=DOMAIN,
        service="tickets",
        now=NOW,
        leeway=0,
    )
    assert token.expires_at == int(NOW.timestamp()) + 7


@pytest.mark.parametrize("answer", [ALLOW, DENY])
def test_a_sink_with_a_bug_denies(answer: object) -> None:
    world = World()
    world.policy.answer = answer

    def fail() -> None:
        raise ZeroDivisionError

    world.sink.act = fail
    run = world.run("triage")
    response = world.check(world.request(world.token(run), run))
    assert (response.status.code, reason(response)) == (DENIED, "DPT-INTERNAL")


def test_a_denial_that_cannot_be_recorded_is_a_denial() -> None:
    world = World()
    world.policy.answer = DENY
    world.sink.full_after = 0
    run = world.run("triage")
    assert reason(world.check(world.request(world.token(run), run))) == "DPT-AUDIT-UNAVAILABLE"


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer ", "token", ""])
def test_another_scheme_is_no_token(value: str) -> None:
    world = World()
    run = world.run("triage")
    headers = [("content-type", "application/json"), ("authorization", value)]
    assert reason(world.check(world.request(None, run, headers=headers))) == "DPT-TOKEN-MISSING"


def test_the_svid_of_an_unknown_task_is_refused() -> None:
    world = World()
    run = world.run("nightly-report", human=None)
    svid = world.svid(run)
    world.rights.tasks.clear()
    assert reason(world.check(world.request(svid, run))) == "DPT-TASK-UNKNOWN"


def test_a_service_is_found_by_destination_and_host_where_the_mesh_names_none() -> None:
    world = World()
    run = world.run("triage")
    proxy = SpiffeId.parse(PROXY)
    service = replace(
        world.services.by_name["tickets"],
        hosts=frozenset({"tickets.mesh.example"}),
        destinations=frozenset({proxy}),
    )
    asker = Asker(GATEWAY, frozenset({"tickets"}))
    world.services = Services.of((service,), (asker,), None)
    data = pb.CheckRequest.FromString(world.request(world.token(run), run))
    data.attributes.context_extensions.clear()
    assert world.check(data.SerializeToString()).status.code == OK
    data.attributes.request.http.host = "Billing.mesh.example"
    assert reason(world.check(data.SerializeToString())) == "DPT-SERVICE-UNKNOWN"
    data.attributes.destination.principal = str(WEB)
    data.attributes.request.http.host = "tickets.mesh.example"
    assert reason(world.check(data.SerializeToString())) == "DPT-SERVICE-UNKNOWN"


def test_a_local_socket_asks_only_where_there_is_one() -> None:
    world = World()
    run = world.run("triage")
    data = world.request(world.token(run), run)
    local = Asker(SpiffeId.parse("spiffe://mesh.example/local"), frozenset({"tickets"}))
    world.services = Services.of(tuple(world.services.by_name.values()), (), local)
    assert world.check(data, None).status.code == OK
    assert reason(world.check(data, GATEWAY)) == "DPT-ASKER-UNKNOWN"


def test_two_services_never_share_a_name_or_a_place() -> None:
    service = World().services.by_name["tickets"]
    placed = replace(service, hosts=frozenset({"a.example"}), destinations=frozenset({SpiffeId.parse(PROXY)}))
    for second in (service, replace(placed, name="other")):
        with pytest.raises(ConfigError):
            Services.of((placed, second), (), None)
