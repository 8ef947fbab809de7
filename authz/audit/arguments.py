"""The trace that a call's arguments leave in the log: a keyed hash, never a value.

- Two calls with the same arguments have the same trace under one key, so an auditor who has the key and a
  suspected value can check it; who has the log alone cannot guess a short value by trying them all.
- The key is for this use only, and does not print.
"""

import hashlib
from typing import Final

KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 64


class ArgumentsKey:
    """An HMAC key of 32 bytes."""

    __slots__ = ("_inner", "_outer", "_secret")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise ValueError(f"the key of the arguments' hash takes {KEY_BYTES} bytes, got {len(secret)}")
        self._secret = secret
        # RFC 2104: what both hashes begin with is the key's alone, so it is hashed once and not at each call.
        block = secret.ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def __repr__(self) -> str:
        return "ArgumentsKey(redacted)"

    def reveal(self) -> bytes:
        """Return the key, to be kept in a file of ours."""
        return self._secret

    def hmac(self, data: bytes) -> str:
        """Return HMAC-SHA-256 of some bytes, in hex."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.hexdigest()


def hmac_arguments(key: ArgumentsKey, canonical_arguments: bytes) -> str:
    """Return HMAC-SHA-256 over the canonical arguments (identity/canonical.py) in hex."""
    return key.hmac(canonical_arguments)
