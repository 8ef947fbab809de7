"""The authority of a configuration: asked of the service that runs, or read from the files that it leaves."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from authz.commands.identity_client import NotRunningError, Service, with_service
from authz.commands.place import read_config
from authz.config import Config
from authz.errors import ConfigError
from authz.identity_service.federation import read_relationships
from authz.identity_service.status import status_message
from identity.key_ring import KeyLife
from identity.live_authority import read_published
from identity.pb import authority_pb2 as pb
from identity.spiffe import TrustDomain

KEYS: Final = "keys"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and whether a service gave it."""

    status: pb.AuthorityStatus
    running: bool


def data_dir(config: Path | None) -> Path:
    """Return the data directory of a configuration.

    Raises:
        ConfigError: if there is none, or it is wrong.
    """
    return read_config(config).data_dir


def read_status(path: Path | None) -> Answer:
    """Ask the service, or read the files where none runs.

    Raises:
        AuthzError: if the service refuses.
        IdentityError: if there are no keys yet, or the files are not what they should be.
    """
    config = read_config(path)

    async def ask(service: Service) -> pb.AuthorityStatus:
        answer: pb.AuthorityStatus = await service.call(
            "GetStatus", pb.GetStatusRequest(), pb.AuthorityStatus
        )
        return answer

    try:
        return Answer(with_service(config.data_dir, ask), running=True)
    except NotRunningError:
        return Answer(_status_of_files(config), running=False)


def _status_of_files(config: Config) -> pb.AuthorityStatus:
    directory = config.data_dir / KEYS
    if not directory.is_dir():
        raise ConfigError(f"there are no keys in {str(directory)!r} yet: 'deputy serve' makes them")
    trust_domain, identity = TrustDomain.parse(config.trust_domain), config.identity
    document = read_published(directory, trust_domain)
    return status_message(
        trust_domain=trust_domain.name,
        sequence=document.sequence,
        rings=document.rings,
        life=KeyLife(timedelta(seconds=identity.key_seconds), timedelta(seconds=identity.publish_seconds)),
        key_store="files" if identity.pkcs11 is None else "pkcs11",
        federation=read_relationships(directory, trust_domain),
        now=datetime.now(UTC),
    )
