"""Check all that a configuration names, as `deputy serve` would at its start, without starting anything."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from authz.broker.deps import audiences_of
from authz.commands.output import Lines, Row
from authz.commands.place import read_config
from authz.config import Config
from authz.config_service import ServiceConfig
from authz.errors import ConfigError
from authz.kuadrant.key_file import load_list_key
from authz.policy.engines import engine_loader
from authz.policy.grants import Grants
from authz.policy.live import read_grants


def validation(file: Path) -> tuple[Row, Lines]:
    """Return what was found, for machines and for people.

    Raises:
        AuthzError: with one sentence that says what is wrong.
    """
    config = read_config(file)
    grants = read_grants(config.policy.grants)
    audiences_of(config.to_services())
    _require_files(config)
    if config.kuadrant is not None:
        load_list_key(config.kuadrant.key)
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
    return row, lines


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
    for name, service in config.services.items():
        if name not in grants["services"]:
            yield f"service {name}: the grants list nothing of it, so every call is denied"
        if said := _unseen_pins(service):
            yield f"service {name}: {said}"
    if not config.providers:
        yield "no providers: nobody can sign in, so agents can only act for nobody"


def _unseen_pins(service: ServiceConfig) -> str | None:
    """Say what pins cannot do where lists do not come by; nobody who left out `pins` relies on them."""
    is_said = "pins" in service.model_fields_set and service.pins != "off"
    if not is_said:
        return None
    if service.protocol != "mcp":
        return f"pins: {service.pins} is for mcp alone, and does nothing for {service.protocol}"
    if service.answers == "guarded":
        return None
    if service.pins == "learn":
        return (
            "pins: learn learns nothing and notices no change, for lists do not come by: "
            "say answers: guarded, and give its Envoy the ext_proc"
        )
    return (
        "pins: require notices no change, for lists do not come by: tools that were accepted from a file "
        "('deputy mcp pin --from') pass whatever they are now, and no others; say answers: guarded, and give "
        "its Envoy the ext_proc"
    )
