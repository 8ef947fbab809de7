"""A tool as its server declares it: what a model reads of it, and what it is called with.

- Every member that can change what a model does, or what a call means, is part of the hash; `_meta` and icons
  are not.
- A rename is another tool; the same tool under another name has another hash, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from identity.canonical import canonical_json, sha256_hex

MEMBERS: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations", "execution")


@dataclass(frozen=True, slots=True)
class Declared:
    """One tool of a list; `name` is the policy's, without a gateway's prefix."""

    name: str
    digest: str
    # Shown to who accepts it. It may be long; a model reads it too.
    declaration: Mapping[str, object] = field(repr=False)

    @classmethod
    def of(cls, name: str, tool: Mapping[str, object]) -> "Declared":
        """Take a tool of a list.

        Raises:
            CanonicalJsonError: if it cannot be written so that all read the same.
        """
        declaration = {member: tool[member] for member in MEMBERS if member in tool}
        return cls(name, sha256_hex(canonical_json(declaration)), declaration)
