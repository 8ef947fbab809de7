r"""The text that is looked through: all of a value, written so that one search sees what a reader would.

- All texts of a decoded JSON value, names of members too, and numbers that are long enough to identify
  somebody, one to a line; nothing is found that is split over two of them.
- What looks like an ASCII character is that character: full-width and mathematical letters, digits of some
  scripts, dashes and spaces; what is not seen (soft hyphens, zero width, direction, combining marks) is gone.
- One level of percent-encoding is looked through, and the `\n`, `\r` and `\t` of JSON within a text.
- Not looked through: base64 and other encodings, letters of other alphabets that look like Latin ones.
- The work is linear and bounded: a value with too many parts, characters or places to look at, or with a part
  that is not JSON, is refused with UnsearchableError, and nobody may take that for "nothing found".
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from authz.errors import AuthzError

# What the shipped Envoys buffer of a body; a value of more characters came by another way.
MAX_CHARS: Final = 262_144
MAX_PARTS: Final = 65_536
MAX_PLACES: Final = 16_384

T = TypeVar("T", str, bytes)

# Shorter numbers are in every call; longer ones no reader of JSON takes exactly.
_LONG_NUMBERS: Final = range(10**12, 10**19)
# So many replacements of one character each are cheaper than a look at every character.
_FEW: Final = 16
# And so many pieces of a text cost more than to go through it some more times.
_MANY: Final = 4096


class UnsearchableError(AuthzError):
    """A value that cannot be looked through."""


@dataclass(frozen=True, slots=True)
class Page:
    """What is looked through; whatever it holds may be what must not be shown."""

    # In ASCII, with a question mark for every other character.
    text: str = field(repr=False)
    data: bytes = field(repr=False)
    # The objects that have a member of a telling name.
    telling: tuple[Mapping[str, object], ...] = field(repr=False)

    @classmethod
    def parse(cls, value: object, telling_names: frozenset[str]) -> "Page":
        """Gather what a decoded JSON value says.

        Raises:
            UnsearchableError: if it is too large, or is not JSON.
        """
        texts, telling = _gather(value, telling_names)
        text = "\n".join(texts)
        if len(text) > MAX_CHARS:
            raise UnsearchableError(f"more than {MAX_CHARS} characters")
        # The escapes last: in ASCII they are found fastest.
        data = _without_escapes(_fold(_with_percent_undone(text)).encode("ascii", "replace"))
        return cls(data.decode("ascii"), data, telling)


def matches(pattern: re.Pattern[str], mark: str, text: str) -> Iterator[re.Match[str]]:
    """Match the pattern wherever its first characters stand, which is faster than to try everywhere."""
    return (match for start in places(text.find, mark) if (match := pattern.match(text, start)))


def places(find: Callable[[T, int], int], mark: T, step: int = 1) -> Iterator[int]:
    """Yield where a mark stands; after so many that led to nothing, somebody wants us to look at each.

    Raises:
        UnsearchableError: if there are more than MAX_PLACES.
    """
    start = find(mark, 0)
    for _ in range(MAX_PLACES):
        if start < 0:
            return
        yield start
        start = find(mark, start + step)
    raise UnsearchableError(f"a mark at more than {MAX_PLACES} places")


def _gather(
    value: object, telling_names: frozenset[str]
) -> tuple[list[str], tuple[Mapping[str, object], ...]]:
    texts: list[str] = []
    telling: list[Mapping[str, object]] = []
    pending = [value]
    # Objects and lists are put at the end while the loop runs, so depth costs nothing.
    for part in pending:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            texts.extend(part)
            pending.extend(part.values())
            if not telling_names.isdisjoint(part):
                telling.append(part)
        elif isinstance(part, list):
            pending.extend(part)
        elif isinstance(part, int | float):
            if _LONG_NUMBERS.start <= part < _LONG_NUMBERS.stop:
                texts.append(str(int(part)))
        elif part is not None:
            raise UnsearchableError("a part that is not JSON")
        if len(pending) > MAX_PARTS:
            raise UnsearchableError(f"more than {MAX_PARTS} parts")
    return texts, tuple(telling)


_PERCENT: Final = re.compile("%[0-9A-Fa-f]{2}")
_BYTES: Final = {
    spelling.encode(): bytes([code])
    for code in range(256)
    for spelling in (f"{code:02x}", f"{code:02X}", f"{code:02x}".capitalize(), f"{code:02x}".swapcase())
}


def _with_percent_undone(text: str) -> str:
    if "%" not in text or not _PERCENT.search(text):
        return text
    # As it stands, too: a percent sign may be what is meant.
    quoted = "\n".join([line for line in text.split("\n") if "%" in line])
    return f"{text}\n{_unquote(quoted)}"


_SPACES: Final = dict.fromkeys((b"n", b"r", b"t"), b" ")


def _without_escapes(data: bytes) -> bytes:
    first, *others = data.split(b"\\", _MANY)
    if len(others) == _MANY:
        return data.replace(b"\\n", b" ").replace(b"\\r", b" ").replace(b"\\t", b" ")
    return b"".join([first, *[_SPACES.get(part[:1], b"\\" + part[:1]) + part[1:] for part in others]])


def _unquote(text: str) -> str:
    # `urllib.parse.unquote` takes four times as long for what is all percent signs.
    first, *others = text.encode("utf-8", "replace").split(b"%")
    decoded = [_BYTES.get(part[:2], b"%" + part[:2]) + part[2:] for part in others]
    return b"".join([first, *decoded]).decode("utf-8", "replace")


# Where characters stand that look like ASCII ones: Latin-1, general punctuation to enclosed letters,
# full-width forms, mathematical letters, enclosed capitals; and the digits of five more scripts.
_LOOKALIKES: Final = (
    *(range(0xA0, 0x100), range(0x2000, 0x2500), range(0xFF01, 0xFF5F)),
    *(range(0x1D400, 0x1D800), range(0x1F130, 0x1F150)),
    *(range(start, start + 10) for start in (0x660, 0x6F0, 0x966, 0x9E6, 0xE50)),
)
_UNSEEN: Final = (
    *(range(0xAD, 0xAE), range(0x300, 0x370), range(0x180B, 0x180F), range(0x200B, 0x2010)),
    *(range(0x202A, 0x202F), range(0x2060, 0x2070), range(0xFE00, 0xFE10), range(0xFEFF, 0xFF00)),
    range(0xE0000, 0xE0200),
)


def _seen_as() -> Iterator[tuple[int, str]]:
    for code in (code for codes in _LOOKALIKES for code in codes):
        char = chr(code)
        digit, category = unicodedata.digit(char, None), unicodedata.category(char)
        plain = unicodedata.normalize("NFKC", char)
        if digit is not None:
            yield code, str(digit)
        elif category == "Pd":
            yield code, "-"
        elif category == "Zs" or (len(plain) == 1 and " " <= plain <= "~"):
            yield code, " " if category == "Zs" else plain
    for code in (code for codes in _UNSEEN for code in codes):
        yield code, ""


class _Seen(dict[int, str | int]):
    def __missing__(self, code: int) -> int:
        # `str.translate` takes a code point for itself; the error that it takes as well costs more.
        return code


_SEEN: Final = _Seen(_seen_as())
# Beyond the first plane all are looked at: each range more would be compared with each character.
_BEYOND: Final = 0x10000
_TO_FOLD: Final = re.compile(
    f"[{''.join(re.escape(chr(code)) for code in _SEEN if code < _BEYOND)}{chr(_BEYOND)}-\U0010ffff]"
)


_ASCII: Final = bytes(range(128))


def _fold(text: str) -> str:
    if text.isascii():
        return text
    others = text.encode("utf-8", "replace").translate(None, _ASCII).decode()
    start = 0
    for _ in range(_FEW):
        found = _TO_FOLD.search(others, start)
        if found is None:
            return text
        text = text.replace(found[0], str(_SEEN.get(ord(found[0]), found[0])))
        others, start = others.replace(found[0], ""), found.start()
    return text.translate(_SEEN)
