"""`deputy decisions`: what was decided, from the audit log.

- It reads the log's files; the service need not run, and is not slowed when it does.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from authz.audit.filter import Filter
from authz.audit.read import end, find, follow, latest
from authz.codes import find_code
from authz.commands.output import UNKNOWN, Output, OutputOption, clean, console, emit, emit_one, look_up, say
from authz.commands.place import AuditDirOption, ConfigOption, audit_directory
from authz.errors import ConfigError

COLUMNS = {
    "time": "time",
    "id": "id",
    "human": "human.subject",
    "agent": "agent",
    "service": "resource.service",
    "what": "resource.name",
    "effect": "effect",
    "code": "code",
    "µs": "latency_us",
}
POLL_SECONDS = 0.2
_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

app = typer.Typer(help="List, explain and watch decisions.", no_args_is_help=True)

Human = Annotated[str | None, typer.Option(help="Subject, or issuer#subject.")]
Agent = Annotated[str | None, typer.Option(help="An agent anywhere in the chain.")]
Task = Annotated[str | None, typer.Option(help="A task anywhere in the chain.")]
Tool = Annotated[str | None, typer.Option(help="A tool.")]
Service = Annotated[str | None, typer.Option(help="A service.")]
Effect = Annotated[str | None, typer.Option(help="allow or deny.")]
Code = Annotated[str | None, typer.Option(help="A reason code, DPT-….")]
Txn = Annotated[str | None, typer.Option(help="A transaction: all hops of one sign-in.")]


def moment(text: str | None, now: datetime) -> datetime | None:
    """Read `90s`, `15m`, `2h`, `7d` ago, or an RFC 3339 time.

    Raises:
        ConfigError: if it is neither.
    """
    if text is None:
        return None
    if match := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"not a time: {text[:40]!r}; write 15m, 2h, 7d or 2026-11-21T08:00:00Z") from error
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read


@app.command("list")
def list_decisions(  # noqa: PLR0917 - one option for each question that can be asked
    config: ConfigOption = None,
    audit_dir: AuditDirOption = None,
    human: Human = None,
    agent: Agent = None,
    task: Task = None,
    tool: Tool = None,
    service: Service = None,
    effect: Effect = None,
    code: Code = None,
    txn: Txn = None,
    since: Annotated[str | None, typer.Option(help="15m, 2h, 7d ago, or an RFC 3339 time.")] = None,
    until: Annotated[str | None, typer.Option(help="The same, not included.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List decisions, the newest last."""
    now = datetime.now(UTC)
    where = Filter(
        human=human,
        agent=agent,
        task=task,
        tool=tool,
        service=service,
        effect=effect,
        code=code,
        txn=txn,
        since=moment(since, now),
        until=moment(until, now),
    )
    records = latest(audit_directory(config, audit_dir), where, limit)
    emit([dict(record.members) for record in records], COLUMNS, output)


@app.command("get")
def get_decision(
    decision: Annotated[str, typer.Argument(help="The decision's id.")],
    config: ConfigOption = None,
    audit_dir: AuditDirOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Explain one decision: who, what, which rule, and what would have allowed it."""
    records = find(audit_directory(config, audit_dir), decision)
    if not records:
        say(f"no decision {decision!r} in this log; 'deputy decisions list' shows the newest")
        raise typer.Exit(UNKNOWN)
    for record in records:
        members = dict(record.members)
        emit_one(members, output, explanation(members))


@app.command("watch")
def watch_decisions(  # noqa: PLR0917 - one option for each question that can be asked
    config: ConfigOption = None,
    audit_dir: AuditDirOption = None,
    human: Human = None,
    agent: Agent = None,
    effect: Effect = None,
    code: Code = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; else with Ctrl-C.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show decisions as they are made."""
    directory = audit_directory(config, audit_dir)
    where = Filter(human=human, agent=agent, effect=effect, code=code)
    until = None if seconds is None else time.monotonic() + seconds

    def pause() -> bool:
        time.sleep(POLL_SECONDS)
        return until is None or time.monotonic() < until

    screen = console()
    try:
        for record in follow(directory, where, end(directory), pause):
            members = dict(record.members)
            if output is Output.TABLE:
                screen.print(
                    clean("  ".join(str(look_up(members, path) or "-") for path in COLUMNS.values()))
                )
            else:
                emit([members], COLUMNS, Output.JSONL if output is Output.JSON else output)
    except KeyboardInterrupt:
        return


def explanation(record: Mapping[str, Any]) -> list[tuple[str, object]]:
    """Say in lines what a record says."""
    chain = [f"{hop['agent']} ({hop['task']})" for hop in reversed(record.get("chain") or [])]
    human = record.get("human") or {}
    who = [f"{human['issuer']}#{human['subject']}" if human else "nobody", *chain]
    known = find_code(str(record.get("code")))
    resource, action = record.get("resource") or {}, record.get("action") or {}
    lines: list[tuple[str, object]] = [
        (str(record.get("effect", record["kind"])).upper(), record.get("code")),
        ("because", known.sentence if known else "a code of the policy's own"),
        ("who", " → ".join(who)),
        (
            "from",
            f"{record.get('peer') or '-'} through {record.get('asker') or '-'}, binding {record.get('binding')}",
        ),
        ("what", f"{action.get('method')} {resource.get('service')}/{resource.get('name')}"),
        ("rule", record.get("rule") or "-"),
        ("policy", record.get("policy") or "-"),
        ("time", f"{record['time']}, {record.get('latency_us', 0)} µs"),
        ("record", f"number {record['seq']} of the log, {record['kind']} {record['id']}"),
    ]
    if record.get("effect") == "deny":
        lines.insert(2, ("would allow", known.fix if known else "see the policy"))
    if len(record.get("codes") or []) > 1:
        lines.append(("also", ", ".join(record["codes"][1:])))
    if record.get("detail"):
        lines.append(("detail", record["detail"]))
    return lines
