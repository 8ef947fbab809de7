"""The SHA-256 thumbprint of a public key (RFC 7638): one name for one key.

- Only the members that make the key count, in the order of their names, without white space (section 3).
- The values are those of a parsed key, so that another spelling of the same numbers gives no second name.
"""

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from identity.base64url import encode_base64url
from identity.errors import KeyMaterialError

# RFC 7638 section 3.2, sorted.
_MEMBERS: Final[Mapping[object, tuple[str, ...]]] = MappingProxyType(
    {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
)


def jwk_thumbprint(jwk: Mapping[str, object]) -> str:
    """Return the base64url thumbprint of a public key, as `VerificationKey.jwk` writes it.

    Raises:
        KeyMaterialError: if it is not an EC or RSA key with all its members in ASCII.
    """
    names = _MEMBERS.get(jwk.get("kty"), ()) if isinstance(jwk.get("kty"), str) else ()
    values = [jwk.get(name) for name in names]
    texts = [value for value in values if isinstance(value, str) and _is_plain(value)]
    if not names or len(texts) != len(names):
        raise KeyMaterialError("a key without the members of an EC or RSA key")
    members = ",".join(f'"{name}":"{text}"' for name, text in zip(names, texts, strict=True))
    return encode_base64url(hashlib.sha256(f"{{{members}}}".encode("ascii")).digest())


def _is_plain(text: str) -> bool:
    """Say whether JSON writes the text as it is."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
