"""A JWT as text that can be changed: the header, the claims and the signature, each on its own.

- Nothing here is verified, and nothing that it says is believed; names say `unverified`.
- What other servers issue is read as widely as it is safe: padding in a part is not looked at.
- A changed token keeps the signature that it had, unless it is said otherwise.
"""

import binascii
import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from identity.base64url import encode_base64url
from identity.strict_json import Limits, StrictJsonError, loads

_LIMITS: Final = Limits(depth=64)
_MAX: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Jwt:
    """A compact JWS of which nothing is known to be true; its parts are as they stand in the text."""

    unverified_header: Mapping[str, object] = field(repr=False)
    unverified_claims: Mapping[str, object] = field(repr=False)
    parts: tuple[str, str, str] = field(repr=False)

    @classmethod
    def read(cls, unverified_text: str) -> "Jwt | None":
        """Read a token; None if it is something else."""
        parts = unverified_text.split(".")
        if len(parts) != 3 or len(unverified_text) > _MAX or not unverified_text.isascii():
            return None
        header, claims = _object(parts[0]), _object(parts[1])
        return (
            None if header is None or claims is None else cls(header, claims, (parts[0], parts[1], parts[2]))
        )

    @property
    def text(self) -> str:
        """The token."""
        return ".".join(self.parts)

    @property
    def signing_input(self) -> bytes:
        """What the signature is over."""
        return f"{self.parts[0]}.{self.parts[1]}".encode("ascii")

    def with_header(self, header: Mapping[str, object] | bytes) -> "Jwt":
        """Return the token with another header."""
        return replace(self, parts=(_part(header), *self.parts[1:]))

    def adding(self, **members: object) -> "Jwt":
        """Return the token with members added to its header, or changed."""
        return self.with_header({**self.unverified_header, **members})

    def with_claims(self, claims: Mapping[str, object] | bytes) -> "Jwt":
        """Return the token with other claims."""
        return replace(self, parts=(self.parts[0], _part(claims), self.parts[2]))

    def signed(self, signature: bytes) -> "Jwt":
        """Return the token with another signature."""
        return self.with_signature(encode_base64url(signature))

    def with_signature(self, text: str) -> "Jwt":
        """Return the token with this text for a signature."""
        return replace(self, parts=(*self.parts[:2], text))


def json_of(members: Mapping[str, object]) -> bytes:
    """Return JSON as a token has it."""
    return json.dumps(dict(members), separators=(",", ":")).encode("ascii")


def json_text(value: object) -> str:
    """Return JSON as a parameter of a form has it."""
    return json.dumps(value, separators=(",", ":"))


def _part(content: Mapping[str, object] | bytes) -> str:
    return encode_base64url(content if isinstance(content, bytes) else json_of(content))


def _object(part: str) -> Mapping[str, object] | None:
    try:
        value = loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)), _LIMITS)
    except (binascii.Error, ValueError, StrictJsonError):
        return None
    return value if isinstance(value, dict) else None


def actors(unverified_claims: Mapping[str, object]) -> tuple[Mapping[str, object], ...]:
    """Return the actors of a token, the outermost first, each without those within it."""
    found: list[Mapping[str, object]] = []
    unverified_act = unverified_claims.get("act")
    while isinstance(unverified_act, dict):
        found.append({name: value for name, value in unverified_act.items() if name != "act"})
        unverified_act = unverified_act.get("act")
    return tuple(found)
