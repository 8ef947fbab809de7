"""Text of others, made fit for a record.

- What leaves here has printable characters only: no line break, no NUL, no direction override, no lone
  surrogate.
- `name` is one to one but for tokens: a backslash is doubled, what is not printable is written as an
  escape, and a name that is cut ends in a hash of the whole.
- `ascii_name` is `name` in ASCII, so that one character is one byte.
- `sentence` is for people to read; backslashes stay as they are.
- A JSON Web Token inside a text is replaced, whoever put it there: a record outlives the token's secrecy.
- The work is bounded by the limit, not by what a stranger sends; only the hash reads the whole.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Final

MAX_NAME: Final = 255
MAX_SENTENCE: Final = 512
# A limit of half this still has room for the hash.
MIN_LIMIT: Final = 36

_HASH_CHARACTERS: Final = 16
_TOKEN_MARK: Final = "eyJ"  # noqa: S105 - how base64url of '{"' begins, no secret
# Linear: every part but the first begins with a dot, and a match starts at a word's edge only.
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{7,}(?:\.[A-Za-z0-9_-]*)+")
_REDACTED: Final = "[redacted]"


def optional_name(text: str | None, limit: int = MAX_NAME) -> str | None:
    """Return `name` of a text that may be missing.

    A decision's record has two dozen of them, so the common case is one call with its checks in place.
    """
    if text is None or (
        len(text) <= limit and text.isprintable() and "\\" not in text and _TOKEN_MARK not in text
    ):
        return text
    return name(text, limit)


def are_names(texts: Iterable[str | None]) -> bool:
    """Say whether `name` leaves each of them as it is; it may say no although it would."""
    found = list(filter(None, texts))
    if max(map(len, found), default=0) > MAX_NAME:
        return False
    # Side by side some could look like a token; then each is looked at by itself.
    joined = "".join(found)
    return joined.isprintable() and "\\" not in joined and _TOKEN_MARK not in joined


def name(text: str, limit: int = MAX_NAME) -> str:
    """Return an identifier in at most `limit` printable characters, one to one."""
    if len(text) <= limit and text.isprintable() and "\\" not in text and _TOKEN_MARK not in text:
        return text
    return _fit(_escape(text[: limit + 1], "\\\\"), text, limit)


def ascii_name(text: str, limit: int) -> str:
    """Return an identifier in at most `limit` printable ASCII characters, one to one."""
    if text.isascii():
        return name(text, limit)
    return _fit(_escape(text[: limit + 1], "\\\\", to_ascii=True), text, limit)


def sentence(text: str, limit: int = MAX_SENTENCE) -> str:
    """Return text for people in at most `limit` printable characters."""
    if len(text) <= limit and text.isprintable() and _TOKEN_MARK not in text:
        return text
    return _fit(_escape(text[: limit + 1], "\\"), text, limit)


def _escape(text: str, backslash: str, *, to_ascii: bool = False) -> str:
    text = _TOKEN.sub(_REDACTED, text)
    return "".join(_escaped(character, backslash, to_ascii=to_ascii) for character in text)


def _escaped(character: str, backslash: str, *, to_ascii: bool) -> str:
    if character == "\\":
        return backslash
    if character.isprintable() and (character.isascii() or not to_ascii):
        return character
    point = ord(character)
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"


def _fit(escaped: str, whole: str, limit: int) -> str:
    if len(escaped) <= limit and len(whole) <= limit:
        return escaped
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_CHARACTERS]
    return f"{escaped[: limit - _HASH_CHARACTERS - 1]}~{digest}"
