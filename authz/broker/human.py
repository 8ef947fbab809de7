"""Which person signed in: an ID token of a configured provider, verified.

- The issuers are a fixed list; a token chooses among them by `iss` and brings no address of its own.
- Each provider has keys of its own; a `kid` of one never finds a key of another.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol

from authz.broker.fetch import Fetcher
from authz.broker.id_token import IdentityProvider, IdToken, verify_id_token
from authz.broker.provider_keys import Fetch, ProviderKeys
from authz.errors import ConfigError
from identity.errors import TokenIssuerError, TokenKeyError
from identity.jws import UnverifiedToken


class People(Protocol):
    """Says who signed in."""

    async def verify(self, token: UnverifiedToken, now: datetime) -> IdToken:
        """Verify a person's ID token.

        Raises:
            TokenError: if it does not count.
            CodedError: if that cannot be known now.
        """


class OpenIdPeople:
    """The people of the configured OpenID Providers."""

    def __init__(
        self,
        providers: Iterable[IdentityProvider],
        leeway: int,
        *,
        fetch: Callable[[IdentityProvider], Fetch] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the providers; nothing is fetched yet.

        Raises:
            ConfigError: if two providers have one issuer.
        """
        fetch = fetch or _fetch_of
        self._leeway = leeway
        self._providers: dict[str, tuple[IdentityProvider, ProviderKeys]] = {}
        for provider in providers:
            if provider.issuer in self._providers:
                raise ConfigError(f"two providers with one issuer: {provider.issuer!r}")
            keys = ProviderKeys(provider.issuer, fetch(provider), monotonic)
            self._providers[provider.issuer] = provider, keys

    async def verify(self, token: UnverifiedToken, now: datetime) -> IdToken:
        """Verify a person's ID token.

        Raises:
            TokenError: with the child that says what is wrong.
            ProviderUnavailableError: if the provider's keys cannot be had.
        """
        unverified_issuer, unverified_kid = token.unverified_claims.get("iss"), token.header.get("kid")
        if not isinstance(unverified_issuer, str) or unverified_issuer not in self._providers:
            raise TokenIssuerError("an ID token of a provider that is not known here")
        if not isinstance(unverified_kid, str):
            raise TokenKeyError("an ID token without kid")
        provider, keys = self._providers[unverified_issuer]
        return verify_id_token(token, await keys.key_set(unverified_kid), provider, now, self._leeway)


def _fetch_of(provider: IdentityProvider) -> Fetch:
    return Fetcher(allow_loopback=provider.allow_loopback, ca_file=provider.ca_file).fetch
