"""Who is at the other end of a TLS connection: verified again, with the roots of the peer's own trust domain.

- A TLS library keeps the roots of a listener in one pool, where each may vouch for every name (X-7). So TLS
  only keeps strangers out; who it is, is said here, and a CA of one domain vouches for no name of another.
- A listener knows the trust domains that its configuration names. Roots of no other are loaded for it, and a
  name of another counts for nothing, whoever signed it.
- A root that looks like one of a domain before it, ours first, is not given to TLS: it would shut the peers
  of the other out.
- What was verified is remembered by the hash of its chain until a certificate of its path ends, the clock
  goes back or the roots of the listener change. So a root that is withdrawn counts at the very next call,
  also on a connection that is open already.
- The memory is bounded, and holds nobody who was refused.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from identity.errors import CertificateError
from identity.spiffe import SpiffeId, TrustDomain
from identity.trust_bundles import TrustBundles, verify_by_own_roots
from identity.x509_svid import MAX_CERTIFICATE, MAX_CHAIN, X509Svid

# Peers that are remembered; a proxy has one certificate at a time.
MAX_PEERS: Final = 1024

Roots = Mapping[TrustDomain, tuple[x509.Certificate, ...]]


def domains_of(ids: Iterable[SpiffeId], *others: TrustDomain) -> frozenset[TrustDomain]:
    """Return the trust domains of the IDs that a listener's configuration names, and of those beside them."""
    return frozenset(spiffe_id.trust_domain for spiffe_id in ids) | frozenset(others)


@dataclass(frozen=True, slots=True)
class _Verified:
    """A peer that was verified, and from when to when it need not be verified again."""

    svid: X509Svid
    since: datetime
    until: datetime


class _Known:
    """The roots of a listener at one time, and who was verified with them."""

    def __init__(self, roots: Roots) -> None:
        self.roots = roots
        self.peers: dict[bytes, _Verified] = {}

    @cached_property
    def pem(self) -> bytes:
        """The roots of all domains, for the TLS library."""
        pool: list[x509.Certificate] = []
        for roots in self.roots.values():
            pool += [root for root in roots if not any(_shadows(other, root) for other in pool)]
        return b"".join(root.public_bytes(serialization.Encoding.PEM) for root in pool)


@dataclass(slots=True)
class Peers:
    """Those who may connect to one listener."""

    bundles: Callable[[], TrustBundles]
    domains: frozenset[TrustDomain]
    _known: _Known = field(default_factory=lambda: _Known({}), repr=False)

    def roots_pem(self) -> bytes:
        """Return the roots that TLS may let anybody in with; empty where there is none now."""
        return self._current().pem

    def verify(self, chain: Sequence[bytes], now: datetime) -> X509Svid:
        """Return who presented a chain of DER certificates, the leaf first.

        Raises:
            CertificateError: if it is not an X.509-SVID that the roots of its own trust domain vouch for now,
                or of no trust domain that this listener knows.
        """
        known, name = self._current(), _hash(chain)
        found = known.peers.get(name)
        if found is None or not found.since <= now < found.until:
            found = _verify(chain, known.roots, now)
            while len(known.peers) >= MAX_PEERS:
                del known.peers[next(iter(known.peers))]
            known.peers[name] = found
        return found.svid

    def _current(self) -> _Known:
        bundles = self.bundles().all
        roots = {domain: bundles[domain].roots for domain in bundles if domain in self.domains}
        # Certificates compare by identity first, then by their bytes; a new value forgets who was verified.
        if roots != self._known.roots:
            self._known = _Known(roots)
        return self._known


def _shadows(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Say whether TLS could take one root for another: it looks by name, and tries no second one."""
    if one.subject != other.subject or one.public_key() == other.public_key():
        return False
    names = {_key_name(one), _key_name(other)}
    return len(names) == 1 or None in names


def _key_name(root: x509.Certificate) -> bytes | None:
    parts = (part.value for part in root.extensions)
    return next((part.digest for part in parts if isinstance(part, x509.SubjectKeyIdentifier)), None)


def _hash(chain: Sequence[bytes]) -> bytes:
    if not 1 <= len(chain) <= MAX_CHAIN or any(len(der) > MAX_CERTIFICATE for der in chain):
        raise CertificateError(f"a chain of {len(chain)} certificates, or one of them too long")
    return hashlib.sha256(b"".join(hashlib.sha256(der).digest() for der in chain)).digest()


def _verify(chain: Sequence[bytes], known: Roots, now: datetime) -> _Verified:
    svid = verify_by_own_roots(chain, known, now)
    roots = known[svid.spiffe_id.trust_domain]
    path = [svid.certificate, *map(x509.load_der_x509_certificate, chain[1:]), *roots]
    # The end of a certificate that was not needed only means one verification more.
    until = min(end for part in path if (end := part.not_valid_after_utc) > now)
    return _Verified(svid, now, until)
