"""Single claims of a token, read strictly, and the two times that every token of ours has.

- Text is text and not empty; a time is a whole number of seconds: no bool, no float, no number in quotes.
- The name of a token (`jti`) and of what it belongs to (`txn`) hold at least 128 random bits (CL-06).
- Nothing is issued to outlive what stands behind it (CL-07).
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from identity.base64url import encode_base64url
from identity.errors import SpiffeIdError, TokenClaimsError, TokenExpiredError
from identity.spiffe import SpiffeId

MIN_ENTROPY: Final = 16

_TOKEN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")


def text_claim(claims: Mapping[str, object], name: str) -> str:
    """Return a claim that must be non-empty text.

    Raises:
        TokenClaimsError: if it is not.
    """
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise TokenClaimsError(f"a token without the text claim {name}")
    return value


def workload_claim(claims: Mapping[str, object], kind: str) -> SpiffeId:
    """Return `sub`, which must be the SPIFFE ID of a workload: one with a path (JWT-SVID section 3.1).

    Raises:
        TokenClaimsError: if it is not.
    """
    try:
        spiffe_id = SpiffeId.parse(text_claim(claims, "sub"))
    except SpiffeIdError as error:
        raise TokenClaimsError(f"a {kind} whose subject is not a SPIFFE ID: {error}") from error
    if not spiffe_id.path:
        raise TokenClaimsError(f"a {kind} of a whole trust domain")
    return spiffe_id


def integer_claim(claims: Mapping[str, object], name: str) -> int:
    """Return a claim that must be a whole number of seconds since 1970.

    Raises:
        TokenClaimsError: if it is not.
    """
    value = claims.get(name)
    if type(value) is not int or value < 0:  # not isinstance: a bool is an int
        raise TokenClaimsError(f"a token without the whole number {name}")
    return value


def token_name_claim(claims: Mapping[str, object], name: str) -> str:
    """Return a claim that must be a `jti` or `txn` as we make them.

    Raises:
        TokenClaimsError: if it is not.
    """
    value = text_claim(claims, name)
    if not _TOKEN_NAME.fullmatch(value):
        raise TokenClaimsError(f"a token whose {name} is not 16 to 64 characters of base64url")
    return value


def new_token_name(entropy: bytes) -> str:
    """Return a `jti` or `txn` of at least 128 random bits (CL-06).

    Raises:
        ValueError: if there is less entropy.
    """
    if len(entropy) < MIN_ENTROPY:
        raise ValueError(f"a token's name takes {MIN_ENTROPY} bytes of entropy, got {len(entropy)}")
    return encode_base64url(entropy)


def lifetime(now: datetime, ttl: int, not_after: int) -> tuple[int, int]:
    """Return `iat` and `exp` of a token of `ttl` seconds that nothing behind it may outlive (CL-07).

    Raises:
        TokenExpiredError: if no whole second is left.
    """
    if ttl <= 0:
        raise ValueError(f"a lifetime that is not positive: {ttl}")
    issued_at = int(now.timestamp())
    expires_at = min(issued_at + ttl, not_after)
    if expires_at <= issued_at:
        raise TokenExpiredError("no time is left to issue a token for")
    return issued_at, expires_at
