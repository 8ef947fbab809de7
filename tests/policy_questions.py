"""Questions to the shipped policy over the demo's grants, for the tests of the engines."""

from pathlib import Path
from typing import Any

from authz.policy.grants import Grants
from authz.policy.query import WHO, Kind, visible_query

GRANTS_FILE = Path(__file__).parent.parent / "authz" / "demo" / "grants.yaml"
LEAD = {
    "issuer": "https://idp.example",
    "subject": "lead",
    "uri": "https://idp.example#lead",
    "groups": ["lead"],
    "acr": None,
    "auth_time": None,
}


def demo_grants() -> Grants:
    """The grants of the demo."""
    return Grants.parse(GRANTS_FILE.read_bytes())


def question(tool: str = "read_ticket", service: str = "tickets", agent: str = "triage") -> dict[str, object]:
    """May the agent call the tool for lead?"""
    ceiling = {"triage": "observer", "resolver": "contributor"}[agent]
    return {
        "version": "deputy.input/v1",
        "phase": "check",
        "human": LEAD,
        "agent": {"name": agent, "ceiling": ceiling, "autonomous": False, "owner": "support"},
        "chain": [{"name": agent, "ceiling": ceiling}],
        "task": {"id": "01K0000000000000000000000A", "workload": "spiffe://mesh.example/ns/agents/sa/runner"},
        "peer": "spiffe://mesh.example/agent/triage/task/01K0000000000000000000000A",
        "binding": "key",
        "scopes": ["billing:destroy", "billing:write", "tickets:read", "tickets:write"],
        "action": {"protocol": "mcp", "method": "tools/call", "phase": "call"},
        "resource": {"service": service, "type": "tool", "name": tool},
        "arguments": {"ticket": "T-1"},
        "payload": [],
        "request": {"method": "POST", "path": "/mcp", "host": "tickets.mesh.example"},
    }


def lists(
    *names: str, agent: str = "triage", service: str = "tickets", kind: Kind = "tool"
) -> dict[str, Any]:
    """Which of these may the agent use for lead?"""
    who = question(agent=agent)
    protocol = "llm" if kind == "model" else "mcp"
    return {**visible_query({name: who[name] for name in WHO}, service, protocol, kind, names)}


READ = question()
CLOSE = question("close_ticket")
DELETE = question("delete_customer", "billing", "resolver")
EXPECTED = ((READ, "allow"), (CLOSE, "deny"), (DELETE, "approve"))
