"""Our own serving identity: an X.509-SVID of our own authority, made anew in time.

- Both servers ask for it at each handshake, so a renewed one counts with the next connection.
- It is made anew when half of its life is over, when another CA has become the active one, and when the clock
  was set back: the old one would not be valid yet, for as long as the step.
- Certificate and key change together; nobody meets one without the other. The key is never on disk.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Protocol

from authz.hosts.tls import Credential
from identity.authority import Authority
from identity.keys import SigningKey
from identity.spiffe import SpiffeId

LIFETIME: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class _Issued:
    """A certificate with its key, who signed it, and while it is the one to present."""

    credential: Credential = field(repr=False)
    ca: str
    since: datetime
    until: datetime


class Keys(Protocol):
    """The keys of the moment, of our own process or of the one that we follow."""

    @property
    def current(self) -> Authority:
        """The authority as it is now."""


@dataclass(slots=True)
class OwnIdentity:
    """The newest certificate and key."""

    live: Keys
    spiffe_id: SpiffeId
    dns_names: tuple[str, ...]
    clock: Callable[[], datetime]
    _issued: _Issued | None = field(default=None, repr=False)

    def credential(self) -> Credential:
        """Return what a server presents, fresh enough to outlive its connections.

        Raises:
            CertificateError: if the authority has expired.
        """
        authority, now, issued = self.live.current, self.clock(), self._issued
        if issued is None or issued.ca != authority.ca.key.kid or not issued.since <= now < issued.until:
            issued = self._issued = self._issue(authority, now)
        return issued.credential

    def _issue(self, authority: Authority, now: datetime) -> _Issued:
        key = SigningKey.generate()
        svid = authority.issue_workload_svid(
            self.spiffe_id,
            key.private_key.public_key(),
            now=now,
            ttl=int(LIFETIME.total_seconds()),
            dns_names=self.dns_names,
        )
        life = min(LIFETIME, authority.ca.not_after - now)
        credential = Credential(ssl.DER_cert_to_PEM_cert(svid).encode(), key.reveal_pem())
        return _Issued(credential, authority.ca.key.kid, now, now + life / 2)
