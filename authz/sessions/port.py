"""The port to sessions: who opened which.

- A session belongs to one agent and the person it acts for, at one service; whoever else presents its id
  is refused, however they came by it (MCP: "State Handle Hijacking").
- What cannot be known is refused.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose session it is; `human` is None where the agent acts for nobody."""

    human: str | None
    agent: str


class Sessions(Protocol):
    """Remembers whose each session is."""

    async def bind(self, service: str, session_id: str, owner: Owner, now: datetime) -> None:
        """Bind a session that is seen for the first time; refuse one that is somebody else's.

        Raises:
            AuthenticationError: with SESSION_OTHERS, or SESSION_UNKNOWN if that cannot be known.
        """
        ...
