"""Agents, tasks, consents and withdrawals as rows, and back.

- A row that is not what we wrote is a StoreError that names it: somebody else wrote to the file.
"""

from datetime import datetime
from sys import intern
from typing import Literal, cast

from sqlalchemy import RowMapping

from authz.audit.record import timestamp
from authz.errors import StoreError
from identity.caller import Agent, OidcClient, Task
from identity.canonical import canonical_json
from identity.consent import Consent
from identity.errors import IdentityError
from identity.names import parse_agent_name, parse_ulid
from identity.qualified_name import parse_registered_name
from identity.spiffe import SpiffeId
from identity.strict_json import loads
from identity.withdrawal import Kind, Withdrawal

ManagedBy = Literal["file", "api"]


def agent_row(agent: Agent, managed_by: ManagedBy) -> dict[str, object]:
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
        "clients": _json(sorted([client.issuer, client.client_id] for client in agent.clients)),
        "managed_by": managed_by,
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
            clients=frozenset(_client(pair) for pair in _list(row["clients"])),
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


def consent_row(consent: Consent) -> dict[str, object]:
    """Return the row of what a person granted."""
    return {
        "id": consent.id,
        "human": consent.human,
        "agent": consent.agent,
        "scopes": _json(sorted(consent.scopes)),
        "tools": None if consent.tools is None else _json(sorted(consent.tools)),
        "delegates_to": _json(sorted(consent.delegates_to)),
        "created_at": timestamp(consent.created_at),
        "expires_at": timestamp(consent.expires_at),
        "revoked_at": moment_text(consent.revoked_at),
    }


def read_consent(row: RowMapping) -> Consent:
    """Read the row of what a person granted.

    Raises:
        StoreError: if it is not one that we wrote.
    """
    try:
        return Consent.parse(
            id=row["id"],
            human=row["human"],
            agent=row["agent"],
            scopes=frozenset(_texts(row["scopes"])),
            tools=None if row["tools"] is None else frozenset(_texts(row["tools"])),
            delegates_to=frozenset(_texts(row["delegates_to"])),
            created_at=datetime.fromisoformat(row["created_at"]),
            expires_at=datetime.fromisoformat(row["expires_at"]),
            revoked_at=_moment(row["revoked_at"]),
        )
    except (IdentityError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"the state holds a grant that we did not write: {row['id']!r}") from error


def withdrawal_row(withdrawal: Withdrawal) -> dict[str, object]:
    """Return the row of a withdrawal; its number is the table's to give."""
    return {
        "kind": withdrawal.kind,
        "subject": withdrawal.subject,
        "before": withdrawal.before,
        "reason": withdrawal.reason,
        "by": withdrawal.by,
        "at": timestamp(withdrawal.at),
        "expires_at": moment_text(withdrawal.expires_at),
        "human": withdrawal.human,
    }


def read_withdrawal(row: RowMapping) -> Withdrawal:
    """Read the row of a withdrawal.

    Raises:
        StoreError: if it is not one that we wrote.
    """
    try:
        return Withdrawal(
            kind=cast("Kind", row["kind"]),
            subject=row["subject"],
            before=None if row["before"] is None else int(row["before"]),
            reason=row["reason"],
            by=row["by"],
            at=datetime.fromisoformat(row["at"]),
            expires_at=_moment(row["expires_at"]),
            # Of one person very many may be held: their name is held once.
            human=None if row["human"] is None else intern(row["human"]),
        )
    except (IdentityError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"the state holds a withdrawal that we did not write: {row['subject']!r}") from error


def moment_text(moment: datetime | None) -> str | None:
    """Return a time as it is stored."""
    return None if moment is None else timestamp(moment)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _json(value: object) -> str:
    return canonical_json(value).decode()


def _list(text: str) -> list[object]:
    value = loads(text.encode())
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _texts(text: str) -> list[str]:
    match _list(text):
        case [*values] if all(isinstance(value, str) for value in values):
            return cast("list[str]", values)
        case _:
            raise TypeError("not a list of texts")


def _client(value: object) -> OidcClient:
    match value:
        case [str(issuer), str(client_id)]:
            return OidcClient(issuer, client_id)
        case _:
            raise TypeError("not a client")
