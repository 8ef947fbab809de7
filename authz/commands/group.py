"""A noun of the command line, with its verbs below it; and what every help has."""

from typing import Final

import typer

from authz.commands.output import USAGE

SETTINGS: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def group(help_text: str) -> typer.Typer:
    """Return a group that shows its help where no verb follows."""
    app = typer.Typer(help=help_text, context_settings=SETTINGS, rich_markup_mode=None)

    @app.callback(invoke_without_command=True, help=help_text)
    def show(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())
            raise typer.Exit(USAGE)

    return app


def examples(*lines: str) -> str:
    """Return the end of a help: commands that can be copied, and notes between them."""
    # \b keeps the lines of a paragraph as they are.
    return "\b\n" + "\n".join(["Examples:", *(f"  {line}" for line in lines)])
