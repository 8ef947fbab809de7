"""What is withdrawn, in memory: one value that is swapped, and the ends of its parts.

- Of two withdrawals of a subject the one that takes back more, or for longer, counts.
- What anybody can have withdrawn (their own tokens) is bounded; whatever else is stopped is not, so that
  nobody can fill the room that an administrator needs.
- `kept_until` says when nothing can be alive that a withdrawal took back; then it is forgotten.
"""

import heapq
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from authz.errors import StoreError
from identity.withdrawal import CONTAINED, Kind, Withdrawal, Withdrawals

MAX_WITHDRAWALS: Final = 500_000
# Tokens live five minutes at most, and clocks differ by one.
KEPT_TOKEN: Final = timedelta(minutes=10)
# A task lives a day at most, and what came of it, of a grant or under one transaction lives no longer.
KEPT_LINEAGE: Final = timedelta(hours=24, minutes=10)

# Shorter than what KEPT_TOKEN has beyond a token's life: the first end of a token is late enough.
SAME_END: Final = timedelta(minutes=4)

# The number parts two that end at once: withdrawals have no order.
_End = tuple[datetime, int, Withdrawal]


def kept_until(kind: Kind, now: datetime) -> datetime | None:
    """Return until when a withdrawal of this kind is needed; None, until it is released."""
    if kind in CONTAINED:
        return None
    return now + (KEPT_TOKEN if kind == "token" else KEPT_LINEAGE)


class HeldWithdrawals:
    """All that is withdrawn now."""

    def __init__(self, items: Iterable[Withdrawal] = ()) -> None:
        self.value = Withdrawals.of(items)
        self._ends: list[_End] = []
        self._ties = count()
        for item in self.value.items:
            self._note_end(item)

    def require_room(self, withdrawal: Withdrawal) -> None:
        """Check that one more may be held.

        Raises:
            StoreError: if it is of a token, and there are too many.
        """
        if withdrawal.kind == "token" and len(self.value) >= MAX_WITHDRAWALS:
            raise StoreError(f"{MAX_WITHDRAWALS} withdrawals are held: stop whom these tokens belong to")

    def aligned(self, withdrawal: Withdrawal) -> Withdrawal:
        """Return it with the end of the one that stands, where that is hardly earlier.

        Nothing new comes of what is withdrawn, so the first end suffices. Whoever revokes one token again and
        again writes nothing and moves no epoch.
        """
        standing = self.value.standing(withdrawal)
        if standing is None or standing.expires_at is None or withdrawal.expires_at is None:
            return withdrawal
        is_hardly_later = timedelta(0) < withdrawal.expires_at - standing.expires_at < SAME_END
        return replace(withdrawal, expires_at=standing.expires_at) if is_hardly_later else withdrawal

    def put(self, withdrawal: Withdrawal) -> None:
        """Take back this too."""
        self.value = self.value.plus(withdrawal)
        self._note_end(withdrawal)

    def release(self, kind: Kind, subject: str) -> None:
        """Let somebody act again."""
        if (held := self.value.containment(kind, subject)) is not None:
            self.value = self.value.minus(held)

    def prune(self, now: datetime) -> None:
        """Forget what takes back nothing any more."""
        while self._ends and self._ends[0][0] <= now:
            listed = heapq.heappop(self._ends)[2]
            held = self.value.standing(listed)
            if held is not None and held.expires_at is not None and held.expires_at <= now:
                self.value = self.value.minus(held)

    def _note_end(self, withdrawal: Withdrawal) -> None:
        if withdrawal.expires_at is not None:
            heapq.heappush(self._ends, (withdrawal.expires_at, next(self._ties), withdrawal))
