"""`deputy identity federation`: the trust domains whose SVIDs count here, each under its own name."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from authz.commands.group import examples, group
from authz.commands.output import Output, OutputOption
from authz.commands.place import ConfigOption

app = group("Trust the SVIDs of other trust domains, each under its own name.")


class ProfileName(StrEnum):
    """How an endpoint proves who it is (SPIFFE Federation section 5.2)."""

    WEB = "https_web"
    SPIFFE = "https_spiffe"


DomainArgument = Annotated[
    str, typer.Argument(help="The name of the trust domain, without spiffe://.", metavar="TRUST-DOMAIN")
]


@app.command(
    "add",
    epilog=examples(
        "deputy identity federation add other.example https://bundle.other.example/ --profile https_web",
        "deputy identity federation add other.example https://10.0.0.7:8443/ --profile https_spiffe "
        "--endpoint-id spiffe://other.example/bundle --bundle other.json",
    ),
)
def add(  # noqa: PLR0917 - what the standard asks an operator for
    trust_domain: DomainArgument,
    url: Annotated[str, typer.Argument(help="Its bundle endpoint.", metavar="URL")],
    profile: Annotated[ProfileName, typer.Option(help="How the endpoint proves who it is.")],
    endpoint_id: Annotated[
        str | None,
        typer.Option("--endpoint-id", help="https_spiffe: who must serve it.", metavar="SPIFFE-ID"),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Its first bundle, got in another way; needed where the endpoint is of that trust domain.",
            metavar="FILE",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            "--ca-file",
            help="https_web: PEM with the CAs of the endpoint; else the system's.",
            metavar="FILE",
        ),
    ] = None,
    config: ConfigOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Federate with a trust domain, and fetch its bundle.

    Exits 4 if it is added and its bundle could not be fetched yet: that is tried again and again.
    """
    from authz.commands.identity_domains import NewDomain, add_domain  # noqa: PLC0415 - the others start without

    new = NewDomain(trust_domain, url, profile.value, endpoint_id, bundle, ca_file)
    raise typer.Exit(add_domain(config, new, output))


@app.command(
    "list",
    epilog=examples("deputy identity federation list", "deputy identity federation list -o json"),
)
def list_(config: ConfigOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the trust domains that are federated, and how fresh their bundles are."""
    from authz.commands.identity_domains import list_domains  # noqa: PLC0415 - the others start without

    list_domains(config, output)


@app.command("remove", epilog=examples("deputy identity federation remove other.example"))
def remove(
    trust_domain: DomainArgument, config: ConfigOption = None, output: OutputOption = Output.TABLE
) -> None:
    """Trust a trust domain no more, from now on."""
    from authz.commands.identity_domains import remove_domain  # noqa: PLC0415 - the others start without

    remove_domain(config, trust_domain, output)
