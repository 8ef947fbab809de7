"""`deputy token`: what a token says, and of whom; and its end."""

from pathlib import Path
from typing import Annotated

import typer

from authz.commands.agents import ReasonOption, WaitOption
from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption
from authz.commands.where import HERE, Where, asks

app = group("See who acts for whom in a token, of whatever issuer; revoke one of ours.")


@app.command(
    "inspect",
    epilog=examples(
        "deputy token inspect token.jwt",
        "deputy token inspect token.jwt --jwks keys.json",
        "deputy token inspect -o json < token.jwt | jq .unverified_caller",
        "curl -s https://login.example/keys | deputy token inspect token.jwt --jwks -",
    ),
)
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="A file with one JWT of at most 16 kB; - reads standard input. Never the token itself: the "
            "command line is no place for it.",
            metavar="FILE",
        ),
    ] = Path("-"),
    jwks: Annotated[
        Path | None,
        typer.Option(
            help="Verify the signature with this: the issuer's JWK Set, or a SPIFFE bundle.", metavar="FILE"
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say in which dialect a token tells who acts for whom, what is wrong with it, and whom we would read.

    It knows our own tokens, OAuth actor profile (Auth0), plain RFC 8693 act (Keycloak), act turned round
    (ZeroID), Microsoft Entra agent identities, may_act, azp and others; see docs/reference/dialects.md.
    Without --jwks nothing is verified, and it says so. The token and its signature are never shown.
    Exits 0 if it stands for a caller, 3 if it is refused: with the rule, and what to do about it.
    """
    from authz.commands.token_inspect import inspected  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(inspected(file, jwks, output))


@app.command(
    "revoke",
    epilog=examples(
        'deputy token revoke token.jwt --reason "found in a log"',
        'deputy token revoke token.jwt --lineage --reason "and all that came of the same sign-in"',
        'deputy token revoke --jti SGFsbG8gV2VsdCEhISEhIQ --reason "reported"',
        'deputy token revoke --txn aGFsbG8gd2VsdCEhISEhIQ --reason "reported"',
        'deputy token revoke --task 01JD8Z7Y3M5E0QX2V9T4B6N8KA --reason "runs in circles"',
    ),
)
@asks
def revoke(  # noqa: PLR0917 - what, where and how
    reason: ReasonOption,
    file: Annotated[
        Path | None,
        typer.Argument(help="A file with the token; - reads standard input.", metavar="FILE"),
    ] = None,
    lineage: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--lineage", help="With FILE: also all that came of the same sign-in (txn).")
    ] = False,
    jti: Annotated[str | None, typer.Option(help="The token's jti.", metavar="JTI")] = None,
    txn: Annotated[
        str | None, typer.Option(help="Everything under this transaction, as records name it.", metavar="TXN")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Everything of this run of an agent.", metavar="ID")
    ] = None,
    wait: WaitOption = True,  # noqa: FBT002 - as above
    where: Where = HERE,
    output: OutputOption = Output.TABLE,
) -> None:
    """Revoke a token of ours, a run of an agent, or everything that came of one sign-in.

    It prints when the last replica obeyed, and exits 4 if one did not. There is no way back: an agent gets a
    new token if it still may.
    """
    from authz.commands.token_revoke import What, revoke_token  # noqa: PLC0415 - the other commands start without

    what = What(file, lineage, jti, txn, task)
    raise typer.Exit(revoke_token(where, what, reason, wait=wait, output=output))
