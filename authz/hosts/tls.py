"""The TLS side of a gRPC server: certificates that change while it runs.

- A client certificate is always asked for and verified; who has none fails the handshake.
- Each handshake asks the source again, so a renewed certificate or a withdrawn root counts from the next
  connection on; old connections end by age (see the host's limits).
- A source that fails keeps what it gave last: no new connection is worse served than the one before, and a
  certificate that has run out is refused by the other side.
- The key is never printed.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from authz.errors import ConfigError

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """One certificate chain, its key, and the roots that client certificates must lead to; all PEM."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    client_roots: bytes

    def __post_init__(self) -> None:
        if not (self.certificate_chain and self.private_key and self.client_roots):
            raise ConfigError("TLS needs a certificate chain, its key and the roots of the clients")


TlsSource = Callable[[], TlsMaterial]


def tls_from_files(certificate_chain: Path, private_key: Path, client_roots: Path) -> TlsSource:
    """Return a source that reads three PEM files anew at each handshake."""

    def read() -> TlsMaterial:
        try:
            return TlsMaterial(
                certificate_chain.read_bytes(), private_key.read_bytes(), client_roots.read_bytes()
            )
        except OSError as error:
            raise ConfigError(f"cannot read TLS file {error.filename!r}: {error.strerror}") from error

    return read


def server_credentials(source: TlsSource) -> grpc.ServerCredentials:
    """Make credentials that follow the source.

    Raises:
        ConfigError: if the source has nothing to start with.
    """
    latest = source()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal latest
        try:
            material = source()
        except Exception as error:  # noqa: BLE001  # gRPC would fail the handshake; what we have is better
            _LOG.warning("tls material not renewed: %s", error)
            return None
        if material == latest:
            return None
        latest = material
        return _configuration(material)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(latest),
        fetch,  # type: ignore[arg-type]  # None means "no change"; the stub does not know
        require_client_authentication=True,
    )


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.private_key, material.certificate_chain)], root_certificates=material.client_roots
    )
