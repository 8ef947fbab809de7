"""One way to write a JSON value: RFC 8785, for hashes and signatures.

- `canonical_json` equals `rfc8785.dumps` on every value, and refuses what that refuses.
- Where sorting by code point is sorting by UTF-16 unit, and every float is an integer or a plain decimal
  fraction, the writer in Rust writes the same bytes of a copy that is sorted; only such values take that way.
  Everything else is left to `rfc8785`, which takes ten times as long.
- A hash of arguments is the same for no arguments and for empty ones: a server runs the same call for both.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Final

import rfc8785
from pydantic_core import PydanticSerializationError, to_json

from identity.errors import IdentityError
from identity.strict_json import MAX_SAFE_INTEGER

MIN_KEY: Final = 32


class CanonicalJsonError(IdentityError):
    """A value that RFC 8785 cannot write: not JSON, not finite, or an integer beyond ±(2^53-1)."""


_LAST_OF_FIRST_PLANE: Final = "\uffff"
_SMALLEST: Final = 1e-4
_LARGEST: Final = 1e16


def canonical_json(value: object) -> bytes:
    """Return the canonical bytes of a JSON value (RFC 8785).

    Raises:
        CanonicalJsonError: if the value has none.
    """
    try:
        return to_json(_SORTED[type(value)](value))
    # Another type (KeyError), a name that is no text (TypeError), or what nests too deep for that writer.
    except (_UnprovenError, PydanticSerializationError, KeyError, TypeError, RecursionError):
        return _write_with_care(value)


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


class _UnprovenError(Exception):
    """A value of which it is not proven that the writer in Rust writes what RFC 8785 asks for."""


def _write_with_care(value: object) -> bytes:
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]  # it checks the type of each part itself
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise CanonicalJsonError("not a value that RFC 8785 can write") from error


def _sorted_members(members: dict[str, object]) -> dict[str, object]:
    return _in_order(members, _order(members))


def _order(members: dict[str, object]) -> list[str]:
    names = "".join(members)
    # The order of code points is that of UTF-16 units in the first plane, where its whole is.
    if not names.isascii() and max(names) > _LAST_OF_FIRST_PLANE:
        raise _UnprovenError
    return sorted(members)


def _in_order(members: dict[str, object], order: list[str]) -> dict[str, object]:
    found = {}
    for name in order:
        part = members[name]
        kind = type(part)
        found[name] = part if kind is str else _SORTED[kind](part)
    return found


def _sorted_parts(parts: list[Any]) -> list[object]:
    found: list[object] = []
    names: object = None
    order: list[str] = []
    for part in parts:
        kind = type(part)
        if kind is str:
            found.append(part)
        elif kind is dict:
            # The objects of a list mostly have the same names.
            if part.keys() != names:
                names = part.keys()
                order = _order(part)
            found.append(_in_order(part, order))
        else:
            found.append(_SORTED[kind](part))
    return found


def _safe_integer(value: int) -> int:
    if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        raise _UnprovenError
    return value


def _plain_number(value: float) -> float:
    """Return what has the digits that ECMAScript writes, and no exponent."""
    if value.is_integer() and abs(value) <= MAX_SAFE_INTEGER:
        return int(value)
    if value.is_integer() or not _SMALLEST <= abs(value) < _LARGEST:
        raise _UnprovenError
    return value


def _as_it_is(value: object) -> object:
    return value


# By exact type: what is derived from one may be written in another way.
_SORTED: Final[Mapping[type, Callable[..., object]]] = {
    dict: _sorted_members,
    list: _sorted_parts,
    int: _safe_integer,
    float: _plain_number,
    str: _as_it_is,
    bool: _as_it_is,
    type(None): _as_it_is,
}
