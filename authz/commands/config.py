"""`deputy config`: check a configuration, or print what one may hold."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from authz.broker.deps import audiences_of
from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption, emit_one
from authz.commands.place import DEFAULT_CONFIG, ENVIRONMENT, read_config
from authz.config import Config
from authz.errors import ConfigError
from authz.policy.engines import engine_loader
from authz.policy.grants import Grants
from authz.policy.live import read_grants

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
    config = read_config(file)
    grants = read_grants(config.policy.grants)
    audiences_of(config.to_services())
    _require_files(config)
    revision = asyncio.run(_load(config, grants))
    notes = list(_notes(config, cast("dict[str, Any]", grants.data["grants"])))
    services, agents = sorted(config.services), sorted(agent.name for agent in config.agents)
    row = {
        "valid": True,
        "file": str(file),
        "trust_domain": config.trust_domain,
        "services": services,
        "agents": agents,
        "engine": config.policy.engine,
        "grants": grants.digest,
        "policy": revision,
        "notes": notes,
    }
    lines: list[tuple[str, object]] = [
        ("configuration", f"{file} is valid"),
        ("services", ", ".join(services)),
        ("agents", ", ".join(agents) or "none"),
        ("engine", config.policy.engine),
        ("grants", config.policy.grants),
        ("rego", config.policy.rego or "as shipped"),
        ("revision", revision),
        *(("note", note) for note in notes),
    ]
    emit_one(row, output, lines, name="file")


@app.command(epilog=examples("deputy config schema > deputy.schema.json"))
def schema() -> None:
    """Print the JSON Schema of the configuration, with a description of each key."""
    typer.echo(json.dumps(Config.model_json_schema(), indent=2))


async def _load(config: Config, grants: Grants) -> str:
    """Load the policy as the service would; a real OPA is not asked."""
    async with engine_loader(config.policy) as load:
        engine = load(grants)
        await engine.close()
        return engine.revision


def _require_files(config: Config) -> None:
    opa = config.policy.opa
    named = {
        **(
            {f"policy.opa.{name}": getattr(opa, name) for name in ("ca", "certificate", "key")} if opa else {}
        ),
        **{f"providers[{at}].ca_file": provider.ca_file for at, provider in enumerate(config.providers)},
    }
    for key, path in named.items():
        if path is not None and not path.is_file():
            raise ConfigError(f"{key}: there is no file {str(path)!r}")


def _notes(config: Config, grants: dict[str, Any]) -> Iterator[str]:
    for agent in config.agents:
        if agent.ceiling not in grants["tiers"]:
            yield f"agent {agent.name}: its ceiling {agent.ceiling!r} is no tier, so it may do nothing"
        if agent.name not in grants["agents"]:
            yield f"agent {agent.name}: the grants do not name it, so it may do nothing"
    for name in sorted(grants["agents"].keys() - {agent.name for agent in config.agents}):
        yield f"agent {name}: the grants name it, but it is not registered under agents"
    for name in config.services:
        if name not in grants["services"]:
            yield f"service {name}: the grants list nothing of it, so every call is denied"
    if not config.providers:
        yield "no providers: nobody can sign in, so agents can only act for nobody"
