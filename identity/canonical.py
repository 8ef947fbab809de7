"""One way to write a JSON value: RFC 8785, for hashes and signatures.

- `canonical_json` equals `rfc8785.dumps` on every value, and refuses what that refuses.
- Where sorting by code point is sorting by UTF-16 unit and every float is a plain decimal fraction, the C
  encoder writes the same bytes; only such values take that way. Everything else is left to `rfc8785`.
- A hash of arguments is the same for no arguments and for empty ones: a server runs the same call for both.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Final

import rfc8785

from identity.errors import IdentityError
from identity.strict_json import MAX_SAFE_INTEGER

MIN_KEY: Final = 32


class CanonicalJsonError(IdentityError):
    """A value that RFC 8785 cannot write: not JSON, not finite, or an integer beyond ±(2^53-1)."""


_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))


def canonical_json(value: object) -> bytes:
    """Return the canonical bytes of a JSON value (RFC 8785).

    Raises:
        CanonicalJsonError: if the value has none.
    """
    try:
        if _is_plain(value):
            return _ENCODER.encode(value).encode()
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # it checks the type of each part itself
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise CanonicalJsonError("not a value that RFC 8785 can write") from error


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def keyed_sha256(key: bytes, digest: str) -> str:
    """Return the HMAC of a digest, in hex: a short secret cannot be guessed from what a record then holds.

    Raises:
        ValueError: if the key is shorter than the digest is long.
    """
    if len(key) < MIN_KEY:
        raise ValueError(f"a key of {len(key)} bytes where {MIN_KEY} are needed")
    return hmac.new(key, digest.encode(), hashlib.sha256).hexdigest()


def canonical_arguments(arguments: Mapping[str, object] | None) -> bytes:
    """Return what the hashes of a call's arguments are taken of.

    Raises:
        CanonicalJsonError: if the arguments are not JSON.
    """
    return canonical_json(arguments or {})


def arguments_sha256(arguments: Mapping[str, object] | None) -> str:
    """Return the hash that names the arguments of one call.

    Raises:
        CanonicalJsonError: if the arguments are not JSON.
    """
    return sha256_hex(canonical_arguments(arguments))


def _is_plain(value: object) -> bool:
    """Say whether the C encoder is proven to write what RFC 8785 asks for; exact types only, no recursion."""
    pending = [value]
    for part in pending:
        kind = type(part)
        if kind is str or kind is bool or part is None:
            continue
        if kind is dict:
            for name in part:  # type: ignore[attr-defined]  # a dict, by its exact type
                if type(name) is not str or not name.isascii():
                    return False
            pending.extend(part.values())  # type: ignore[attr-defined]  # a dict, by its exact type
        elif kind is list:
            pending.extend(part)  # type: ignore[arg-type]  # a list, by its exact type
        elif kind is int:
            if not -MAX_SAFE_INTEGER <= part <= MAX_SAFE_INTEGER:  # type: ignore[operator]  # an int
                return False
        elif kind is not float or not _is_plain_fraction(part):  # type: ignore[arg-type]  # a float
            return False
    return True


def _is_plain_fraction(value: float) -> bool:
    """Say whether `repr` writes the digits that ECMAScript writes, without an exponent and without `.0`."""
    return 1e-4 <= abs(value) < 1e16 and not value.is_integer()
