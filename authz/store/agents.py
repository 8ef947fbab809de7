"""The registry of agents, as SQL over one transaction.

- An agent stands in deputy.yaml or is managed by the API; neither changes what is the other's.
- An agent that is retired takes its tasks and what people granted it along: whoever registers the name again
  gets none of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.sqlite import insert

from authz.audit.record import timestamp
from authz.errors import StoreError
from authz.store.changes import Writing
from authz.store.rows import ManagedBy, agent_row, read_agent
from authz.store.schema import AGENTS, CONSENTS, TASKS
from identity.caller import Agent

MAX_AGENTS: Final = 10_000

IN_FILE: Final = "it stands in deputy.yaml: change it there"


@dataclass(frozen=True, slots=True)
class Registration:
    """What a new list of agents changed, by name."""

    registered: tuple[str, ...]
    changed: tuple[str, ...]
    retired: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent, and where it is changed."""

    agent: Agent
    managed_by: ManagedBy


def read_agents(connection: Connection) -> dict[str, Registered]:
    """Return the registered agents by name.

    Raises:
        StoreError: if one is not as we wrote it.
    """
    rows = connection.execute(select(AGENTS).where(AGENTS.c.retired_at.is_(None)).order_by(AGENTS.c.name))
    return {row["name"]: Registered(read_agent(row), row["managed_by"]) for row in rows.mappings()}


def read_retired(connection: Connection, name: str) -> Agent | None:
    """Return the agent that last had a name, if it is retired.

    Raises:
        StoreError: if it is not as we wrote it.
    """
    retired = select(AGENTS).where(AGENTS.c.name == name, AGENTS.c.retired_at.is_not(None))
    row = connection.execute(retired).mappings().first()
    return None if row is None else read_agent(row)


def compare(connection: Connection, agents: Iterable[Agent]) -> Registration:
    """Say what the list of deputy.yaml would change.

    Raises:
        StoreError: if a name stands twice, or is that of an agent that the API manages.
    """
    known, wanted = read_agents(connection), by_name(agents)
    for name in known.keys() & wanted.keys():
        if known[name].managed_by != "file":
            raise StoreError(
                f"agent {name!r} of deputy.yaml was registered by the API: "
                "name it otherwise, or retire that one"
            )
    listed = {name: entry.agent for name, entry in known.items() if entry.managed_by == "file"}
    kept = listed.keys() & wanted.keys()
    return Registration(
        registered=tuple(sorted(wanted.keys() - listed.keys())),
        changed=tuple(sorted(name for name in kept if listed[name] != wanted[name])),
        retired=tuple(sorted(listed.keys() - wanted.keys())),
    )


def replace_listed(writing: Writing, agents: Iterable[Agent]) -> Registration:
    """Make the agents of deputy.yaml this list, and nothing else.

    Raises:
        StoreError: as `compare`.
    """
    listed = list(agents)
    wanted = by_name(listed)
    registration = compare(writing.connection, listed)
    for name in (*registration.registered, *registration.changed):
        _put(writing.connection, wanted[name], "file")
    writing.note("agent", registration.registered, moves=False)
    writing.note("agent", registration.changed, moves=True)
    for name in registration.retired:
        retire(writing, name)
    return registration


def add(writing: Writing, agent: Agent) -> None:
    """Register an agent that the API manages.

    Raises:
        StoreError: if the name is registered, or there are too many.
    """
    if _managed_by(writing.connection, agent.name) is not None:
        raise StoreError(f"an agent {agent.name!r} is registered already")
    registered = select(func.count()).select_from(AGENTS).where(AGENTS.c.retired_at.is_(None))
    if (writing.connection.execute(registered).scalar() or 0) >= MAX_AGENTS:
        raise StoreError(f"{MAX_AGENTS} agents are registered: retire some")
    _put(writing.connection, agent, "api")
    writing.note("agent", [agent.name], moves=False)


def change(writing: Writing, agent: Agent) -> None:
    """Change an agent that the API manages.

    Raises:
        StoreError: if none is registered, or it stands in deputy.yaml.
    """
    managed_by = _managed_by(writing.connection, agent.name)
    if managed_by is None:
        raise StoreError(f"no agent {agent.name!r} is registered")
    if managed_by == "file":
        raise StoreError(f"agent {agent.name!r}: {IN_FILE}")
    _put(writing.connection, agent, "api")
    writing.note("agent", [agent.name], moves=True)


def retire(writing: Writing, name: str) -> None:
    """Take an agent out, end its tasks, and revoke what people granted it."""
    connection, at = writing.connection, timestamp(writing.now)
    tasks = TASKS.c.agent == name, TASKS.c.ended_at.is_(None)
    consents = CONSENTS.c.agent == name, CONSENTS.c.revoked_at.is_(None)
    if _managed_by(connection, name) is not None:
        writing.note("agent", [name], moves=True)
    writing.note("task", connection.scalars(select(TASKS.c.id).where(*tasks)), moves=True)
    writing.note("consent", connection.scalars(select(CONSENTS.c.id).where(*consents)), moves=True)
    registered = update(AGENTS).where(AGENTS.c.name == name, AGENTS.c.retired_at.is_(None))
    connection.execute(registered.values(retired_at=at))
    connection.execute(update(TASKS).where(*tasks).values(ended_at=at))
    connection.execute(update(CONSENTS).where(*consents).values(revoked_at=at))


def require_registered(connection: Connection, name: str, what: str) -> None:
    """Check that an agent is there.

    Raises:
        StoreError: if it is not; `what` says what it was needed for.
    """
    if _managed_by(connection, name) is None:
        raise StoreError(f"no agent {name!r} is registered, so {what}")


def by_name(agents: Iterable[Agent]) -> Mapping[str, Agent]:
    """Return agents by name.

    Raises:
        StoreError: if a name stands twice.
    """
    listed = list(agents)
    named = {agent.name: agent for agent in listed}
    if len(named) != len(listed):
        raise StoreError("an agent is registered twice")
    return named


def _managed_by(connection: Connection, name: str) -> str | None:
    query = select(AGENTS.c.managed_by).where(AGENTS.c.name == name, AGENTS.c.retired_at.is_(None))
    return connection.execute(query).scalar()


def _put(connection: Connection, agent: Agent, managed_by: ManagedBy) -> None:
    row = agent_row(agent, managed_by)
    statement = insert(AGENTS).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))
