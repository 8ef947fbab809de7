"""The bundles of every trust domain that is known, each by itself.

- A bundle speaks for its own trust domain only; roots of two domains never meet in one store (X-7).
- Which bundle counts is said by the name in the leaf or in `sub`; a domain without a bundle is a stranger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from cryptography import x509

from identity.bundle import Bundle
from identity.errors import CertificateError
from identity.keys import KeySet
from identity.spiffe import TrustDomain
from identity.x509_svid import X509Svid, leaf_spiffe_id, verify_x509_svid


@dataclass(frozen=True, slots=True)
class TrustBundles:
    """Our own bundle, and those of the trust domains that we federate with."""

    own: Bundle
    federated: Mapping[TrustDomain, Bundle] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse a bundle under another name, or a second one of our own domain."""
        for trust_domain, bundle in self.federated.items():
            if bundle.trust_domain != trust_domain or trust_domain == self.own.trust_domain:
                raise CertificateError(f"a bundle that is not that of {trust_domain.name!r}")

    @property
    def all(self) -> Mapping[TrustDomain, Bundle]:
        """Every bundle, our own first."""
        return {self.own.trust_domain: self.own, **self.federated}

    @property
    def jwt_keys(self) -> Mapping[TrustDomain, KeySet]:
        """The keys that JWT-SVIDs are verified with, by trust domain."""
        return {trust_domain: bundle.jwt_keys for trust_domain, bundle in self.all.items()}

    def of(self, trust_domain: TrustDomain) -> Bundle | None:
        """Return the bundle of a trust domain."""
        return self.own if trust_domain == self.own.trust_domain else self.federated.get(trust_domain)

    def verify_x509(self, chain: Sequence[bytes], now: datetime) -> X509Svid:
        """Verify a chain, leaf first, with the roots of the trust domain that the leaf names.

        Raises:
            CertificateError: if that domain is unknown, or did not sign it.
        """
        roots = {trust_domain: bundle.roots for trust_domain, bundle in self.all.items()}
        return verify_by_own_roots(chain, roots, now)


def verify_by_own_roots(
    chain: Sequence[bytes], roots: Mapping[TrustDomain, Sequence[x509.Certificate]], now: datetime
) -> X509Svid:
    """Verify a chain, leaf first, with those roots that are of the trust domain that the leaf names (X-7).

    Raises:
        CertificateError: if that domain is unknown, or did not sign it.
    """
    if not chain:
        raise CertificateError("no certificate")
    trust_domain = leaf_spiffe_id(chain[0]).trust_domain
    return verify_x509_svid(chain, roots.get(trust_domain, ()), trust_domain, now)
