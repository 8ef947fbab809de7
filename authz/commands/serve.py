"""`deputy serve`: run the service."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from authz.commands.output import say
from authz.commands.place import ConfigOption, read_config
from authz.config import Config
from authz.dev import DEFAULT_DIRECTORY, prepare
from authz.errors import ConfigError
from authz.serve import serve as run


def serve(
    config: ConfigOption = None,
    dev: Annotated[bool, typer.Option("--dev", help="Run on the loopback without a configuration.")] = False,  # noqa: FBT002 - a flag of the command line
    directory: Annotated[Path, typer.Option(help="Where --dev keeps its files.")] = DEFAULT_DIRECTORY,
) -> None:
    """Run authorizer, identity authority and token broker until SIGTERM or Ctrl-C.

    With --dev a trust domain, grants and identities for an Envoy and a runner are made in a directory.
    """
    if dev and config is not None:
        raise ConfigError("--dev makes its own configuration: leave out --config")
    settings = prepare(directory, say) if dev else read_config(config)
    asyncio.run(run(settings, lambda: say(_where(settings))))


def _where(config: Config) -> str:
    return f"deputy is ready: ext_authz on {config.check.listen}, broker on https://{config.broker.listen}"
