r"""The JSON of an answer: read once, and written so that nobody reads anything else.

- Text only, without a byte order mark; numbers that are some; no unpaired surrogate. Of a member that is
  named twice the last one counts, and only that one is written again.
- Written as ASCII: no notion of encodings, or of where a line ends, makes a difference. A client that ends a
  line of a stream at U+2028 sees `\u2028`.
- Size, number of values and depth are bounded.
- The reader and the writer in Rust take a third of the time; what they do not take, or would write in another
  way, is left to those of the standard library.
"""

import json
from collections.abc import Callable
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]  # the stubs lack one
from typing import Final, NoReturn

from pydantic_core import PydanticSerializationError, from_json, to_json

from authz.codes import Code
from authz.errors import AnswerError

MAX_ANSWER: Final = 4 << 20
MAX_VALUES: Final = 1 << 18


def decode(data: bytes) -> str:
    """Return the text of a body.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, if it is no UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise unreadable("not UTF-8") from error


def read_object(text: str) -> dict[str, object]:
    """Read one object.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, if it is something else.
    """
    # A value takes two characters at least, with what parts it from the next.
    if len(text) > 2 * MAX_VALUES and text.count(",") + text.count("[") + text.count("{") > MAX_VALUES:
        raise unreadable(f"more than {MAX_VALUES} values")
    try:
        value = _read(text)
        # One character is found fastest, and many texts end this here.
        if "\\" in text and ("\\ud" in text or "\\uD" in text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise unreadable("not one JSON value that all read alike") from error
    if not isinstance(value, dict):
        raise unreadable("not an object")
    return value


def write(value: object) -> bytes:
    """Write a value that was read.

    Raises:
        AnswerError: with ANSWER_UNREADABLE, if a number is out of range, or it nests too deep.
    """
    try:
        written = to_json(value)
        # It writes UTF-8, and numbers that are none by their names; a text may hold those names, too.
        if written.isascii() and b"Infinity" not in written and b"NaN" not in written:
            return written
    except PydanticSerializationError:
        # Deeper than it goes, or half a character.
        pass
    try:
        return "".join(_WRITE(value, 0)).encode()
    except (ValueError, RecursionError) as error:
        raise unreadable("a number out of range, or too deep") from error


def unreadable(detail: str) -> AnswerError:
    """Say that an answer is not passed on, because it cannot be read."""
    return AnswerError(Code.ANSWER_UNREADABLE, detail)


def _read(text: str) -> object:
    """Read a value, by the reader in Rust where that goes as far.

    Raises:
        ValueError: if it is none.
        RecursionError: if it nests too deep.
    """
    try:
        fast: object = from_json(text, allow_inf_nan=False, cache_strings="none")
    except ValueError:
        slow: object = _DECODER.decode(text)
        return slow
    return fast


def _constant(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER: Final = json.JSONDecoder(parse_constant=_constant)
# What `JSONEncoder.encode` makes anew at each call: ASCII, without a check for circles and without indent, no
# key left out, no NaN.
_WRITE: Final[Callable[[object, int], tuple[str, ...]]] = c_make_encoder(
    None, None, encode_basestring_ascii, None, ":", ",", False, False, False
)
