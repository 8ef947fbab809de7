"""What `deputy mcp` does.

- What a server wrote can neither hide nor steer: it is shown by authz/commands/foreign_json.py, or quoted by
  authz/pins/differences.py.
- Accepted is what was shown: each order names the digest that the person, or the one before, looked at.
"""

import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from authz.commands.api import Api
from authz.commands.foreign_json import FROM_RIGHT, TITLES, is_from_right, json_lines
from authz.commands.mcp_saved import Row, compare, read_saved
from authz.commands.output import FINDINGS, OK, Output, console, emit, emit_one, printable, say
from authz.commands.where import Where
from authz.errors import ConfigError
from authz.pins.declared import Declared
from authz.pins.review import digest_of

_TOOLS: Final = {
    "tool": "tool",
    "state": "state",
    "denied": "refused",
    "accepted by": "accepted_by",
    "accepted": "accepted_at",
}
_SERVICES: Final = {"service": "name", "pins": "mode", "tools": "tools", "denied": "refused"}
_STATES: Final = {"new": "nobody accepted it", "learned": "learned, and not accepted"}


@dataclass(frozen=True, slots=True)
class Choice:
    """Which tools of a service are meant."""

    service: str
    tools: tuple[str, ...]
    is_all: bool
    saved: Path | None
    prefix: str


def list_tools(where: Where, service: str | None, output: Output) -> None:
    """List services, or the tools of one."""
    answer = Api.of(where).get("pins", service=service)
    if service is None:
        emit(answer.rows("services"), _SERVICES, output, name="name")
    else:
        emit(answer.rows("pins"), _TOOLS, output, name="tool")


def show_tool(where: Where, service: str, tool: str, output: Output) -> None:
    """Show one tool."""
    found = Api.of(where).get("pins", service, tool)
    lines: list[tuple[str, object]] = [
        ("tool", f"{found['service']}/{found['tool']}"),
        ("state", found["state"]),
        ("denied", found["refused"] or "no"),
        ("accepted by", found["accepted_by"] or "nobody"),
        ("accepted at", found["accepted_at"] or "-"),
        ("SHA-256", found["accepted_sha256"] or "-"),
        *_declaration("accepted", found["accepted"]),
    ]
    if found["waiting"] is not None and found["waiting"] != found["accepted"]:
        lines += [("SHA-256", found["waiting_sha256"] or found["drift_sha256"])]
        lines += _declaration("seen", found["waiting"])
    lines += [("changed" if not number else "", line) for number, line in enumerate(found["changes"])]
    emit_one(found, output, lines, name="tool")


def show_drift(where: Where, service: str | None, saved: Path | None, prefix: str, output: Output) -> int:
    """Say what is not what was accepted; return FINDINGS if any of it is denied."""
    api = Api.of(where)
    if saved is None:
        rows: list[Row] = [row for row in api.get("pins", service=service).rows("pins") if _is_open(row)]
    else:
        if service is None:
            raise ConfigError("--from is the list of one service: name it")
        rows = compare(api, service, read_saved(saved, prefix))
    if output is Output.TABLE:
        _print_drift(rows, saved)
    else:
        emit(rows, _TOOLS, output, name="tool")
    return FINDINGS if any(row["refused"] for row in rows) else OK


def pin_tools(
    where: Where, choice: Choice, digest: str | None, *, yes: bool, reason: str, output: Output
) -> None:
    """Accept tools."""
    api = Api.of(where)
    declared = {each.name: each for each in read_saved(choice.saved, choice.prefix)} if choice.saved else {}
    rows = _chosen(api, choice, declared)
    reviewed = _reviewed(rows, digest)
    if digest is None and choice.saved is None and not yes:
        _ask(rows)
    done: list[Mapping[str, Any]] = []
    for tool, of in reviewed.items():
        done.append(_accept(api, choice.service, tool, of, declared.get(tool), reason))
        if output is Output.TABLE:
            say(f"accepted: {choice.service}/{tool}, sha256 {of}; {_standing(done[-1])}")
    if output is not Output.TABLE:
        emit(done, _TOOLS, output, name="tool")


def forget_tool(where: Where, service: str, tool: str, reason: str, output: Output) -> None:
    """Forget a tool."""
    body: dict[str, object] = {"reason": reason} if reason else {}
    answer = Api.of(where).post("pins", service, tool, "forget", body=body)
    if output is Output.TABLE:
        say(f"forgotten: {printable(answer['service'])}/{printable(answer['tool'])}")
    else:
        emit_one(answer, output, (), name="tool")


def _is_open(row: Mapping[str, Any]) -> bool:
    return bool(row["refused"] or row["drift_sha256"])


def _chosen(api: Api, choice: Choice, declared: Mapping[str, Declared]) -> list[Row]:
    """Return the rows of what is to be accepted.

    Raises:
        ConfigError: if nothing is chosen, or what is chosen is not there.
    """
    if choice.tools and choice.is_all:
        raise ConfigError("name tools, or say --all: not both")
    if not choice.tools and not choice.is_all and choice.saved is None:
        raise ConfigError("name tools, or say --all")
    if choice.saved is not None:
        rows = compare(api, choice.service, declared.values())
    else:
        rows = [dict(row) for row in api.get("pins", service=choice.service).rows("pins")]
    if not choice.tools:
        rows = [row for row in rows if row["waiting_sha256"] and (choice.saved or _is_open(row))]
    else:
        there = {str(row["tool"]): row for row in rows}
        if unknown := [tool for tool in choice.tools if tool not in there and tool not in declared]:
            raise ConfigError(f"no tool {unknown[0]!r} of {choice.service} is there to be accepted")
        rows = [there[tool] for tool in dict.fromkeys(choice.tools) if tool in there]
    if not rows:
        raise ConfigError(f"nothing of {choice.service} waits to be accepted")
    return rows


def _reviewed(rows: Iterable[Row], digest: str | None) -> dict[str, str]:
    """Return the digest of each that is accepted; `digest` is what somebody looked at.

    Raises:
        ConfigError: if what is there is something else, or nobody can accept it.
    """
    found = {str(row["tool"]): row for row in rows}
    if digest is not None and len(found) == 1:
        # Whether the tool was ever declared so is known to the service alone.
        return dict.fromkeys(found, digest)
    for tool, row in found.items():
        if not row["waiting_sha256"]:
            why = "its declaration is not kept" if row["refused"] else "it is accepted as it is"
            raise ConfigError(f"the tool {tool!r} does not wait: {why}")
    reviewed = {tool: str(row["waiting_sha256"]) for tool, row in found.items()}
    if digest is not None and digest_of(reviewed) != digest:
        raise ConfigError(
            "what waits is not what was reviewed (any more): look again with 'deputy mcp drift'"
        )
    return reviewed


def _ask(rows: Iterable[Row]) -> None:
    """Show what would be accepted, and ask on a terminal.

    Raises:
        ConfigError: where nobody can be asked.
    """
    rows = list(rows)
    _print_drift(rows, None)
    if not sys.stdin.isatty():
        raise ConfigError("nobody looked at it: say --digest with what was shown, or --yes")
    typer.confirm(f"Accept {len(rows)} as shown?", abort=True, err=True)


def _accept(  # noqa: PLR0917 - one order
    api: Api, service: str, tool: str, digest: str, declared: Declared | None, reason: str
) -> Mapping[str, Any]:
    body: dict[str, object] = {"digest": digest}
    if declared is not None:
        body["declaration"] = declared.text.decode()
    if reason:
        body["reason"] = reason
    return api.post("pins", service, tool, "accept", body=body)


def _standing(pin: Mapping[str, Any]) -> str:
    if pin["refused"]:
        return "it is denied until its server declares it so"
    return "it may be called as long as it stays so"


def _print_drift(rows: list[Row], saved: Path | None) -> None:
    if not rows:
        say("every tool is what was accepted")
        return
    by_service: dict[str, dict[str, str]] = {}
    text: list[str] = []
    for row in rows:
        service, tool, digest = str(row["service"]), str(row["tool"]), row["waiting_sha256"]
        text.append(f"{service}/{tool}: {_said(row)}")
        text += [f"  {line}" for line in row["changes"]]
        if saved is None:
            text.append(f"  to see it whole: {shlex.join(['deputy', 'mcp', 'show', service, tool])}")
        if digest:
            by_service.setdefault(service, {})[tool] = str(digest)
            text.append(f"  to accept it: {_command(service, [tool], saved, str(digest))}")
    for service, reviewed in by_service.items():
        if len(reviewed) > 1:
            text.append(f"all of {service}: {_command(service, ['--all'], saved, digest_of(reviewed))}")
    typer.echo("\n".join(map(printable, text)))
    if any(map(is_from_right, text)):
        say(FROM_RIGHT)


def _said(row: Mapping[str, Any]) -> str:
    if not row["refused"] and row.get("drift_at"):
        return f"{row['state']}; it was another one at {row['drift_at']}, and went back"
    what = _STATES.get(str(row["state"]), str(row["state"]))
    return f"{what}: denied" if row["refused"] else what


def _command(service: str, what: list[str], saved: Path | None, digest: str) -> str:
    given = ["--from", str(saved)] if saved is not None else ["--digest", digest]
    if saved is not None and what == ["--all"]:
        what = []
    return shlex.join(["deputy", "mcp", "pin", service, *what, *given])


def _declaration(title: str, value: object) -> list[tuple[str, object]]:
    return [(title, "not kept")] if value is None else json_lines(title, value, console().width - TITLES)
