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
from urllib.parse import quote, unquote_to_bytes

from authz.errors import AuthzError

MAX_PARAMETERS: Final = 32

_PRINTABLE: Final = bytes(range(0x21, 0x7F))
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# What stands behind a `%` for one ASCII character, in both spellings.
_ASCII: Final = {spelling: chr(code) for code in range(0x80) for spelling in {f"{code:02x}", f"{code:02X}"}}
# What every exchange sends, as most clients write it; to look for it is quicker than to decode it.
_USUAL: Final = {
    quote(text, safe=""): text
    for text in (
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
        *(
            f"urn:ietf:params:oauth:token-type:{kind}"
            for kind in ("access_token", "id_token", "id-jag", "jwt", "txn_token")
        ),
    )
}
_FORM: Final = "application/x-www-form-urlencoded"
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
        # What no part may hold is looked for in the whole at once.
        if body.translate(None, _PRINTABLE):
            raise _not_a_form()
        text = body.decode("ascii")
        pairs = text.split("&") if text else []
        if len(pairs) > MAX_PARAMETERS:
            raise FormError(f"more than {MAX_PARAMETERS} parameters")
        if _BAD_ESCAPE.search(text):
            raise _not_a_form()
        for pair in pairs:
            name, equals, value = pair.partition("=")
            if not name or not equals:
                raise _not_a_form()
            # Names, and tokens, the longest of what is sent, have nothing to decode.
            if "%" in name or "+" in name:
                name = _text(name)
            if "%" in value or "+" in value:
                value = _USUAL.get(value) or _text(value)
            values[name] = (*values[name], value) if name in values else (value,)
        return cls(values)

    def one(self, name: str) -> str | None:
        """Return the value of a parameter that may stand once.

        Raises:
            FormError: if it stands more than once.
        """
        values = self.values.get(name)
        if values is None:
            return None
        if len(values) != 1:
            raise FormError(f"parameter {name!r} is repeated")
        return values[0] or None

    def __contains__(self, name: str) -> bool:
        """Say whether a parameter was sent, with or without a value."""
        return name in self.values


def is_form(content_type: str | None) -> bool:
    """Tell whether a Content-Type says that the body is a form."""
    return content_type is not None and (
        content_type == _FORM or _CONTENT_TYPE.fullmatch(content_type) is not None
    )


def _not_a_form() -> FormError:
    return FormError("the body is not a form of name=value pairs in percent-encoding")


def _text(part: str) -> str:
    part = part.replace("+", " ")
    # Each `%` is followed by two hex digits.
    first, *escaped = part.split("%")
    if not escaped:
        return first
    try:
        return first + "".join([_ASCII[text[:2]] + text[2:] for text in escaped])
    except KeyError:  # beyond ASCII
        try:
            return unquote_to_bytes(part).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormError("a parameter that is not UTF-8") from error
