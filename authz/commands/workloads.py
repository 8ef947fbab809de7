"""`deputy workloads`: stop a workload of the mesh, and every task that it started."""

from typing import Annotated

import typer

from authz.commands.agents import ReasonOption, WaitOption
from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption
from authz.commands.where import HERE, Where, asks

app = group("Stop a workload of the mesh, and every task that it started.")

WorkloadArgument = Annotated[str, typer.Argument(help="Its SPIFFE ID.", metavar="SPIFFE-ID")]


@app.command(
    "contain",
    epilog=examples(
        'deputy workloads contain spiffe://mesh.example/ns/agents/sa/runner --reason "image not ours"'
    ),
)
@asks
def contain(
    workload: WorkloadArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - a flag of the command line
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Stop a workload: it starts no task, gets no identity, and its tasks act no more."""
    from authz.commands.switch import contain as stop  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(stop(where, "workload", workload, reason, wait=wait, output=output))


@app.command(
    "release",
    epilog=examples(
        'deputy workloads release spiffe://mesh.example/ns/agents/sa/runner --reason "image rebuilt"'
    ),
)
@asks
def release(
    workload: WorkloadArgument,
    reason: ReasonOption,
    wait: WaitOption = True,  # noqa: FBT002 - as above
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Let a contained workload act again."""
    from authz.commands.switch import release as let_go  # noqa: PLC0415 - as above

    raise typer.Exit(let_go(where, "workload", workload, reason, wait=wait, output=output))
