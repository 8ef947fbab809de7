"""`deputy quickstart`: the whole thing on this machine, with real parts; `make demo` calls it."""

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from authz.commands.group import examples
from authz.commands.output import FINDINGS, OK, Output, OutputOption, emit, say
from authz.errors import ConfigError

if TYPE_CHECKING:
    from authz.demo.run import DemoResult

DEFAULT_DIRECTORY = Path(".demo")
EXAMPLES = examples(
    "deputy quickstart",
    "deputy quickstart --keep           leave it running, and say how to call it",
    "deputy quickstart --engine opa     let a real OPA decide",
    "deputy quickstart -o json | jq .",
)
COLUMNS = {
    "row": "row",
    "human": "human",
    "agent": "agent",
    "task": "task",
    "tool": "tool",
    "decision": "decision",
    "reason": "reason",
    "ms": "latency_ms",
    "what happened": "what",
}


def quickstart(
    directory: Annotated[Path, typer.Option(help="Where all files of the run go.")] = DEFAULT_DIRECTORY,
    engine: Annotated[Literal["embedded", "opa"], typer.Option(help="Who decides.")] = "embedded",
    opa: Annotated[
        Path | None, typer.Option(envvar="DEPUTY_OPA", help="OPA's binary, for --engine opa.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running, and say how to call it.")] = False,  # noqa: FBT002 - a flag of the command line
    output: OutputOption = Output.TABLE,
) -> None:
    """Start every part, let agents act for people through a real Envoy, and show what was decided.

    Exits 0 only if every call ended as the scenario says and the audit log verifies, else 3.
    """
    try:
        from authz.demo.run import run_demo  # noqa: PLC0415 - the extra `demo` may not be installed
    except ImportError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'deputy-authz[demo]'") from error
    started = time.monotonic()

    def progress(message: str) -> None:
        if not sys.stderr.isatty() and output is not Output.TABLE:
            return
        say(f"[{time.monotonic() - started:5.1f} s] {message} …")

    def tell(text: str) -> None:
        typer.echo(text, err=True)

    result = asyncio.run(
        run_demo(directory, engine, opa, progress, lambda done: _show(done, output), keep=keep, tell=tell)
    )
    raise typer.Exit(OK if result.ok else FINDINGS)


def _show(result: "DemoResult", output: Output) -> None:
    emit(result.rows(), COLUMNS, output, name="row")
    for problem in result.problems:
        say(f"NOT as the scenario says: {problem}")
    say(result.summary())
