"""`deputy policy`: ask the policy a question, or have its answer explained."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from authz.commands.decide import Answer, Place, answer, explanation
from authz.commands.explain_lines import lines_of
from authz.commands.group import examples, group
from authz.commands.moment import moment
from authz.commands.output import DENY, OK, Output, OutputOption, emit_one
from authz.commands.place import ConfigOption, read_config
from authz.commands.question import read_question
from authz.policy.explain import code_of
from authz.policy.modules import read_modules, shipped_modules
from authz.policy.opa_bundle import write_bundle

DECISION_VERSION: Final = "deputy.decision/v1"

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
    found = answer(read_question(file), _place(config, grants, at, asker))
    row = _decision(found)
    lines: list[tuple[str, object]] = [(found.verdict.effect.upper(), row["code"])]
    for reason in found.verdict.reasons:
        only = " (operators only)" if reason.audience == "operator" else ""
        lines.append(("reason", f"{reason.code}: {reason.msg}{only}"))
    if row["detail"]:
        lines.append(("detail", row["detail"]))
    lines += [(name, ", ".join(values)) for name, values in found.verdict.obligations.items()]
    lines.append(("policy", found.verdict.revision))
    emit_one(row, output, lines, name="code")
    raise typer.Exit(OK if found.verdict.effect == "allow" else DENY)


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
    found = explanation(read_question(file), _place(config, grants, at, asker))
    emit_one(found.to_json(), output, lines_of(found), name="code")
    raise typer.Exit(OK if found.effect == "allow" else DENY)


@app.command(
    "build",
    epilog=examples("deputy policy build --output /etc/opa/deputy", "opa run --server /etc/opa/deputy"),
)
def build(
    target: Annotated[Path, typer.Option("--output", help="An empty or missing directory.", metavar="DIR")],
    rego: Annotated[
        Path | None, typer.Option(help="Rego of your own, in place of the shipped policy.", metavar="DIR")
    ] = None,
) -> None:
    """Write the directory that a real OPA is started with: the policy, and a module that names its digest."""
    modules = shipped_modules() if rego is None else read_modules(rego)
    write_bundle(modules, target)
    typer.echo(str(target))


def _place(config: Path | None, grants: Path | None, at: str | None, asker: str | None) -> Place:
    settings = None if config is None and grants is not None else read_config(config)
    return Place.of(settings, grants, moment(at, datetime.now(UTC), "--at"), asker)


def _decision(found: Answer) -> Mapping[str, object]:
    verdict = found.verdict
    return {
        "version": DECISION_VERSION,
        "effect": verdict.effect,
        "code": code_of(verdict),
        "reasons": [
            {
                "code": reason.code,
                "msg": reason.msg,
                "rule": reason.rule,
                "fix": reason.fix,
                "audience": reason.audience,
            }
            for reason in verdict.reasons
        ],
        "obligations": {name: list(values) for name, values in verdict.obligations.items()},
        "policy": verdict.revision,
        "detail": (found.record or {}).get("detail") or None,
    }
