"""Where a command finds the service's files: by the configuration, or named outright."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from authz.errors import ConfigError

if TYPE_CHECKING:
    from authz.config import Config

DEFAULT_CONFIG: Final = Path("deputy.yaml")
ENVIRONMENT: Final = "DEPUTY_CONFIG"

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar=ENVIRONMENT, help="The configuration; else ./deputy.yaml.", metavar="FILE"
    ),
]
AuditDirOption = Annotated[
    Path | None,
    typer.Option("--audit-dir", help="The audit log, in place of the configuration's.", metavar="DIR"),
]


def read_config(path: Path | None) -> "Config":
    """Read the configuration.

    Raises:
        ConfigError: if there is none, or it is wrong.
    """
    from authz.config import load_config  # noqa: PLC0415 - a third of the start; not every command needs it

    if (path is None or path == DEFAULT_CONFIG) and not DEFAULT_CONFIG.exists():
        raise ConfigError(
            "no deputy.yaml here: name one with --config FILE, or try 'deputy serve --dev', which needs none"
        )
    return load_config(path or DEFAULT_CONFIG)


def audit_directory(config: Path | None, named: Path | None) -> Path:
    """Return the directory of the audit log.

    Raises:
        ConfigError: if there is neither a configuration nor a name.
    """
    return named if named is not None else read_config(config).data_dir / "audit"
