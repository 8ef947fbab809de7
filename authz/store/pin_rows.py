"""A pin and the row that holds it: what we did not write is an error."""

import re
from datetime import UTC, datetime
from typing import Final

from authz.errors import StoreError
from authz.pins.pin import Acceptance, Pin, Sighting
from authz.store.pins_database import Row

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NOT_OURS: Final = (LookupError, TypeError, ValueError, OverflowError, OSError)


def pin_of(row: Row) -> Pin:
    """Read a row.

    Raises:
        StoreError: if we did not write it.
    """
    try:
        departures = row["departures"]
        if not isinstance(departures, int) or departures < 0:
            raise TypeError("not a count")
        return Pin(
            service=_text(row["service"]),
            tool=_text(row["tool"]),
            accepted=_acceptance(row),
            seen=_sighting(row, "seen"),
            drift=_sighting(row, "drift"),
            departures=departures,
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


def _acceptance(row: Row) -> Acceptance | None:
    if row["accepted"] is None:
        return None
    return Acceptance(_digest(row["accepted"]), _text(row["accepted_by"]), _moment(row["accepted_at"]))


def _sighting(row: Row, name: str) -> Sighting | None:
    if row[name] is None:
        return None
    return Sighting(_digest(row[name]), _moment(row[f"{name}_at"]), bool(row[f"{name}_kept"]))


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
