"""`deputy identity`: the keys of the authority, its federation, and what is in a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from authz.commands.group import examples, group
from authz.commands.identity_federation import app as federation
from authz.commands.output import Output, OutputOption
from authz.commands.place import ConfigOption

app = group("Look after the keys of the identity authority; see what is in a certificate or a token.")
app.add_typer(federation, name="federation")


class WhichKeys(StrEnum):
    """Whose keys are replaced."""

    X509 = "x509"
    JWT = "jwt"
    TOKENS = "tokens"
    WIT = "wit"
    ALL = "all"


KeyArgument = Annotated[
    str,
    typer.Argument(
        help="The name of a key, as 'status' shows it; one that begins with a dash goes after --.",
        metavar="KEY",
    ),
]


@app.command("status", epilog=examples("deputy identity status", "deputy identity status -o json"))
def status(config: ConfigOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show each key, its age and what happens to it next; the bundle, and federation.

    Where no service runs, it is read from the files of the data directory. -o name prints the names of the
    keys.
    """
    from authz.commands.identity_keys import show_status  # noqa: PLC0415 - the other commands start without

    show_status(config, output)


@app.command(
    "rotate",
    epilog=examples(
        "deputy identity rotate",
        "deputy identity rotate x509",
        "deputy identity rotate all --now       a key was stolen: do not wait until everybody knows the next",
    ),
)
def rotate(
    which: Annotated[
        WhichKeys, typer.Argument(help="Which keys to replace.", metavar="KEYS")
    ] = WhichKeys.ALL,
    now: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--now",
            help="Half a second after publishing. Who has not fetched the new key by then refuses what it "
            "signs, until their next poll.",
        ),
    ] = False,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replace the keys that sign, and wait until the new ones do.

    The next key is published at once, to everybody who is connected, and signs when it has been published for
    identity.publish_seconds; one that was prepared so long ago signs at once. Ctrl-C leaves it published:
    the same command goes on from there. Old keys verify until they expire, or until they are revoked.
    """
    from authz.commands.identity_keys import rotate_keys  # noqa: PLC0415 - the other commands start without

    role = None if which is WhichKeys.ALL else which.value
    raise typer.Exit(rotate_keys(config, role, now=now, output=output))


@app.command(
    "taint",
    epilog=examples("deputy identity taint 6Yb-4nO1V1Hn5Wm9qoQ8YwnyqZbUoYkS9hS2dOl3rJ0"),
)
def taint(key: KeyArgument, config: ConfigOption = None, output: OutputOption = Output.TABLE) -> None:
    """Mark a key that signs no more, so that it can be revoked.

    What it signed was replaced on open streams when the next key took over. Who has no stream fetches anew
    before the key is revoked; until then it still verifies. A key that signs cannot be tainted: rotate first.
    """
    from authz.commands.identity_keys import taint_key  # noqa: PLC0415 - the other commands start without

    taint_key(config, key, output)


@app.command(
    "revoke",
    epilog=examples("deputy identity revoke 6Yb-4nO1V1Hn5Wm9qoQ8YwnyqZbUoYkS9hS2dOl3rJ0 --yes"),
)
def revoke(
    key: KeyArgument,
    force: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--force", help="Also if it was not tainted: what it signed is refused before it is replaced."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,  # noqa: FBT002 - a flag of the command line
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Take a key out of the bundle and the key sets: nothing that it signed verifies any more.

    Taint it first. On a terminal it asks, because there is no way back.
    """
    from authz.commands.identity_keys import revoke_key  # noqa: PLC0415 - the other commands start without

    revoke_key(config, key, force=force, yes=yes, output=output)


@app.command(
    "inspect",
    epilog=examples(
        "deputy identity inspect svid.pem",
        "deputy identity inspect svid.pem --bundle bundle.json",
        "deputy identity inspect token.jwt --bundle bundle.json --audience https://tickets.mesh.example",
        "curl -s https://bundle.mesh.example/ | deputy identity inspect -",
    ),
)
def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            help="PEM, a JWT, a SPIFFE bundle or a JWK Set; - reads standard input.", metavar="FILE"
        ),
    ] = Path("-"),
    bundle: Annotated[
        Path | None,
        typer.Option(help="Verify with this: a SPIFFE bundle, a JWK Set, or PEM roots.", metavar="FILE"),
    ] = None,
    audience: Annotated[
        str | None, typer.Option(help="The audience that a token must be for.", metavar="AUDIENCE")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say what a file holds, and judge it by each rule of the SPIFFE standards.

    Without --bundle nothing is verified, and it says so. Private keys and signatures are never shown.
    Exits 0 if no rule is broken, 3 if one is or a signature is wrong.
    """
    from authz.commands.identity_inspect import inspected  # noqa: PLC0415 - the other commands start without

    raise typer.Exit(inspected(file, bundle, audience, output))


@app.command(
    "fetch",
    epilog=examples(
        "deputy identity fetch --socket unix:///run/deputy/workload.sock",
        "deputy identity fetch --socket unix:///run/deputy/workload.sock --write svid",
        "deputy identity fetch --socket unix:///run/deputy/workload.sock --audience https://x.example",
    ),
)
def fetch(
    socket: Annotated[
        str,
        typer.Option(
            envvar="SPIFFE_ENDPOINT_SOCKET", help="The Workload API, unix:///absolute/path.", metavar="URL"
        ),
    ],
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write svid.pem, key.pem and roots.pem (0600) there; a directory of mode 0700.",
            metavar="DIR",
        ),
    ] = None,
    audience: Annotated[
        str | None,
        typer.Option(help="A JWT-SVID for this audience; it is printed alone.", metavar="AUDIENCE"),
    ] = None,
    spiffe_id: Annotated[
        str | None,
        typer.Option(
            "--id", help="Which identity, where there are several; else the first.", metavar="SPIFFE-ID"
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Get this process's SVID from a Workload API, for curl and shells."""
    from authz.commands.identity_fetch import Wanted, fetched  # noqa: PLC0415 - the other commands start without

    fetched(Wanted(socket, write, audience, spiffe_id), output)
