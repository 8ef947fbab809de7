"""What is known of one tool: the declaration that was accepted, the one that its server showed last.

- Accepted is what a person or a pipeline accepted, or what was seen first in the mode `learn`. What was
  learnt counts in that mode only.
- A tool is changed while what its server showed last is not what was accepted. When the server shows the
  accepted one again, the tool is itself again, once: what has left it twice alternates, and is changed
  whatever it shows, until somebody decides. Who reviews would see the one face, and whom it is meant for the
  other.
- What differed last stays in the pin, gone or not, until somebody decides.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from authz.codes import Code
from authz.pins.port import PinMode

# The author of what nobody accepted.
LEARNED: Final = "learned"
MAX_DEPARTURES: Final = 2
# A tool that is changed already is looked at again so often: else a server that shows something else with
# each list would have a file written, and read by all processes, with each list.
LOOK_AGAIN: Final = timedelta(seconds=60)
# And so many tools of a service within that time: each one is a write, a record, and a look by all processes.
MAX_LOOKED_AT: Final = 32

State = Literal["accepted", "learned", "changed", "new"]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Which declaration counts; `by` is who accepted it, or `learned`."""

    digest: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Sighting:
    """A declaration, and when it was seen; what is too long is not kept, and nobody accepts it."""

    digest: str
    at: datetime
    is_kept: bool = True


@dataclass(frozen=True, slots=True)
class Pin:
    """One tool of one service; `drift` is what differed last from what is accepted."""

    service: str
    tool: str
    accepted: Acceptance | None = None
    seen: Sighting | None = None
    drift: Sighting | None = None
    departures: int = 0

    @property
    def state(self) -> State:
        """Say in one word what it is."""
        if self.accepted is None:
            return "new"
        if self.is_changed:
            return "changed"
        return "learned" if self.accepted.by == LEARNED else "accepted"

    @property
    def is_changed(self) -> bool:
        """Say whether the tool is not what was accepted."""
        if self.accepted is None:
            return False
        is_away = self.seen is not None and self.seen.digest != self.accepted.digest
        return is_away or self.departures >= MAX_DEPARTURES

    @property
    def waiting(self) -> str | None:
        """The digest of what waits for somebody to accept it; None also of what nobody can accept."""
        if self.accepted is None or self.is_changed:
            latest = self.seen if self.accepted is None else self.drift
            return latest.digest if latest is not None and latest.is_kept else None
        return self.accepted.digest if self.accepted.by == LEARNED else None

    def refusal(self, mode: PinMode) -> Code | None:
        """Say why a call of it is refused; None where it is not."""
        match self.state:
            case "changed":
                code: Code | None = Code.TOOL_CHANGED
            case "new":
                code = Code.TOOL_UNPINNED
            case "learned":
                code = Code.TOOL_UNPINNED if mode == "require" else None
            case _:
                code = None
        return None if mode == "off" else code

    def notice(self, sighted: Sighting, *, learns: bool) -> "Pin":
        """Take notice of a declaration; it returns itself where nothing is to be remembered.

        `learns` says that what nobody accepted counts from now on: mode `learn`, and one declaration of this
        name in the list.
        """
        if self.accepted is None:
            return self._notice_first(sighted, learns=learns)
        if sighted.digest == self.accepted.digest:
            is_news = self.departures < MAX_DEPARTURES and not _is(self.seen, sighted)
            return replace(self, seen=sighted) if is_news else self
        if not self.is_changed:
            return replace(self, seen=sighted, drift=sighted, departures=self.departures + 1)
        if _is(self.drift, sighted) or not _is_old(self.drift, sighted):
            return self
        return replace(self, seen=sighted, drift=sighted)

    def _notice_first(self, sighted: Sighting, *, learns: bool) -> "Pin":
        known = self.seen if self.seen is not None and _is(self.seen, sighted) else sighted
        if learns and known.is_kept:
            return replace(self, accepted=Acceptance(known.digest, LEARNED, sighted.at), seen=known)
        if known is self.seen or not _is_old(self.seen, sighted):
            return self
        return replace(self, seen=sighted)

    def is_repeat(self, sighted: Sighting) -> bool:
        """Say whether it is denied before and after this look, which so can wait."""
        if self.accepted is None:
            return self.seen is not None
        return self.is_changed and sighted.digest != self.accepted.digest

    def was_looked_at(self, now: datetime) -> bool:
        """Say whether something was seen a moment ago that is not what was accepted."""
        latest = self.seen if self.accepted is None else self.drift
        return latest is not None and not _is_old(latest, Sighting(latest.digest, now))

    def accept(self, digest: str, by: str, now: datetime) -> "Pin":
        """Let a declaration count, and forget what differed; not what the server shows instead of it."""
        away = self.seen if self.seen is not None and self.seen.digest != digest else None
        return replace(
            self,
            accepted=Acceptance(digest, by, now),
            drift=away,
            departures=0 if away is None else 1,
        )

    @property
    def digests(self) -> frozenset[str]:
        """The declarations that may have to be shown."""
        return frozenset(each.digest for each in (self.accepted, self.seen, self.drift) if each is not None)


def _is(before: Sighting | None, now: Sighting) -> bool:
    return before is not None and before.digest == now.digest


def _is_old(before: Sighting | None, now: Sighting) -> bool:
    # A clock that went back makes nothing last for longer.
    return before is None or not timedelta(0) <= now.at - before.at < LOOK_AGAIN
