"""Whose bundles count now: ours, those that we fetch, and those of the SPIRE above us.

- It is asked at every call, and makes a new value only when one of its sources gives another one.
- Our own bundle is the authority's, whatever another says of our trust domain.
- Where two sources know one trust domain, the later one speaks for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import is_
from types import MappingProxyType

from identity.authority import Authority
from identity.bundle import Bundle
from identity.spiffe import TrustDomain
from identity.trust_bundles import TrustBundles

Federated = Mapping[TrustDomain, Bundle]


@dataclass(frozen=True, slots=True)
class _Joined:
    authority: Authority
    given: tuple[Federated, ...]
    bundles: TrustBundles


@dataclass(slots=True)
class LiveBundles:
    """Called for the bundles of now; what the sources return is never changed, only replaced."""

    authority: Callable[[], Authority]
    sources: tuple[Callable[[], Federated], ...]
    _joined: _Joined | None = field(default=None, init=False, repr=False)

    def __call__(self) -> TrustBundles:
        """Return the bundles of every trust domain that is known; one object until one changes."""
        authority, given = self.authority(), tuple(source() for source in self.sources)
        joined = self._joined
        if joined is not None and all(map(is_, joined.given, given)):
            if joined.authority is authority:
                return joined.bundles
            # Of what is federated the same object, so that others see that it did not change.
            federated = joined.bundles.federated
        else:
            ours = authority.trust_domain
            every = {domain: bundle for each in given for domain, bundle in each.items()}
            federated = MappingProxyType({name: bundle for name, bundle in every.items() if name != ours})
        bundles = TrustBundles(authority.trust_bundle(), federated)
        self._joined = _Joined(authority, given, bundles)
        return bundles

    def federated(self) -> Federated:
        """Return the bundles of the others."""
        return self().federated
