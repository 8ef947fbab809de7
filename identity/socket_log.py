"""What is logged of strangers: seldom, and how often it happened.

- Whoever can reach a socket can make it refuse as often as they like; the log is not theirs to fill.
- A line says what happened and a number, never what they sent.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

QUIET_SECONDS: Final = 10.0
_LINES: Final = 100


class SeldomLog:
    """Warnings of one kind, one in ten seconds at most."""

    def __init__(self, log: logging.Logger, time_of: Callable[[], float] = time.monotonic) -> None:
        """Write to a log."""
        self._log = log
        self._time_of = time_of
        self._next = float("-inf")
        self._kept = 0

    def warning(self, message: str, *parts: object) -> None:
        """Say it, or count it for the next time."""
        now = self._time_of()
        if now < self._next:
            self._kept += 1
            return
        self._next = now + QUIET_SECONDS
        kept, self._kept = self._kept, 0
        self._log.warning(f"{message} (and %d more since the last line)", *parts, kept)  # the text is ours


class FewLines:
    """Warnings that each say something else: so many in ten seconds at most, and how many more there were."""

    def __init__(
        self, log: logging.Logger, time_of: Callable[[], float] = time.monotonic, lines: int = _LINES
    ) -> None:
        """Write to a log."""
        self._log = log
        self._time_of = time_of
        self._lines = lines
        self._left = lines
        self._next = float("-inf")
        self._kept = 0

    def warning(self, message: str, *parts: object) -> None:
        """Say it, or count it for the next time."""
        now = self._time_of()
        if now >= self._next:
            if self._kept:
                self._log.warning("%d more lines than the log takes in a while", self._kept)
            self._next, self._left, self._kept = now + QUIET_SECONDS, self._lines, 0
        if self._left:
            self._left -= 1
            self._log.warning(message, *parts)
        else:
            self._kept += 1
