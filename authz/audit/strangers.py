"""How many refusals of strangers get a record of their own.

- A stranger is a caller whom nobody authenticated; nothing they send may fill the disk or slow the others.
- Each peer has so many records a second, and all peers together so many; what is beyond is counted and
  leaves at most one summary a peer a second, the largest counts first, the rest of them in one.
- The table of peers is bounded. The peer that was seen longest ago leaves it; its count goes into the rest,
  and the budget for all peers keeps one who changes names from gaining by it.
- Nothing is lost: every refusal is either recorded or in the count of exactly one summary, and a summary
  that could not be written is put back.
- Time is an argument. Another second is another window, whether the clock went forward or back.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from authz.audit.facts import Summary

REST: Final = "(others)"


class Admission(Enum):
    """What a refusal leaves in the log."""

    RECORD = "record"
    COUNT = "count"


@dataclass(frozen=True, slots=True)
class Rates:
    """Records a second, peers remembered, and summaries a second."""

    per_peer: int = 10
    all_peers: int = 200
    peers: int = 1024
    summaries: int = 32


@dataclass(slots=True)
class _Peer:
    """What one peer did; `second` is the window that `recorded` belongs to."""

    second: int
    recorded: int = 0
    counted: int = 0
    since: datetime | None = None


class Strangers:
    """Decides for each refusal, and gives the summaries when they are due."""

    def __init__(self, rates: Rates = Rates()) -> None:
        self._rates = rates
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self._second = 0
        self._recorded = 0
        self._rest = _Peer(0)

    def admit(self, peer: str, now: datetime) -> Admission:
        """Say whether this refusal is recorded or counted."""
        second = int(now.timestamp())
        if second != self._second:
            self._second, self._recorded = second, 0
        state = self._state(peer, second)
        if state.recorded < self._rates.per_peer and self._recorded < self._rates.all_peers:
            state.recorded += 1
            self._recorded += 1
            return Admission.RECORD
        _count(state, 1, now)
        return Admission.COUNT

    def count(self, peer: str, now: datetime) -> None:
        """Count a refusal that leaves no record of its own: one that was made before anybody looked."""
        _count(self._state(peer, int(now.timestamp())), 1, now)

    def due(self, now: datetime, *, final: bool = False) -> tuple[Summary, ...]:
        """Return the summaries of seconds that are over; call it once a second, at the end with `final`."""
        second = int(now.timestamp())
        ready = [
            (peer, state)
            for peer, state in self._peers.items()
            if state.since is not None and (final or int(state.since.timestamp()) != second)
        ]
        ready.sort(key=lambda item: item[1].counted, reverse=True)
        for _, state in ready[self._rates.summaries :]:
            self._into_rest(state)
        summaries = [_summary(peer, state, now) for peer, state in ready[: self._rates.summaries]]
        if self._rest.counted:
            summaries.append(_summary(REST, self._rest, now))
        return tuple(summaries)

    def put_back(self, summary: Summary) -> None:
        """Take back a summary that the log refused; its count comes again with the rest."""
        _count(self._rest, summary.count, summary.since)

    def _state(self, peer: str, second: int) -> _Peer:
        state = self._peers.get(peer)
        if state is None:
            state = self._peers[peer] = _Peer(second)
            if len(self._peers) > self._rates.peers:
                self._into_rest(self._peers.popitem(last=False)[1])
        elif state.second != second:
            state.second, state.recorded = second, 0
        self._peers.move_to_end(peer)
        return state

    def _into_rest(self, state: _Peer) -> None:
        if state.since is not None:
            _count(self._rest, state.counted, state.since)
        state.counted, state.since = 0, None


def _count(state: _Peer, number: int, at: datetime) -> None:
    state.counted += number
    state.since = at if state.since is None else min(state.since, at)


def _summary(peer: str, state: _Peer, now: datetime) -> Summary:
    summary = Summary(peer=peer, count=state.counted, since=state.since or now, until=now)
    state.counted, state.since = 0, None
    return summary
