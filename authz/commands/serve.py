"""`deputy serve`: run the service."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

from authz.commands.group import examples
from authz.commands.place import ConfigOption, read_config
from authz.errors import ConfigError

DEFAULT_DIRECTORY: Final = Path(".deputy-dev")
EXAMPLES: Final = examples(
    "deputy serve --config /etc/deputy/deputy.yaml",
    "deputy serve --dev                 no configuration: everything below .deputy-dev",
    "deputy serve --dev --directory /tmp/deputy",
)


def serve(
    config: ConfigOption = None,
    dev: Annotated[bool, typer.Option("--dev", help="Run on the loopback, without a configuration.")] = False,  # noqa: FBT002 - a flag of the command line
    directory: Annotated[
        Path | None,
        typer.Option(
            help=f"Where --dev keeps its files, and finds them again; else {DEFAULT_DIRECTORY}.",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Run authorizer, identity authority and token broker until SIGTERM or Ctrl-C.

    With --dev a configuration, grants, identities for an Envoy and a runner, and the configuration of that
    Envoy are written into a directory; what is there already is used as it is.
    """
    # gRPC's own words on standard error (an address in use, a failed handshake) are not ours, and strangers
    # could fill a disk with them; GRPC_VERBOSITY=ERROR brings them back.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from authz.commands.service import run_dev, run_service  # noqa: PLC0415 - the other commands start without

    if not dev:
        if directory is not None:
            raise ConfigError(
                "--directory goes with --dev; data_dir in deputy.yaml says where a service writes"
            )
        run_service(read_config(config))
        return
    if config is not None:
        raise ConfigError("--dev makes its own configuration: leave out --config (and DEPUTY_CONFIG)")
    run_dev(directory or DEFAULT_DIRECTORY)
