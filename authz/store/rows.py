"""Agents and tasks as rows, and back.

- A row that is not what we wrote is a StoreError that names it: somebody else wrote to the file.
"""

from datetime import datetime

from sqlalchemy import RowMapping

from authz.audit.record import timestamp
from authz.errors import StoreError
from identity.caller import Agent, Task
from identity.errors import IdentityError
from identity.names import parse_agent_name, parse_ulid
from identity.qualified_name import parse_registered_name
from identity.spiffe import SpiffeId


def agent_row(agent: Agent) -> dict[str, object]:
    """Return the row of a registered agent."""
    return {
        "name": agent.name,
        "owner": agent.owner,
        "sponsor": agent.sponsor,
        "purpose": agent.purpose,
        "ceiling": agent.ceiling,
        "autonomous": agent.autonomous,
        "hosts": " ".join(sorted(str(host) for host in agent.hosts)),
        "max_depth": agent.max_depth,
        "expires_at": moment_text(agent.expires_at),
        "sandbox": agent.sandbox,
        "retired_at": None,
    }


def task_row(task: Task) -> dict[str, object]:
    """Return the row of a task."""
    return {
        "id": task.id,
        "agent": task.agent,
        "human": task.human,
        "workload": str(task.workload),
        "started_at": timestamp(task.started_at),
        "deadline": timestamp(task.deadline),
        "ended_at": moment_text(task.ended_at),
        "thumbprint": task.thumbprint,
        "origin": task.origin,
    }


def read_agent(row: RowMapping) -> Agent:
    """Read an agent's row.

    Raises:
        StoreError: if it is not one that we wrote.
    """
    try:
        return Agent(
            name=parse_registered_name(row["name"]),
            owner=row["owner"],
            sponsor=row["sponsor"],
            purpose=row["purpose"],
            ceiling=row["ceiling"],
            autonomous=bool(row["autonomous"]),
            hosts=frozenset(SpiffeId.parse(host) for host in row["hosts"].split()),
            max_depth=int(row["max_depth"]),
            expires_at=_moment(row["expires_at"]),
            sandbox=row["sandbox"],
        )
    except (IdentityError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"the state holds an agent that we did not write: {row['name']!r}") from error


def read_task(row: RowMapping) -> Task:
    """Read a task's row.

    Raises:
        StoreError: if it is not one that we wrote.
    """
    try:
        return Task(
            id=parse_ulid(row["id"]),
            agent=parse_agent_name(row["agent"]),
            human=row["human"],
            workload=SpiffeId.parse(row["workload"]),
            started_at=datetime.fromisoformat(row["started_at"]),
            deadline=datetime.fromisoformat(row["deadline"]),
            ended_at=_moment(row["ended_at"]),
            thumbprint=row["thumbprint"],
            origin=row["origin"],
        )
    except (IdentityError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"the state holds a task that we did not write: {row['id']!r}") from error


def moment_text(moment: datetime | None) -> str | None:
    """Return a time as it is stored."""
    return None if moment is None else timestamp(moment)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
