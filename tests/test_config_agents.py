"""`deputy.yaml`: agents of ours, and of other trust domains."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from authz.config import Config, parse_config
from authz.errors import ConfigError
from identity.spiffe import SpiffeId

EDGE = "spiffe://other.example/ns/mesh/sa/edge"
RUNNER = "spiffe://mesh.example/ns/agents/sa/runner"


def parse(**agent: Any) -> Config:
    given = {"owner": "team", "sponsor": "unit", "purpose": "sort", "ceiling": "observer"}
    file = {
        "trust_domain": "mesh.example",
        "data_dir": "data",
        "check": {"callers": [{"id": "spiffe://mesh.example/ns/mesh/sa/gateway", "may_ask": ["tickets"]}]},
        "broker": {"issuer": "https://broker.mesh.example"},
        "services": {"tickets": {"audience": "https://tickets.mesh.example"}},
        "agents": [{**given, **agent}],
    }
    return parse_config(yaml.safe_dump(file).encode(), Path("/srv/deputy"))


@pytest.mark.parametrize("hosts", [[], [EDGE]])
def test_an_agent_of_another_trust_domain(hosts: list[str]) -> None:
    (agent,) = parse(name="other.example/triage", autonomous=True, hosts=hosts).to_agents()
    assert (agent.name, agent.autonomous) == ("other.example/triage", True)
    assert agent.hosts == frozenset(map(SpiffeId.parse, hosts))


def test_an_agent_of_ours_may_run_on_workloads_of_another_trust_domain() -> None:
    """Under SPIRE the workloads are of SPIRE's trust domain, and the agents of ours."""
    (agent,) = parse(name="triage", hosts=[EDGE]).to_agents()
    assert agent.hosts == frozenset({SpiffeId.parse(EDGE)})


@pytest.mark.parametrize(
    ("agent", "told"),
    [
        ({"name": "triage"}, r"agents\[0\].hosts: is missing"),
        ({"name": "other.example/triage", "autonomous": True}, r"agents\[0\].hosts: is missing"),
        ({"name": "triage", "hosts": []}, "hosts"),
        ({"name": "other.example/triage", "hosts": []}, "autonomous: true"),
        ({"name": "other.example/triage", "autonomous": False, "hosts": [EDGE]}, "autonomous: true"),
        ({"name": "other.example/triage", "autonomous": True, "hosts": [EDGE, RUNNER]}, "other.example only"),
        ({"name": "mesh.example/triage", "autonomous": True, "hosts": [RUNNER]}, "write 'triage'"),
        ({"name": "mesh.example/triage", "autonomous": True, "hosts": []}, "write 'triage'"),
        ({"name": "Other.example/triage", "autonomous": True, "hosts": []}, "not an agent"),
        ({"name": "other.example/team/triage", "autonomous": True, "hosts": []}, "not an agent"),
        ({"name": f"{'d' * 202}/triage", "autonomous": True, "hosts": []}, "not an agent"),
    ],
)
def test_an_agent_that_could_never_run_or_has_two_names(agent: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(**agent)
