"""With what SVIDs are verified now: our own bundle, and those of every trust domain that we know.

- Each answer is one object until something in it changes, so that whoever asks at every call can see that
  nothing did.
- Where two parts know one trust domain, the first counts: a SPIRE on this machine before a far endpoint.
- Our own trust domain is the authority's to say, whoever else claims to know it.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from identity.authority import Authority
from identity.bundle import Bundle
from identity.spiffe import TrustDomain
from identity.trust_bundles import TrustBundles

Bundles = Mapping[TrustDomain, Bundle]


class KnownBundles:
    """The bundles of all parts, joined; what a part returns is never changed, only replaced."""

    def __init__(self, authority: Callable[[], Authority], parts: Sequence[Callable[[], Bundles]]) -> None:
        """Join what the authority and the other parts know, each asked anew."""
        self._authority = authority
        self._parts = tuple(parts)
        self._seen: tuple[Bundles, ...] = ()
        self._federated: Bundles = MappingProxyType({})
        self._trust: tuple[Authority, Bundles, TrustBundles] | None = None

    def federated(self) -> Bundles:
        """Return the bundles of other trust domains."""
        seen = tuple(part() for part in self._parts)
        if [id(bundles) for bundles in seen] != [id(bundles) for bundles in self._seen]:
            own = self._authority().trust_domain
            joined = {domain: bundle for part in reversed(seen) for domain, bundle in part.items()}
            joined.pop(own, None)
            self._seen, self._federated = seen, MappingProxyType(joined)
        return self._federated

    def trust(self) -> TrustBundles:
        """Return every bundle, our own first."""
        authority, federated, kept = self._authority(), self.federated(), self._trust
        if kept is None or kept[0] is not authority or kept[1] is not federated:
            trust = TrustBundles(authority.trust_bundle(), federated)
            kept = self._trust = (authority, federated, trust)
        return kept[2]
