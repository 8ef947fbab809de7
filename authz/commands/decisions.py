"""`deputy decisions`: what was decided, from the audit log.

- It reads the log's files; the service need not run, and is not slowed when it does.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Annotated, Literal

import typer
from rich.text import Text

from authz.audit.filter import Filter
from authz.audit.read import end, find, follow, latest
from authz.commands.decision_lines import lines_of
from authz.commands.group import examples, group
from authz.commands.moment import moment
from authz.commands.output import (
    UNKNOWN,
    Output,
    OutputOption,
    console,
    emit,
    emit_one,
    look_up,
    printable,
    say,
)
from authz.commands.place import AuditDirOption, ConfigOption, audit_directory

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
# Wide enough for what they hold, so that lines stand below each other although each comes alone.
_WIDTHS = (27, 26, 12, 16, 10, 20, 6, 24, 6)
POLL_SECONDS = 0.2

app = group("List, explain and watch decisions.")

Human = Annotated[str | None, typer.Option(help="Subject, or issuer#subject.", metavar="PERSON")]
Agent = Annotated[str | None, typer.Option(help="An agent anywhere in the chain.", metavar="NAME")]
Task = Annotated[str | None, typer.Option(help="A task anywhere in the chain.", metavar="ULID")]
Tool = Annotated[str | None, typer.Option(help="A tool.", metavar="NAME")]
Service = Annotated[str | None, typer.Option(help="A service.", metavar="NAME")]
Effect = Annotated[Literal["allow", "deny"] | None, typer.Option(help="How it ended.")]
Code = Annotated[str | None, typer.Option(help="A reason code.", metavar="DPT-…")]
Txn = Annotated[str | None, typer.Option(help="A transaction: all hops of one sign-in.", metavar="ID")]
Since = Annotated[
    str | None, typer.Option(help="15m, 2h, 7d ago, or an RFC 3339 time; included.", metavar="TIME")
]
Until = Annotated[str | None, typer.Option(help="The same; not included.", metavar="TIME")]


@app.command(
    "list",
    epilog=examples(
        "deputy decisions list --since 15m --effect deny",
        "deputy decisions list --human lead --tool refund -o json",
        "deputy decisions list --code DPT-NOT-BOUND -o name | xargs -n1 deputy decisions get",
    ),
)
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
    since: Since = None,
    until: Until = None,
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
        since=moment(since, now, "--since"),
        until=moment(until, now, "--until"),
    )
    records = latest(audit_directory(config, audit_dir), where, limit)
    emit([dict(record.members) for record in records], COLUMNS, output)


@app.command(
    "get",
    epilog=examples("deputy decisions get 01JD0000000000000000000000", "deputy decisions get ID -o json"),
)
def get_decision(
    decision: Annotated[
        str, typer.Argument(help="The decision's id: `x-deputy-decision` of the answer.", metavar="ID")
    ],
    config: ConfigOption = None,
    audit_dir: AuditDirOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Explain one decision: who, what, which rule, and what would have allowed it.

    Exits 4 if the log has no record of it.
    """
    records = find(audit_directory(config, audit_dir), decision)
    if not records:
        say(f"deputy: no decision {decision!r} in this log; 'deputy decisions list' shows the newest")
        raise typer.Exit(UNKNOWN)
    first, *withdrawals = (dict(record.members) for record in records)
    row = {**first, "withdrawn": withdrawals[0]} if withdrawals else first
    lines = [line for record in (first, *withdrawals) for line in lines_of(record)]
    emit_one(row, output, lines)


@app.command(
    "watch",
    epilog=examples(
        "deputy decisions watch --effect deny", "deputy decisions watch --agent triage -o jsonl | jq .code"
    ),
)
def watch_decisions(  # noqa: PLR0917 - one option for each question that can be asked
    config: ConfigOption = None,
    audit_dir: AuditDirOption = None,
    human: Human = None,
    agent: Agent = None,
    tool: Tool = None,
    service: Service = None,
    effect: Effect = None,
    code: Code = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long; else with Ctrl-C.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show decisions as they are made."""
    directory = audit_directory(config, audit_dir)
    where = Filter(human=human, agent=agent, tool=tool, service=service, effect=effect, code=code)
    stop = None if seconds is None else monotonic() + seconds
    screen = console()

    def pause() -> bool:
        sleep(POLL_SECONDS)
        return stop is None or monotonic() < stop

    start = end(directory)
    if output is Output.TABLE:
        screen.print(_line(COLUMNS.keys()), style="bold", soft_wrap=True)
    try:
        for record in follow(directory, where, start, pause):
            members = dict(record.members)
            if output is Output.TABLE:
                cells = (look_up(members, path) for path in COLUMNS.values())
                screen.print(_line(cells), soft_wrap=True)
            else:
                # A list would need an end; there is none.
                emit([members], COLUMNS, Output.JSONL if output is Output.JSON else output)
    except KeyboardInterrupt:
        return


def _line(cells: Iterable[object]) -> Text:
    padded = (
        printable("-" if cell is None else cell).ljust(width)
        for cell, width in zip(cells, _WIDTHS, strict=True)
    )
    return Text("  ".join(padded).rstrip())
