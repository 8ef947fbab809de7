"""Which service a command of the registry asks, and as whom: the one beside us, or one elsewhere."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from authz.commands.place import ConfigOption


@dataclass(frozen=True, slots=True)
class Where:
    """Which service, and as whom."""

    config: Path | None = None
    url: str | None = None
    ca: Path | None = None
    token_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None


# The service beside us, by ./deputy.yaml.
HERE: Final = Where()

# By the names of Where's members, in the order of the help.
_OPTIONS: Final[dict[str, Any]] = {
    "config": ConfigOption,
    "url": Annotated[
        str | None,
        typer.Option("--url", help="The broker's URL, in place of the service beside us.", metavar="URL"),
    ],
    "ca": Annotated[
        Path | None,
        typer.Option("--ca", help="With --url: PEM with its CA; else the system's.", metavar="FILE"),
    ],
    "token_file": Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="With --url: your ID token, or an access token for the broker; - reads standard input.",
            metavar="FILE",
        ),
    ],
    "cert": Annotated[
        Path | None,
        typer.Option("--cert", help="With --url: PEM with a workload's certificate.", metavar="FILE"),
    ],
    "key": Annotated[
        Path | None, typer.Option("--key", help="With --cert: PEM with its key.", metavar="FILE")
    ],
}


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which service it asks, in the place of its parameter `where`."""
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "where":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in _OPTIONS.items()
        ]

    @functools.wraps(command)
    def asking(**given: Any) -> None:  # noqa: ANN401 - as the command line reads them
        where = Where(**{name: given.pop(name) for name in _OPTIONS})
        command(where=where, **given)

    # Typer reads both.
    asking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # a function has it
    asking.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return asking
