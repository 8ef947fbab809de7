"""What people granted, in memory: bounded, by its id and by its person.

- One person holds so many at once; so do all together. What was revoked is known for a while, so that a
  refusal can say so; the longest-revoked leave first.
- A value is replaced, never changed: whoever reads sees a whole one.
"""

import heapq
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from authz.errors import StoreError
from identity.consent import Consent

MAX_CONSENTS: Final = 10_000
MAX_OF_ONE_PERSON: Final = 100
MAX_REVOKED: Final = 10_000
# For so long after its end a grant is still known, so that the refusal says "ended" and not "unknown".
KEPT_CONSENTS: Final = timedelta(minutes=10)


class HeldConsents:
    """The grants of people."""

    def __init__(self) -> None:
        self._by_id: dict[str, Consent] = {}
        self._of_human: dict[str, dict[str, None]] = {}
        self._ends: list[tuple[datetime, str]] = []
        self._revoked: OrderedDict[str, None] = OrderedDict()

    def get(self, consent_id: str) -> Consent | None:
        """Return one, also one that was revoked a while ago."""
        return self._by_id.get(consent_id)

    def of(self, human: str) -> tuple[Consent, ...]:
        """Return those of one person, the oldest first."""
        ids = list(self._of_human.get(human, ()))
        return tuple(consent for id_ in ids if (consent := self._by_id.get(id_)) is not None)

    def all(self) -> tuple[Consent, ...]:
        """Return all that are known."""
        return tuple(self._by_id.values())

    def require_room(self, consent: Consent, now: datetime) -> None:
        """Check that one more may be held.

        Raises:
            StoreError: if that person has too many, or all have.
        """
        if sum(one.is_live(now) for one in self.of(consent.human)) >= MAX_OF_ONE_PERSON:
            raise StoreError(f"this person holds {MAX_OF_ONE_PERSON} grants: revoke some")
        if len(self._by_id) - len(self._revoked) >= MAX_CONSENTS:
            raise StoreError(f"{MAX_CONSENTS} grants are held: revoke some, or make them shorter")

    def put(self, consent: Consent) -> None:
        """Hold one; it takes the place of what has its id."""
        known = self._by_id.get(consent.id)
        self._by_id[consent.id] = consent
        if known is None:
            self._of_human.setdefault(consent.human, {})[consent.id] = None
            heapq.heappush(self._ends, (consent.expires_at, consent.id))
        if consent.revoked_at is not None and (known is None or known.revoked_at is None):
            self._revoked[consent.id] = None
            if len(self._revoked) > MAX_REVOKED:
                self._drop(self._revoked.popitem(last=False)[0])

    def revoke(self, consent_id: str, now: datetime) -> None:
        """Note that one was revoked."""
        consent = self._by_id.get(consent_id)
        if consent is not None and consent.revoked_at is None:
            self.put(replace(consent, revoked_at=now))

    def revoke_of_agent(self, agent: str, now: datetime) -> None:
        """Note that all of an agent were revoked."""
        for consent in [one for one in self._by_id.values() if one.agent == agent]:
            self.revoke(consent.id, now)

    def prune(self, now: datetime) -> None:
        """Forget what ended a while ago."""
        while self._ends and self._ends[0][0] <= now - KEPT_CONSENTS:
            consent_id = heapq.heappop(self._ends)[1]
            self._drop(consent_id)
            self._revoked.pop(consent_id, None)
        if len(self._ends) > 2 * (len(self._by_id) + MAX_REVOKED):
            # Those that left memory before their end are still listed here.
            self._ends = sorted((consent.expires_at, consent.id) for consent in self._by_id.values())

    def _drop(self, consent_id: str) -> None:
        consent = self._by_id.pop(consent_id, None)
        if consent is not None:
            listed = self._of_human[consent.human]
            del listed[consent_id]
            if not listed:
                del self._of_human[consent.human]
