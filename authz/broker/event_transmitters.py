"""Who may tell us of security events, and of whom.

- The transmitters are a fixed list; an event chooses among them by `iss` and brings no address of its own.
- The key set's address is configured, or comes from the transmitter's own metadata (SSF section 7.2), which
  must name that transmitter. Keys are kept as authz/broker/provider_keys.py says (JW-07).
- A transmitter speaks of the people of the issuers that are configured for it, by default of its own only:
  one company's provider cannot lock out another's people.
- Where a secret is configured, it is asked for before any key is: nobody else makes us compute or fetch.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from authz.broker.event_secret import EventSecret
from authz.broker.fetch import Fetched, Fetcher
from authz.broker.provider_keys import Fetch, ProviderKeys
from authz.broker.refusal import refuse
from authz.codes import Code
from authz.errors import ConfigError
from identity.errors import TokenIssuerError, TokenKeyError
from identity.jws import UnverifiedToken, check_type
from identity.keys import KeySet
from identity.security_event import EVENT_TYP, SecurityEvent, verify_security_event

_WELL_KNOWN: Final = "/.well-known/ssf-configuration"
_TYPS: Final = frozenset({EVENT_TYP})


@dataclass(frozen=True, slots=True)
class Transmitter:
    """A party whose security events count, as configured."""

    issuer: str
    audience: str
    issuers: frozenset[str]  # of whose people it may speak
    jwks_uri: str | None = None
    ca_file: Path | None = None
    allow_loopback: bool = False
    allow_private: bool = False
    secret: EventSecret | None = field(default=None, repr=False)


class Transmitters:
    """All of them, each with keys of its own."""

    def __init__(
        self,
        transmitters: Iterable[Transmitter],
        leeway: int,
        *,
        fetch: Callable[[Transmitter], Fetch] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the transmitters; nothing is fetched yet.

        Raises:
            ConfigError: if two have one issuer.
        """
        fetch = fetch or _fetch_of
        self._leeway = leeway
        self._known: dict[str, tuple[Transmitter, ProviderKeys]] = {}
        for transmitter in transmitters:
            if transmitter.issuer in self._known:
                raise ConfigError(f"two transmitters with one issuer: {transmitter.issuer!r}")
            document = _Metadata(transmitter, fetch(transmitter))
            keys = ProviderKeys(transmitter.issuer, document.fetch, monotonic)
            self._known[transmitter.issuer] = transmitter, keys

    async def verify(
        self, token: UnverifiedToken, unverified_authorization: tuple[str, ...], now: datetime
    ) -> SecurityEvent:
        """Verify an event, and that its transmitter may speak of its subject.

        Raises:
            TokenError: with the child that says what is wrong.
            RefusedError: if the secret is not that of the transmitter, or the person is not one of its own.
            ProviderUnavailableError: if the transmitter's keys cannot be had.
        """
        check_type(token, _TYPS)
        unverified_issuer, unverified_kid = token.unverified_claims.get("iss"), token.header.get("kid")
        if not isinstance(unverified_issuer, str) or unverified_issuer not in self._known:
            raise TokenIssuerError("a security event of a transmitter that is not known here")
        if not isinstance(unverified_kid, str):
            raise TokenKeyError("a security event without kid")
        transmitter, keys = self._known[unverified_issuer]
        if transmitter.secret is not None and not transmitter.secret.is_in(unverified_authorization):
            raise refuse(
                Code.TOKEN_MISSING,
                f"a push for {transmitter.issuer!r} without its secret",
                description="the transmitter was not authenticated",
            )
        event = self._verify(token, await keys.key_set(unverified_kid), transmitter, now)
        if event.person is not None and event.person.issuer not in transmitter.issuers:
            raise refuse(
                Code.NOT_PERMITTED,
                f"{transmitter.issuer!r} spoke of {event.person.uri!r}",
                description="this transmitter may not speak of this subject",
            )
        return event

    def _verify(
        self, token: UnverifiedToken, keys: KeySet, transmitter: Transmitter, now: datetime
    ) -> SecurityEvent:
        return verify_security_event(
            token,
            keys,
            issuer=transmitter.issuer,
            audience=transmitter.audience,
            now=now,
            leeway=self._leeway,
        )


def metadata_url(issuer: str) -> str:
    """Return where a transmitter's metadata is: before the path of its issuer (SSF section 7.2)."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}{_WELL_KNOWN}{parts.path.rstrip('/')}"


class _Metadata:
    """Answers the one question of ProviderKeys about addresses as SSF does; passes the others on."""

    def __init__(self, transmitter: Transmitter, fetch: Fetch) -> None:
        self._transmitter = transmitter
        self._fetch = fetch

    async def fetch(self, url: str) -> Fetched:
        issuer, jwks_uri = self._transmitter.issuer, self._transmitter.jwks_uri
        if url != f"{issuer.rstrip('/')}/.well-known/openid-configuration":
            return await self._fetch(url)
        if jwks_uri is None:
            return await self._fetch(metadata_url(issuer))
        return Fetched(json.dumps({"issuer": issuer, "jwks_uri": jwks_uri}).encode(), None)


def _fetch_of(transmitter: Transmitter) -> Fetch:
    return Fetcher(
        allow_loopback=transmitter.allow_loopback,
        allow_private=transmitter.allow_private,
        ca_file=transmitter.ca_file,
    ).fetch
