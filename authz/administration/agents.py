"""The registry of agents, while the service runs: register, show, change, retire, and find orphans.

- Every agent has an owner and a sponsor. What stands in deputy.yaml is changed there; what was registered
  here is changed here.
- The policy sees an agent as it is and as it would be: an owner raises no authority of an agent of their own.
- An orphan is an agent whose registration has expired, or whose owner or sponsor is contained: a person who
  has left answers for nothing. Sweeping retires orphans; of those in deputy.yaml it only tells.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal, Protocol

from pydantic import ValidationError

from authz.admin import AdminRequest
from authz.administration.document import agent_json, flag, members, reason_of
from authz.administration.order import ExistenceError, Order, OrderError
from authz.broker.arrival import Arrival
from authz.config import to_agent
from authz.config_problems import sentences
from authz.config_sections import AgentConfig
from authz.store.decided_on import DecidedOn, OnAgent
from identity.caller import Agent, OidcClient
from identity.withdrawal import Withdrawals

_MEMBERS: Final = frozenset(AgentConfig.model_fields)
_REQUIRED: Final = frozenset(name for name, field in AgentConfig.model_fields.items() if field.is_required())


class Agents(Protocol):
    """The state, as far as it holds the registry; the writing methods may block for the disk."""

    @property
    def withdrawals(self) -> Withdrawals:
        """Return all that is withdrawn."""

    def agent(self, name: str) -> Agent | None:
        """Return a registered agent."""

    def agents(self) -> tuple[Agent, ...]:
        """Return all registered agents."""

    def managed_by(self, name: str) -> Literal["file", "api"] | None:
        """Say where an agent is registered."""

    def retired_agent(self, name: str) -> Agent | None:
        """Return the agent that last had a name, if it is retired; this reads the disk."""

    def register_agent(self, agent: Agent, now: datetime, decided_on: OnAgent = None) -> int:
        """Register an agent."""

    def change_agent(self, agent: Agent, now: datetime, decided_on: OnAgent = None) -> int:
        """Change a registered agent."""

    def retire(self, name: str, now: datetime, decided_on: OnAgent = None) -> int:
        """Take an agent out of the registry."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry, and the applications of people's providers that agents may name."""

    state: Agents
    clients: frozenset[OidcClient]


@dataclass(frozen=True, slots=True)
class Orphan:
    """An agent that nobody answers for, and why."""

    agent: Agent
    why: str


async def list_agents(registry: Registry) -> Order:
    """Plan the list of agents (GET /admin/v1/agents)."""

    def body() -> dict[str, object]:
        return {"agents": [_shown(agent, registry.state) for agent in registry.state.agents()]}

    return Order(request=AdminRequest("agents/list"), subject="agents", body=body)


async def show_agent(name: str, registry: Registry) -> Order:
    """Plan to show one agent (GET /admin/v1/agents/{name}).

    Raises:
        OrderError: if it is not registered.
    """
    agent = _known(name, registry.state)
    return Order(
        request=AdminRequest("agents/list", agent=agent, id=name),
        subject=f"agent {name}",
        body=lambda: _shown(agent, registry.state),
    )


async def register_agent(arrival: Arrival, registry: Registry, now: datetime) -> Order:
    """Plan a registration (POST /admin/v1/agents); the policy sees who had the name before.

    Raises:
        OrderError: if it is malformed, or the name is taken.
    """
    proposed = _agent(arrival, registry)
    known = registry.state.agent(proposed.name)
    if known is not None:
        raise ExistenceError(f"agent {proposed.name!r} is registered already: change it with PUT", known)
    retired = await asyncio.to_thread(registry.state.retired_agent, proposed.name)

    return Order(
        request=AdminRequest("agents/register", agent=retired, proposed=proposed, id=proposed.name),
        subject=f"agent {proposed.name}",
        body=lambda: _shown(proposed, registry.state),
        act=partial(registry.state.register_agent, proposed, now, DecidedOn(retired)),
        status=201,
    )


async def change_agent(name: str, arrival: Arrival, registry: Registry, now: datetime) -> Order:
    """Plan a change: the body is the whole agent (PUT /admin/v1/agents/{name}).

    Raises:
        OrderError: if it is malformed, not registered, or of another name.
    """
    agent, proposed = _known(name, registry.state), _agent(arrival, registry)
    _require_api(agent, registry.state)
    if proposed.name != name:
        raise OrderError("an agent keeps its name: register another one")
    return Order(
        request=AdminRequest("agents/change", agent=agent, proposed=proposed, id=name),
        subject=f"agent {name}",
        body=lambda: _shown(proposed, registry.state),
        act=partial(registry.state.change_agent, proposed, now, DecidedOn(agent)),
    )


async def retire_agent(name: str, arrival: Arrival, registry: Registry, now: datetime) -> Order:
    """Plan to retire an agent and end its tasks (POST /admin/v1/agents/{name}/retire).

    Raises:
        OrderError: if it is not registered here.
    """
    body = members(arrival, required=frozenset({"reason"}), optional=frozenset({"wait"}))
    agent, reason = _known(name, registry.state), reason_of(body)
    _require_api(agent, registry.state)
    return Order(
        request=AdminRequest("agents/retire", agent=agent, id=name),
        subject=f"agent {name}",
        body=lambda: {"name": name, "retired": True},
        act=partial(registry.state.retire, name, now, DecidedOn(agent)),
        reason=reason,
        waits=flag(body, "wait"),
    )


async def list_orphans(registry: Registry, now: datetime) -> Order:
    """Plan the list of agents that nobody answers for (GET /admin/v1/orphans)."""

    def body() -> dict[str, object]:
        return {"orphans": [_orphan(orphan, registry.state) for orphan in orphans(registry.state, now)]}

    return Order(request=AdminRequest("agents/list"), subject="orphans", body=body)


async def retire_orphan(name: str, arrival: Arrival, registry: Registry, now: datetime) -> Order:
    """Plan to retire one orphan (POST /admin/v1/orphans/{name}/retire); a sweep is an order for each.

    Raises:
        OrderError: if it is none any more.
    """
    if name not in {orphan.agent.name for orphan in orphans(registry.state, now)}:
        raise ExistenceError(f"agent {name[:208]!r} is no orphan (any more)", registry.state.agent(name))
    return await retire_agent(name, arrival, registry, now)


def orphans(state: Agents, now: datetime) -> tuple[Orphan, ...]:
    """Return the agents that nobody answers for."""
    found = []
    for agent in state.agents():
        if agent.expires_at is not None and agent.expires_at <= now:
            found.append(Orphan(agent, "its registration has expired"))
            continue
        gone = [
            role
            for role, person in (("owner", agent.owner), ("sponsor", agent.sponsor))
            if state.withdrawals.containment("human", person) is not None
        ]
        if gone:
            verb = "is" if len(gone) == 1 else "are"
            found.append(Orphan(agent, f"its {' and its '.join(gone)} {verb} contained"))
    return tuple(found)


def _agent(arrival: Arrival, registry: Registry) -> Agent:
    body = members(arrival, required=_REQUIRED, optional=_MEMBERS - _REQUIRED)
    try:
        agent = to_agent(AgentConfig.model_validate(dict(body)))
    except ValidationError as error:
        raise OrderError(sentences(error, AgentConfig.model_json_schema())) from error
    except OverflowError as error:
        raise OrderError("expires_at: a time that no calendar has in UTC") from error
    texts = (agent.owner, agent.sponsor, agent.purpose, agent.ceiling, agent.sandbox or "")
    if not all(map(str.isprintable, texts)):
        raise OrderError("a text of an agent is one line of printable characters")
    if unknown := agent.clients - registry.clients:
        raise OrderError(f"clients: {min(each.client_id for each in unknown)!r} is none of a provider here")
    return agent


def _known(name: str, state: Agents) -> Agent:
    agent = state.agent(name)
    if agent is None:
        raise ExistenceError(f"no agent {name[:208]!r} is registered")
    return agent


def _require_api(agent: Agent, state: Agents) -> None:
    if state.managed_by(agent.name) == "file":
        raise ExistenceError(
            f"agent {agent.name!r} stands in deputy.yaml: change it there, then restart", agent
        )


def _shown(agent: Agent, state: Agents) -> dict[str, object]:
    contained = state.withdrawals.containment("agent", agent.name)
    reason = None if contained is None else {"by": contained.by, "reason": contained.reason}
    return {**agent_json(agent, state.managed_by(agent.name)), "contained": reason}


def _orphan(orphan: Orphan, state: Agents) -> Mapping[str, object]:
    return {
        "name": orphan.agent.name,
        "owner": orphan.agent.owner,
        "sponsor": orphan.agent.sponsor,
        "why": orphan.why,
        "managed_by": state.managed_by(orphan.agent.name),
    }
