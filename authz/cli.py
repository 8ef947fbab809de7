"""The command line: `deputy`.

- Exit codes: 0 ok or allowed, 1 error, 2 denied, 3 findings or failed tests, 4 unknown or stale, 64 usage.
  Ctrl-C is 130.
- An error is one sentence on standard error that says what to do; a traceback is a bug.
- A reader that goes away (`deputy decisions list | head`) ends a command without a word.
- No logic here: each command reads its options, calls the library, and prints.
"""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import typer

from authz.commands import (
    agents,
    approvals,
    audit,
    config,
    conformance,
    decisions,
    grants,
    identity,
    mcp,
    people,
    policy,
    quickstart,
    serve,
    token,
    version,
    workloads,
)
from authz.commands.group import SETTINGS
from authz.commands.output import ERROR, OK, USAGE, printable, say
from authz.errors import AuthzError
from identity.errors import IdentityError

NO_COLOR: Final = "--no-color"
# What Typer gives to a command line that it cannot read; every other fault of its own has code 1.
_TYPER_USAGE: Final = 2

app = typer.Typer(
    name="deputy",
    help="The external authorizer that knows two callers: the human, and the agent acting for them.",
    epilog="Exit codes: 0 ok or allowed, 1 error, 2 denied, 3 findings, 4 unknown or stale, 64 usage.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
)
app.command("quickstart", epilog=quickstart.EXAMPLES)(quickstart.quickstart)
app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.add_typer(policy.app, name="policy")
app.add_typer(decisions.app, name="decisions")
app.add_typer(agents.app, name="agents")
app.add_typer(grants.app, name="grants")
app.add_typer(approvals.app, name="approvals")
app.add_typer(mcp.app, name="mcp")
app.add_typer(people.app, name="people")
app.add_typer(workloads.app, name="workloads")
app.add_typer(token.app, name="token")
app.add_typer(audit.app, name="audit")
app.add_typer(identity.app, name="identity")
app.add_typer(conformance.app, name="conformance")
app.add_typer(config.app, name="config")
app.command("version", epilog=version.EXAMPLES)(version.version)


@app.callback(invoke_without_command=True)
def deputy(
    context: typer.Context,
    no_color: Annotated[  # noqa: ARG001, FBT002 - a flag of the command line, taken out by `run`
        bool, typer.Option(NO_COLOR, help="No colour; NO_COLOR in the environment says the same.")
    ] = False,
) -> None:
    """Show the help where no command follows."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that cannot show a character shows a question mark; it is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _colour(wanted=NO_COLOR not in given):
            rest = [argument for argument in given if argument != NO_COLOR]
            result = app(args=rest, prog_name="deputy", standalone_mode=False)
            sys.stdout.flush()
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        return ERROR
    except (AuthzError, IdentityError) as error:
        say(f"deputy: {error}")
        return ERROR
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        say(f"deputy: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return ERROR
    except SystemExit as error:  # how Typer ends where a pipe broke
        return error.code if isinstance(error.code, int) else ERROR
    return result if isinstance(result, int) else OK


@contextmanager
def _colour(*, wanted: bool) -> Iterator[None]:
    """Ask for no colour in the way that every part understands."""
    before = os.environ.get("NO_COLOR")
    try:
        if not wanted:
            os.environ["NO_COLOR"] = "1"
        yield
    finally:
        if not wanted:
            os.environ.pop("NO_COLOR")
            if before is not None:
                os.environ["NO_COLOR"] = before


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "deputy"
    say(f"deputy: {printable(error.format_message()).rstrip('.')}; see '{path} --help'")
    return USAGE if error.exit_code == _TYPER_USAGE else ERROR


def _reader_gone() -> int:
    """Let nothing more be written, not even when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ERROR
