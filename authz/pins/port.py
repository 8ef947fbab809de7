"""The port to pins: what a tool is, as it was seen first or accepted, and whether it still is.

- A tool is its name, its texts and its schemas, as `tools/list` declares them; one hash stands for all of it.
- What cannot be known is refused: an error is no acceptance.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

from authz.pins.declared import Declared

# `learn`: what is seen first counts until it changes; `require`: only what somebody accepted does.
PinMode = Literal["off", "learn", "require"]


class Pins(Protocol):
    """Remembers what tools are."""

    async def require(self, service: str, tool: str, mode: PinMode) -> None:
        """Refuse a call of a tool that is not what was accepted.

        Raises:
            PinError: with TOOL_CHANGED, TOOL_UNPINNED, or PINS_UNKNOWN if that cannot be known.
        """
        ...

    async def learn(
        self, service: str, declared: Sequence[Declared], mode: PinMode, now: datetime
    ) -> frozenset[str]:
        """Take notice of what a service declares; the names of those that must not be shown or called.

        Raises:
            PinError: with PINS_UNKNOWN, if it cannot be kept.
            AuditError: if it cannot be recorded that a tool changed.
        """
        ...
