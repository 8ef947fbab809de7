"""`deputy token`: what a token says, and of whom."""

from pathlib import Path
from typing import Annotated

import typer

from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption

app = group("See who acts for whom in a token, of whatever issuer.")


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
