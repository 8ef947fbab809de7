"""What differs between one Envoy in front of Deputy's services and another.

- Every name and path is checked here, so that rendering cannot fail and never writes what it was not told.
- A service is its name, the path prefix `/<name>/`, and one upstream; the prefix and the `service` context
  extension come from the same field, so no route can ask about another service than the one it leads to.
- gRPC has no prefix in its paths, so such a service is found by its host, which is no other's.
- No service, no Deputy address: an error, not an Envoy that lets everything through or nothing to.
- An Envoy is before services of ours, or it is the way out to hosts outside (authz/mesh/egress.py), not both.
- Secrets come from the authority's socket, and from nowhere else.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.address import Address, TcpAddress
from authz.errors import ConfigError
from authz.mesh.names import Transport, check_service_name
from authz.mesh.outside import Outside
from identity.spiffe import SpiffeId, TrustDomain

MAX_STREAM_SECONDS: Final = 3600
SYSTEM_ROOTS: Final = Path("/etc/ssl/certs/ca-certificates.crt")

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Service:
    """One service behind the Envoy; `host` is the Host header that its server expects."""

    name: str
    upstream: Address
    host: str = "localhost"
    transport: Transport = "http"
    # Whether its answers go through Deputy; `answers: guarded` in deputy.yaml says the same.
    is_guarded: bool = False

    def __post_init__(self) -> None:
        check_service_name(self.name)
        if not _HOST.fullmatch(self.host):
            raise ConfigError(f"not a host name: {self.host!r}")
        if self.transport != "http" and self.host.partition(":")[0] == "localhost":
            raise ConfigError(f"{self.name!r} speaks gRPC, so it needs a host of its own to be found by")


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """One Envoy: where it listens, whom it asks, what it protects, where its files are."""

    trust_domain: TrustDomain
    listen: Address
    deputy: tuple[Address, ...]
    deputy_id: SpiffeId
    sds_socket: Path
    run_directory: Path
    services: tuple[Service, ...] = ()
    outside: tuple[Outside, ...] = ()
    # Who may vouch for hosts outside: the roots of the system, where Debian and most images have them.
    outside_roots: Path = SYSTEM_ROOTS
    max_body_bytes: int = 256 * 1024
    # A stream that is not guarded is checked when it begins: so long may it outlive what was withdrawn.
    max_stream_seconds: int = 300
    # Whether services pass calls on through it; if not, nobody's transaction token gets as far as Deputy.
    passes_on: bool = False

    def __post_init__(self) -> None:
        self._check_places()
        if not self.deputy:
            raise ConfigError("no address of deputy: nobody would be asked")
        if self.deputy_id.trust_domain != self.trust_domain:
            raise ConfigError(f"{str(self.deputy_id)!r} is not in trust domain {self.trust_domain.name!r}")
        for path in (self.sds_socket, self.run_directory, self.outside_roots):
            if not path.is_absolute():
                raise ConfigError(f"not an absolute path: {str(path)!r}")
        if not 0 < self.max_body_bytes <= 1024 * 1024:
            raise ConfigError("a body is buffered up to 1 MiB; the inspector refuses more")
        if not 0 < self.max_stream_seconds <= MAX_STREAM_SECONDS:
            raise ConfigError(
                f"a stream lasts 1 to {MAX_STREAM_SECONDS} seconds: a longer one is not checked again"
            )

    def _check_places(self) -> None:
        names = [service.name for service in self.services]
        names += [outside.name for outside in self.outside]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"services must be at least one, each once: {names!r}")
        if self.services and self.outside:
            raise ConfigError("services of ours and hosts outside take an Envoy each")
        hosts = [outside.authorities for outside in self.outside]
        if len(set(hosts)) != len(hosts):
            raise ConfigError(f"a host outside is one service: {hosts!r}")
        found_by = [self.authorities(service) for service in self.services if service.transport != "http"]
        if len({name for names in found_by for name in names}) != sum(map(len, found_by)):
            raise ConfigError(f"a host of gRPC is one service: {found_by!r}")

    def authorities(self, service: Service) -> tuple[str, ...]:
        """What a client may call a service of gRPC."""
        name = service.host.partition(":")[0]
        if isinstance(self.listen, TcpAddress):
            return (name, f"{name}:{self.listen.port}")
        return (name,)

    @property
    def guards_answers(self) -> bool:
        """Whether answers of any service go through Deputy."""
        guarded = [service.is_guarded for service in self.services]
        return any((*guarded, *(outside.is_guarded for outside in self.outside)))

    @property
    def admin_socket(self) -> Path:
        """The admin interface, for this user only."""
        return self.run_directory / "admin.sock"

    @property
    def access_log(self) -> Path:
        """One JSON object a line."""
        return self.run_directory / "access.log"
