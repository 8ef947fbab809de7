"""`deputy policy`: ask the policy a question, or have its answer explained."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from authz.commands.group import examples, group
from authz.commands.moment import moment
from authz.commands.output import Output, OutputOption
from authz.commands.place import ConfigOption

app = group("Ask the policy, have it explained, check it, build it for OPA.")

FileArgument = Annotated[
    Path,
    typer.Argument(
        help="A policy input (deputy.input/v1) or a CheckRequest, in JSON; - reads standard input.",
        metavar="FILE",
    ),
]
GrantsOption = Annotated[
    Path | None,
    typer.Option(
        help="These grants; without --config on the shipped policy, for policy inputs.", metavar="FILE"
    ),
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", help="The time of the capture: 15m, 2h ago, or an RFC 3339 time.", metavar="TIME"),
]
AskerOption = Annotated[
    str | None,
    typer.Option(help="The proxy that asked, which a capture does not hold.", metavar="SPIFFE-ID"),
]
RegoOption = Annotated[
    Path | None, typer.Option(help="Rego of your own, in place of the shipped policy.", metavar="DIR")
]
_INPUTS: Final = (
    "deputy policy {verb} input.json --grants grants.yaml",
    "deputy policy {verb} check-request.json --config deputy.yaml --at 2026-11-21T08:00:00Z",
)


@app.command(
    "eval",
    epilog=examples(
        *(line.format(verb="eval") for line in _INPUTS),
        "jq .input capture.json | deputy policy eval - -o name",
    ),
)
def evaluate(  # noqa: PLR0917 - what a question is asked of
    file: FileArgument,
    config: ConfigOption = None,
    grants: GrantsOption = None,
    at: AtOption = None,
    asker: AskerOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Decide one question: effect, code and reasons. Nothing is written or issued.

    Exits 0 if it is allowed, 2 if it is denied or needs approval, 1 if it cannot be decided.
    """
    from authz.commands.ask import decided  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(decided(file, config, grants, _time(at), asker, output))


@app.command("explain", epilog=examples(*(line.format(verb="explain") for line in _INPUTS)))
def explain(  # noqa: PLR0917 - what a question is asked of
    file: FileArgument,
    config: ConfigOption = None,
    grants: GrantsOption = None,
    at: AtOption = None,
    asker: AskerOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say why a question is answered as it is, and which small change would allow it.

    A change is told as a way only if the policy engine allowed the question with it.
    Exits 0 if it is allowed, 2 if it is denied or needs approval, 1 if it cannot be decided.
    """
    from authz.commands.ask import explained  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(explained(file, config, grants, _time(at), asker, output))


@app.command(
    "check",
    epilog=examples(
        "deputy policy check --opa .cache/bin/opa",
        "deputy policy check --rego policy/ --grants grants.yaml --opa /usr/bin/opa --lock",
    ),
)
def check(  # noqa: PLR0917 - what is checked with what
    config: ConfigOption = None,
    rego: RegoOption = None,
    grants: Annotated[
        Path | None,
        typer.Option(help="The grants to check it with; else the configuration's.", metavar="FILE"),
    ] = None,
    opa: Annotated[
        Path | None,
        typer.Option(
            envvar="DEPUTY_OPA", help="A real OPA to compare with; else the one on PATH.", metavar="FILE"
        ),
    ] = None,
    lock: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--lock", help="Write the policy lock into --rego, if every answer is the same.")
    ] = False,
    count: Annotated[
        int, typer.Option("--questions", min=1, max=1_000_000, help="Random questions to ask both engines.")
    ] = 1000,
    seed: Annotated[
        int, typer.Option(help="Of the random questions: the same seed, the same questions.")
    ] = 1,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say whether this Rego may run on the embedded engine, with these grants.

    It may if no construct is used that is not proven equal to OPA, and if its policy lock says that it gave
    OPA's answers. Without --rego it is the shipped policy, without grants those of the demo.
    Exits 0 if it may, 3 if it may not.
    """
    from authz.commands.check import Options, checked  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(checked(Options(config, rego, grants, opa, count, seed, lock), output))


@app.command(
    "build",
    epilog=examples("deputy policy build --output /etc/opa/deputy", "opa run --server /etc/opa/deputy"),
)
def build(
    target: Annotated[Path, typer.Option("--output", help="An empty or missing directory.", metavar="DIR")],
    rego: RegoOption = None,
) -> None:
    """Write the directory that a real OPA is started with: the policy, and a module that names its digest."""
    from authz.commands.ask import built  # noqa: PLC0415 - the other commands start without

    typer.echo(str(built(rego, target)))


def _time(at: str | None) -> datetime | None:
    return moment(at, datetime.now(UTC), "--at")
