"""`deputy grants`: what people let agents do for them."""

from typing import Annotated

import typer

from authz.commands.agents import WaitOption
from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption
from authz.commands.where import HERE, Where, asks

app = group("See, make and revoke the grants of people: which agent may act for whom, until when.")


@app.command(
    "list",
    epilog=examples(
        "deputy grants list",
        "deputy grants list --agent travel",
        "deputy grants list --url https://broker.mesh.example --token-file id-token",
    ),
)
@asks
def list_(
    human: Annotated[
        str | None, typer.Option(help="Only this person's (issuer#subject); * is everybody's.", metavar="URI")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="Only those to this agent.", metavar="NAME")] = None,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """List grants: your own with --token-file, everybody's as an operator here or with --human '*'."""
    from authz.commands.grants_do import list_grants  # noqa: PLC0415 - the other commands start without

    list_grants(where, human, agent, output)


@app.command(
    "create",
    epilog=examples(
        "deputy grants create travel --scope calendar:read --for 7d \\",
        "    --url https://broker.mesh.example --token-file id-token",
        "deputy grants create clerk --scope billing:write --tool billing/refund --hand-on-to resolver \\",
        "    --url https://broker.mesh.example --token-file - < id-token",
    ),
)
@asks
def create(  # noqa: PLR0917 - as above
    agent: Annotated[str, typer.Argument(help="The agent that may act for you.", metavar="AGENT")],
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope", help="What it may do at most, such as tickets:read; repeat it.", show_default=False
        ),
    ],
    tool: Annotated[
        list[str] | None,
        typer.Option("--tool", help="Only this tool (service/tool), none of the scope's others; repeat it."),
    ] = None,
    hand_on_to: Annotated[
        list[str] | None,
        typer.Option("--hand-on-to", help="An agent that the work may be handed on to; repeat it."),
    ] = None,
    lasting: Annotated[
        str, typer.Option("--for", help="How long: 8h, 7d, at most 400d.", metavar="TIME")
    ] = "30d",
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let an agent act for you.

    Only the person who signed in makes a grant: with --url and --token-file, an ID token, or an access token
    for the broker, of an application that no agent has. No operator grants in anybody's name. A grant gives
    an agent nothing that you, or it, may not do.
    """
    from authz.commands.grants_do import NewGrant, create_grant  # noqa: PLC0415 - as above

    new = NewGrant(agent, tuple(scope), tuple(tool or ()), tuple(hand_on_to or ()), lasting)
    create_grant(where, new, output)


@app.command(
    "revoke",
    epilog=examples(
        'deputy grants revoke 01JD8Z7Y3M5E0QX2V9T4B6N8KA --reason "she has left"',
        "deputy grants revoke 01JD8Z7Y3M5E0QX2V9T4B6N8KA --url https://broker.mesh.example --token-file -",
    ),
)
@asks
def revoke(
    grant: Annotated[str, typer.Argument(help="Its id, from 'deputy grants list'.", metavar="ID")],
    reason: Annotated[
        str, typer.Option("--reason", help="Why; needed for a grant that is not your own.", metavar="TEXT")
    ] = "",
    wait: WaitOption = True,  # noqa: FBT002 - a flag of the command line
    where: Where = HERE,
) -> None:
    """Revoke a grant, and every token that came of it."""
    from authz.commands.grants_do import revoke_grant  # noqa: PLC0415 - as above

    raise typer.Exit(revoke_grant(where, grant, reason, wait=wait))
