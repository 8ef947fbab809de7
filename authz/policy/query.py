"""The question to the policy: `deputy.input/v1`, built once for a call, or once for a whole list of names.

- Plain JSON values only; authz/policy/schemas/input.json describes them.
- What the policy sees of a caller is what authentication established, nothing that a client merely said.
- What describes a caller is the same after a way through JSON: an answer may come long after its request.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from authz.policy.port import Query
from authz.protocols.operation import Operation
from authz.request import Request
from identity.caller import Agent, Caller, Human

INPUT_VERSION = "deputy.input/v1"

WHO: Final = ("version", "human", "agent", "chain", "task", "peer", "binding", "scopes")
"""The members of a question that say who asks."""

Kind = Literal["tool", "resource", "resource_template", "prompt", "model"]
"""What a list is of."""

# By which call a thing of a list is used. A model is used by any of several, which no rule tells apart.
_USED_BY: Final[Mapping[Kind, str]] = {
    "tool": "tools/call",
    "resource": "resources/read",
    "resource_template": "resources/read",
    "prompt": "prompts/get",
    "model": "chat.completions",
}


def check_query(
    caller: Caller,
    operation: Operation,
    request: Request | None,
    service: str,
    *,
    payload: tuple[str, ...] = (),
) -> Mapping[str, object]:
    """Ask whether this caller may do this now; there is no request yet where a token is asked for a call.

    `payload` names the classes of data that were found in it, each once and in order.
    """
    asked = request and {"method": request.method, "path": request.path, "host": request.host}
    return {
        **caller_input(caller),
        "phase": "check",
        "action": {"protocol": operation.protocol, "method": operation.method, "phase": operation.phase},
        "resource": {"service": service, "type": operation.resource_type, "name": operation.resource_name},
        "arguments": operation.arguments,
        "payload": payload,
        "request": asked,
    }


def caller_input(caller: Caller) -> Mapping[str, object]:
    """Describe all that the policy sees of a caller."""
    return {
        "version": INPUT_VERSION,
        "human": human_input(caller.human),
        "agent": agent_input(caller.agent),
        "chain": chain_input(caller.chain_agents),
        "task": {"id": caller.task.id, "workload": str(caller.task.workload)},
        "peer": str(caller.peer),
        "binding": caller.binding,
        "scopes": sorted(caller.scopes),
    }


def visible_query(
    who: Mapping[str, object], service: str, protocol: str, kind: Kind, names: Sequence[str]
) -> Query:
    """Ask which of these a caller could ever use, with some arguments; `who` is what `caller_input` gave."""
    return {
        **who,
        "phase": "visible",
        "action": {"protocol": protocol, "method": _USED_BY[kind], "phase": "call"},
        "resource": {"service": service, "type": kind, "name": service, "names": list(dict.fromkeys(names))},
        "arguments": None,
        "payload": [],
        "request": None,
    }


def human_input(human: Human | None) -> Mapping[str, object] | None:
    """Describe a person to the policy."""
    if human is None:
        return None
    return {
        "issuer": human.issuer,
        "subject": human.subject,
        "uri": human.uri,
        "groups": list(human.groups),
        "acr": human.acr,
        "auth_time": human.auth_time,
    }


def agent_input(agent: Agent) -> Mapping[str, object]:
    """Describe an agent to the policy."""
    return {
        "name": agent.name,
        "ceiling": agent.ceiling,
        "autonomous": agent.autonomous,
        "owner": agent.owner,
    }


def chain_input(agents: tuple[Agent, ...]) -> list[Mapping[str, object]]:
    """Describe a chain to the policy, the presenter first."""
    return [{"name": agent.name, "ceiling": agent.ceiling} for agent in agents]
