"""The one guard in front of every JWT: read strictly, then verified, then believed.

- A token is a compact JWS of at most 8 kB: three parts of strict base64url, header and claims strict JSON
  objects.
- `alg` is one of the nine of SPIFFE and fits the key; the header chooses nothing else: `jku`, `x5u`, `jwk`
  and `x5c` are never followed, `crit`, `b64` and `zip` are refused (RFC 8725 sections 3.1, 3.2 and 3.10).
- `typ` must be one of those that the caller of `verify` names: no kind of token stands for another (section
  3.11).
- What is not verified is an `UnverifiedToken`; `verify` alone makes a `VerifiedToken` of it.
- Nothing is remembered of a token here: what anybody may send takes nobody's place in a memory. The flow
  remembers what was verified (authz/token_cache.py).
- The raw token is in no `repr` and no message; `token_id`, its SHA-256, names it in records.

The signature of an ECDSA token can be written in two ways, so `token_id` names a presentation, `jti` the
token.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from pydantic_core import to_json

from identity.base64url import Base64UrlError, decode_base64url, encode_base64url
from identity.claims import integer_claim
from identity.errors import (
    TokenAlgorithmError,
    TokenClaimsError,
    TokenExpiredError,
    TokenKeyError,
    TokenMalformedError,
    TokenNotYetValidError,
    TokenTypeError,
)
from identity.keys import KeySet, SigningKey
from identity.quick_init import quick_init
from identity.signature_algorithms import SIGNING_ALGORITHM, SVID_ALGORITHMS
from identity.strict_json import Limits, StrictJsonError, loads

MAX_TOKEN: Final = 8192
MAX_LEEWAY: Final = 60  # seconds (JW-06)
# The header of our own tokens and of a JWT-SVID (JWT-SVID section 2), where anything else is refused.
BARE_HEADER: Final = frozenset({"alg", "kid", "typ"})
# The type of a token that names none.
NO_TYPE: Final = ""

_LIMITS: Final = Limits(depth=32, keys=512)
_REFUSED_MEMBERS: Final = frozenset({"crit", "b64", "zip", "enc"})
_TIMES: Final = ("exp", "nbf", "iat")


@quick_init
@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A well-formed token of which nothing is known to be true."""

    typ: str
    header: Mapping[str, object]
    unverified_claims: Mapping[str, object] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    token_id: str

    @classmethod
    def parse(cls, text: str) -> "UnverifiedToken":
        """Read a compact JWS (RFC 7515 section 7.1).

        Raises:
            TokenMalformedError: if the text is not one, or uses an extension.
            TokenAlgorithmError: if `alg` is not on our list; nothing behind the header is then read.
            TokenClaimsError: if a time is not a whole number of seconds.
        """
        if len(text) > MAX_TOKEN:
            raise _not_compact()
        return _read(text)


@quick_init
@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The claims of a token whose type and signature were checked; only `verify` makes it."""

    typ: str
    kid: str
    # Not compared: they are what the token says that `token_id` names.
    claims: Mapping[str, object] = field(repr=False, compare=False)
    token_id: str


def verify(
    token: UnverifiedToken,
    keys: KeySet,
    *,
    typ: frozenset[str],
    header_members: frozenset[str] | None = BARE_HEADER,
) -> VerifiedToken:
    """Check type, key, algorithm and signature, in this order; times and audience are the caller's.

    Raises:
        TokenTypeError: if the type is not one of `typ`.
        TokenMalformedError: if the header has a member beyond `header_members`.
        TokenKeyError: if no key of the set has the token's `kid`.
        TokenAlgorithmError: if `alg` is not that of the key.
        TokenSignatureError: if the signature is not of that key.
    """
    # 1. The type, before any key is looked at.
    if token.typ not in typ:
        raise TokenTypeError(
            f"a token of type {token.typ!r} where {', '.join(sorted(typ)) or 'none'} is asked for"
        )
    if header_members is not None and not token.header.keys() <= header_members:
        raise TokenMalformedError("a token with a header member beyond alg, kid and typ")
    # 2. The key, by a name that is looked up in the issuer's own set and nowhere else.
    kid = token.header.get("kid")
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise TokenKeyError("a token with a kid that its issuer does not have")
    # 3. The algorithm is the key's; a token that says another one is refused before anything is computed.
    # 4. The signature.
    key.verify(token.signature, token.signing_input, token.header["alg"])
    return VerifiedToken(token.typ, key.kid, token.unverified_claims, token.token_id)


def check_type(token: UnverifiedToken, typ: frozenset[str]) -> None:
    """Refuse every kind of token but those of `typ` (RFC 8725 section 3.11).

    Raises:
        TokenTypeError: if it is another kind.
    """
    if token.typ not in typ:
        raise TokenTypeError(
            f"a token of type {token.typ!r} where {' or '.join(map(repr, sorted(typ)))} is asked for"
        )


def check_times(claims: Mapping[str, object], now: datetime, leeway: int) -> None:
    """Check `exp`, which must be there, and `nbf` and `iat` where they are (RFC 7519 section 4.1).

    Raises:
        TokenClaimsError: if a time is missing or malformed.
        TokenExpiredError: if `exp` is at or before `now - leeway`.
        TokenNotYetValidError: if `nbf` or `iat` is after `now + leeway`.
    """
    if not 0 <= leeway <= MAX_LEEWAY:
        raise ValueError(f"a leeway that is not between 0 and {MAX_LEEWAY} s: {leeway}")
    seconds = now.timestamp()
    if integer_claim(claims, "exp") <= seconds - leeway:
        raise TokenExpiredError("a token that has expired")
    if "nbf" in claims and integer_claim(claims, "nbf") > seconds + leeway:
        raise TokenNotYetValidError("a token whose nbf is still to come")
    if "iat" in claims and integer_claim(claims, "iat") > seconds + leeway:
        raise TokenNotYetValidError("a token whose iat is still to come")


def sign(key: SigningKey, typ: str, claims: Mapping[str, object]) -> str:
    """Sign claims as a compact JWS.

    Raises:
        TokenMalformedError: if the token would be longer than we accept ourselves.
    """
    signing_input = f"{_header(key.kid, typ)}.{_encoded(claims)}"
    token = f"{signing_input}.{encode_base64url(key.sign(signing_input.encode('ascii')))}"
    if len(token) > MAX_TOKEN:
        raise TokenMalformedError(f"a token that would be longer than {MAX_TOKEN} characters")
    return token


def token_id_of(token: str) -> str:
    """Return the name by which records know a compact JWS: its SHA-256 in hex."""
    return hashlib.sha256(token.encode("ascii")).hexdigest()


def _not_compact() -> TokenMalformedError:
    return TokenMalformedError(f"not a compact JWS of at most {MAX_TOKEN} characters")


def _read(text: str) -> UnverifiedToken:
    parts = text.split(".", 3)
    if len(parts) != 3 or not all(parts):
        raise _not_compact()
    header, typ = _read_header(parts[0])
    claims = _json_object(parts[1], "claims")
    _check_form_of_times(claims)
    signature = _decoded(parts[2], "signature")
    # Only now: each part is base64url, so the whole is ASCII.
    raw = text.encode("ascii")
    signing_input = raw[: raw.rindex(b".")]
    return UnverifiedToken(typ, header, claims, signing_input, signature, token_id_of(text))


@lru_cache(maxsize=64)  # all tokens of one key and type begin alike
def _read_header(part: str) -> tuple[Mapping[str, object], str]:
    header = _json_object(part, "header")
    if _REFUSED_MEMBERS & header.keys():
        raise TokenMalformedError("a token with an extension in its header")
    if header.get("alg") not in SVID_ALGORITHMS:
        raise TokenAlgorithmError("a token with an algorithm that is not on our list")
    return header, _typ(header)


def _typ(header: Mapping[str, object]) -> str:
    """Return the type in lower case, without `application/` (RFC 7515 section 4.1.9)."""
    if "typ" not in header:
        return NO_TYPE
    typ = header["typ"]
    # ASCII only: the Kelvin sign becomes a `k` in lower case.
    if not isinstance(typ, str) or not typ or not typ.isascii():
        raise TokenMalformedError("a token with a type that is not a media type")
    return typ.lower().removeprefix("application/")


def _check_form_of_times(claims: Mapping[str, object]) -> None:
    for name in _TIMES:
        value = claims.get(name, 0)
        if type(value) is not int or value < 0:  # as integer_claim has it
            raise TokenClaimsError(f"a token without the whole number {name}")


def _decoded(part: str, name: str) -> bytes:
    try:
        return decode_base64url(part)
    except Base64UrlError as error:
        raise TokenMalformedError(f"a token whose {name} is not strict base64url") from error


def _json_object(part: str, name: str) -> Mapping[str, object]:
    try:
        value = loads(_decoded(part, name), _LIMITS)
    except StrictJsonError as error:
        raise TokenMalformedError(f"a token whose {name} is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise TokenMalformedError(f"a token whose {name} is not an object")
    return MappingProxyType(value)


@lru_cache(maxsize=64)  # a few keys and types, at every call
def _header(kid: str, typ: str) -> str:
    return _encoded({"alg": SIGNING_ALGORITHM, "kid": kid, "typ": typ})


_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode


def _encoded(value: Mapping[str, object]) -> str:
    data = to_json(dict(value))
    if b"NaN" in data or b"Infinity" in data:
        # That writer makes words of what is no number; this one raises an error, unless a text has them.
        data = _ENCODE(dict(value)).encode("ascii")
    return encode_base64url(data)
