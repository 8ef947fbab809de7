"""The JSON that administrators send and read.

- A body is one object with the members named here; an unknown one is refused, and so is a wrong type.
- Times are RFC 3339 in UTC. A set is a sorted list.
- What is shown of a grant or a withdrawal names people and agents, never a token.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from authz.administration.order import OrderError
from authz.broker.arrival import Arrival
from identity.caller import Agent
from identity.consent import Consent
from identity.strict_json import Limits, StrictJsonError, loads
from identity.withdrawal import MAX_REASON, Withdrawal

_LIMITS: Final = Limits(depth=8, keys=256)


def members(arrival: Arrival, *, required: frozenset[str], optional: frozenset[str]) -> Mapping[str, object]:
    """Return the members of a body.

    Raises:
        RefusedError: if it is too long, or not said to be JSON.
        OrderError: if it is not one object with these members.
    """
    try:
        body = loads(arrival.json_body(), _LIMITS)
    except StrictJsonError as error:
        raise OrderError(f"the body is not strict JSON: {error}") from error
    if not isinstance(body, dict):
        raise OrderError("the body is not an object")
    if missing := sorted(required - body.keys()):
        raise OrderError(f"missing: {', '.join(missing)}")
    if unknown := sorted(body.keys() - required - optional):
        raise OrderError(f"unknown: {', '.join(name[:64] for name in unknown[:8])}")
    return body


def text(body: Mapping[str, object], name: str) -> str:
    """Return a member that must be a text.

    Raises:
        OrderError: if it is not.
    """
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise OrderError(f"{name} is not a text")
    return value


def reason_of(body: Mapping[str, object]) -> str:
    """Return why something is ordered.

    Raises:
        OrderError: if that is not said, in one line.
    """
    reason = text(body, "reason")
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise OrderError(f"reason is not one line of at most {MAX_REASON} characters")
    return reason


def flag(body: Mapping[str, object], name: str) -> bool:
    """Return a member that is true or false; left out is false.

    Raises:
        OrderError: if it is something else.
    """
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise OrderError(f"{name} is not true or false")
    return value


def texts(body: Mapping[str, object], name: str) -> frozenset[str]:
    """Return a member that is a list of different texts; left out is none.

    Raises:
        OrderError: if it is something else.
    """
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise OrderError(f"{name} is not a list of texts")
    if len(set(value)) != len(value):
        raise OrderError(f"{name} names something twice")
    return frozenset(value)


def moment(body: Mapping[str, object], name: str) -> datetime:
    """Return a member that is a time.

    Raises:
        OrderError: if it is not RFC 3339 with a zone.
    """
    try:
        value = datetime.fromisoformat(text(body, name))
        if value.tzinfo is None:
            raise OrderError(f"{name} has no zone: write Z for UTC")
        return value.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise OrderError(f"{name} is not a time such as 2026-11-21T08:00:00Z") from error


def moment_json(value: datetime | None) -> str | None:
    """Write a time."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def agent_json(agent: Agent, managed_by: str | None) -> dict[str, object]:
    """Write a registered agent, as deputy.yaml names its parts."""
    return {
        "name": agent.name,
        "owner": agent.owner,
        "sponsor": agent.sponsor,
        "purpose": agent.purpose,
        "ceiling": agent.ceiling,
        "autonomous": agent.autonomous,
        "hosts": sorted(str(host) for host in agent.hosts),
        "clients": [
            {"issuer": client.issuer, "id": client.client_id}
            for client in sorted(agent.clients, key=lambda each: (each.issuer, each.client_id))
        ],
        "max_depth": agent.max_depth,
        "expires_at": moment_json(agent.expires_at),
        "sandbox": agent.sandbox,
        "managed_by": managed_by,
    }


def consent_json(consent: Consent, now: datetime) -> dict[str, object]:
    """Write a person's grant."""
    state = "live" if consent.is_live(now) else "over"
    return {
        "id": consent.id,
        "human": consent.human,
        "agent": consent.agent,
        "scopes": sorted(consent.scopes),
        "tools": None if consent.tools is None else sorted(consent.tools),
        "delegates_to": sorted(consent.delegates_to),
        "created_at": moment_json(consent.created_at),
        "expires_at": moment_json(consent.expires_at),
        "revoked_at": moment_json(consent.revoked_at),
        "state": "revoked" if consent.revoked_at is not None else state,
    }


def withdrawal_json(withdrawal: Withdrawal) -> dict[str, object]:
    """Write what was withdrawn."""
    return {
        "kind": withdrawal.kind,
        "subject": withdrawal.subject,
        "before": withdrawal.before,
        "reason": withdrawal.reason,
        "by": withdrawal.by,
        "at": moment_json(withdrawal.at),
        "human": withdrawal.human,
        "until": "released" if withdrawal.is_containment else moment_json(withdrawal.expires_at),
    }
