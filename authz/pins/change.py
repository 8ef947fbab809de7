"""That a tool became another one, or went back: what one look at its declaration changed.

- Said once for each change, by whoever wrote it into the file; lists that show the same again change nothing.
- Hashes only: what a server declares is for whoever asks for it, and in no record.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from authz.pins.pin import Pin


@dataclass(frozen=True, slots=True)
class PinChange:
    """A tool that is not (any more) what counts, or is it again; `seen_at` is when that was noticed."""

    kind: Literal["changed", "went-back"]
    service: str
    tool: str
    accepted: str
    seen: str
    seen_at: datetime


def change_of(before: Pin, after: Pin) -> PinChange | None:
    """Compare a pin with what became of it by `notice`; None where nobody need be told."""
    accepted = before.accepted
    if accepted is None:
        return None
    # A list that shows both faces leaves and goes back in one look: that it left is what counts.
    if after.drift is not None and after.drift is not before.drift:
        return PinChange(
            "changed", after.service, after.tool, accepted.digest, after.drift.digest, after.drift.at
        )
    if before.is_changed and not after.is_changed and after.seen is not None:
        return PinChange(
            "went-back", after.service, after.tool, accepted.digest, after.seen.digest, after.seen.at
        )
    return None
