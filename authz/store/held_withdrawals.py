"""What is withdrawn, in memory: one value that is swapped, and the ends of its parts.

- Of two withdrawals of a subject the one that takes back more, or for longer, counts.
- What strangers can have withdrawn (their own tokens) is bounded; stopping somebody is not.
- `kept_until` says when nothing can be alive that a withdrawal took back; then it is forgotten.
"""

import heapq
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from authz.errors import StoreError
from authz.store.rights import covers
from identity.withdrawal import CONTAINED, Kind, Withdrawal, Withdrawals

MAX_WITHDRAWALS: Final = 500_000
# Tokens live five minutes at most, and clocks differ by one.
KEPT_TOKEN: Final = timedelta(minutes=10)
# A task lives a day at most, and what came of it, of a grant or under one transaction lives no longer.
KEPT_LINEAGE: Final = timedelta(hours=24, minutes=10)

_Key = tuple[str, str, bool]


def kept_until(kind: Kind, now: datetime) -> datetime | None:
    """Return until when a withdrawal of this kind is needed; None, until it is released."""
    if kind in CONTAINED:
        return None
    return now + (KEPT_TOKEN if kind == "token" else KEPT_LINEAGE)


class HeldWithdrawals:
    """All that is withdrawn now."""

    def __init__(self, items: Iterable[Withdrawal] = ()) -> None:
        self._by_key: dict[_Key, Withdrawal] = {}
        self._ends: list[tuple[datetime, _Key]] = []
        for item in items:
            self._put(item)
        self.value = Withdrawals.of(self._by_key.values())

    def covers(self, withdrawal: Withdrawal) -> bool:
        """Say whether as much is taken back already, for as long."""
        standing = self._by_key.get(_key(withdrawal))
        return standing is not None and covers(standing, withdrawal)

    def require_room(self, withdrawal: Withdrawal, now: datetime) -> None:
        """Check that one more may be held.

        Raises:
            StoreError: if it would end by itself, and there are too many.
        """
        self.prune(now)
        if len(self._by_key) >= MAX_WITHDRAWALS and withdrawal.expires_at is not None:
            raise StoreError(f"{MAX_WITHDRAWALS} withdrawals are held: stop whom these tokens belong to")

    def put(self, withdrawal: Withdrawal) -> None:
        """Take back this too."""
        self._put(withdrawal)
        self.value = Withdrawals.of(self._by_key.values())

    def release(self, kind: Kind, subject: str) -> None:
        """Let somebody act again."""
        if self._by_key.pop((kind, subject, True), None) is not None:
            self.value = Withdrawals.of(self._by_key.values())

    def prune(self, now: datetime) -> None:
        """Forget what took back nothing any more."""
        gone = False
        while self._ends and self._ends[0][0] <= now:
            end, key = heapq.heappop(self._ends)
            held = self._by_key.get(key)
            if held is not None and held.expires_at == end:
                del self._by_key[key]
                gone = True
        if gone:
            self.value = Withdrawals.of(self._by_key.values())

    def _put(self, withdrawal: Withdrawal) -> None:
        key = _key(withdrawal)
        self._by_key[key] = withdrawal
        if withdrawal.expires_at is not None:
            heapq.heappush(self._ends, (withdrawal.expires_at, key))


def _key(withdrawal: Withdrawal) -> _Key:
    return withdrawal.kind, withdrawal.subject, withdrawal.before is None
