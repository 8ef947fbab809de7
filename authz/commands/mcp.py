"""`deputy mcp`: what the tools of MCP servers are, as they were accepted, and what changed since."""

from pathlib import Path
from typing import Annotated

import typer

from authz.commands.group import examples, group
from authz.commands.output import OK, Output, OutputOption
from authz.commands.where import HERE, Where, asks

app = group("See what tools of MCP servers have changed, and accept what may be called.")

ServiceArgument = Annotated[
    str, typer.Argument(help="A service of deputy.yaml, such as billing.", metavar="SERVICE")
]
AnyServiceArgument = Annotated[
    str | None, typer.Argument(help="Only this service of deputy.yaml; else all.", metavar="SERVICE")
]
ToolArgument = Annotated[
    str, typer.Argument(help="The tool, without the prefix of a gateway.", metavar="TOOL")
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        help="A saved answer to tools/list, in place of what was seen; - reads standard input.",
        metavar="FILE",
    ),
]
PrefixOption = Annotated[
    str, typer.Option(help="With --from: what a gateway put before the names in it.", metavar="TEXT")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, if you like; it is recorded.", metavar="TEXT")
]


@app.command(
    "list", epilog=examples("deputy mcp list", "deputy mcp list billing", "deputy mcp list billing -o json")
)
@asks
def list_(
    service: AnyServiceArgument = None,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the services with what counts there; with SERVICE its tools, and who accepted each.

    A tool is 'accepted' by somebody, 'learned' (it counts as it was first seen, unless the service says
    'pins: require'), 'changed' since, or 'new': nobody accepted it. The last two are denied.
    """
    from authz.commands.mcp_do import list_tools  # noqa: PLC0415 - the other commands start without

    list_tools(where, service, output)


@app.command(
    "show",
    epilog=examples(
        "deputy mcp show billing delete_customer",
        "deputy mcp show billing delete_customer -o json | jq .waiting.description",
    ),
)
@asks
def show(
    service: ServiceArgument,
    tool: ToolArgument,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one tool whole: the declaration that was accepted, and the one that waits."""
    from authz.commands.mcp_do import show_tool  # noqa: PLC0415 - as above

    show_tool(where, service, tool, output)


@app.command(
    "drift",
    epilog=examples(
        "deputy mcp drift",
        "deputy mcp drift billing -o json",
        "deputy mcp drift --exit-code || notify-somebody   # 3: a tool is denied until somebody decides",
        "deputy mcp drift billing --from tools.json --exit-code   # what a deployment would change",
    ),
)
@asks
def drift(  # noqa: PLR0917 - the options of the command line
    service: AnyServiceArgument = None,
    from_: FromOption = None,
    prefix: PrefixOption = "",
    exit_code: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--exit-code", help="Exit with 3 if a tool is denied for it.")
    ] = False,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say in plain words which tools are not what was accepted, and what would accept each.

    A tool that changed is hidden from lists, and calls of it are denied, until somebody accepts it. One
    that went back to what was accepted is allowed again, and still listed here; one that left it twice
    stays denied. A tool that is gone is no drift.
    """
    from authz.commands.mcp_do import show_drift  # noqa: PLC0415 - as above

    found = show_drift(where, service, from_, prefix, output)
    raise typer.Exit(found if exit_code else OK)


@app.command(
    "pin",
    epilog=examples(
        "deputy mcp pin billing delete_customer --digest 5b0c…   # as 'deputy mcp drift' shows it",
        "deputy mcp pin billing --all    # shows all that waits, and asks",
        "deputy mcp pin billing --from tools.json --reason 'reviewed in the repository'",
    ),
)
@asks
def pin(  # noqa: PLR0917 - the options of the command line
    service: ServiceArgument,
    tools: Annotated[
        list[str] | None, typer.Argument(help="Tools, without the prefix of a gateway.", metavar="TOOL")
    ] = None,
    all_: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--all", help="All that 'deputy mcp drift' shows of it.")
    ] = False,
    digest: Annotated[
        str | None,
        typer.Option(help="Accept only what you looked at: the digest shown with it.", metavar="SHA256"),
    ] = None,
    from_: FromOption = None,
    prefix: PrefixOption = "",
    yes: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--yes", "-y", help="Do not ask: accept whatever is declared now.")
    ] = False,
    reason: ReasonOption = "",
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Accept what tools are: they may be called as long as they stay as they were shown.

    Without --digest it shows what would be accepted and asks, on a terminal; elsewhere it needs --yes.
    What a server declares in place of what was shown is not accepted: exit code 1, look again. With --from
    it is the file that was reviewed, and the server need not have been seen.
    """
    from authz.commands.mcp_do import Choice, pin_tools  # noqa: PLC0415 - as above

    choice = Choice(service, tuple(tools or ()), all_, from_, prefix)
    pin_tools(where, choice, digest, yes=yes, reason=reason, output=output)


@app.command("forget", epilog=examples("deputy mcp forget billing old_tool --reason 'it is gone for good'"))
@asks
def forget(
    service: ServiceArgument,
    tool: ToolArgument,
    reason: ReasonOption = "",
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forget a tool as if it had never been seen.

    Where the service says 'pins: learn' its next declaration counts, whatever it is: to allow a change,
    read it and accept it with 'deputy mcp pin'.
    """
    from authz.commands.mcp_do import forget_tool  # noqa: PLC0415 - as above

    forget_tool(where, service, tool, reason, output)
