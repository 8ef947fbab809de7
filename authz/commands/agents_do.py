"""What `deputy agents` does."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from authz.commands.api import Api, is_obeyed, obeyed, with_wait
from authz.commands.output import FINDINGS, OK, UNKNOWN, Output, emit, emit_one, printable, say
from authz.commands.where import Where
from authz.errors import ConfigError
from authz.policy.yaml_strict import YamlError, load_yaml

_MAX_FILE: Final = 1 << 16
_STDIN: Final = Path("-")
_COLUMNS: Final = {
    "name": "name",
    "owner": "owner",
    "sponsor": "sponsor",
    "ceiling": "ceiling",
    "expires": "expires_at",
    "by": "managed_by",
    "contained": "contained.reason",
}
_ORPHANS: Final = {"name": "name", "owner": "owner", "sponsor": "sponsor", "why": "why", "by": "managed_by"}
# What an answer tells of an agent and a registration does not say.
_TOLD: Final = frozenset({"managed_by", "contained", "epoch"})


def list_agents(where: Where, output: Output) -> None:
    """List agents."""
    emit(Api.of(where).get("agents").rows("agents"), _COLUMNS, output, name="name")


def get_agent(where: Where, name: str, output: Output) -> None:
    """Show an agent."""
    _show(Api.of(where).get("agents", name), output)


def register_agent(where: Where, file: Path, output: Output) -> None:
    """Register an agent."""
    _show(Api.of(where).post("agents", body=_read(file, where)), output)


def change_agent(where: Where, file: Path, output: Output) -> None:
    """Change an agent."""
    body = _read(file, where)
    name = body.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"{str(file)!r} does not say the agent's name")
    _show(Api.of(where).put("agents", name, body=body), output)


def retire_agent(where: Where, name: str, reason: str, *, wait: bool) -> int:
    """Retire an agent."""
    answer = Api.of(where).post("agents", name, "retire", body=with_wait({"reason": reason}, wait=wait))
    say(f"agent {printable(name)} is retired: {obeyed(answer)}")
    return OK if is_obeyed(answer) else UNKNOWN


def sweep(where: Where, output: Output, *, retire: bool, reason: str) -> int:
    """List orphans, or retire them."""
    if retire and not reason:
        raise ConfigError("--retire needs --reason: it is recorded")
    api = Api.of(where)
    orphans = api.get("orphans").rows("orphans")
    if not retire:
        emit(orphans, _ORPHANS, output, name="name")
        return FINDINGS if orphans else OK
    left = 0
    for orphan in orphans:
        name = str(orphan["name"])
        if orphan.get("managed_by") == "file":
            say(f"{printable(name)}: stands in deputy.yaml; remove it there")
            left += 1
            continue
        api.post("orphans", name, "retire", body={"reason": reason})
        say(f"{printable(name)}: retired")
    return FINDINGS if left else OK


def _show(agent: Mapping[str, Any], output: Output) -> None:
    if output is Output.YAML:
        # What can be edited and given to `change`.
        agent = {name: value for name, value in agent.items() if name not in _TOLD and value is not None}
    lines = [
        (name, ", ".join(map(_text, value)) if isinstance(value, list) else _text(value))
        for name, value in agent.items()
        if value not in (None, [])
    ]
    emit_one(agent, output, lines, name="name")


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(part) for part in value.values())
    return str(value)


def _read(file: Path, where: Where) -> dict[str, Any]:
    if file == where.token_file == _STDIN:
        raise ConfigError("standard input holds the agent or the token, not both")
    try:
        if file == _STDIN:
            data = sys.stdin.buffer.read(_MAX_FILE + 1)
        else:
            with file.open("rb") as opened:
                data = opened.read(_MAX_FILE + 1)
        value = load_yaml(data, _MAX_FILE)
    except OSError as error:
        raise ConfigError(f"cannot read {str(file)!r}: {error.strerror}") from error
    except YamlError as error:
        raise ConfigError(f"{str(file)!r}: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{str(file)!r} does not hold one agent")
    return value
