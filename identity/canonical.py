"""One way to write a JSON value: RFC 8785, for hashes and signatures.

- `canonical_json` equals `rfc8785.dumps` on every value, and refuses what that refuses.
- Where sorting by code point is sorting by UTF-16 unit and every float is a plain decimal fraction, the C
  encoder writes the same bytes, and so it does of floats that are integers once they are integers; only such
  values take that way. Everything else is left to `rfc8785`, which takes ten times as long.
- A hash of arguments is the same for no arguments and for empty ones: a server runs the same call for both.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from enum import Enum
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]  # the stubs lack them
from typing import Final

import rfc8785

from identity.errors import IdentityError
from identity.strict_json import MAX_SAFE_INTEGER

MIN_KEY: Final = 32


class CanonicalJsonError(IdentityError):
    """A value that RFC 8785 cannot write: not JSON, not finite, or an integer beyond ±(2^53-1)."""


# What `JSONEncoder.encode` makes anew at each call: without a check for circles and without indent, with the
# separators, sorted, no key left out, no NaN. What it does not know has been left to `rfc8785` before.
_WRITE: Final[Callable[[object, int], tuple[str, ...]]] = c_make_encoder(
    None, None, encode_basestring, None, ":", ",", True, False, False
)


class _Form(Enum):
    PLAIN = "as it is"
    INTEGRAL = "once its integers are integers"
    OTHER = "not"


_LAST_OF_FIRST_PLANE: Final = "\uffff"
_LONG: Final = 4096
# The control characters that texts hardly have.
_RARE: Final = bytes(code for code in range(0x20) if chr(code) not in "\n\t")
_SMALLEST: Final = 1e-4
_LARGEST: Final = 1e16


def canonical_json(value: object) -> bytes:
    """Return the canonical bytes of a JSON value (RFC 8785).

    Raises:
        CanonicalJsonError: if the value has none.
    """
    try:
        form = _form(value)
        if form is not _Form.OTHER:
            return _write(value if form is _Form.PLAIN else _with_integers(value))
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


def _form(value: object) -> _Form:
    """Say what the C encoder is proven to write as RFC 8785 asks for; exact types only, no recursion."""
    pending, form = [value], _Form.PLAIN
    for part in pending:
        kind = type(part)
        if kind is str or kind is bool or part is None:
            continue
        if kind is dict:
            for name in part:  # type: ignore[attr-defined]  # a dict, by its exact type
                # The order of code points is that of UTF-16 units in the first plane, where its whole is.
                if type(name) is not str or not (name.isascii() or max(name) <= _LAST_OF_FIRST_PLANE):
                    return _Form.OTHER
            pending.extend(part.values())  # type: ignore[attr-defined]  # a dict, by its exact type
        elif kind is list:
            pending.extend(part)  # type: ignore[arg-type]  # a list, by its exact type
        elif kind is int:
            if not -MAX_SAFE_INTEGER <= part <= MAX_SAFE_INTEGER:  # type: ignore[operator]  # an int
                return _Form.OTHER
        elif kind is not float:
            return _Form.OTHER
        elif part.is_integer() and abs(part) <= MAX_SAFE_INTEGER:  # type: ignore[attr-defined,arg-type]  # a float
            form = _Form.INTEGRAL
        # `repr` writes the digits that ECMAScript writes, and no exponent.
        elif not _SMALLEST <= abs(part) < _LARGEST or part.is_integer():  # type: ignore[attr-defined,arg-type]  # a float
            return _Form.OTHER
    return form


def _write(value: object) -> bytes:
    """Write a value by the C encoder, but long texts that stand right in an object in a faster way."""
    if type(value) is not dict or not _has_long_text(value):
        return "".join(_WRITE(value, 0)).encode()
    members = [
        _write_text(name) + b":" + (_write_text(part) if type(part) is str else _write(part))
        for name, part in sorted(value.items())
    ]
    return b"{" + b",".join(members) + b"}"


def _has_long_text(members: Mapping[str, object]) -> bool:
    # A loop, because a generator costs more than what it looks at.
    for part in members.values():  # noqa: SIM110 - see above
        if type(part) is str and len(part) >= _LONG:
            return True
    return False


def _write_text(text: str) -> bytes:
    # Hardly anything in a long text is escaped, and bytes are found faster than each character is looked at.
    data = text.encode()
    if len(data.translate(None, _RARE)) < len(data):
        return "".join(_WRITE(text, 0)).encode()
    data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n").replace(b"\t", b"\\t")
    return b'"' + data + b'"'


def _with_integers(value: object) -> object:
    """Copy a value, with integers for the floats that are some."""
    if type(value) is dict:
        return {name: _with_integers(part) for name, part in value.items()}
    if type(value) is list:
        return [_with_integers(part) for part in value]
    return int(value) if type(value) is float and value.is_integer() else value
