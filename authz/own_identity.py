"""Our own serving identity: an X.509-SVID of our own authority, renewed at half of its life.

- Both servers ask for it at each handshake, so a renewed one counts with the next connection.
- A clock that was set back makes a new one too: the old one would not be valid yet, for as long as the step.
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

LIFETIME: Final = timedelta(minutes=10)


@dataclass(slots=True)
class OwnIdentity:
    """The newest certificate and key; `renew` makes the next."""

    authority: Authority
    spiffe_id: SpiffeId
    dns_names: tuple[str, ...]
    clock: Callable[[], datetime]
    _material: TlsMaterial | None = field(default=None, repr=False)
    _issued_at: datetime | None = None

    def material(self) -> TlsMaterial:
        """Return what a server presents, fresh enough to outlive its connections.

        Raises:
            CertificateError: if the authority has expired.
        """
        now, issued_at = self.clock(), self._issued_at
        is_fresh = issued_at is not None and issued_at <= now < issued_at + LIFETIME / 2
        if self._material is None or not is_fresh:
            self._material, self._issued_at = self._issue(now), now
        return self._material

    def _issue(self, now: datetime) -> TlsMaterial:
        key = SigningKey.generate()
        svid = self.authority.issue_workload_svid(
            self.spiffe_id,
            key.private_key.public_key(),
            now=now,
            ttl=int(LIFETIME.total_seconds()),
            dns_names=self.dns_names,
        )
        chain = ssl.DER_cert_to_PEM_cert(svid).encode()
        return TlsMaterial(chain, key.reveal_pem(), self.authority.ca.certificate_pem())
