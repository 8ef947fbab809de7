"""How many answers are open at one time, and how much of them is held: in all, and of one caller or service.

- What is open leaves room for answers that pass at once.
- One agent has a part of it, and one person with that agent a part of that: many use the same agent.
- Of what is held each service has its part, so that one that answers slowly keeps no other waiting.
"""

from collections import Counter
from dataclasses import dataclass

from authz.codes import Code
from authz.errors import AnswerError
from authz.sessions.port import Owner


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of answers that are open at one time."""

    streams: int = 1024
    # The rest is for answers that pass at once.
    open_streams: int = 896
    streams_of_agent: int = 256
    # Of one person with one agent.
    streams_of_owner: int = 128
    stream_seconds: float = 3600.0
    # One chunk of an answer that is written anew; Envoy sends what it has, twice its buffer at most.
    message_bytes: int = 5 << 20
    # Of one answer that is written anew: a server that writes byte by byte keeps us from everybody else.
    chunks: int = 1 << 16
    # Of answers that are written anew, while they are read: in all, and for how long in one piece.
    held_bytes: int = 64 << 20
    held_bytes_of_service: int = 16 << 20
    held_seconds: float = 30.0


class Room:
    """Counts what is open and what is held."""

    def __init__(self, limits: StreamLimits) -> None:
        """Begin with all of it free."""
        self._limits = limits
        self._open = 0
        self._of: Counter[str | Owner] = Counter()
        self._held = 0
        self._held_of: Counter[str] = Counter()

    def enter(self, owner: Owner) -> None:
        """Count an open answer.

        Raises:
            AnswerError: with OVERLOADED, if there is no room for it.
        """
        if self._open >= self._limits.open_streams:
            raise _overloaded("too many open answers")
        if self._of[owner.agent] >= self._limits.streams_of_agent:
            raise _overloaded("too many open answers of one agent")
        if owner.human is not None and self._of[owner] >= self._limits.streams_of_owner:
            raise _overloaded("too many open answers of one person with one agent")
        self._open += 1
        self._of.update((owner.agent, owner))

    def leave(self, owner: Owner) -> None:
        """Count one less; who has none is forgotten."""
        self._open -= 1
        self._of.subtract((owner.agent, owner))
        for each in (owner.agent, owner):
            if not self._of[each]:
                del self._of[each]

    def hold(self, service: str, more: int) -> None:
        """Count what is held of the answers of a service; less, where `more` is negative.

        Raises:
            AnswerError: with OVERLOADED, if it is too much; it counts all the same.
        """
        self._held += more
        self._held_of[service] += more
        if more <= 0:
            return
        if self._held > self._limits.held_bytes:
            raise _overloaded("too much of all answers is held")
        if self._held_of[service] > self._limits.held_bytes_of_service:
            raise _overloaded("too much of the answers of one service is held")


def _overloaded(detail: str) -> AnswerError:
    return AnswerError(Code.OVERLOADED, detail)
