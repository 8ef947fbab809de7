"""`deputy config`: check a configuration, or print what one may hold."""

import json
from pathlib import Path
from typing import Annotated

import typer

from authz.commands.output import Output, OutputOption, emit_one
from authz.commands.place import DEFAULT_CONFIG, read_config
from authz.config import Config
from authz.policy.grants import Grants
from authz.policy.live import read_grants

app = typer.Typer(help="Check the configuration.", no_args_is_help=True)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="The configuration file.")] = DEFAULT_CONFIG,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check a configuration and the grants that it names, without starting anything."""
    config = read_config(file)
    grants: Grants = read_grants(config.policy.grants)
    row = {
        "valid": True,
        "file": str(file),
        "trust_domain": config.trust_domain,
        "services": sorted(config.services),
        "agents": sorted(agent.name for agent in config.agents),
        "engine": config.policy.engine,
        "grants": grants.digest,
    }
    lines: list[tuple[str, object]] = [
        ("configuration", f"{file} is valid"),
        ("services", ", ".join(sorted(config.services))),
        ("agents", ", ".join(row["agents"]) or "none"),
        ("engine", config.policy.engine),
        ("grants", f"{config.policy.grants} ({grants.digest[:12]})"),
    ]
    emit_one(row, output, lines, name="file")


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, with a description of each key."""
    typer.echo(json.dumps(Config.model_json_schema(), indent=2))
