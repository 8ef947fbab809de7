"""Base64url without padding, read strictly (RFC 7515 section 2, RFC 4648 section 3.5).

- One text for one value: no padding, no other alphabet, no white space, no bits left over in the last
  character.
- `base64.urlsafe_b64decode` alone drops foreign characters silently and so lets one value have many texts.
"""

import binascii
from typing import Final

from identity.errors import IdentityError

# To the standard alphabet, where the two characters of it that are not ours, and padding, become no character
# of it.
_TO_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_FROM_STANDARD: Final = bytes.maketrans(b"+/", b"-_")
# The last characters whose unused low bits are zero, by the number of characters in the last group.
_LAST: Final = {2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
_PADDING: Final = {0: b"", 2: b"==", 3: b"="}


class Base64UrlError(IdentityError):
    """Not the one base64url text of a value."""


def encode_base64url(data: bytes) -> str:
    """Return the base64url text of some bytes, without padding."""
    standard = binascii.b2a_base64(data, newline=False)
    return standard.translate(_FROM_STANDARD, b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Read base64url without padding.

    Raises:
        Base64UrlError: if the text is not the one that `encode_base64url` gives for its value.
    """
    rest = len(text) % 4
    if rest == 1 or (rest and text[-1] not in _LAST[rest]):
        raise Base64UrlError("base64url that ends within a byte")
    try:
        standard = text.encode("ascii").translate(_TO_STANDARD) + _PADDING[rest]
        # Strict: characters that are not of the alphabet are an error, and not passed over.
        return binascii.a2b_base64(standard, strict_mode=True)
    except ValueError as error:
        raise Base64UrlError("not base64url without padding") from error
