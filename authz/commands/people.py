"""`deputy people`: stop everything that acts for a person."""

from typing import Annotated

import typer

from authz.commands.agents import ReasonOption, WaitOption
from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption
from authz.commands.where import HERE, Where, asks

app = group("Stop whatever acts for a person, or end what they began.")

HumanArgument = Annotated[
    str, typer.Argument(help="The person: issuer#subject, as 'deputy decisions get' shows it.", metavar="URI")
]


@app.command(
    "contain",
    epilog=examples(
        'deputy people contain "https://login.example#alice" --reason "account taken over"',
        'deputy people release "https://login.example#alice" --reason "password reset"',
    ),
)
@asks
def contain(
    person: HumanArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - a flag of the command line
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let nothing act for a person, until they are released."""
    from authz.commands.switch import contain as stop  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(stop(where, "human", person, reason, wait=wait, output=output))


@app.command(
    "sign-out",
    epilog=examples('deputy people sign-out "https://login.example#alice" --reason "laptop lost"'),
)
@asks
def sign_out(
    person: HumanArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - as above
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """End what a person began until now; what they begin after signing in again counts."""
    from authz.commands.switch import contain as stop  # noqa: PLC0415 - as above

    raise typer.Exit(stop(where, "human", person, reason, wait=wait, output=output, sessions=True))


@app.command(
    "release",
    epilog=examples('deputy people release "https://login.example#alice" --reason "password reset"'),
)
@asks
def release(
    person: HumanArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - as above
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let agents act for a contained person again."""
    from authz.commands.switch import release as let_go  # noqa: PLC0415 - as above

    raise typer.Exit(let_go(where, "human", person, reason, wait=wait, output=output))
