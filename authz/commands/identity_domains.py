"""What `deputy identity federation add`, `list` and `remove` do."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from authz.commands.identity_client import Service, with_service
from authz.commands.identity_lines import DOMAIN_COLUMNS, domain_row, domain_rows, is_failing
from authz.commands.identity_place import data_dir, read_status
from authz.commands.output import OK, UNKNOWN, Output, emit, emit_one, say
from authz.errors import ConfigError
from identity.pb import authority_pb2 as pb

# What one message to the service may hold, less the rest of it.
_MAX_BUNDLE: Final = 60 * 1024


@dataclass(frozen=True, slots=True)
class NewDomain:
    """What the command line said."""

    trust_domain: str
    url: str
    profile: str
    endpoint_id: str | None
    bundle: Path | None
    ca_file: Path | None


def add_domain(config: Path | None, new: NewDomain, output: Output) -> int:
    """Federate with a trust domain, print what came of it, and return the exit code."""
    request = pb.AddFederationRequest(
        trust_domain=new.trust_domain,
        url=new.url,
        profile=new.profile,
        endpoint_spiffe_id=new.endpoint_id or "",
        # The service reads it again and again, from wherever it runs.
        ca_file=str(new.ca_file.absolute()) if new.ca_file else "",
        bundle=_read(new.bundle) if new.bundle else b"",
    )

    async def add(service: Service) -> pb.FederationChanged:
        changed: pb.FederationChanged = await service.call("AddFederation", request, pb.FederationChanged)
        return changed

    domain = with_service(data_dir(config), add).domain
    _print("added", domain, output)
    if is_failing(domain):
        say("its bundle could not be fetched yet; that is tried again and again: see 'federation list'")
        return UNKNOWN
    return OK


def list_domains(config: Path | None, output: Output) -> None:
    """Print the trust domains that are federated."""
    domains = read_status(config).status.federation
    if output is Output.TABLE and domains:
        emit(domain_rows(domains, datetime.now(UTC)), DOMAIN_COLUMNS, output)
    elif output is Output.TABLE:
        say("no trust domain is federated: 'deputy identity federation add' adds one")
    else:
        emit([domain_row(domain) for domain in domains], DOMAIN_COLUMNS, output, name="trust_domain")


def remove_domain(config: Path | None, trust_domain: str, output: Output) -> None:
    """Trust a trust domain no more."""
    request = pb.RemoveFederationRequest(trust_domain=trust_domain)

    async def remove(service: Service) -> pb.FederationChanged:
        changed: pb.FederationChanged = await service.call("RemoveFederation", request, pb.FederationChanged)
        return changed

    _print("removed", with_service(data_dir(config), remove).domain, output)


def _print(change: str, domain: pb.FederatedDomain, output: Output) -> None:
    lines: list[tuple[str, object]] = [
        (change, domain.trust_domain),
        ("from", domain.url),
        ("profile", domain.profile),
        ("trusted", f"{domain.roots} roots, {domain.jwt_keys} JWT keys"),
    ]
    if domain.problem:
        lines.append(("problem", domain.problem))
    emit_one({"change": change, **domain_row(domain)}, output, lines, name="trust_domain")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_BUNDLE + 1)
    if len(data) > _MAX_BUNDLE:
        raise ConfigError(f"{str(path)!r} is longer than {_MAX_BUNDLE} bytes")
    return data
