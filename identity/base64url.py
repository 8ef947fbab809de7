"""Base64url without padding, read strictly (RFC 7515 section 2, RFC 4648 section 3.5).

- One text for one value: no padding, no other alphabet, no white space, no bits left over in the last
  character.
- `base64.urlsafe_b64decode` alone drops foreign characters silently and so lets one value have many texts.
"""

import binascii
import re
from base64 import urlsafe_b64encode

from identity.errors import IdentityError

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")
_TO_STANDARD = str.maketrans("-_", "+/")
# The last characters whose unused low bits are zero, by the number of characters in the last group.
_LAST = {0: None, 2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}
_PADDING = {0: "", 2: "==", 3: "="}


class Base64UrlError(IdentityError):
    """Not the one base64url text of a value."""


def encode_base64url(data: bytes) -> str:
    """Return the base64url text of some bytes, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Read base64url without padding.

    Raises:
        Base64UrlError: if the text is not the one that `encode_base64url` gives for its value.
    """
    rest = len(text) % 4
    if rest == 1 or not _ALPHABET.fullmatch(text):
        raise Base64UrlError("not base64url without padding")
    last = _LAST[rest]
    if last is not None and text[-1] not in last:
        raise Base64UrlError("base64url with bits left over in the last character")
    return binascii.a2b_base64(text.translate(_TO_STANDARD) + _PADDING[rest])
