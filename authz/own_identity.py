"""Our own serving identity: an X.509-SVID of our own authority, renewed at half of its life.

- Both servers ask for it at each handshake, so a renewed one counts with the next connection.
- Certificate and key change together; nobody meets one without the other. The key is never on disk.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from authz.hosts.tls import TlsMaterial
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
    clock: Callable[[], datetime]
    _material: TlsMaterial | None = field(default=None, repr=False)
    _renew_at: datetime | None = None

    def material(self) -> TlsMaterial:
        """Return what a server presents, fresh enough to outlive its connections.

        Raises:
            CertificateError: if the authority has expired.
        """
        if self._material is None or self._renew_at is None or self.clock() >= self._renew_at:
            self._material = self._issue()
        return self._material

    def _issue(self) -> TlsMaterial:
        now, key = self.clock(), SigningKey.generate()
        svid = self.authority.issue_workload_svid(
            self.spiffe_id,
            key.private_key.public_key(),
            now=now,
            ttl=int(LIFETIME.total_seconds()),
            dns_names=self.dns_names,
        )
        chain = ssl.DER_cert_to_PEM_cert(svid).encode()
        self._renew_at = now + LIFETIME / 2
        return TlsMaterial(chain, key.reveal_pem(), self.authority.ca.certificate_pem())
