"""The relationships of federation as a document, `federation.json`, that survives a restart.

- It is read strictly: what is truncated, unknown or of another trust domain than ours is refused as a whole
  and never repaired, because what was lost might be the revocation of a key.
- Times are seconds since 1970; a bundle stands in it as the text that its publisher served.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from identity.errors import FederationError
from identity.federation import (
    MAX_RELATIONSHIPS,
    Relationship,
    SpiffeProfile,
    WebProfile,
    check_relationships,
)
from identity.spiffe import TrustDomain
from identity.strict_json import Limits, StrictJsonError, loads

_VERSION: Final = 1
_MEMBERS: Final = frozenset({"version", "trust_domain", "relationships"})
_FIELDS: Final = frozenset(
    {"trust_domain", "url", "profile", "endpoint_spiffe_id", "ca_file"}
    | {"bundle", "fetched_at", "tried_at", "problem"}
)
_LIMITS: Final = Limits(depth=4, keys=len(_FIELDS) * MAX_RELATIONSHIPS + len(_MEMBERS))
_LATEST: Final = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp())


def encode_relationships(own: TrustDomain, relationships: Iterable[Relationship]) -> bytes:
    """Return the document."""
    document = {
        "version": _VERSION,
        "trust_domain": own.name,
        "relationships": [_encode(relationship) for relationship in relationships],
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def parse_relationships(data: bytes, own: TrustDomain) -> tuple[Relationship, ...]:
    """Read the document.

    Raises:
        FederationError: if it is not one that `encode_relationships` wrote for this trust domain.
    """
    try:
        document = loads(data, _LIMITS)
    except StrictJsonError as error:
        raise FederationError(f"damaged ({error})") from error
    if not isinstance(document, dict) or document.keys() != _MEMBERS or document["version"] != _VERSION:
        raise FederationError("not of this version")
    if document["trust_domain"] != own.name:
        raise FederationError(f"of the trust domain {document['trust_domain']!r}, not of {own.name!r}")
    entries = document["relationships"]
    if not isinstance(entries, list):
        raise FederationError("damaged (no list of relationships)")
    return check_relationships([_parse(entry) for entry in entries], own)


def _encode(relationship: Relationship) -> dict[str, object]:
    profile, received = relationship.profile, relationship.received
    is_web = isinstance(profile, WebProfile)
    return {
        "trust_domain": relationship.trust_domain.name,
        "url": relationship.url,
        "profile": "https_web" if is_web else "https_spiffe",
        "endpoint_spiffe_id": str(profile.endpoint_id) if isinstance(profile, SpiffeProfile) else None,
        "ca_file": profile.ca_file if isinstance(profile, WebProfile) else None,
        "bundle": None if received is None else received.document.decode(),
        "fetched_at": _seconds(relationship.fetched_at),
        "tried_at": _seconds(relationship.tried_at),
        "problem": relationship.problem,
    }


def _parse(entry: object) -> Relationship:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise FederationError("damaged (an entry that is not a relationship)")
    relationship = Relationship.parse(
        _text(entry, "trust_domain"),
        _text(entry, "url"),
        _text(entry, "profile"),
        endpoint_id=_optional(entry, "endpoint_spiffe_id"),
        ca_file=_optional(entry, "ca_file"),
        bundle=None if (bundle := _optional(entry, "bundle")) is None else bundle.encode(),
    )
    return replace(
        relationship,
        fetched_at=_moment(entry, "fetched_at"),
        tried_at=_moment(entry, "tried_at"),
        problem=_text(entry, "problem"),
    )


def _text(entry: Mapping[str, object], name: str) -> str:
    value = entry[name]
    if not isinstance(value, str):
        raise FederationError(f"damaged ({name} is not text)")
    return value


def _optional(entry: Mapping[str, object], name: str) -> str | None:
    return None if entry[name] is None else _text(entry, name)


def _moment(entry: Mapping[str, object], name: str) -> datetime | None:
    value = entry[name]
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= _LATEST:
        raise FederationError(f"damaged ({name} is not a time)")
    return datetime.fromtimestamp(value, UTC)


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
