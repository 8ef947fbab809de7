"""Grants of a size, made the same way each time: what an organisation of some hundred agents would write.

- `scale` 1 is about 58 kB of data for the policy, as in the figures that DESIGN.md compares with.
- The service that is called and its agents are the same at every scale; the rest grows.
"""

import json
from collections.abc import Iterator

from identity.caller import MAX_DEPTH

SERVICE = "tickets"
TOOL = "read_ticket"
# A chain of every length that is allowed, the presenter first.
AGENTS = ("triage", *(f"delegator-{number}" for number in range(1, MAX_DEPTH)))

SERVICES = 24
TOOLS = 20
OTHER_AGENTS = 340
CLASSES = ("read", "read", "write", "destroy")


def grants_yaml(scale: int = 1) -> bytes:
    """Return `grants.yaml`; JSON is YAML."""
    services = {SERVICE: {"tools": {TOOL: {"class": "read"}, "close_ticket": {"class": "write"}}}}
    services |= {
        name: {"tools": {f"tool-{tool:02}": {"class": CLASSES[tool % 4]} for tool in range(TOOLS)}}
        for name in _services(scale)
    }
    names = list(_services(scale))
    agents = {name: {"tier": "contributor", "services": [SERVICE]} for name in AGENTS}
    agents |= {
        name: {"tier": "observer", "services": [names[at % len(names)], names[(at + 7) % len(names)]]}
        for at, name in enumerate(other_agents(scale))
    }
    return json.dumps(
        {
            "version": 1,
            "tiers": {
                "observer": {"allow": ["read"]},
                "contributor": {"allow": ["read", "write"], "approve": ["destroy"]},
            },
            "services": services,
            "humans": {
                "groups": {
                    "lead": {SERVICE: ["read", "write"]},
                    **{f"group-{name}": {name: ["read"]} for name in names},
                }
            },
            "agents": agents,
        }
    ).encode()


def other_agents(scale: int) -> Iterator[str]:
    """Name the agents that no call is about."""
    return (f"agent-{number:05}" for number in range(OTHER_AGENTS * scale))


def _services(scale: int) -> Iterator[str]:
    return (f"service-{number:04}" for number in range(SERVICES * scale))
