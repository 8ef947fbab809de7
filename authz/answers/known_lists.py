"""Lists that were read a moment ago: a server says the same again and again, to everybody.

- A list is known by its whole text, and by what it was read for; what was read of it is a function of these
  alone, so that nobody can change what another is shown. It saves work and decides nothing.
- Bounded by the characters in all of them; what was not asked for longest is forgotten first.
"""

from dataclasses import dataclass
from typing import Final

from authz.answers.listing import Listing

MAX_CHARS: Final = 2 << 20
# What is longer is read again each time: a few of these would be all that is known.
MAX_LIST_CHARS: Final = 1 << 19


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list is read for."""

    tool_prefix: str = ""
    # The member that must be there.
    required: str | None = None
    # Whether its tools are hashed.
    declares: bool = False


class KnownLists:
    """Remembers lists."""

    def __init__(self) -> None:
        """Know none."""
        self._known: dict[tuple[Asked, str], Listing] = {}
        self._chars = 0

    def find(self, asked: Asked, text: str) -> Listing | None:
        """Return what was read of this text, if it is still known."""
        listing = self._known.pop((asked, text), None)
        if listing is not None:
            self._known[asked, text] = listing
        return listing

    def keep(self, asked: Asked, text: str, listing: Listing) -> None:
        """Remember what was read."""
        if len(text) > MAX_LIST_CHARS or (asked, text) in self._known:
            return
        self._known[asked, text] = listing
        self._chars += len(text)
        while self._chars > MAX_CHARS:
            forgotten = next(iter(self._known))
            del self._known[forgotten]
            self._chars -= len(forgotten[1])
