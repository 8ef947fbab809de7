"""What `deputy grants` does."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from authz.commands.api import Api, is_obeyed, obeyed, with_wait
from authz.commands.output import OK, UNKNOWN, Output, emit, emit_one, printable, say
from authz.commands.where import Where
from authz.errors import ConfigError

_LASTING: Final = re.compile(r"([0-9]{1,4})([mhd])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_COLUMNS: Final = {
    "id": "id",
    "person": "human",
    "agent": "agent",
    "may": "may",
    "hands on to": "hands_on_to",
    "until": "expires_at",
    "state": "state",
}


@dataclass(frozen=True, slots=True)
class NewGrant:
    """What a person wants to grant."""

    agent: str
    scopes: tuple[str, ...]
    tools: tuple[str, ...]
    delegates_to: tuple[str, ...]
    lasting: str


def list_grants(where: Where, human: str | None, agent: str | None, output: Output) -> None:
    """List grants."""
    rows = Api.of(where).get("grants", human=human, agent=agent).rows("grants")
    if output is Output.TABLE:
        emit(map(_plain, rows), _COLUMNS, output)
    else:
        emit(rows, _COLUMNS, output)


def create_grant(where: Where, new: NewGrant, output: Output) -> None:
    """Make a grant of the person whose token is shown."""
    body: dict[str, object] = {
        "agent": new.agent,
        "scopes": list(new.scopes),
        "delegates_to": list(new.delegates_to),
        "expires_at": (datetime.now(UTC) + _lasting(new.lasting)).isoformat(timespec="seconds"),
    }
    if new.tools:
        body["tools"] = list(new.tools)
    made = Api.of(where).post("grants", body=body)
    lines = [
        ("grant", made["id"]),
        ("person", made["human"]),
        ("agent", made["agent"]),
        ("may", _may(made)),
        ("hands on to", _joined(made["delegates_to"]) or "nobody"),
        ("until", made["expires_at"]),
    ]
    emit_one(made, output, lines)


def revoke_grant(where: Where, grant: str, reason: str, *, wait: bool) -> int:
    """Revoke a grant."""
    body: dict[str, object] = {"reason": reason} if reason else {}
    answer = Api.of(where).post("grants", grant, "revoke", body=with_wait(body, wait=wait))
    say(f"grant {printable(grant)} is revoked, and what came of it: {obeyed(answer)}")
    return OK if is_obeyed(answer) else UNKNOWN


def _plain(grant: Mapping[str, Any]) -> dict[str, Any]:
    return {**grant, "may": _may(grant), "hands_on_to": _joined(grant["delegates_to"])}


def _may(grant: Mapping[str, Any]) -> str:
    """Say in plain words what a grant holds."""
    tools = grant.get("tools")
    return _joined(grant["scopes"]) + ("" if tools is None else f"; only {_joined(tools)}")


def _joined(texts: Sequence[object]) -> str:
    return ", ".join(map(str, texts))


def _lasting(text: str) -> timedelta:
    match = _LASTING.fullmatch(text)
    if match is None:
        raise ConfigError(f"--for: not a time: {text[:40]!r}; write 90m, 8h or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
