"""`deputy config`: check a configuration, or print what one may hold."""

import json
from pathlib import Path
from typing import Annotated

import typer

from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption, emit_one
from authz.commands.place import DEFAULT_CONFIG, ENVIRONMENT

app = group("Check the configuration, or show what it may hold.")


@app.command(
    epilog=examples("deputy config validate", "deputy config validate /etc/deputy/deputy.yaml -o json")
)
def validate(
    file: Annotated[
        Path, typer.Argument(help="The configuration file.", envvar=ENVIRONMENT, metavar="FILE")
    ] = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a configuration, the grants and the Rego that it names, without starting anything.

    Notes say what is accepted but probably not meant, such as an agent that the grants do not name.
    """
    from authz.commands.validate import validation  # noqa: PLC0415 - the other commands start without

    row, lines = validation(file)
    emit_one(row, output, lines, name="file")


@app.command(epilog=examples("deputy config schema > deputy.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the configuration, with a description of each key."""
    from authz.config import Config  # noqa: PLC0415 - the other commands start without

    typer.echo(json.dumps(Config.model_json_schema(), indent=2))
