"""What stands for several declarations that somebody looked at together: one digest.

- Of one tool it is the digest of its declaration; of several the hash of names and digests, whatever their
  order. So whoever accepts what they saw names one value, and a declaration that was swapped in between is
  another one.
"""

from collections.abc import Mapping

from identity.canonical import canonical_json, sha256_hex


def digest_of(reviewed: Mapping[str, str]) -> str:
    """Return the digest of what was reviewed: digests of declarations by the names of tools."""
    if len(reviewed) == 1:
        return next(iter(reviewed.values()))
    return sha256_hex(canonical_json(dict(reviewed)))
