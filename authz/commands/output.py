"""How commands print: data on standard output, in the form that was asked for; everything else on the other.

- `-o table` is for people; `json`, `jsonl`, `yaml` and `name` are for machines, and their shapes are tested.
- Text from a log may come from an agent: what is not printable is replaced, and Rich reads no markup in it.
- Colour only on a terminal, and not with NO_COLOR or --no-color. A pipe gets whole lines.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from authz.visible import with_marks

OK: Final = 0
ERROR: Final = 1
DENY: Final = 2
FINDINGS: Final = 3
UNKNOWN: Final = 4
USAGE: Final = 64

# Wider than any row, so that what is piped is not folded.
_PIPE_WIDTH: Final = 10_000

Row = Mapping[str, object]
Lines = Sequence[tuple[str, object]]


class Output(StrEnum):
    """A form of output."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"


OutputOption = Annotated[
    Output,
    typer.Option(
        "--output",
        "-o",
        help="table for people; json, jsonl and yaml hold all there is; name holds ids alone.",
    ),
]


class _Console(Console):
    """A console that leaves a closed pipe to the command line, as every other way of printing does."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Return a console that follows NO_COLOR and the terminal's width."""
    terminal = sys.stderr if stderr else sys.stdout
    width = None if terminal.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return _Console(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)


def printable(value: object) -> str:
    """Return one line of text that cannot steer a terminal, nor turn round or hide what stands beside it."""
    return with_marks("" if value is None else str(value))


def clean(value: object) -> Text:
    """Return such text for Rich."""
    return Text(printable(value))


def emit(rows: Iterable[Row], columns: Mapping[str, str], output: Output, name: str = "id") -> None:
    """Print rows; `columns` are title and dotted path of what a person sees, machines get everything."""
    match output:
        case Output.TABLE:
            _print(table(rows, columns))
        case Output.JSON:
            typer.echo(json.dumps(list(rows), indent=2, ensure_ascii=True))
        case Output.JSONL:
            for row in rows:
                typer.echo(json.dumps(row, ensure_ascii=True))
        case Output.YAML:
            typer.echo(yaml.safe_dump([_plain(row) for row in rows], sort_keys=False), nl=False)
        case Output.NAME:
            for row in rows:
                typer.echo(printable(row.get(name)))


def emit_one(row: Row, output: Output, lines: Lines, name: str = "id") -> None:
    """Print one thing: `lines` are what a person sees, machines get all of it."""
    match output:
        case Output.TABLE:
            grid = Table.grid(padding=(0, 2))
            grid.add_column(no_wrap=True)
            grid.add_column(overflow="fold")
            for title, value in lines:
                grid.add_row(Text(printable(title), style="bold"), clean(value))
            _print(grid)
        case Output.JSON:
            typer.echo(json.dumps(row, indent=2, ensure_ascii=True))
        case Output.JSONL:
            typer.echo(json.dumps(row, ensure_ascii=True))
        case Output.YAML:
            typer.echo(yaml.safe_dump(_plain(row), sort_keys=False), nl=False)
        case Output.NAME:
            typer.echo(printable(row.get(name)))


def _print(made: Table) -> None:
    """Print a table; into a pipe without the spaces that fill its last column."""
    screen = console()
    if sys.stdout.isatty():
        screen.print(made)
        return
    with screen.capture() as captured:
        screen.print(made)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def table(rows: Iterable[Row], columns: Mapping[str, str]) -> Table:
    """Return a table of rows."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in columns:
        made.add_column(title, overflow="fold")
    for row in rows:
        made.add_row(*(clean(look_up(row, path)) for path in columns.values()))
    return made


def look_up(row: Row, path: str) -> object:
    """Return the value at a dotted path, None where there is none."""
    value: object = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def say(message: str) -> None:
    """Tell a person something that is no data; one line, however long."""
    tell([message])


def tell(lines: Iterable[str]) -> None:
    """Tell a person several lines that are no data, as they stand: a command in them can be copied."""
    screen = console(stderr=True)
    for line in lines:
        screen.print(clean(line), soft_wrap=True)


def _plain(row: Row) -> object:
    """Return a row as YAML can write it: tuples are lists there."""
    return json.loads(json.dumps(row))
