"""Our own serving identity: an X.509-SVID of our own authority, renewed at half of its life.

- gRPC takes it from memory at each handshake; the HTTP server takes it from two files of mode 0600.
- Certificate and key always change together; a reader never meets one without the other's half.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from authz.hosts.tls import TlsMaterial
from authz.mesh.envoy_process import write_private
from authz.store.private import private_directory
from identity.authority import Authority
from identity.keys import SigningKey
from identity.spiffe import SpiffeId

LIFETIME: Final = timedelta(hours=1)


@dataclass(slots=True)
class OwnIdentity:
    """The newest certificate and key; `renew` makes the next."""

    authority: Authority
    spiffe_id: SpiffeId
    dns_names: tuple[str, ...]
    directory: Path
    clock: Callable[[], datetime]
    _material: TlsMaterial | None = field(default=None, repr=False)
    _renew_at: datetime | None = None

    def material(self) -> TlsMaterial:
        """Return what a gRPC server presents, fresh enough to outlive its connections."""
        if self._material is None or self.is_due():
            return self.renew()
        return self._material

    def is_due(self) -> bool:
        """Say whether half of the life is over."""
        return self._renew_at is None or self.clock() >= self._renew_at

    def renew(self) -> TlsMaterial:
        """Issue a new certificate for a new key, and write both beside each other.

        Raises:
            CertificateError: if the authority has expired.
            OSError: if the files cannot be written.
        """
        now, key = self.clock(), SigningKey.generate()
        svid = self.authority.issue_workload_svid(
            self.spiffe_id,
            key.private_key.public_key(),
            now=now,
            ttl=int(LIFETIME.total_seconds()),
            dns_names=self.dns_names,
        )
        chain = ssl.DER_cert_to_PEM_cert(svid).encode()
        private_directory(self.directory)
        write_private(self.certificate_file, chain)
        write_private(self.key_file, key.reveal_pem())
        self._material = TlsMaterial(chain, key.reveal_pem(), self.authority.ca.certificate_pem())
        self._renew_at = now + LIFETIME / 2
        return self._material

    @property
    def certificate_file(self) -> Path:
        """The certificate chain, PEM."""
        return self.directory / "serving.crt"

    @property
    def key_file(self) -> Path:
        """The private key, PEM."""
        return self.directory / "serving.key"
