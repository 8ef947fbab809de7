"""The flow where the policy wants a person's approval: asked for, used once, worth nothing a moment later."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from authz.approvals.prompt import INPUT
from authz.codes import Code
from authz.errors import ApprovalError
from authz.flow import Flow
from authz.pb import ext_authz_pb2 as pb
from identity.caller import Human
from identity.jws import UnverifiedToken
from identity.withdrawal import Kind, Withdrawal, Withdrawals
from tests.approvals_world import MemoryApprovals
from tests.fakes import ALLOW, APPROVE, DENY, GATEWAY, LEAD, NOW, Run, World, agent, reason

# Envoy's names of streams.
STREAMS = count(1)


class Approving(World):
    """A world whose policy wants a person's word for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.policy.answer = APPROVE
        self.approvals = MemoryApprovals()

    def flow(self) -> Flow:
        return replace(super().flow(), approvals=self.approvals)

    def withdraw(self, kind: Kind, subject: str, before: int | None = None) -> None:
        withdrawal = Withdrawal(kind, subject, before, "stopped", "uid:1", NOW, NOW + timedelta(days=400))
        self.rights.withdrawals = Withdrawals.of((*self.rights.withdrawals.items, withdrawal))
        self.rights.epoch += 1


@pytest.fixture
def world() -> Approving:
    return Approving()


def body(arguments: object = None, rpc_id: int = 1, **more: object) -> bytes:
    params = {"name": "read_ticket", "arguments": arguments or {"ticket": "T-1"}, **more}
    message = {"jsonrpc": "2.0", "id": rpc_id, "method": "tools/call", "params": params}
    return json.dumps(message).encode()


def send(world: Approving, data: bytes, stream: str | None = None) -> pb.CheckResponse:
    """Ask as Envoy does, which names each stream anew."""
    message = pb.CheckRequest.FromString(data)
    message.attributes.request.http.id = stream or str(next(STREAMS))
    return world.check(message.SerializeToString())


def call(world: Approving, run: Run, **parts: Any) -> pb.CheckResponse:
    return send(world, world.request(world.token(run), run, **{"body": body(), **parts}))


def is_allowed(response: pb.CheckResponse) -> bool:
    return response.status.code == 0 and response.HasField("ok_response")


def approved(world: Approving, by: str = LEAD.uri) -> Run:
    """A run whose call waits, and was approved."""
    run = world.run("triage")
    assert reason(call(world, run)) == Code.APPROVAL_REQUIRED.value
    world.approvals.approve(by)
    return run


# ---------------------------------------------------------------- once


def test_a_call_waits_and_passes_once(world: Approving) -> None:
    run = world.run("triage")
    assert reason(call(world, run)) == Code.APPROVAL_REQUIRED.value
    (asked,) = world.approvals.asked
    assert (asked.key.agent, asked.key.task, asked.key.human) == ("triage", run.task.id, LEAD.uri)
    assert (asked.key.resource, asked.arguments) == ("read_ticket", '{"ticket":"T-1"}')
    assert asked.key.revision == world.policy.revision
    world.approvals.approve()
    assert is_allowed(call(world, run))
    assert reason(call(world, run)) == Code.APPROVAL_REQUIRED.value


def test_the_records_name_the_approval_and_no_argument(world: Approving) -> None:
    """What was asked for, what was let through, and the order between them, are joined by one id."""
    run = approved(world)
    call(world, run)
    denied, allowed = world.records()
    assert denied["approval"] == allowed["approval"]
    assert (denied["effect"], allowed["effect"]) == ("deny", "allow")
    assert denied["args_hmac"] == allowed["args_hmac"]
    assert "T-1" not in str(world.records())
    world.policy.answer = ALLOW
    call(world, run)
    assert world.records()[-1]["approval"] is None


def test_the_word_of_the_agents_own_client_proves_nothing(world: Approving) -> None:
    """CA-06: `accept` is what the agent's client says; the person has said nothing yet."""
    run = world.run("triage")
    accepted = body(inputResponses={INPUT: {"action": "accept"}})
    for _ in range(3):
        assert reason(call(world, run, body=accepted)) == Code.APPROVAL_REQUIRED.value
    world.approvals.approve()
    assert is_allowed(call(world, run, body=accepted))
    assert reason(call(world, run, body=accepted)) == Code.APPROVAL_REQUIRED.value


def test_a_proxy_that_asks_twice_about_one_request_is_answered_twice(world: Approving) -> None:
    run = approved(world)
    data = world.request(world.token(run), run, body=body())
    assert is_allowed(send(world, data, "a stream"))
    assert is_allowed(send(world, data, "a stream"))
    assert reason(send(world, data, "another")) == Code.APPROVAL_REQUIRED.value


@pytest.mark.parametrize("answer", [ALLOW, DENY])
def test_an_approval_is_used_where_the_policy_wants_one_and_nowhere_else(
    world: Approving, answer: dict[str, object]
) -> None:
    run = approved(world)
    world.policy.answer = answer
    assert is_allowed(call(world, run)) is (answer is ALLOW)
    world.policy.answer = APPROVE
    assert is_allowed(call(world, run))


# ---------------------------------------------------------------- another call


OTHERS: dict[str, Callable[[Approving, Run], pb.CheckResponse]] = {
    "other arguments": lambda world, run: call(world, run, body=body({"ticket": "T-2"})),
    "another run": lambda world, _: call(world, world.run("triage")),
    "another agent": lambda world, _: call(world, world.run("resolver")),
    "handed on": lambda world, run: send(
        world, world.request(world.token(run, world.run("resolver")), run, body=body())
    ),
    "an answer beside it": lambda world, run: call(
        world, run, body=body(inputResponses={"to": {"action": "accept", "content": {"ticket": "T-2"}}})
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_an_approval_lets_nothing_else_pass(world: Approving, other: str) -> None:
    run = approved(world)
    assert reason(OTHERS[other](world, run)) == Code.APPROVAL_REQUIRED.value
    assert is_allowed(call(world, run))


def test_a_policy_that_changed_is_asked_for_anew(world: Approving) -> None:
    run = approved(world)
    world.policy.revision = "policy.newer"
    assert reason(call(world, run)) == Code.APPROVAL_REQUIRED.value


def test_another_person_is_not_approved_for(world: Approving) -> None:
    approved(world)
    clerk = Human.parse("https://idp.example", "clerk")
    run = world.run("triage", clerk)
    response = send(world, world.request(world.token(run, human=clerk), run, body=body()))
    assert reason(response) == Code.APPROVAL_REQUIRED.value


# ---------------------------------------------------------------- a revocation wins


@pytest.mark.parametrize(
    ("kind", "subject"), [("human", LEAD.uri), ("agent", "triage"), ("task", ""), ("workload", str(GATEWAY))]
)
def test_what_was_withdrawn_since_makes_an_approval_worthless(
    world: Approving, kind: Kind, subject: str
) -> None:
    run = approved(world)
    world.withdraw(kind, subject or run.task.id)
    assert reason(call(world, run)) in {Code.CONTAINED.value, Code.REVOKED.value}
    assert world.approvals.approved


def test_who_approved_and_was_stopped_since_has_approved_nothing(world: Approving) -> None:
    """An account that was taken over approves what it likes, until somebody notices."""
    operator = "https://idp.example#olga"
    run = approved(world, by=operator)
    world.withdraw("human", operator)
    assert reason(call(world, run)) == Code.CONTAINED.value
    assert not world.approvals.approved
    assert reason(call(world, run)) == Code.APPROVAL_REQUIRED.value


def test_who_approved_and_signed_out_since_has_approved_nothing(world: Approving) -> None:
    operator = "https://idp.example#olga"
    run = approved(world, by=operator)
    world.withdraw("human", operator, before=int(NOW.timestamp()) + 1)
    assert reason(call(world, run)) == Code.REVOKED.value


def test_an_approver_who_is_stopped_while_it_is_recorded_wins(world: Approving) -> None:
    operator = "https://idp.example#olga"
    run = approved(world, by=operator)
    world.sink.act = lambda: world.withdraw("human", operator)
    assert reason(call(world, run)) == Code.WITHDRAWN.value
    assert [record["kind"] for record in world.records()[-2:]] == ["decision", "withdrawn"]


# ---------------------------------------------------------------- what goes wrong


def test_without_a_record_nothing_passes_and_the_approval_is_used(world: Approving) -> None:
    """It stays used: nobody can tell what the upstream saw."""
    run = approved(world)
    world.sink.full_after = len(world.sink.entries)
    assert reason(call(world, run)) == Code.AUDIT_UNAVAILABLE.value
    world.sink.full_after = None
    assert reason(call(world, run)) == Code.APPROVAL_REQUIRED.value


@pytest.mark.parametrize(
    "code", [Code.APPROVAL_UNKNOWN, Code.APPROVAL_DENIED, Code.APPROVAL_LIMIT, Code.APPROVAL_SIZE]
)
def test_what_cannot_be_asked_is_denied_with_its_code(world: Approving, code: Code) -> None:
    run = approved(world)
    world.approvals.error = ApprovalError(code, "why")
    response = call(world, run)
    assert reason(response) == code.value
    assert response.denied_response.status.code == (503 if code is Code.APPROVAL_UNKNOWN else 200)


def test_too_much_to_be_shown_is_denied_before_anybody_is_asked(world: Approving) -> None:
    run = world.run("triage")
    response = call(world, run, body=body({"ticket": "T" * 20_000}))
    assert reason(response) == Code.APPROVAL_SIZE.value
    assert not world.approvals.asked


def test_who_is_not_bound_asks_nobody(world: Approving) -> None:
    """A stolen token would fill a person's inbox with what the thief writes."""
    run = world.run("triage")
    response = send(world, world.request(world.token(run), world.run("triage"), body=body()))
    assert reason(response) == Code.NOT_BOUND.value
    assert not world.approvals.asked


def test_an_agent_for_nobody_asks_for_nobody(world: Approving) -> None:
    run = world.run("nightly-report", None)
    data = world.request(world.svid(run), run, body=body())
    assert reason(send(world, data)) == Code.APPROVAL_REQUIRED.value
    assert world.approvals.asked[0].key.human is None
    world.approvals.approve("https://idp.example#olga")
    assert is_allowed(send(world, data))


def test_an_approved_call_has_a_transaction_token_of_its_own(world: Approving) -> None:
    """One for the tool would let the service take any other arguments for what a person approved."""
    tickets, billing = world.services.by_name["tickets"], world.services.by_name["billing"]
    per_tool = replace(tickets, txn="per_tool")
    world.services = world.services.of((per_tool, billing), tuple(world.services.askers.values()), None)
    run = approved(world)

    def context(response: pb.CheckResponse) -> dict[str, Any]:
        token = response.ok_response.headers[0].header.value
        claims: dict[str, Any] = dict(UnverifiedToken.parse(token).unverified_claims)
        return dict(claims["tctx"])

    first = context(call(world, run))
    assert "args_sha256" in json.dumps(first)
    world.policy.answer = ALLOW
    assert context(call(world, run)) != first


def test_the_registry_decides_who_the_agent_is_not_the_approval(world: Approving) -> None:
    run = approved(world)
    world.rights.agents["triage"] = agent("triage", expires_at=NOW)
    assert reason(call(world, run)) == Code.AGENT_EXPIRED.value
