r"""Regular expressions in `grants.yaml`: a subset that every engine reads alike, in linear time.

- What OPA (RE2) and regorus (Rust's regex) are proven to read in the same way is admitted, all else refused:
  no `\d`, `\w`, `\s`, `\b` (ASCII in one, Unicode in the other), no flags, no look-around, no references
  back, no lazy or doubled repetition.
- A pattern is printable ASCII, and always matches a whole value: `^` and `$` are no part of it.
- Length, nesting and what repetition adds up to are bounded, so that no pattern costs more than a call may.
- A refusal is one sentence that names the character, and what to write in its place.
"""

import re
from dataclasses import dataclass
from typing import Final, NoReturn

MAX_LENGTH: Final = 256
MAX_REPEAT: Final = 255
MAX_DEPTH: Final = 8
# How many characters there are when every repetition is written out; some count for several. regorus compiles
# no pattern to more than 100 KiB, and one of ours to less than 110 bytes for each: a test tries the worst.
MAX_SIZE: Final = 600

_BEGIN: Final = "^(?:"
_END: Final = ")$"
_META: Final = frozenset("\\.+*?()|[]{}^$")
_ESCAPED: Final = _META | {"-", "/"}
# What is not named is every other character of Unicode, which takes many steps to tell in UTF-8.
_ALL_OTHERS: Final = 11
# No leading zeros: RE2 takes `{01}` for text.
_COUNT: Final = re.compile(r"\{(0|[1-9][0-9]{0,2})(?:(,)([1-9][0-9]{0,2})?)?\}")
_QUANTIFIERS: Final = frozenset("*+?{")
_IN_PLACE_OF: Final = {
    "d": "write [0-9]",
    "w": "write [A-Za-z0-9_]",
    "s": "write the characters that are meant, such as [ ]",
    "b": "write the characters that may stand there",
}


class PatternError(ValueError):
    """Not a pattern that every engine reads alike."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of the subset; `parse` reads what a person wrote."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Read a pattern.

        Raises:
            PatternError: if anything in it is not of the subset.
        """
        if not 1 <= len(text) <= MAX_LENGTH:
            raise PatternError(f"a pattern has 1 to {MAX_LENGTH} characters")
        _require_bounded(text)
        return cls(text)

    @property
    def whole(self) -> str:
        """Return what an engine is given: it matches nothing but a whole value."""
        return f"{_BEGIN}{self.text}{_END}"


def is_whole_pattern(text: str) -> bool:
    """Say whether this matches whole values only, and is read alike by every engine."""
    if not text.startswith(_BEGIN) or not text.endswith(_END):
        return False
    try:
        _require_bounded(text[len(_BEGIN) : -len(_END)])
    except PatternError:
        return False
    return True


def _require_bounded(text: str) -> None:
    """Refuse what is not of the subset, or costs too much; the length is its author's bound, not ours."""
    for at, character in enumerate(text):
        if not " " <= character <= "~":
            raise PatternError(
                f"{character!r} at character {at + 1} is not printable ASCII: "
                "allow it with a class of what is not meant, such as [^/]"
            )
    size = _Reader(text).pattern()
    if size > MAX_SIZE:
        raise PatternError(
            f"with its repetitions written out the pattern is {size} long, and {MAX_SIZE} is the most"
        )


class _Reader:
    """Reads one pattern from left to right; each method returns the size of what it read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def pattern(self) -> int:
        """Read all of it."""
        size = self._alternatives(0)
        if self._at < len(self._text):
            self._refuse("closes a group that was not opened: escape it with '\\'")
        return size

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _refuse(self, problem: str, length: int = 1) -> NoReturn:
        found = self._text[self._at : self._at + length]
        where = f"{found!r} at character {self._at + 1}" if found else "the end of the pattern"
        raise PatternError(f"{where} {problem}")

    def _alternatives(self, depth: int) -> int:
        size = self._sequence(depth)
        while self._next() == "|":
            self._at += 1
            size += self._sequence(depth)
        return size

    def _sequence(self, depth: int) -> int:
        size = 0
        while self._next() not in {"", "|", ")"}:
            size += self._repeated(self._atom(depth))
        if not size:
            self._refuse("stands where a character is expected: an alternative of nothing is not accepted")
        return size

    def _atom(self, depth: int) -> int:
        match self._next():
            case "(":
                return 1 + self._group(depth)
            case "[":
                return self._class()
            case "\\":
                self._escape()
            case ".":
                self._at += 1
                return _ALL_OTHERS
            case "^" | "$":
                self._refuse("is not needed, for the whole value is matched: leave it out, or escape it")
            case "*" | "+" | "?" | "{":
                self._refuse("repeats nothing: escape it with '\\'")
            case "]" | "}":
                self._refuse("closes nothing: escape it with '\\'")
            case _:
                self._at += 1
        return 1

    def _group(self, depth: int) -> int:
        if depth == MAX_DEPTH:
            self._refuse(f"opens a group inside of {MAX_DEPTH} others, which are the most")
        self._at += 1
        if self._next() == "?":
            self._refuse("after '(' is a flag, a name or a look-around: write a plain group, or escape it")
        size = self._alternatives(depth + 1)
        if self._next() != ")":
            self._refuse("comes before a group is closed: add ')'")
        self._at += 1
        return size

    def _escape(self) -> str:
        escaped = self._text[self._at + 1 : self._at + 2]
        if escaped not in _ESCAPED or not escaped:
            instead = _IN_PLACE_OF.get(escaped.lower(), "only punctuation of patterns is escaped")
            self._refuse(f"is not read alike by every engine: {instead}", 2)
        self._at += 2
        return escaped

    def _class(self) -> int:
        self._at += 1
        is_negated = self._next() == "^"
        self._at += is_negated
        begin, items = self._at, 0
        while self._next() != "]":
            if self._text[self._at : self._at + 2] == "-]" and self._at > begin:
                self._at += 1
            else:
                self._class_item()
            items += 1
        if not items:
            self._refuse("closes a class of nothing: escape it with '\\'")
        self._at += 1
        return _ALL_OTHERS + items // 2 if is_negated else 1 + items // 8

    def _class_item(self) -> None:
        if self._next() == "\\":
            self._escape()
            return
        first = self._plain()
        if self._next() != "-" or self._text[self._at + 1 : self._at + 2] == "]":
            return
        self._at += 1
        if self._plain() < first:
            self._at -= 1
            self._refuse("ends a range before it begins: write it in the order of ASCII")

    def _plain(self) -> str:
        character = self._next()
        if not character:
            self._refuse("comes before a class is closed: add ']'")
        if character in "[]^-\\":
            self._refuse("within a class is read in several ways: escape it with '\\'")
        if character in "&~" and self._text[self._at + 1 : self._at + 2] == character:
            self._refuse("within a class is an operation of some engines: write it once", 2)
        self._at += 1
        return character

    def _repeated(self, size: int) -> int:
        match self._next():
            case "*" | "+" | "?":
                self._at += 1
                times = 1
            case "{":
                times = self._count()
            case _:
                return size
        if self._next() in _QUANTIFIERS and self._next():
            self._refuse("repeats a repetition: put that into a group, or escape it")
        return size * times

    def _count(self) -> int:
        """Read `{2}`, `{2,}` or `{2,5}`."""
        found = _COUNT.match(self._text, self._at)
        if found is None:
            self._refuse("begins no count such as {2}, {2,} or {2,5}: escape it with '\\'")
        least, comma, most = found.groups()
        low, high = int(least), int(most or least)
        if low > high or not 1 <= high <= MAX_REPEAT:
            self._refuse(f"begins a count that is not of 1 to {MAX_REPEAT}, the smaller number first")
        self._at = found.end()
        # One more for what goes on after the last that is counted.
        return high + (1 if comma and not most else 0)
