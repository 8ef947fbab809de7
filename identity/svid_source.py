"""SVIDs of our own authority, issued when they are asked for.

- All streams of an identity get the same current X.509-SVID and key; it is made once, whoever asks first.
- It is replaced at half its life, a tenth earlier or later by chance, so that a thousand do not come back in
  one moment; and at once when another key of the authority has taken over, when its task ends earlier or
  later than it says, and when the clock went back behind its beginning.
- It ends with its task and with the authority's key. Nothing is signed with a clock that is before that key.
- It is recorded before it is handed out; what could not be recorded is not issued.
- A JWT-SVID is signed for one audience, and for one that the configuration names.
- What has expired is forgotten.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

from cryptography import x509

from identity.authority import Authority
from identity.base64url import decode_base64url
from identity.certificate_authority import BACKDATE
from identity.entitlement import Changes, Entitlement, HeldSvid, HeldWit, Issuance, Recorder
from identity.errors import (
    AuthorityStateError,
    CertificateError,
    IssuanceUnavailableError,
    KeyMaterialError,
    NotEntitledError,
    TokenError,
)
from identity.feed import Feed
from identity.jws import token_id_of
from identity.keys import SigningKey
from identity.socket_pace import turn
from identity.spiffe import SpiffeId
from identity.trust_bundles import TrustBundles
from identity.wit_svid import issue_wit_svid
from identity.x509_svid import thumbprint

# Half of the life is left when a new one is made, give or take so much of it.
_JITTER: Final = 0.1
_PURGE: Final = timedelta(minutes=1)
_CANNOT: Final = (CertificateError, KeyMaterialError, TokenError)


class Live(Protocol):
    """An authority whose keys change."""

    @property
    def current(self) -> Authority:
        """The authority as it is now."""

    @property
    def feed(self) -> Feed:
        """Changes of its keys."""


@dataclass(frozen=True, slots=True)
class SvidSettings:
    """Lifetimes in seconds, and what is served."""

    x509_ttl: int = 600
    jwt_ttl: int = 60
    wit_ttl: int = 600
    jwt_audiences: frozenset[str] = frozenset()
    wit_enabled: bool = False


SvidT = TypeVar("SvidT", HeldSvid, HeldWit)
_Name = tuple[SpiffeId, tuple[str, ...], str | None]


@dataclass(frozen=True, slots=True)
class _Made(Generic[SvidT]):
    svid: SvidT
    signer: str
    made_at: datetime
    deadline: datetime | None

    def is_current(self, signer: str, entitlement: Entitlement, now: datetime) -> bool:
        """Say whether this is what a caller gets now."""
        return (
            self.signer == signer
            and self.deadline == entitlement.not_after
            # With a clock that went back, it would be handed out for longer than it was meant to.
            and self.made_at - BACKDATE <= now < min(self.svid.renew_at, self.svid.not_after)
        )


@dataclass(slots=True)
class _Slot(Generic[SvidT]):
    made: _Made[SvidT] | None = None
    making: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def svid(self) -> SvidT:
        if self.made is None:
            raise IssuanceUnavailableError("nothing was issued")
        return self.made.svid

    def has(self, signer: str, entitlement: Entitlement, now: datetime) -> bool:
        return self.made is not None and self.made.is_current(signer, entitlement, now)


class IssuingSource:
    """What our own authority issues."""

    def __init__(
        self,
        live: Live,
        bundles: Callable[[], TrustBundles],
        recorder: Recorder,
        settings: SvidSettings,
        *,
        clock: Callable[[], datetime],
        chance: Callable[[], float],
        is_ready: Callable[[], bool] = lambda: True,
        changes: Changes | None = None,
    ) -> None:
        """Issue with `live`; `chance` is from 0 to 1, `changes` tells of keys, bundles and entitlements."""
        self._live = live
        self._bundles = bundles
        self._recorder = recorder
        self._settings = settings
        self._clock = clock
        self._chance = chance
        self._is_ready = is_ready
        self._changes = live.feed if changes is None else changes
        self._x509: dict[_Name, _Slot[HeldSvid]] = {}
        self._wit: dict[_Name, _Slot[HeldWit]] = {}
        self._purged_at: datetime | None = None

    @property
    def changes(self) -> Changes:
        """Changes of keys, bundles and entitlements."""
        return self._changes

    @property
    def is_ready(self) -> bool:
        """Say whether anything can be issued yet."""
        return self._is_ready()

    @property
    def wit_enabled(self) -> bool:
        """Say whether WIT-SVIDs are served."""
        return self._settings.wit_enabled

    def clock(self) -> datetime:
        """Return the time."""
        return self._clock()

    def bundles(self) -> TrustBundles:
        """Return what verifies SVIDs."""
        return self._bundles()

    async def x509_svid(self, entitlement: Entitlement) -> HeldSvid:
        """Return the current X.509-SVID of an identity.

        Raises:
            NotEntitledError: if its task is over.
            IssuanceUnavailableError: if it cannot be signed or recorded now.
        """
        slot = self._slot(self._x509, entitlement)
        async with slot.making:
            if not slot.has(self._authority().ca.key.kid, entitlement, self._clock()):
                await turn()
                now, authority = self._clock(), self._authority()
                svid = self._issue_x509(authority, entitlement, now)
                mark = thumbprint(svid.chain[0])
                await self._recorder.issued(
                    Issuance("x509-svid", entitlement, svid.not_after, thumbprint=mark)
                )
                slot.made = _Made(svid, authority.ca.key.kid, now, entitlement.not_after)
            return slot.svid

    async def jwt_svid(self, entitlement: Entitlement, audiences: Sequence[str]) -> str:
        """Sign a JWT-SVID for one audience.

        Raises:
            NotEntitledError: if the audience is not known, or the task is over.
            IssuanceUnavailableError: if it cannot be signed or recorded now.
        """
        if len(audiences) != 1 or audiences[0] not in self._settings.jwt_audiences:
            raise NotEntitledError("an audience that no JWT-SVID is signed for; the configuration names them")
        now, authority = self._clock(), self._authority()
        ttl = _left(entitlement, now, self._settings.jwt_ttl)
        end = now + timedelta(seconds=ttl)
        try:
            token = authority.issue_jwt_svid(entitlement.spiffe_id, audiences[0], now, ttl, end)
            expires_at = _expiry(token)
        except _CANNOT as error:
            raise IssuanceUnavailableError(f"no JWT-SVID can be signed now: {error}") from error
        token_id = token_id_of(token)
        await self._recorder.issued(
            Issuance("jwt-svid", entitlement, expires_at, audience=audiences[0], token_id=token_id)
        )
        return token

    async def wit_svid(self, entitlement: Entitlement) -> HeldWit:
        """Return the current WIT-SVID of an identity.

        Raises:
            NotEntitledError: if its task is over.
            IssuanceUnavailableError: if it cannot be signed or recorded now.
        """
        slot = self._slot(self._wit, entitlement)
        async with slot.making:
            if not slot.has(_wit_signer(self._authority()), entitlement, self._clock()):
                await turn()
                now, authority = self._clock(), self._authority()
                svid = self._issue_wit(authority, entitlement, now)
                token_id = token_id_of(svid.token)
                await self._recorder.issued(
                    Issuance("wit-svid", entitlement, svid.not_after, token_id=token_id)
                )
                slot.made = _Made(svid, _wit_signer(authority), now, entitlement.not_after)
            return slot.svid

    def _issue_x509(self, authority: Authority, entitlement: Entitlement, now: datetime) -> HeldSvid:
        key = SigningKey.generate()
        ttl = _left(entitlement, now, self._settings.x509_ttl)
        try:
            der = authority.issue_workload_svid(
                entitlement.spiffe_id, key.private_key.public_key(), now, ttl, entitlement.dns_names
            )
            not_after = x509.load_der_x509_certificate(der).not_valid_after_utc
        except _CANNOT as error:
            raise IssuanceUnavailableError(f"no X.509-SVID can be signed now: {error}") from error
        renew_at = self._renewal(now, not_after, ends_with_task=ttl < self._settings.x509_ttl)
        return HeldSvid(entitlement.spiffe_id, (der,), key, not_after, renew_at)

    def _issue_wit(self, authority: Authority, entitlement: Entitlement, now: datetime) -> HeldWit:
        ring, signer = authority.rings.get("wit"), authority.wit_key
        slot = ring.active if ring is not None else None
        if slot is None or signer is None:
            raise IssuanceUnavailableError("no key of WIT-SVIDs is active")
        if now < slot.published_at - BACKDATE:
            raise IssuanceUnavailableError(
                f"the clock says {now.isoformat()}, before the key of WIT-SVIDs was made: set it"
            )
        key = SigningKey.generate()
        ttl = _left(entitlement, now, self._settings.wit_ttl)
        try:
            token = issue_wit_svid(
                signer,
                entitlement.spiffe_id,
                key.private_key.public_key(),
                now=now,
                ttl=ttl,
                not_after=slot.not_after,
            )
        except _CANNOT as error:
            raise IssuanceUnavailableError(f"no WIT-SVID can be signed now: {error}") from error
        not_after = _expiry(token)
        renew_at = self._renewal(now, not_after, ends_with_task=ttl < self._settings.wit_ttl)
        return HeldWit(entitlement.spiffe_id, token, key, not_after, renew_at)

    def _renewal(self, now: datetime, not_after: datetime, *, ends_with_task: bool) -> datetime:
        if ends_with_task:
            # There is no longer one; a task that is prolonged has another deadline, and gets another SVID.
            return not_after
        return now + (not_after - now) / 2 * (1 + _JITTER * (2 * self._chance() - 1))

    def _authority(self) -> Authority:
        try:
            return self._live.current
        except AuthorityStateError as error:
            raise IssuanceUnavailableError(f"nothing can be signed yet: {error}") from error

    def _slot(self, slots: dict[_Name, _Slot[SvidT]], entitlement: Entitlement) -> _Slot[SvidT]:
        now = self._clock()
        if self._purged_at is None or not timedelta(0) <= now - self._purged_at < _PURGE:
            self._purged_at = now
            _purge(self._x509, now)
            _purge(self._wit, now)
        name = (entitlement.spiffe_id, entitlement.dns_names, entitlement.task)
        return slots.setdefault(name, _Slot())


def _wit_signer(authority: Authority) -> str:
    return "" if authority.wit_key is None else authority.wit_key.kid


def _purge(slots: dict[_Name, _Slot[SvidT]], now: datetime) -> None:
    for name, slot in tuple(slots.items()):
        is_dead = slot.made is None or slot.made.svid.not_after <= now
        if is_dead and not slot.making.locked():
            del slots[name]


def _left(entitlement: Entitlement, now: datetime, ttl: int) -> int:
    """Return how long an SVID may live, in seconds."""
    if entitlement.not_after is None:
        return ttl
    left = int((entitlement.not_after - now).total_seconds())
    if left <= 0:
        raise NotEntitledError("a task that is over")
    return min(left, ttl)


def _expiry(token: str) -> datetime:
    """Read `exp` of a token that was just signed; to parse it in full would cost as much as to sign it."""
    claims = json.loads(decode_base64url(token.split(".")[1]))
    return datetime.fromtimestamp(claims["exp"], UTC)
