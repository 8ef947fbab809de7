"""What counts once: the port that remembers what was presented, and its memory for one process (JW-09).

- `first_time` is one step: of all who present the same thing, at whatever time and in whatever process of the
  same memory, exactly one is the first.
- What cannot be known is refused: `StoreError` is no "yes". So it is when the memory is full, when one
  presenter has filled its share, when something would have to be remembered for too long, and when its time
  has passed, because it may have been forgotten by then, whatever the clock says now.
- A proxy may ask again about one request (a retry asks the same question): the same `call` is no replay. A
  call is named by the proxy, never by the client; an empty name is no call.
- Only SHA-256 digests are kept: nothing of a proof or an assertion can be read out of the memory.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush
from threading import Lock
from typing import Final, Literal, Protocol

from authz.errors import StoreError

ReplayKind = Literal["dpop", "assertion", "event"]

MAX_ENTRIES: Final = 100_000
# A fifth for each, so that nobody fills it for the others.
MAX_OF_PRESENTER: Final = 20_000
# Longer than anything that counts once lives, with every leeway.
MAX_SECONDS: Final = 900


class Replay(Protocol):
    """Remembers what was presented."""

    def first_time(
        self,
        kind: ReplayKind,
        key: str,
        expires_at: int,
        *,
        presenter: str,
        now: datetime,
        call: str = "",
    ) -> bool:
        """Say whether this is presented for the first time, and remember it until `expires_at`.

        `presenter` is who was authenticated, or whoever shares one bound with them. This may block for a
        disk.

        Raises:
            StoreError: if that cannot be known or remembered.
        """


@dataclass(frozen=True, slots=True)
class Use:
    """One thing that was presented, as it is remembered."""

    digest: bytes
    presenter: bytes
    call: bytes
    expires_at: int

    @classmethod
    def of(  # noqa: PLR0917 - as `first_time`
        cls, kind: ReplayKind, key: str, expires_at: int, presenter: str, call: str, now: datetime
    ) -> "Use":
        """Name what is presented, without what it is.

        Raises:
            StoreError: if its time has passed, or is too far away.
        """
        left = expires_at - now.timestamp()
        if not 0 < left <= MAX_SECONDS:
            raise StoreError(
                f"what counts once is remembered for up to {MAX_SECONDS} s, not for {left:.0f} s"
            )
        called = _digest("call", call) if call else b""
        return cls(_digest(kind, key), _digest("presenter", presenter), called, expires_at)


class ReplayMemory:
    """The memory of one process; a restart forgets it."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_of_presenter: int = MAX_OF_PRESENTER) -> None:
        self._max_entries = max_entries
        self._max_of_presenter = max_of_presenter
        self._lock = Lock()
        self._uses: dict[bytes, Use] = {}
        self._live: Counter[bytes] = Counter()
        self._order: list[tuple[int, bytes]] = []
        self._forgotten_until = 0

    def first_time(
        self,
        kind: ReplayKind,
        key: str,
        expires_at: int,
        *,
        presenter: str,
        now: datetime,
        call: str = "",
    ) -> bool:
        """See `Replay.first_time`."""
        use = Use.of(kind, key, expires_at, presenter, call, now)
        with self._lock:
            self._forget(int(now.timestamp()))
            known = self._uses.get(use.digest)
            if known is not None:
                return known.call == use.call != b""
            refuse_unknown(use, self._forgotten_until)
            refuse_full(len(self._uses), self._live[use.presenter], self._max_entries, self._max_of_presenter)
            self._uses[use.digest] = use
            self._live[use.presenter] += 1
            heappush(self._order, (use.expires_at, use.digest))
            return True

    def __len__(self) -> int:
        return len(self._uses)

    def _forget(self, seconds: int) -> None:
        while self._order and self._order[0][0] <= seconds:
            expires_at, digest = heappop(self._order)
            presenter = self._uses.pop(digest).presenter
            self._live[presenter] -= 1
            if not self._live[presenter]:
                del self._live[presenter]
            self._forgotten_until = max(self._forgotten_until, expires_at)


def refuse_unknown(use: Use, forgotten_until: int) -> None:
    """Refuse what may have been presented and forgotten, because a clock went back since.

    Raises:
        StoreError: if that may be.
    """
    if use.expires_at <= forgotten_until:
        raise StoreError("the clock went back: what was presented then may have been forgotten")


def refuse_full(entries: int, of_presenter: int, max_entries: int, max_of_presenter: int) -> None:
    """Refuse what cannot be remembered.

    Raises:
        StoreError: if the memory, or this presenter's share of it, is full.
    """
    if of_presenter >= max_of_presenter:
        raise StoreError(
            f"one presenter has shown {max_of_presenter} things that count once, all still valid"
        )
    if entries >= max_entries:
        raise StoreError(f"{max_entries} things that count once are remembered, all still valid")


def _digest(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind}\n{text}".encode("utf-8", "surrogatepass")).digest()
