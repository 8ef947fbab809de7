"""Nonces for DPoP proofs that nobody has to remember (RFC 9449 section 8).

- A nonce is the MAC of a slot of time, so every process with the key gives and knows the same ones.
- It counts during its slot and the next one: at least `seconds`, less than twice as long.
- Each place that asks for nonces has its own: one of the token endpoint says nothing at a service (section
  9).
- It limits for how long a proof can be made in advance. What makes a proof count once is another's to keep.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from identity.base64url import encode_base64url

KEY_BYTES: Final = 32
NONCE_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class DpopNonces:
    """The nonces of one place; `key` is random, and shared by the processes that stand for it."""

    key: bytes = field(repr=False)
    place: str
    seconds: int = NONCE_SECONDS

    def __post_init__(self) -> None:
        """Refuse a key that could be guessed."""
        if len(self.key) < KEY_BYTES or self.seconds <= 0:
            raise ValueError(f"nonces take a key of {KEY_BYTES} bytes and slots of at least a second")

    def current(self, now: datetime) -> str:
        """Return the nonce to send in `DPoP-Nonce`."""
        return self._nonce(self._slot(now))

    def valid(self, now: datetime) -> tuple[str, str]:
        """Return the nonces that count now: the current one and the last."""
        slot = self._slot(now)
        return self._nonce(slot), self._nonce(slot - 1)

    def _slot(self, now: datetime) -> int:
        return int(now.timestamp()) // self.seconds

    def _nonce(self, slot: int) -> str:
        message = f"dpop-nonce\n{self.place}\n{slot:d}".encode("utf-8", "surrogatepass")
        return encode_base64url(hmac.digest(self.key, message, hashlib.sha256))
