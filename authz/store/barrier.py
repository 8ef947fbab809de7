"""The barrier: wait until nobody can still allow by what was known before an epoch.

- It returns when each replica whose lease is live obeys the epoch, or its lease has ended: who does not renew
  a lease in time may not answer (authz/store/following.py), so one of the two is so within LEASE_SECONDS.
- A replica that joins while somebody waits is seen too; one that joins later has read the epoch: it says what
  it obeys first, and reads once more before it answers anybody.
- Whoever renews and does not obey, for as long as a lease lasts, is named as `behind`, and so are leases that
  were too many to read: then somebody may still allow, and the result says so.
- Files that are no leases hold up nobody, and are named.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from authz.store.port import LEASE_SECONDS, Lease, Leases, Listed
from identity.followed_file import Boottime, boottime

LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class BarrierResult:
    """Who obeys, after how many seconds; whose lease ended; and who is behind all the same."""

    epoch: int
    acknowledged: Mapping[str, float]
    expired: tuple[str, ...]
    behind: tuple[str, ...]
    malformed: tuple[str, ...]
    unread: bool
    addresses: Mapping[str, str]
    took_seconds: float

    @property
    def is_obeyed(self) -> bool:
        """Say whether nobody can still allow what was withdrawn."""
        return not self.behind and not self.unread


@dataclass(slots=True)
class _Waiting:
    """What is known so far."""

    term: int
    epoch: int
    began: float
    seen: dict[str, Lease]
    obey: dict[str, float]
    ended: set[str]

    def look(self, listed: Listed, now: float) -> frozenset[str]:
        """Take what the leases say now, and return for whom to wait."""
        found = {lease.replica: lease for lease in listed.leases}
        for replica, lease in found.items():
            if replica not in self.seen and not lease.is_live(now):
                continue  # It ended before anybody waited for it.
            self.seen[replica] = lease
            if lease.obeys(self.term, self.epoch):
                self.obey.setdefault(replica, now - self.began)
        waits = self.seen.keys() - self.obey.keys()
        # A lease that was taken away is one of a replica that ended.
        self.ended = {each for each in waits if each not in found or not found[each].is_live(now)}
        return frozenset(waits - self.ended)


async def barrier(
    leases: Leases,
    *,
    term: int,
    epoch: int,
    clock: Boottime = boottime,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> BarrierResult:
    """Wait until an epoch, which is on disk already, is obeyed everywhere.

    Raises:
        StoreError: if the leases cannot be read.
    """
    began = clock()
    waiting = _Waiting(term, epoch, began, {}, {}, set())
    while True:
        now = clock()
        listed = await asyncio.to_thread(leases.listed)
        behind = waiting.look(listed, now)
        # Whoever was live at the beginning has renewed or ended by then.
        if now - began > LEASE_SECONDS or not (behind or listed.unread):
            break
        await sleep(LOOK_SECONDS)
    return BarrierResult(
        epoch=epoch,
        acknowledged=MappingProxyType(dict(waiting.obey)),
        expired=tuple(sorted(waiting.ended)),
        behind=tuple(sorted(behind)),
        malformed=listed.malformed,
        unread=listed.unread,
        addresses=MappingProxyType({each.replica: each.address for each in waiting.seen.values()}),
        took_seconds=clock() - began,
    )
