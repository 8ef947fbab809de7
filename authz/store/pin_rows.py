"""A pin and the row that holds it: what we did not write is an error."""

import re
from datetime import UTC, datetime
from typing import Final

from authz.errors import StoreError
from authz.pins.pin import Acceptance, Pin, Sighting
from authz.store.pins_database import Cells

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NOT_OURS: Final = (LookupError, TypeError, ValueError, OverflowError, OSError)


def pin_of(row: Cells) -> Pin:
    """Read a row, in the order of the columns.

    Raises:
        StoreError: if we did not write it.
    """
    try:
        service, tool, accepted, by, accepted_at, *sighted, departures = row
        if not isinstance(departures, int) or departures < 0:
            raise TypeError("not a count")
        return Pin(
            _text(service),
            _text(tool),
            None if accepted is None else Acceptance(_digest(accepted), _text(by), _moment(accepted_at)),
            _sighting(*sighted[:3]),
            _sighting(*sighted[3:]),
            departures,
        )
    except _NOT_OURS as error:
        raise StoreError("a pin that is not as we wrote it") from error


def values_of(pin: Pin) -> tuple[object, ...]:
    """Write a pin, in the order of the columns."""
    accepted, seen, drift = pin.accepted, pin.seen, pin.drift
    return (
        pin.service,
        pin.tool,
        accepted.digest if accepted is not None else None,
        accepted.by if accepted is not None else None,
        _milliseconds(accepted.at) if accepted is not None else None,
        *_sighted(seen),
        *_sighted(drift),
        pin.departures,
    )


def _sighted(sighting: Sighting | None) -> tuple[object, ...]:
    if sighting is None:
        return None, None, 0
    return sighting.digest, _milliseconds(sighting.at), int(sighting.is_kept)


def _sighting(digest: object, at: object, is_kept: object) -> Sighting | None:
    return None if digest is None else Sighting(_digest(digest), _moment(at), bool(is_kept))


def _digest(value: object) -> str:
    text = _text(value)
    if not _DIGEST.fullmatch(text):
        raise ValueError("not a digest")
    return text


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("not a text")
    return value


def _moment(value: object) -> datetime:
    if not isinstance(value, int):
        raise TypeError("not a time")
    return datetime.fromtimestamp(value / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
