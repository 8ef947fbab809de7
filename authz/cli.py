"""The command line: `deputy`.

- Exit codes: 0 ok or allowed, 1 error, 2 denied, 3 findings or failed tests, 4 unknown or stale, 64 usage.
- An error is one sentence on standard error that says what to do; a traceback is a bug.
- No logic here: each command reads its options, calls the library, and prints.
"""

import sys
from collections.abc import Sequence

import click
import typer

from authz.commands import audit, config, decisions, policy, quickstart, serve, version
from authz.commands.output import ERROR, OK, USAGE, say
from authz.errors import AuthzError
from identity.errors import IdentityError

app = typer.Typer(
    name="deputy",
    help="The external authorizer that knows two callers: the human, and the agent acting for them.",
    epilog="Exit codes: 0 ok or allowed, 1 error, 2 denied, 3 findings, 4 unknown or stale, 64 usage.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(quickstart.quickstart)
app.command("serve")(serve.serve)
app.add_typer(policy.app, name="policy")
app.add_typer(decisions.app, name="decisions")
app.add_typer(audit.app, name="audit")
app.add_typer(config.app, name="config")
app.command("version")(version.version)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        result = app(args=arguments, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.UsageError as error:
        error.show()
        return USAGE
    except click.Abort:
        return ERROR
    except (AuthzError, IdentityError) as error:
        say(f"deputy: {error}")
        return ERROR
    except OSError as error:
        say(f"deputy: {error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return ERROR
    return result if isinstance(result, int) else OK
