"""`application/x-www-form-urlencoded`, read one way only.

- ASCII bytes with strict percent-encoding of UTF-8; a stray `%`, a pair without `=`, an empty name or an
  empty pair is refused, where `urllib.parse.parse_qsl` would guess.
- A parameter without a value counts as absent (RFC 6749 section 3.2), but as sent: it cannot be repeated.
- The number of parameters is bounded; names and values are what the body's limit lets through.
- No message holds a value: values are tokens and passwords.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from authz.errors import AuthzError

MAX_PARAMETERS: Final = 32

# Nothing is tried twice (`++`, `*+`), so the work is that of reading each byte once.
_PAIR: Final = re.compile(rb"((?:[!-$'-*,-<>-~+]++|%[0-9A-Fa-f]{2})++)=((?:[!-$'-~+]++|%[0-9A-Fa-f]{2})*+)")
_CONTENT_TYPE: Final = re.compile(
    r"application/x-www-form-urlencoded(?:\s*;\s*charset=\"?utf-8\"?)?", re.IGNORECASE
)


class FormError(AuthzError):
    """Not a form that has one reading only; the message is fit for the one who sent it."""


@dataclass(frozen=True, slots=True)
class Form:
    """The parameters of a form, each with all its values."""

    values: Mapping[str, tuple[str, ...]] = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> "Form":
        """Read a form.

        Raises:
            FormError: if the body is not one, or has too many parameters.
        """
        values: dict[str, tuple[str, ...]] = {}
        pairs = body.split(b"&") if body else []
        if len(pairs) > MAX_PARAMETERS:
            raise FormError(f"more than {MAX_PARAMETERS} parameters")
        for pair in pairs:
            match = _PAIR.fullmatch(pair)
            if match is None:
                raise FormError("the body is not a form of name=value pairs in percent-encoding")
            name = _text(match[1])
            values[name] = (*values.get(name, ()), _text(match[2]))
        return cls(values)

    def one(self, name: str) -> str | None:
        """Return the value of a parameter that may stand once.

        Raises:
            FormError: if it stands more than once.
        """
        match self.values.get(name, ()):
            case ():
                return None
            case (value,):
                return value or None
            case _:
                raise FormError(f"parameter {name!r} is repeated")

    def names(self) -> frozenset[str]:
        """Return the names of all parameters, with or without a value."""
        return frozenset(self.values)


def is_form(content_type: str | None) -> bool:
    """Tell whether a Content-Type says that the body is a form."""
    return content_type is not None and _CONTENT_TYPE.fullmatch(content_type) is not None


def _text(part: bytes) -> str:
    # Tokens, the longest of what is sent, have nothing to decode.
    if b"%" not in part and b"+" not in part:
        return part.decode("ascii")
    try:
        # Each `%` of a pair is followed by two hex digits.
        return unquote_to_bytes(part.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormError("a parameter that is not UTF-8") from error
