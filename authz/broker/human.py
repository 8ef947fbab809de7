"""Which person signed in: an ID token or an access token of a configured provider, verified.

- The issuers are a fixed list; a token chooses among them by `iss` and brings no address of its own.
- Each provider has keys of its own; a `kid` of one never finds a key of another.
- A token that cannot count, whatever its provider's keys are, makes nobody fetch them.
- An access token counts only if its audience is the broker.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, Protocol

from authz.broker.access_token import ACCESS_TOKEN_TYPS, verify_person_access_token
from authz.broker.fetch import Fetcher
from authz.broker.id_token import ID_TOKEN_TYPS, IdentityProvider, verify_id_token
from authz.broker.person_token import PersonToken, TokenKind
from authz.broker.provider_keys import Fetch, ProviderKeys
from authz.errors import ConfigError
from identity.errors import TokenAlgorithmError, TokenAudienceError, TokenIssuerError, TokenKeyError
from identity.jws import UnverifiedToken, check_type
from identity.keys import MAX_KID
from identity.signature_algorithms import PROVIDER_ALGORITHMS

_TYPS: Final[Mapping[TokenKind, frozenset[str]]] = MappingProxyType(
    {"id_token": ID_TOKEN_TYPS, "access_token": ACCESS_TOKEN_TYPS}
)


class People(Protocol):
    """Says who signed in."""

    async def verify(self, token: UnverifiedToken, kind: TokenKind, now: datetime) -> PersonToken:
        """Verify a person's token of one kind.

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
        audience: str | None = None,
        fetch: Callable[[IdentityProvider], Fetch] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the providers, and the audience of access tokens (none: no access token counts).

        Nothing is fetched yet.

        Raises:
            ConfigError: if two providers have one issuer.
        """
        fetch = fetch or _fetch_of
        self._leeway = leeway
        self._audience = audience
        self._providers: dict[str, tuple[IdentityProvider, ProviderKeys]] = {}
        for provider in providers:
            if provider.issuer in self._providers:
                raise ConfigError(f"two providers with one issuer: {provider.issuer!r}")
            keys = ProviderKeys(provider.issuer, fetch(provider), monotonic)
            self._providers[provider.issuer] = provider, keys

    async def verify(self, token: UnverifiedToken, kind: TokenKind, now: datetime) -> PersonToken:
        """Verify a person's token of one kind.

        Raises:
            TokenError: with the child that says what is wrong.
            ProviderUnavailableError: if the provider's keys cannot be had.
        """
        unverified_issuer = token.unverified_claims.get("iss")
        if not isinstance(unverified_issuer, str) or unverified_issuer not in self._providers:
            raise TokenIssuerError("a token of a provider that is not known here")
        check_type(token, _TYPS[kind])
        if token.header["alg"] not in PROVIDER_ALGORITHMS:
            raise TokenAlgorithmError("an algorithm that no provider of people may sign with")
        unverified_kid = token.header.get("kid")
        if not isinstance(unverified_kid, str) or not 0 < len(unverified_kid) <= MAX_KID:
            raise TokenKeyError("a person's token without a kid that a key can have")
        provider, keys = self._providers[unverified_issuer]
        key_set = await keys.key_set(unverified_kid)
        if kind == "id_token":
            return verify_id_token(token, key_set, provider, now, self._leeway)
        if self._audience is None:
            raise TokenAudienceError("an access token where no audience of access tokens is configured")
        return verify_person_access_token(
            token, key_set, provider, audience=self._audience, now=now, leeway=self._leeway
        )


def _fetch_of(provider: IdentityProvider) -> Fetch:
    return Fetcher(provider.allow_loopback, provider.allow_private, provider.ca_file).fetch
