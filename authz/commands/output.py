"""How commands print: data on standard output, in the form that was asked for; everything else on the other.

- `-o table` is for people; `json`, `jsonl`, `yaml` and `name` are for machines, and their shapes are tested.
- Text from a log may come from an agent: control characters are replaced, and Rich reads no markup in it.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final

import typer
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

OK: Final = 0
ERROR: Final = 1
DENY: Final = 2
FINDINGS: Final = 3
UNKNOWN: Final = 4
USAGE: Final = 64

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Row = Mapping[str, object]


class Output(StrEnum):
    """A form of output."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    YAML = "yaml"
    NAME = "name"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the output.")]


def console(*, stderr: bool = False) -> Console:
    """Return a console that follows NO_COLOR and the terminal's width; a pipe gets wide lines."""
    terminal = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if terminal.isatty() else 200, highlight=False, markup=False)


def clean(value: object) -> Text:
    """Return text that cannot steer a terminal."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", "" if value is None else str(value)))


def emit(rows: Iterable[Row], columns: Mapping[str, str], output: Output, name: str = "id") -> None:
    """Print rows; `columns` are title and dotted path of what a person sees, machines get everything."""
    match output:
        case Output.TABLE:
            console().print(table(rows, columns))
        case Output.JSON:
            typer.echo(json.dumps(list(rows), indent=2, ensure_ascii=True))
        case Output.JSONL:
            for row in rows:
                typer.echo(json.dumps(row, ensure_ascii=True))
        case Output.YAML:
            typer.echo(yaml.safe_dump([dict(row) for row in rows], sort_keys=False), nl=False)
        case Output.NAME:
            for row in rows:
                typer.echo(clean(row.get(name)).plain)


def emit_one(row: Row, output: Output, lines: Sequence[tuple[str, object]], name: str = "id") -> None:
    """Print one thing: `lines` are what a person sees, machines get all of it."""
    match output:
        case Output.TABLE:
            grid = Table.grid(padding=(0, 2))
            for title, value in lines:
                grid.add_row(Text(title, style="bold"), clean(value))
            console().print(grid)
        case Output.JSON:
            typer.echo(json.dumps(row, indent=2, ensure_ascii=True))
        case Output.JSONL:
            typer.echo(json.dumps(row, ensure_ascii=True))
        case Output.YAML:
            typer.echo(yaml.safe_dump(dict(row), sort_keys=False), nl=False)
        case Output.NAME:
            typer.echo(clean(row.get(name)).plain)


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
    """Tell a person something that is no data."""
    console(stderr=True).print(clean(message))
