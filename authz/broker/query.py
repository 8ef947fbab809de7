"""The broker's questions to the policy: may this token be issued, may this task start.

- The form is that of every question (`deputy.input/v1`), so that a token is never issued by a rule that a
  call would not meet.
- What the policy sees was verified before; of what the client merely asks for it sees the scopes.
"""

from collections.abc import Mapping

from authz.policy.query import INPUT_VERSION, agent_input, chain_input, human_input
from identity.caller import Agent, Binding, Human, Task, WorkloadBinding
from identity.spiffe import SpiffeId

EXCHANGE = "token-exchange"
START = "tasks/start"


def exchange_query(
    *,
    human: Human,
    agents: tuple[Agent, ...],
    task: Task,
    peer: SpiffeId,
    binding: Binding,
    scopes: frozenset[str],
    service: str,
) -> Mapping[str, object]:
    """Ask whether these agents, the new presenter first, may act for this human on this service."""
    return {
        "version": INPUT_VERSION,
        "phase": "exchange",
        "human": human_input(human),
        "agent": agent_input(agents[0]),
        "chain": chain_input(agents),
        "task": {"id": task.id, "workload": str(task.workload)},
        "peer": str(peer),
        "binding": "workload" if isinstance(binding, WorkloadBinding) else "key",
        "scopes": sorted(scopes),
        "action": {"protocol": "token", "method": EXCHANGE, "phase": "lifecycle"},
        "resource": {"service": service, "type": "server", "name": service},
        "arguments": None,
        "payload": [],
        "request": None,
    }


def task_query(human: Human | None, agent: Agent, task_id: str, workload: SpiffeId) -> Mapping[str, object]:
    """Ask whether this workload may start a task of this agent for this human, or for nobody."""
    return {
        "version": INPUT_VERSION,
        "phase": "task",
        "human": human_input(human),
        "agent": agent_input(agent),
        "chain": chain_input((agent,)),
        "task": {"id": task_id, "workload": str(workload)},
        "peer": str(workload),
        "binding": "key",
        "scopes": [],
        "action": {"protocol": "identity", "method": START, "phase": "lifecycle"},
        "resource": {"service": "", "type": "task", "name": agent.name},
        "arguments": None,
        "payload": [],
        "request": None,
    }
