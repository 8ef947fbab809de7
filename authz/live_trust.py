"""Whom `Check` believes now: the keys of our authority and of the trust domains that we federate with.

- It is asked at every call, and makes a new value only when the authority or the bundles have changed: asking
  costs nothing, and whoever got the same value twice knows that nothing changed in between.
- The keys of our own trust domain are the authority's, whatever any bundle says.
- A trust domain whose bundle is empty has no keys, and one that is federated no more is not known at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from authz.authenticate import Trust
from identity.authority import Authority
from identity.bundle import Bundle
from identity.spiffe import TrustDomain


@dataclass(frozen=True, slots=True)
class _Made:
    authority: Authority
    federated: Mapping[TrustDomain, Bundle]
    trust: Trust


@dataclass(slots=True)
class LiveTrust:
    """Called for each `Check`; what `authority` and `federated` return is never changed, only replaced."""

    authority: Callable[[], Authority]
    federated: Callable[[], Mapping[TrustDomain, Bundle]]
    issuer: str
    leeway: int
    max_depth: int
    _made: _Made | None = field(default=None, init=False, repr=False)

    def __call__(self) -> Trust:
        """Return whom we believe now."""
        authority, federated = self.authority(), self.federated()
        made = self._made
        if made is None or made.authority is not authority or made.federated is not federated:
            made = self._made = _Made(authority, federated, self._trust(authority, federated))
        return made.trust

    def _trust(self, authority: Authority, federated: Mapping[TrustDomain, Bundle]) -> Trust:
        keys = {trust_domain: bundle.jwt_keys for trust_domain, bundle in federated.items()}
        return Trust(
            trust_domain=authority.trust_domain,
            issuer=self.issuer,
            token_keys=authority.token_keys,
            svid_keys=MappingProxyType({**keys, authority.trust_domain: authority.svid_keys}),
            leeway=self.leeway,
            max_depth=self.max_depth,
        )
