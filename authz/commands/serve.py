"""`deputy serve`: run the service."""

import asyncio
from pathlib import Path
from typing import Annotated, Final

import typer

from authz.commands.dev_lines import dev_lines
from authz.commands.group import examples
from authz.commands.output import say, tell
from authz.commands.place import ConfigOption, read_config
from authz.config import Config
from authz.dev import DEFAULT_DIRECTORY, Dev
from authz.errors import ConfigError
from authz.serve import serve as run

EXAMPLES: Final = examples(
    "deputy serve --config /etc/deputy/deputy.yaml",
    "deputy serve --dev                 no configuration: everything below .deputy-dev",
    "deputy serve --dev --directory /tmp/deputy",
)


def serve(
    config: ConfigOption = None,
    dev: Annotated[bool, typer.Option("--dev", help="Run on the loopback, without a configuration.")] = False,  # noqa: FBT002 - a flag of the command line
    directory: Annotated[
        Path, typer.Option(help="Where --dev keeps its files; used again by the next start.", metavar="DIR")
    ] = DEFAULT_DIRECTORY,
) -> None:
    """Run authorizer, identity authority and token broker until SIGTERM or Ctrl-C.

    With --dev a configuration, grants, identities for an Envoy and a runner, and the configuration of that
    Envoy are written into a directory; what is there already is used as it is.
    """
    if not dev:
        if directory != DEFAULT_DIRECTORY:
            raise ConfigError(
                "--directory goes with --dev; data_dir in deputy.yaml says where a service writes"
            )
        settings = read_config(config)
        asyncio.run(run(settings, lambda: say(_where(settings))))
        return
    if config is not None:
        raise ConfigError("--dev makes its own configuration: leave out --config (and DEPUTY_CONFIG)")
    made = Dev.prepare(directory)
    asyncio.run(made.serve(lambda: tell([_where(made.config), *dev_lines(made)])))


def _where(config: Config) -> str:
    return f"deputy is ready: ext_authz on {config.check.listen}, broker on https://{config.broker.listen}"
