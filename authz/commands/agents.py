"""`deputy agents`: the registry of agents, and the switch that stops one."""

from pathlib import Path
from typing import Annotated

import typer

from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption
from authz.commands.where import HERE, Where, asks

app = group("See and change the registry of agents, and stop one within a second.")

NameArgument = Annotated[str, typer.Argument(help="The agent's name.", metavar="NAME")]
FileArgument = Annotated[
    Path,
    typer.Argument(
        help="YAML or JSON with the keys of an agent in deputy.yaml; - reads standard input.", metavar="FILE"
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it is recorded and shown.", metavar="TEXT", show_default=False)
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until every replica obeys, and say when.")
]


@app.command("list", epilog=examples("deputy agents list", "deputy agents list -o json"))
@asks
def list_(
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the registered agents."""
    from authz.commands.agents_do import list_agents  # noqa: PLC0415 - the other commands start without

    list_agents(where, output)


@app.command("get", epilog=examples("deputy agents get triage", "deputy agents get triage -o yaml"))
@asks
def get(
    name: NameArgument,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one agent: who answers for it, what it may at most, and whether it is contained."""
    from authz.commands.agents_do import get_agent  # noqa: PLC0415 - as above

    get_agent(where, name, output)


@app.command(
    "register",
    epilog=examples(
        "deputy agents register travel.yaml", "deputy agents get travel -o yaml > travel.yaml  # to change it"
    ),
)
@asks
def register(
    file: FileArgument,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Register an agent; owner and sponsor are required.

    An agent that stands in deputy.yaml is registered there, and changed there.
    """
    from authz.commands.agents_do import register_agent  # noqa: PLC0415 - as above

    register_agent(where, file, output)


@app.command("change", epilog=examples("deputy agents change travel.yaml"))
@asks
def change(
    file: FileArgument,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Change an agent: the file holds all of it.

    An owner may narrow an agent of their own; only an operator who is not the owner may widen it.
    """
    from authz.commands.agents_do import change_agent  # noqa: PLC0415 - as above

    change_agent(where, file, output)


@app.command("retire", epilog=examples('deputy agents retire travel --reason "replaced by travel-2"'))
@asks
def retire(
    name: NameArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - a flag of the command line
    where: Where = HERE,
) -> None:
    """Take an agent out of the registry for good, and end its tasks."""
    from authz.commands.agents_do import retire_agent  # noqa: PLC0415 - as above

    raise typer.Exit(retire_agent(where, name, reason, wait=wait))


@app.command(
    "contain",
    epilog=examples(
        'deputy agents contain travel --reason "books flights nobody asked for"',
        'deputy agents contain travel --reason drill && deputy agents release travel --reason "drill over"',
    ),
)
@asks
def contain(
    name: NameArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - as above
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop an agent: its calls, its tokens, its identities, and whatever it stands in the chain of.

    The very next call here is denied; it prints when the last replica obeyed. Exits 4 if one did not.
    """
    from authz.commands.switch import contain as stop  # noqa: PLC0415 - as above

    raise typer.Exit(stop(where, "agent", name, reason, wait=wait, output=output))


@app.command("release", epilog=examples('deputy agents release travel --reason "fixed in 1.4"'))
@asks
def release(
    name: NameArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - as above
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a contained agent act again."""
    from authz.commands.switch import release as let_go  # noqa: PLC0415 - as above

    raise typer.Exit(let_go(where, "agent", name, reason, wait=wait, output=output))


@app.command(
    "sweep",
    epilog=examples("deputy agents sweep", 'deputy agents sweep --retire --reason "yearly review"'),
)
@asks
def sweep(
    retire: Annotated[  # noqa: FBT002 - as above
        bool, typer.Option("--retire", help="Retire them; without it, they are only listed.")
    ] = False,
    reason: Annotated[str, typer.Option(help="With --retire: why.", metavar="TEXT")] = "",
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Find agents that nobody answers for: expired, or their owner or sponsor is contained.

    Exits 3 if there are any left.
    """
    from authz.commands.agents_do import sweep as sweep_orphans  # noqa: PLC0415 - as above

    raise typer.Exit(sweep_orphans(where, output, retire=retire, reason=reason))
