"""The members that an object of a message may have, and nothing that looks like one of them.

- A member that is not listed is refused: somebody else may know what it means.
- A member that another parser could take for a listed one is refused under a name of its own: by case
  (CVE-2026-27896), compatibility forms (U+017F for `s`), NUL, spaces or characters without width.
- Member names of one object that differ only in that way are refused where the names are the tool's own.
- Folding is bounded: one character of another alphabet can fold into eighteen.
"""

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from authz.codes import Code
from authz.errors import InspectionError
from authz.protocols.reader_codes import ReaderCodes

# Characters of all names of one object that are not printable ASCII.
MAX_FOLDED_CHARS = 4096


@dataclass(frozen=True, slots=True)
class MemberNames:
    """The names that are known for one kind of object."""

    names: frozenset[str]
    folded: frozenset[str]

    @classmethod
    def of(cls, *names: str) -> "MemberNames":
        """Fold the names once."""
        return cls(frozenset(names), frozenset(fold(name) for name in names))

    def check(
        self, members: Mapping[str, object], codes: ReaderCodes, what: str, *, unknown: Code | None = None
    ) -> None:
        """Refuse look-alikes and, with the code `unknown` or that of params, every other name.

        Raises:
            InspectionError: if there is one.
        """
        if members.keys() <= self.names:
            return
        self.check_lookalikes(members, codes, what)
        strange = min(members.keys() - self.names)
        raise InspectionError(unknown or codes.params, f"{what} with an unknown member {strange[:80]!r}")

    def check_lookalikes(self, members: Mapping[str, object], codes: ReaderCodes, what: str) -> None:
        """Refuse what looks like a known name without being one; other names pass.

        Raises:
            InspectionError: if there is one.
        """
        if members.keys() <= self.names:
            return
        strange = members.keys() - self.names
        if self._are_other_words(strange):
            return
        for name, folded in _folded(strange, codes, what):
            if folded in self.folded:
                raise InspectionError(codes.lookalike, f"{what} with the look-alike member {name[:80]!r}")

    def _are_other_words(self, names: Collection[str]) -> bool:
        """Say whether names, where all are plain, look like none of ours: then one look is enough."""
        if not _is_plain("".join(names)):
            return False
        return self.folded.isdisjoint(_fold_plain("\n".join(names)).split("\n"))


def check_distinct(names: Mapping[str, object], codes: ReaderCodes, what: str) -> None:
    """Refuse names of one object that a case-folding parser takes for one.

    Raises:
        InspectionError: if there are two.
    """
    joined = "".join(names)
    # Of an object they are distinct as they stand, and mostly that is how they are folded.
    if joined.isascii() and joined.isprintable() and joined.lower() == joined and " " not in joined:
        return
    if _are_distinct_words(names, joined):
        return
    seen: set[str] = set()
    for name, folded in _folded(names, codes, what):
        if folded in seen:
            raise InspectionError(codes.lookalike, f"{what} with two members like {name[:80]!r}")
        seen.add(folded)


def _are_distinct_words(names: Mapping[str, object], joined: str) -> bool:
    """Say whether names are distinct to the laxest parser, where all are plain: then one look is enough."""
    return _is_plain(joined) and len(set(_fold_plain("\n".join(names)).split("\n"))) == len(names)


def fold(name: str) -> str:
    """Return what the laxest parser could make of a name."""
    if _is_plain(name):
        return _fold_plain(name)
    kept = (char for char in unicodedata.normalize("NFKC", name).casefold() if char.isprintable())
    return "".join(kept).replace(" ", "")


def _fold_plain(name: str) -> str:
    return name.lower().replace(" ", "")


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable()


def _folded(names: Iterable[str], codes: ReaderCodes, what: str) -> Iterator[tuple[str, str]]:
    left = MAX_FOLDED_CHARS
    for name in names:
        if not _is_plain(name):
            left -= len(name)
        if left < 0:
            raise InspectionError(codes.params, f"{what} with too much to fold in the names of its members")
        yield name, fold(name)
