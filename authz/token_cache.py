"""Credentials that were verified a moment ago, so that a known one is not verified at each call.

- Only what was verified gets in, under the SHA-256 of its text and the audience: what a stranger sends costs
  nobody a place. It is bounded in all, and for each presenter, who is the agent's run in the token.
- It never answers what verifying again would not: the time is looked at each time, and when whom we trust has
  changed, or rights were withdrawn, everything is forgotten.
- Whether somebody may present a credential is not remembered: that is asked at each call.
- It holds no token and no key, and its `repr` tells of none.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from identity.claims import integer_claim
from identity.delegation import DelegationToken
from identity.fair_cache import FairCache
from identity.jws import UnverifiedToken
from identity.jwt_svid import JwtSvid

MAX_TOKENS: Final = 4096
MAX_OF_PRESENTER: Final = 64

Remembered = DelegationToken | JwtSvid
_Key = tuple[bytes, str]


@dataclass(frozen=True, slots=True)
class _Known:
    """A credential, and when it counts: from and until, in seconds since 1970 with the leeway in them."""

    credential: Remembered
    begins: int
    ends: int


class VerifiedTokens:
    """The memory of one flow."""

    def __init__(self, max_tokens: int = MAX_TOKENS, max_of_presenter: int = MAX_OF_PRESENTER) -> None:
        self._known: FairCache[_Key, _Known] = FairCache(max_tokens, max_of_presenter)
        self._trust: object = None
        self._epoch = -1

    def see(self, trust: object, epoch: int) -> None:
        """Forget everything if whom we trust is another value, or the epoch another one, than before."""
        if trust is not self._trust or epoch != self._epoch:
            self._known.clear()
            self._trust, self._epoch = trust, epoch

    def find(self, unverified_text: str, audience: str, trust: object, now: datetime) -> Remembered | None:
        """Return what verifying this text for this audience gives, None where it must be verified."""
        if trust is not self._trust:
            return None
        key = _key(unverified_text, audience)
        known = self._known.get(key)
        if known is None:
            return None
        seconds = now.timestamp()
        if known.ends <= seconds:
            self._known.drop(key)
            return None
        return known.credential if known.begins <= seconds else None

    def keep(  # noqa: PLR0917 - what was verified, and how
        self,
        text: str,
        audience: str,
        token: UnverifiedToken,
        credential: Remembered,
        trust: object,
        leeway: int,
    ) -> None:
        """Remember what `token`, the reading of `text`, was verified to be."""
        if trust is not self._trust:
            return
        claims = token.unverified_claims
        begins = max((integer_claim(claims, name) for name in ("nbf", "iat") if name in claims), default=0)
        known = _Known(credential, begins - leeway, credential.expires_at + leeway)
        self._known.put(_key(text, audience), known, _presenter(credential))

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"VerifiedTokens({len(self)} known)"


def _key(text: str, audience: str) -> _Key:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), audience


def _presenter(credential: Remembered) -> str:
    if isinstance(credential, JwtSvid):
        return str(credential.spiffe_id)
    return f"{credential.chain[0].agent}/{credential.chain[0].task}"
