"""The keys of one OpenID Provider: found by discovery, kept for a while, never fetched in a crowd (JW-07).

- The key set's address comes from the discovery document of the configured issuer, which must name that
  issuer itself (OpenID Connect Discovery section 4.3). Nothing comes from a token.
- A set is fresh as long as `Cache-Control` says, within a minute and a day.
- A `kid` that is not in the set makes one fetch in thirty seconds, however many tokens ask for it, and
  whether it succeeds or not. A set that is no longer fresh is asked for again after five, if that failed.
- Whoever waits for a fetch shares it; one who gives up waiting ends it for nobody else.
- While the provider cannot be reached, the last set counts for at most a day.
- A set with a private or symmetric key, or one that is malformed, is believed in nothing, and the set before
  it goes too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.broker.fetch import Fetched, FetchError
from authz.codes import Code
from authz.errors import CodedError
from identity.errors import KeyMaterialError
from identity.keys import KeySet
from identity.strict_json import Limits, StrictJsonError, loads

MIN_FRESH_SECONDS: Final = 60.0
MAX_FRESH_SECONDS: Final = 24 * 3600.0
DEFAULT_FRESH_SECONDS: Final = 300.0
UNKNOWN_KID_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 5.0

_DISCOVERY: Final = "/.well-known/openid-configuration"
_DOCUMENT_LIMITS: Final = Limits(depth=16, keys=512)

Fetch = Callable[[str], Awaitable[Fetched]]


class ProviderUnavailableError(CodedError):
    """The provider cannot be asked for its keys: we cannot know."""

    def __init__(self, detail: str) -> None:
        super().__init__(Code.PROVIDER_UNAVAILABLE, detail)


@dataclass(frozen=True, slots=True)
class _Cached:
    keys: KeySet
    fetched_at: float
    fresh_until: float


class ProviderKeys:
    """The keys of one provider."""

    def __init__(self, issuer: str, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        """Start empty; the first question fetches."""
        self._issuer = issuer
        self._fetch = fetch
        self._monotonic = monotonic
        self._cached: _Cached | None = None
        self._next_fetch = self._next_for_unknown = float("-inf")
        self._why_not = "not asked yet"
        self._flight: asyncio.Task[None] | None = None

    async def key_set(self, kid: str) -> KeySet:
        """Return the provider's keys; one fetch may come first if `kid` is not among those that we have.

        Raises:
            ProviderUnavailableError: if we have no keys that still count.
        """
        if self._is_worth_a_fetch(kid):
            if self._flight is None or self._flight.done():
                self._flight = asyncio.create_task(self._refresh())
            # Shielded: a client that goes away must not take the fetch of the others with it.
            await asyncio.shield(self._flight)
        if self._cached is None or self._monotonic() - self._cached.fetched_at > MAX_FRESH_SECONDS:
            raise ProviderUnavailableError(f"no keys of {self._issuer!r}: {self._why_not}")
        return self._cached.keys

    def _is_worth_a_fetch(self, kid: str) -> bool:
        if self._flight is not None and not self._flight.done():
            return not self._is_fresh() or kid not in self._known()
        if not self._is_fresh():
            return self._monotonic() >= self._next_fetch
        return kid not in self._known() and self._monotonic() >= self._next_for_unknown

    def _is_fresh(self) -> bool:
        return self._cached is not None and self._monotonic() < self._cached.fresh_until

    def _known(self) -> Mapping[str, object]:
        return {} if self._cached is None else self._cached.keys.keys

    async def _refresh(self) -> None:
        now = self._monotonic()
        self._next_fetch, self._next_for_unknown = now + RETRY_SECONDS, now + UNKNOWN_KID_SECONDS
        try:
            document = _json(await self._fetch(self._issuer.rstrip("/") + _DISCOVERY))
            fetched = await self._fetch(_jwks_uri(document, self._issuer))
            keys = KeySet.parse_jwks(fetched.body, use=None)
        except FetchError as error:
            self._why_not = str(error)
        except KeyMaterialError as error:
            self._why_not = str(error)
            self._cached = None
        else:
            now = self._monotonic()
            self._next_fetch = now
            self._cached = _Cached(keys, now, now + _fresh_seconds(fetched.max_age))


def _json(document: Fetched) -> Mapping[str, object]:
    try:
        value = loads(document.body, _DOCUMENT_LIMITS)
    except StrictJsonError as error:
        raise FetchError(f"a discovery document that is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise FetchError("a discovery document that is not an object")
    return value


def _jwks_uri(document: Mapping[str, object], issuer: str) -> str:
    if document.get("issuer") != issuer:
        raise FetchError("a discovery document of another issuer")
    uri = document.get("jwks_uri")
    if not isinstance(uri, str):
        raise FetchError("a discovery document without jwks_uri")
    return uri


def _fresh_seconds(max_age: int | None) -> float:
    if max_age is None:
        return DEFAULT_FRESH_SECONDS
    return min(max(float(max_age), MIN_FRESH_SECONDS), MAX_FRESH_SECONDS)
