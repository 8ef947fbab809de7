"""`deputy approvals`: the calls of agents that wait for a person, and that person's word."""

from typing import Annotated, Literal

import typer

from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption
from authz.commands.where import HERE, Where, asks

app = group("See what agents want to do that needs a person's approval, and approve or deny it.")

IdArgument = Annotated[
    str,
    typer.Argument(help="Its id, from 'deputy approvals list', or from what the agent shows.", metavar="ID"),
]
HumanOption = Annotated[
    str | None,
    typer.Option(help="Only calls for this person (issuer#subject); * is everybody's.", metavar="URI"),
]
State = Literal["pending", "approved", "denied", "used", "expired", "any"]


@app.command(
    "list",
    epilog=examples(
        "deputy approvals list",
        "deputy approvals list --state any -o json",
        "deputy approvals list --url https://broker.mesh.example --token-file id-token",
    ),
)
@asks
def list_(
    human: HumanOption = None,
    state: Annotated[State, typer.Option(help="Only those in this state.")] = "pending",
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """List what waits: your own with --token-file, everybody's as an operator here or with --human '*'.

    Arguments are not listed: 'deputy approvals show' has them. What is over stays here for an hour;
    'deputy decisions list' has it for good.
    """
    from authz.commands.approvals_do import list_approvals  # noqa: PLC0415 - the other commands start without

    list_approvals(where, human, state, output)


@app.command(
    "show",
    epilog=examples(
        "deputy approvals show 01JD8Z7Y3M5E0QX2V9T4B6N8KA",
        "deputy approvals show 01JD8Z7Y3M5E0QX2V9T4B6N8KA -o json | jq .arguments",
    ),
)
@asks
def show(
    approval: IdArgument,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show one call with all its arguments: exactly what would be approved, and nothing else would pass."""
    from authz.commands.approvals_do import show_approval  # noqa: PLC0415 - as above

    show_approval(where, approval, output)


@app.command(
    "approve",
    epilog=examples(
        "deputy approvals approve 01JD8Z7Y3M5E0QX2V9T4B6N8KA   # after 'deputy approvals show'",
        "deputy approvals approve 01JD8Z7Y3M5E0QX2V9T4B6N8KA \\",
        "    --url https://broker.mesh.example --token-file id-token",
    ),
)
@asks
def approve(
    approval: IdArgument,
    reason: Annotated[
        str, typer.Option("--reason", help="Why, if you like; it is recorded.", metavar="TEXT")
    ] = "",
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let this call pass, once, in the next minutes.

    The agent has to make the call again: the same one, in the same run, for the same person. The person
    whom it acts for approves it, or an operator who does not own the agent; never a workload, nor the
    agent. Exits 1 if it does not wait any more.
    """
    from authz.commands.approvals_do import decide  # noqa: PLC0415 - as above

    decide(where, approval, "approve", reason, output)


@app.command(
    "deny",
    epilog=examples(
        'deputy approvals deny 01JD8Z7Y3M5E0QX2V9T4B6N8KA --reason "not this customer"',
        "deputy approvals deny 01JD8Z7Y3M5E0QX2V9T4B6N8KA \\",
        "    --url https://broker.mesh.example --token-file id-token",
    ),
)
@asks
def deny(
    approval: IdArgument,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; needed for a call that is not your own.", metavar="TEXT")
    ] = "",
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say no to this call, and for the next minutes to the same one again.

    What was approved and is not used yet is taken back by it. To stop the agent altogether:
    'deputy agents contain'.
    """
    from authz.commands.approvals_do import decide  # noqa: PLC0415 - as above

    decide(where, approval, "deny", reason, output)


@app.command(
    "watch",
    epilog=examples(
        "deputy approvals watch",
        "deputy approvals watch --timeout 60 -o name",
        "deputy approvals watch -o jsonl | jq -r .summary",
    ),
)
@asks
def watch(
    human: HumanOption = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Stop after so many seconds; else with Ctrl-C.")
    ] = None,
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what waits, and what comes to wait, as it comes; each once."""
    from authz.commands.approvals_do import watch_approvals  # noqa: PLC0415 - as above

    watch_approvals(where, human, timeout, output)
