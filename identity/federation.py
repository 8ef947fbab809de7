"""Federation: whose bundle we keep, where it comes from, and what may replace it (SPIFFE Federation).

- Trust domain, URL and profile are given by an operator; none is inferred from another (section 7.2).
- A URL is https, without userinfo or fragment, and of characters that every reader reads alike.
- What was fetched replaces what we keep only if it is a bundle of that very trust domain, and not an older
  one.
- Other content under the same sequence number is taken, with a remark: the publisher broke section 4.1.1 of
  the bundle's standard, but what it serves now is what it trusts now, and refusing it would keep a key that
  it may have revoked.
- A bundle without keys is a bundle: everything of that trust domain is revoked.
- A fetch that fails changes nothing but the note of it, and the next one waits for its turn (B-6).
- The bundle is kept as its publisher wrote it, so that a later version of us finds in it what this one skips.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from identity.bundle import Bundle
from identity.errors import CertificateError, FederationError, KeyMaterialError, SpiffeIdError
from identity.spiffe import SpiffeId, TrustDomain

MAX_BUNDLE: Final = 64 * 1024
MAX_RELATIONSHIPS: Final = 100
MAX_URL: Final = 2048

# Five minutes is the standard's advice where a bundle gives no hint (section 4.1).
DEFAULT_INTERVAL: Final = timedelta(minutes=5)
MIN_INTERVAL: Final = timedelta(seconds=30)
MAX_INTERVAL: Final = timedelta(days=1)

_URL: Final = re.compile(
    r"https://(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
    r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_MAX_PROBLEM: Final = 400


@dataclass(frozen=True, slots=True)
class WebProfile:
    """`https_web`: a certificate for the host name, of the system's CAs or of those in a file."""

    ca_file: str | None = None


@dataclass(frozen=True, slots=True)
class SpiffeProfile:
    """`https_spiffe`: an X.509-SVID with this ID, which need not be of the bundle's trust domain."""

    endpoint_id: SpiffeId


Profile = WebProfile | SpiffeProfile


@dataclass(frozen=True, slots=True)
class Received:
    """A bundle, and the document that it was read from."""

    document: bytes = field(repr=False)
    bundle: Bundle = field(repr=False)

    @classmethod
    def parse(cls, document: bytes, trust_domain: TrustDomain) -> "Received":
        """Read a bundle of a trust domain.

        Raises:
            FederationError: if it is none, or is that of another trust domain.
        """
        if len(document) > MAX_BUNDLE:
            raise FederationError(f"a bundle longer than {MAX_BUNDLE} bytes")
        try:
            return cls(document, Bundle.parse(document, trust_domain))
        except (KeyMaterialError, CertificateError) as error:
            raise FederationError(f"not a bundle of {trust_domain.name!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Relationship:
    """How we follow the bundle of one trust domain; `problem` is of the last attempt."""

    trust_domain: TrustDomain
    url: str
    profile: Profile
    received: Received | None = None
    fetched_at: datetime | None = None
    tried_at: datetime | None = None
    problem: str = ""

    @classmethod
    def parse(
        cls,
        trust_domain: str,
        url: str,
        profile: str,
        *,
        endpoint_id: str | None = None,
        ca_file: str | None = None,
        bundle: bytes | None = None,
    ) -> "Relationship":
        """Read what an operator gives (section 5.1).

        Raises:
            FederationError: if something is malformed, missing, or does not belong to the profile.
        """
        try:
            domain = TrustDomain.parse(trust_domain)
            kind = _parse_profile(profile, endpoint_id, ca_file)
        except SpiffeIdError as error:
            raise FederationError(str(error)) from error
        received = None if bundle is None else Received.parse(bundle, domain)
        # Section 5.2.2.2: what would the first connection be verified with?
        if isinstance(kind, SpiffeProfile) and kind.endpoint_id.trust_domain == domain and received is None:
            raise FederationError(
                f"an endpoint of {domain.name!r} itself needs a first bundle to be verified with"
            )
        return cls(domain, parse_endpoint_url(url), kind, received)

    @property
    def bundle(self) -> Bundle | None:
        """What verifies SVIDs of that trust domain, once there is one."""
        return None if self.received is None else self.received.bundle

    @property
    def interval(self) -> timedelta:
        """How long to wait between two attempts: the publisher's hint, within bounds of ours."""
        hint = None if self.bundle is None else self.bundle.refresh_hint
        if hint is None:
            return DEFAULT_INTERVAL
        # The bound first: a hint may be longer than any timedelta.
        return max(MIN_INTERVAL, timedelta(seconds=min(hint, int(MAX_INTERVAL.total_seconds()))))

    def is_due(self, now: datetime, jitter: float) -> bool:
        """Say whether it is time for an attempt; `jitter`, of 0 to 1, brings it forward by up to a tenth.

        A clock that was set back to before the last attempt makes one due: how long ago that was cannot be
        said.
        """
        if self.tried_at is None or now < self.tried_at:
            return True
        return now >= self.tried_at + self.interval * (1 - jitter / 10)

    def fetched(self, document: bytes, now: datetime) -> "Relationship":
        """Take what the endpoint served.

        Raises:
            FederationError: if it may not replace what we keep.
        """
        received = Received.parse(document, self.trust_domain)
        remark = _compare(self.bundle, received.bundle)
        return replace(self, received=received, fetched_at=now, tried_at=now, problem=remark)

    def failed(self, problem: str, now: datetime) -> "Relationship":
        """Note an attempt that gave nothing."""
        return replace(self, tried_at=now, problem=problem[:_MAX_PROBLEM])


def parse_endpoint_url(text: str) -> str:
    """Read the URL of a bundle endpoint (sections 5.2.1.1 and 5.2.2.1).

    Raises:
        FederationError: if it is not https, has userinfo or a fragment, or is not plain ASCII.
    """
    parts = _URL.fullmatch(text) if len(text) <= MAX_URL else None
    if parts is None or int(parts[1] or 443) not in range(1, 65536):
        raise FederationError(
            f"not the URL of a bundle endpoint (https, a host, no userinfo, no fragment): {text[:300]!r}"
        )
    return text


def check_relationships(relationships: Iterable[Relationship], own: TrustDomain) -> tuple[Relationship, ...]:
    """Return relationships that may stand beside each other, sorted by trust domain.

    Raises:
        FederationError: if one is of our own trust domain, two are of one, or they are too many.
    """
    ordered = tuple(sorted(relationships, key=lambda relationship: relationship.trust_domain))
    domains = [relationship.trust_domain for relationship in ordered]
    if own in domains:
        # Whoever serves our bundle could otherwise make IDs of ours.
        raise FederationError(f"{own.name!r} is our own trust domain: nobody else speaks for it")
    for first, second in pairwise(domains):
        if first == second:
            raise FederationError(f"{first.name!r} is federated already: remove it first")
    if len(domains) > MAX_RELATIONSHIPS:
        raise FederationError(f"more than {MAX_RELATIONSHIPS} federated trust domains")
    return ordered


def _parse_profile(profile: str, endpoint_id: str | None, ca_file: str | None) -> Profile:
    match profile:
        case "https_web" if endpoint_id is None:
            return WebProfile(ca_file)
        case "https_spiffe" if endpoint_id is not None and ca_file is None:
            spiffe_id = SpiffeId.parse(endpoint_id)
            if not spiffe_id.path:
                raise FederationError(f"an endpoint with the ID of a whole trust domain: {endpoint_id!r}")
            return SpiffeProfile(spiffe_id)
        case "https_web":
            raise FederationError("a SPIFFE ID of the endpoint belongs to the profile 'https_spiffe' only")
        case "https_spiffe":
            raise FederationError("'https_spiffe' needs the SPIFFE ID of the endpoint, and no file of CAs")
    raise FederationError(f"not a profile (https_web or https_spiffe): {profile[:40]!r}")


def _compare(kept: Bundle | None, new: Bundle) -> str:
    """Return a remark about a bundle that may replace the one we keep.

    Raises:
        FederationError: if it may not, because it is older.
    """
    if kept is not None and kept.sequence is not None and new.sequence is not None:
        if new.sequence < kept.sequence:
            raise FederationError(
                f"a bundle of sequence {new.sequence}, older than {kept.sequence} that we keep: if its "
                "publisher started anew, remove the relationship and add it again"
            )
        if new.sequence == kept.sequence and new != kept:
            return f"remark: other content under the same sequence {new.sequence}; the new one counts"
    if not new.roots and not tuple(new.jwt_keys):
        return "remark: a bundle without keys: no SVID of this trust domain is accepted"
    return ""
