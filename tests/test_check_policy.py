"""The flow with the shipped policy and the demo's grants: the rows of the scenario that policy decides.

Row 2 is here as a call: the broker issues no such token, so the test signs one that it would not.
"""

import json
from dataclasses import replace

import pytest

from authz.policy.embedded import EmbeddedPolicy
from authz.policy.modules import shipped_modules
from authz.services import Asker, Services
from identity.caller import Human, WorkloadBinding
from tests.fakes import GATEWAY, LEAD, RUNNER, World, agent, reason
from tests.policy_questions import demo_grants

CLERK = Human.parse("https://idp.example", "clerk", ("clerk",))
BILLING = "https://billing.mesh.example"
TIERS = {"triage": "observer", "resolver": "contributor", "nightly-report": "observer"}
POLICY = EmbeddedPolicy(shipped_modules(), demo_grants())


def _world() -> World:
    world = World()
    world.policy = POLICY  # type: ignore[assignment]  # the real one in place of the fake
    asker = Asker(GATEWAY, frozenset({"tickets", "billing"}))
    world.services = Services.of(tuple(world.services.by_name.values()), (asker,), None)
    for name, tier in TIERS.items():
        world.rights.agents[name] = agent(name, ceiling=tier, autonomous=name == "nightly-report")
    return world


def _call(tool: str, **arguments: object) -> bytes:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


@pytest.mark.parametrize(
    ("human", "agent_name", "service", "body", "code"),
    [
        (LEAD, "triage", "tickets", _call("read_ticket", ticket="T-1"), ""),
        (CLERK, "resolver", "billing", _call("refund", invoice="I", amount=1), "DPT-HUMAN-NOT-GRANTED"),
        (LEAD, "resolver", "billing", _call("refund", invoice="I", amount=1), ""),
        (LEAD, "resolver", "billing", _call("refund", invoice="I", amount=101), "DPT-ARGUMENT-LIMIT"),
        (LEAD, "resolver", "billing", _call("refund", invoice="I"), "DPT-ARGUMENT-LIMIT"),
        (LEAD, "resolver", "billing", _call("refund", invoice="I", amount="1"), "DPT-ARGUMENT-LIMIT"),
        (LEAD, "triage", "tickets", _call("close_ticket", ticket="T-1"), "DPT-AGENT-TIER"),
        (LEAD, "triage", "billing", _call("get_invoice", invoice="I"), "DPT-AGENT-NOT-GRANTED"),
        (LEAD, "resolver", "billing", _call("delete_customer", customer="C"), "DPT-APPROVAL-REQUIRED"),
        (LEAD, "resolver", "tickets", _call("drop_database"), "DPT-TOOL-UNKNOWN"),
        (LEAD, "resolver", "tickets", _call("Read_ticket", ticket="T-1"), "DPT-TOOL-UNKNOWN"),
    ],
)
def test_human_and_agent_and_tool_must_all_allow(
    human: Human, agent_name: str, service: str, body: bytes, code: str
) -> None:
    world = _world()
    run = world.run(agent_name, human)
    audience = f"https://{service}.mesh.example"
    scopes = frozenset(f"{service}:{name}" for name in ("read", "write", "destroy"))
    token = world.token(run, human=human, audience=audience, scopes=scopes)
    response = world.check(world.request(token, run, body=body, extensions={"service": service}))
    assert reason(response) == code
    assert (response.status.code == 0) is (code == "")


@pytest.mark.parametrize(
    ("presenter", "delegator", "tool", "code"),
    [
        ("triage", "resolver", "read_ticket", ""),
        ("resolver", "triage", "read_ticket", ""),
        ("resolver", "triage", "close_ticket", "DPT-CHAIN-NARROWED"),
        ("triage", "resolver", "close_ticket", "DPT-AGENT-TIER"),
    ],
)
def test_nobody_gains_rights_by_delegating(presenter: str, delegator: str, tool: str, code: str) -> None:
    world = _world()
    first, second = world.run(delegator), world.run(presenter)
    data = world.request(world.token(second, first), second, body=_call(tool, ticket="T-1"))
    assert reason(world.check(data)) == code


def test_a_token_without_the_scope_asks_for_it() -> None:
    world = _world()
    run = world.run("resolver")
    token = world.token(run, scopes=frozenset({"tickets:read"}))
    response = world.check(world.request(token, run, body=_call("close_ticket", ticket="T-1")))
    assert (reason(response), response.denied_response.status.code) == ("DPT-SCOPE-MISSING", 403)


def test_a_destructive_tool_needs_the_agents_own_key() -> None:
    world = _world()
    world.rights.agents["resolver"] = replace(world.rights.agents["resolver"], ceiling="operator")
    run = world.run("resolver")
    token = world.token(
        run, binding=WorkloadBinding(RUNNER), audience=BILLING, scopes=frozenset({"billing:destroy"})
    )
    data = world.request(
        token,
        principal=str(RUNNER),
        body=_call("delete_customer", customer="C"),
        extensions={"service": "billing"},
    )
    assert reason(world.check(data)) == "DPT-BINDING-WEAK"


@pytest.mark.parametrize(("tool", "code"), [("read_ticket", ""), ("export_tickets", "DPT-HUMAN-REQUIRED")])
def test_an_autonomous_agent_reads_but_not_what_demands_a_human(tool: str, code: str) -> None:
    world = _world()
    run = world.run("nightly-report", None)
    arguments = {"ticket": "T-1"} if tool == "read_ticket" else {}
    assert reason(world.check(world.request(world.svid(run), run, body=_call(tool, **arguments)))) == code


@pytest.mark.parametrize("method", ["tools/list", "initialize", "ping"])
def test_who_may_call_something_may_list_and_connect(method: str) -> None:
    world = _world()
    run = world.run("triage")
    message: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if method == "initialize":
        info = {"name": "client", "version": "1"}
        message["params"] = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
    data = world.request(world.token(run), run, body=json.dumps(message).encode())
    assert reason(world.check(data)) == ""
