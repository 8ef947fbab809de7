"""Which service a command of the registry asks, and as whom: the one beside us, or one elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The broker's URL, in place of the service beside us.", metavar="URL"),
]
CaOption = Annotated[
    Path | None, typer.Option("--ca", help="With --url: PEM with its CA; else the system's.", metavar="FILE")
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        help="With --url: your ID token, or an access token for the broker; - reads standard input.",
        metavar="FILE",
    ),
]
CertOption = Annotated[
    Path | None,
    typer.Option("--cert", help="With --url: PEM with a workload's certificate.", metavar="FILE"),
]
KeyOption = Annotated[
    Path | None, typer.Option("--key", help="With --cert: PEM with its key.", metavar="FILE")
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which service, and as whom."""

    config: Path | None = None
    url: str | None = None
    ca: Path | None = None
    token_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
