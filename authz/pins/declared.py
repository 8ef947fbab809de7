"""A tool as its server declares it: what a model reads of it, and what it is called with.

- Every member that can change what a model does, or what a call means, is part of the hash, those of
  tomorrow's specification, too. So is `_meta`: clients search by it, and choose by it what a person sees.
- Icons are not, as long as they are icons: a server may have other addresses for them each time. What only
  stands there is a text like any other.
- The name in it is the policy's: a gateway's prefix is no change of the tool.
- A rename is another tool; the same tool under another name has another hash, too.
"""

import marshal
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from identity.canonical import canonical_json, sha256_hex

_ICONS: Final = "icons"
# What an icon says, and nothing with a space: there is no room for a sentence.
_OF_ICON: Final[Mapping[str, re.Pattern[str]]] = {
    "src": re.compile(r"(?:https?://|data:image/)[!-~]*"),
    "mimeType": re.compile(r"image/[A-Za-z0-9.+-]{1,64}"),
    "theme": re.compile(r"light|dark"),
}
_SIZE: Final = re.compile(r"any|[0-9]{1,5}x[0-9]{1,5}")
# What can be called has such a name (authz/protocols/mcp_target.py); letters that look alike are in none.
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
# A list is mostly the one that was there before. Longer ones are hashed each time, so that what is remembered
# is bounded: 2048 of at most 8 KiB.
_REMEMBERED: Final = 2048
_MAX_REMEMBERED_BYTES: Final = 8192
# The format without references to equal objects: it tells `true` from `1`, which `==` does not.
_MARSHAL: Final = 2


@dataclass(frozen=True, slots=True)
class Declared:
    """One tool of a list; `name` is the policy's, without a gateway's prefix."""

    name: str
    digest: str
    # As it came. Shown to who accepts it; it may be long, and a model reads it too.
    declaration: Mapping[str, object] = field(repr=False)

    @classmethod
    def of(cls, name: str, tool: Mapping[str, object]) -> "Declared":
        """Take a tool of a list.

        Raises:
            CanonicalJsonError: if it cannot be written so that all read the same.
        """
        try:
            written = marshal.dumps(tool, _MARSHAL)  # type: ignore[arg-type]  # what is no JSON is a ValueError
        except ValueError:  # nested deeper than it goes, or no JSON
            return cls(name, _digest(name, tool), tool)
        if len(written) > _MAX_REMEMBERED_BYTES:
            return cls(name, _digest(name, tool), tool)
        return cls(name, _remembered_digest(name, written), tool)

    @property
    def text(self) -> bytes:
        """What the digest is taken of."""
        return canonical_json(pinned(self.name, self.declaration))


def pinned(name: str, tool: Mapping[str, object]) -> Mapping[str, object]:
    """Return what of a declaration is pinned."""
    kept = {**tool, "name": name}
    if _ICONS in kept and _are_icons(kept[_ICONS]):
        del kept[_ICONS]
    return kept


def is_tool_name(name: str) -> bool:
    """Say whether a tool of this name can be called at all."""
    return _NAME.fullmatch(name) is not None


def _are_icons(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and _is_icon(each) for each in value)


def _is_icon(icon: Mapping[str, object]) -> bool:
    return all(
        _are_sizes(value)
        if member == "sizes"
        else member in _OF_ICON and isinstance(value, str) and _OF_ICON[member].fullmatch(value) is not None
        for member, value in icon.items()
    )


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(size, str) and _SIZE.fullmatch(size) is not None for size in value
    )


def _digest(name: str, tool: Mapping[str, object]) -> str:
    return sha256_hex(canonical_json(pinned(name, tool)))


@lru_cache(maxsize=_REMEMBERED)
def _remembered_digest(name: str, written: bytes) -> str:
    return _digest(name, marshal.loads(written))  # noqa: S302 - what was written a line before
