"""A host outside of the mesh, as an egress Envoy knows it.

- One name, one host, one port: what a client may name, what is resolved, what TLS verifies and what the host
  is told are all the same, and come from here.
- A host is a DNS name of two labels or more, never an IP address: nothing that only a network could tell.
- The key for it lies in a file that Envoy reads. No setting holds one, so none is ever printed.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from authz.address import Address, TcpAddress
from authz.errors import ConfigError
from authz.mesh.names import Transport, check_service_name

HTTPS_PORT: Final = 443

_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)+(?=[a-z0-9-]*[a-z]){_LABEL}")
_HEADER = re.compile(r"[a-z0-9-]{1,64}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,32} ?")
_SECRET = re.compile(r"/[A-Za-z0-9._/-]{1,255}\.(json|yaml)")


@dataclass(frozen=True, slots=True)
class OutsideKey:
    """What Envoy puts into each request; `secret` is a file in the form of SDS."""

    secret: Path
    header: str = "authorization"
    prefix: str = "Bearer "

    def __post_init__(self) -> None:
        if not _SECRET.fullmatch(str(self.secret)):
            raise ConfigError(f"not the absolute path of a .yaml or .json file: {str(self.secret)!r}")
        if not _HEADER.fullmatch(self.header) or self.header == "host":
            raise ConfigError(f"not the name of a header for a key: {self.header!r}")
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigError(f"not what stands before a key: {self.prefix!r}")


@dataclass(frozen=True, slots=True)
class Outside:
    """One host that agents may be allowed to talk to; `address` is where it is if DNS shall not say so."""

    name: str
    host: str
    port: int = HTTPS_PORT
    key: OutsideKey | None = None
    address: Address | None = None
    transport: Transport = "http"
    # Whether its answers go through Deputy; `answers: guarded` in deputy.yaml says the same.
    is_guarded: bool = False

    def __post_init__(self) -> None:
        check_service_name(self.name)
        if not _HOST.fullmatch(self.host):
            raise ConfigError(f"not a DNS name of two labels or more: {self.host!r}")
        if not 0 < self.port < 1 << 16:
            raise ConfigError(f"not a port: {self.port!r}")

    @property
    def authority(self) -> str:
        """What the host itself is told."""
        return self.host if self.port == HTTPS_PORT else f"{self.host}:{self.port}"

    @property
    def authorities(self) -> tuple[str, ...]:
        """What a client may call it."""
        with_port = f"{self.host}:{self.port}"
        return (self.host, with_port) if self.port == HTTPS_PORT else (with_port,)

    @property
    def upstream(self) -> Address:
        """Where it is."""
        return self.address or TcpAddress(self.host, self.port)
